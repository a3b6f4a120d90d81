"""What generated programs are made with: memory by its address, decorators, and where they lie.

A program is a Python module that Numba compiles. It is written to a directory of its own, under a
name made of its text and of the kernels' texts, so that Numba's cache finds it again in the next
process.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

from ..interface import Array
from . import jit
from .jit import inlined

intrinsic: Any = numba.extending.intrinsic
carray: Any = jit.numba.carray
# The dtypes that programs name.
f32, f64, b1 = np.float32, np.float64, np.bool_
i8, u8, i32, i64 = np.int8, np.uint8, np.int32, np.int64
HERE = Path(__file__).parent


@cast("Callable[[Any], Any]", intrinsic)
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer, which `carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@inlined
def view(slots: Array, slot: int, offset: int, shape: Any, dtype: Any) -> Any:
    """The array that starts `offset` bytes behind the address in a slot."""
    return carray(pointer(slots[slot] + offset), shape, dtype)


def kernel(name: str, form: str) -> Any:
    """The compiled form, "serial" or "parallel", of a kernel that is called file.name."""
    return getattr(known(name), f"_{form}")


def prepare(name: str, arguments: tuple[Any, ...]) -> None:
    """Compile what a kernel calls by name, for arguments like these; see `outline.py`."""
    known(name).prepare(arguments)


def known(name: str) -> Any:
    """What is called so, as file.name, in this folder."""
    file, _, own = name.partition(".")
    return getattr(importlib.import_module(f"{__package__}.{file}"), own)


def program(function: Callable[..., Any]) -> Any:
    """Compile a program's entry, with a cache on disk."""
    return jit._compile(function)


def loop(parallel: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop of a program; every operation as written, so that bits agree."""
    options = {"parallel": True} if parallel else {}
    return lambda function: jit.numba.njit(error_model="numpy", nogil=True, **options)(function)


def directory() -> Path:
    """Where programs are kept: MINIDL_CACHE, or the user's cache, or a temporary directory."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    wanted = Path(os.environ.get("MINIDL_CACHE") or home / "minidl") / "programs"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="minidl-programs-"))
    return wanted


def load(text: str) -> ModuleType:
    """The module with this text, from the directory of programs."""
    kernels = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
    version = f"{jit.numba.__version__} {np.__version__} {os.environ.get('MINIDL_ISA', '')}"
    key = hashlib.sha256(text.encode() + kernels + version.encode()).hexdigest()[:20]
    name = f"minidl_program_{key}"
    if name in sys.modules:
        return sys.modules[name]
    path = directory() / f"{name}.py"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)  # whole or not at all
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
