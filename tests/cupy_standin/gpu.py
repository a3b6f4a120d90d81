"""RawModule, the device and cuBLAS, as far as the backend uses them, on the CPU."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..cuda_on_cpu import cached_module
from .capture import Stream, captured
from .ndarray import ndarray

VERSION_NUMBER = 12090  # of the imagined CUDA runtime and driver


class RawKernel:
    """A kernel of the text that RawModule was given, run by tests/cuda_on_cpu."""

    def __init__(self, code: str, options: tuple[str, ...], name: str) -> None:
        self.name = name
        self._kernel = cached_module(code, options).kernel(name)

    @captured
    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        self._kernel(grid, block, [_argument(a) for a in args], shared_mem)


def _argument(x: Any) -> Any:
    """Arrays of the device and NumPy scalars; a Python number's C type would be a guess."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.generic):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


class RawModule:
    """CUDA C++ text and the options of its compiler."""

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: Any = None,
    ) -> None:
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError("code is text and options are a tuple of texts")
        if path is not None or name_expressions is not None or backend != "nvrtc":
            raise NotImplementedError("the stand-in compiles plain text with named kernels")
        self.code, self.options = code, options

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self.code, self.options, name)


class Device:
    """The current device."""

    id = 0
    compute_capability = "00"

    def synchronize(self) -> None:
        """Everything on the CPU has happened when its call returns."""


cuda = types.SimpleNamespace(
    Stream=Stream,
    Device=Device,
    is_available=lambda: False,
    device=types.SimpleNamespace(get_cublas_handle=lambda: 1),
    runtime=types.SimpleNamespace(
        getDeviceProperties=lambda device: {"name": b"none: CuPy stand-in on the CPU"},
        runtimeGetVersion=lambda: VERSION_NUMBER,
        driverGetVersion=lambda: VERSION_NUMBER,
    ),
)


class CublasError(RuntimeError):
    """What cuBLAS answers to a call that it does not support."""


class Cublas:
    """gemmEx for int8 operands and int32 sums, with cuBLAS's rules for them.

    Source: cuBLAS documentation, cublasGemmEx: for CUBLAS_COMPUTE_32I with CUDA_R_8I operands,
    pointers are 4-byte aligned, leading dimensions multiples of 4, the first operand transposed.
    """

    def __init__(self) -> None:
        self.calls = 0

    def gemmEx(  # noqa: N802 (cuBLAS's name and arguments)
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int,
        a: int, a_type: int, lda: int, b: int, b_type: int, ldb: int, beta: int,
        c: int, c_type: int, ldc: int, compute_type: int, algo: int,
    ) -> None:  # fmt: skip
        self.calls += 1
        types_given = (a_type, b_type, c_type, compute_type)
        if types_given != (3, 3, 10, 72) or (transa, transb) != (1, 0) or algo != -1:
            raise CublasError("CUBLAS_STATUS_NOT_SUPPORTED")
        if any(size % 4 for size in (m, k, lda, ldb, ldc, a, b, c)):
            raise CublasError("CUBLAS_STATUS_NOT_SUPPORTED: alignment")
        if lda < k or ldb < k or ldc < m:
            raise CublasError("CUBLAS_STATUS_INVALID_VALUE")
        scale = (_at(alpha, ctypes.c_int32, (1,))[0], _at(beta, ctypes.c_int32, (1,))[0])
        _product(scale, (a, lda), (b, ldb), (c, ldc), (m, n, k))


@captured
def _product(scale: Any, a: Any, b: Any, c: Any, sizes: tuple[int, int, int]) -> None:
    """Operands are an address and a leading dimension; scales were read when it was called."""
    m, n, k = sizes
    left = _at(a[0], ctypes.c_int8, (m, a[1]))[:, :k].astype(np.int32)  # column-major k x m
    right = _at(b[0], ctypes.c_int8, (n, b[1]))[:, :k].astype(np.int32)
    out = _at(c[0], ctypes.c_int32, (n, c[1]))[:, :m]
    if scale[1]:
        out *= scale[1]
        out += scale[0] * (right @ left.T)
    else:  # as in cuBLAS, what was in c is then not read
        out[...] = scale[0] * (right @ left.T)


def _at(address: int, element: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The array at an address, which in the stand-in is one of this process."""
    pointer = ctypes.cast(address, ctypes.POINTER(element))
    return np.ctypeslib.as_array(pointer, shape)
