"""Intel's MKL on AMD processors.

PyTorch multiplies matrices with Intel's MKL. MKL asks the processor for its maker before it asks what
it can do, and on one that is not Intel's it takes an older, slower path, though the instructions for
the fast one are there. It asks through two functions of its own, which the loader resolves
like any other: a library that defines functions of these names, loaded first, answers "yes", and the
same MKL runs at twice the speed. No number changes beyond its rounding.

Who compares with PyTorch as it is installed compares with what a user gets; who wants to know
how good his kernels are compares with what PyTorch's authors wrote. Both are asked here, so both
are measured. The trick is no advice for production: Intel does not document these names.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from .machine import processor

SOURCE = """\
int mkl_serv_intel_cpu(void) { return 1; }
int mkl_serv_intel_cpu_true(void) { return 1; }
"""


class NotHere(Exception):
    """The fast path cannot be had on this machine; the message says why."""


@cache
def answer_yes(folder: Path) -> Path:
    """A library with both functions, built in the folder. Raises: NotHere."""
    maker = processor()["maker"]
    if maker != "AuthenticAMD":
        raise NotHere(f"not needed on a processor of {maker or 'an unknown maker'}")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise NotHere("needs a C compiler, and none is installed")
    source, library = folder / "answer_yes.c", folder / "answer_yes.so"
    source.write_text(SOURCE)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"{compiler} could not build it: {done.stderr.strip()[:200]}")
    return library
