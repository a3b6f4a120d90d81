"""Python code in a process of its own, in which kernels run under AddressSanitizer.

Guard bytes show what is written beside an array and nothing of what is read there. Here every
array has its exact size in the heap, so that the sanitizer ends the process at the first access
outside (static shared memory included) and names the line; UndefinedBehaviorSanitizer does so for
integers that overflow, shifts, and indices outside an array of fixed size.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from .runner import compiler, unavailable

FLAGS = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ROOT = Path(__file__).parents[2]
PRELUDE = """
import os
del os.environ["LD_PRELOAD"]  # it has done its work, and the compiler is better off without
from tests.cuda_on_cpu import runner, sanitizer
runner.sanitize(sanitizer.FLAGS)
"""
PROBE = """
runner.Module('extern "C" __global__ void f(float* x) { x[0] = 1; __syncthreads(); }').kernel("f")(
    (1,), (2,), [np.zeros(1, np.float32)])
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code whose kernels are compiled with FLAGS; a finding ends it with a report."""
    library = subprocess.run(
        [str(compiler()), "-print-file-name=libasan.so"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        # Python frees little of what it holds when it ends; NumPy asks for as much as it likes.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def missing() -> str | None:
    """Why there is no such run on this machine; None if there can be one."""
    if unavailable() is not None:
        return unavailable()
    if not sys.platform.startswith("linux"):
        return "the run under AddressSanitizer starts Python with LD_PRELOAD, which needs Linux"
    tried = run("import numpy as np\n" + PROBE)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        return f"{compiler()} has no AddressSanitizer that works in this Python: {last}"
    return None
