"""Compile CUDA text with the C++ compiler of this machine and launch its kernels.

A launch checks what a GPU would not: that every argument has the C type of its parameter, that
arrays are contiguous and do not overlap in part, and that no byte beside an array was written.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = ("-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off")
WRAP = ("-fwrapv",)  # int overflow is undefined in CUDA, too: sanitizer.py leaves this out
GUARD = 64  # bytes beside each array
FILL = 0xFF  # what they hold: as a float NaN, so that reading past the end shows, too

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)')
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")

_lock = RLock()  # the simulator holds one launch at a time, and ctypes lets other threads run
_order = 0
_extra, _guard = WRAP, GUARD


class KernelError(RuntimeError):
    """A kernel did what it must not do on a GPU; the message says what."""


@contextmanager
def thread_order(order: int) -> Iterator[None]:
    """Within the block, launch in this order: 0 ascending, 1 descending, 2 and more shuffled.

    In even orders all warps advance together, in odd ones each runs ahead as far as it can.
    """
    global _order
    before, _order = _order, order
    try:
        yield
    finally:
        _order = before


def sanitize(flags: Sequence[str]) -> None:
    """From now on compile with these, and give each array its exact size in memory of its own.

    Without guard bytes the first byte past an array is one that AddressSanitizer watches.
    """
    global _extra, _guard
    _extra, _guard = tuple(flags), 0


def compiler() -> str | None:
    """The C++ compiler to use: $CXX, or the first that is found."""
    candidates = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def unavailable() -> str | None:
    """Why kernels cannot run on this machine's CPU; None if they can."""
    if sys.platform == "win32":
        return "running CUDA kernels on the CPU needs POSIX ucontext, which Windows has not"
    if compiler() is None:
        return (
            "running CUDA kernels on the CPU needs a C++ compiler (g++ or clang++), none was found"
        )
    return None


@cache
def _cache_folder() -> Path:
    """Where compiled modules stay: the user's cache, or a folder for this process alone."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root / "minidl" / "cuda_on_cpu"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # read-only, or a user without a home
        folder = Path(tempfile.mkdtemp(prefix="minidl-cuda-on-cpu-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def _program(code: str, kernels: Sequence[str]) -> str:
    """The C++ program: the header, the kernel text as it is, and a door to each kernel.

    One thing is rewritten: `extern __shared__ T name[]` becomes a pointer to the launch's buffer.
    """
    text = _DYNAMIC.sub(r"\1* \2 = (\1*)cuda_on_cpu::dynamic_shared.data();", code)
    doors = [
        f'extern "C" const char* launch_{name}(const unsigned* shape, size_t shared, void** args)'
        f" {{ return cuda_on_cpu::call({name}, shape, shared, args); }}\n"
        f'extern "C" const char* signature_{name}()'
        f" {{ static std::string text = cuda_on_cpu::signature({name}); return text.c_str(); }}\n"
        for name in kernels
    ]
    return (
        f'#include "{HEADER.name}"\n#line 1 "kernel.cu"\n{text}\n#line 1 "doors"\n{"".join(doors)}'
    )


def _compile(program: str, defines: Sequence[str]) -> Path:
    flags = (*FLAGS, *_extra, *defines)
    parts = (program, HEADER.read_text(encoding="utf-8"), *flags, sys.platform, compiler() or "")
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    library = _cache_folder() / f"{digest}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        source, result = Path(folder, "program.cpp"), Path(folder, "program.so")
        source.write_text(program, encoding="utf-8")
        command = [str(compiler()), *flags, f"-I{HEADER.parent}", str(source), "-o", str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelError(f"the kernel text does not compile as C++:\n{done.stderr}")
        result.replace(library)  # atomic: another process may be compiling the same text
    return library


class Kernel:
    """One kernel: call it with grid, block and arguments, as CuPy's RawKernel is called."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._library = library
        self._launch = getattr(library, f"launch_{name}")
        self._launch.restype = ctypes.c_char_p
        describe = getattr(library, f"signature_{name}")
        describe.restype = ctypes.c_char_p
        self.parameters: tuple[str, ...] = tuple(describe().decode().split())

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[object], shared_mem: int = 0
    ) -> None:
        if len(args) != len(self.parameters):
            raise KernelError(
                f"{self.name} takes {len(self.parameters)} arguments, not {len(args)}"
            )
        copies = _Copies(self.name)
        values = [
            copies.take(position, parameter, argument)
            for position, (parameter, argument) in enumerate(
                zip(self.parameters, args, strict=True)
            )
        ]
        copies.refuse_overlap()
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        shape = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
        with _lock:
            self._library.set_thread_order(_order)
            error = self._launch(shape, ctypes.c_size_t(shared_mem), pointers)
            error = error and error.decode()  # before another launch writes over the text
        if error:
            raise KernelError(f"{self.name}: {error}")
        copies.give_back()


