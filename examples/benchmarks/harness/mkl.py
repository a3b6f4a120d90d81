"""Intel's MKL on AMD processors.

PyTorch multiplies matrices with Intel's MKL. MKL asks for the processor's maker before it asks what
the processor can do, and where the maker is not Intel it takes an older, slower path, although the
instructions for the fast one are there. It asks two functions of its own, which the loader finds
by name as it finds any other. A library that has functions of these names and is loaded first
answers "yes", and the same MKL multiplies about twice as fast; results differ in rounding only.

PyTorch as it is installed is what a user gets. To know how good our own kernels are, they have to
be compared with what the authors of PyTorch and MKL wrote for such a processor, or the figure would
say more about that question than about anybody's code. So both are measured and both are printed.
It is no advice for other uses: Intel does not document these names.
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