class _Copies:
    """The arrays of one launch, each copied between guard bytes, and back when it has ended."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        self._taken: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._written: set[tuple[int, int]] = set()

    def take(self, position: int, parameter: str, argument: object) -> np.ndarray:
        """An array whose first item is what the kernel's parameter gets: a number or a pointer."""
        where = f"{self._kernel}, argument {position}"
        if parameter[0] not in "pP":
            if not isinstance(argument, np.generic) or _kind(argument.dtype) != parameter:
                raise KernelError(f"{where}: a {parameter} scalar is needed, not {argument!r}")
            return np.array(argument)
        if not isinstance(argument, np.ndarray) or _kind(argument.dtype) != parameter[1:]:
            got = getattr(argument, "dtype", type(argument))
            raise KernelError(f"{where}: an array of {parameter[1:]} is needed, not {got}")
        if not argument.flags.c_contiguous:
            raise KernelError(f"{where}: the array is not C-contiguous, a kernel would misread it")
        key = (argument.ctypes.data, argument.nbytes)
        if key not in self._taken:
            self._taken[key] = (argument, _between_guards(argument))
        if parameter[0] == "p":
            self._written.add(key)
        buffer = self._taken[key][1]
        return np.array([buffer.ctypes.data + _guard], np.uintp)

    def refuse_overlap(self) -> None:
        """Raises: KernelError if a written array overlaps another argument in part.

        The same array twice is one copy; arrays that are only read may overlap as they like.
        """
        for start, size in self._written:
            for other, length in self._taken:
                meet = start < other + length and other < start + size
                if meet and (start, size) != (other, length):
                    raise KernelError(f"{self._kernel}: a written array overlaps another in part")

    def give_back(self) -> None:
        """Check the guards and copy the results back.

        Raises: KernelError if a byte beside an array has changed.
        """
        for key, (array, buffer) in self._taken.items():
            edges = np.concatenate([buffer[:_guard], buffer[_guard + array.nbytes :]])
            if (edges != FILL).any():
                raise KernelError(f"{self._kernel}: wrote beside an array of shape {array.shape}")
            if key in self._written:
                inner = buffer[_guard : _guard + array.nbytes]
                array[...] = inner.view(array.dtype).reshape(array.shape)


def _between_guards(array: np.ndarray) -> np.ndarray:
    buffer = np.full(array.nbytes + 2 * _guard, FILL, np.uint8)
    buffer[_guard : _guard + array.nbytes] = array.reshape(-1).view(np.uint8)
    return buffer


def _kind(dtype: np.dtype) -> str:  # type: ignore[type-arg]
    return f"{dtype.kind}{dtype.itemsize}"


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*shape, 1, 1)[:3]
    return int(x), int(y), int(z)


class Module:
    """The kernels of one text, compiled for this CPU.

    options are NVRTC's: -D defines count, those that only steer its code generation do not.
    """

    def __init__(self, code: str, options: Sequence[str] = ()) -> None:
        self.names = tuple(_KERNEL.findall(code))
        defines = [option for option in options if option.startswith("-D")]
        path = _compile(_program(code, self.names), defines)
        self._library = ctypes.CDLL(str(path))
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """The kernel called name; KernelError if the text has none."""
        if name not in self.names:
            raise KernelError(f"no kernel {name!r}; there are {', '.join(self.names)}")
        if name not in self._kernels:
            self._kernels[name] = Kernel(self._library, name)
        return self._kernels[name]


@cache
def cached_module(code: str, options: tuple[str, ...] = ()) -> Module:
    """The module for this text, compiled once per process and kept on disk between processes."""
    return Module(code, options)
