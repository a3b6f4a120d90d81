"""The Numba backend as plain Python, under NUMBA_DISABLE_JIT=1, so that coverage sees its kernels.

Missing then are the threading layer and the intrinsics, which are LLVM code: the door to BLAS, here
called from Python at the address that compiled code calls, the copying of runs, the micro-kernel.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding
import numpy as np
from numba.core.registry import cpu_target

from backends.numba_backend import blas, conv_loops, jit, microkernel

_CHAR, _SIZE, _POINTER = ctypes.c_char, ctypes.c_ssize_t, ctypes.c_void_p
_MATRIX = (_POINTER, _SIZE)
_XXGEMM = ctypes.PYFUNCTYPE(
    ctypes.c_int, *[_CHAR] * 3, *[_SIZE] * 3, _POINTER, *_MATRIX, *_MATRIX, _POINTER, *_MATRIX
)


def install() -> None:
    """Let the backend start, and its kernels run one after the other on the calling thread."""
    assert cpu_target.target_context  # making it registers Numba's symbols
    xxgemm = _XXGEMM(llvmlite.binding.address_of_symbol(blas._SYMBOL))

    def call(
        a: int, trans_a: bool, b: int, trans_b: bool, c: int, shape: Any, strides: Any, scale: Any
    ) -> None:
        kind, flags = scale.dtype.char.replace("f", "s").encode(), (b"n", b"t")
        alpha, beta = scale.ctypes.data, scale[1:].ctypes.data
        xxgemm(
            kind, flags[trans_a], flags[trans_b], *shape,
            alpha, a, strides[0], b, strides[1], beta, c, strides[2],
        )  # fmt: skip

    blas._xxgemm = call
    conv_loops.copy_run, conv_loops.add_run = _copy_run, _add_run
    microkernel.micro, microkernel.transpose_block = _micro, _transpose_block
    jit.Kernel._run = np.errstate(all="ignore")(jit.Kernel._run)  # compiled code never warns
    jit.THREADS.exclusive = False


def _copy_run(target: np.ndarray, at: int, source: np.ndarray, start: int, count: int) -> None:
    target.reshape(-1)[at : at + count] = source.reshape(-1)[start : start + count]


def _add_run(target: np.ndarray, at: int, source: np.ndarray, start: int, count: int) -> None:
    target.reshape(-1)[at : at + count] += source.reshape(-1)[start : start + count]


def _micro(
    rows: int, c: np.ndarray, c_at: int, c_row: int, a: np.ndarray, a_at: int, a_row: int,
    a_step: int, b: np.ndarray, b_at: int, b_step: int, depth: int, add: bool,
) -> None:  # fmt: skip
    width = microkernel.PANEL // c.itemsize
    k, columns = np.arange(depth), np.arange(width)
    left = a[a_at + np.arange(rows)[:, None] * a_row + k * a_step]
    right = b[b_at + k[:, None] * b_step + columns]
    tile = c_at + np.arange(rows)[:, None] * c_row + columns
    c[tile] = left @ right + (c[tile] if add else 0)


def _transpose_block(
    source: np.ndarray, at: int, row: int, target: np.ndarray, to: int, to_row: int
) -> None:
    side = np.arange(microkernel.isa().vector // source.itemsize)
    target[to + side[:, None] * to_row + side] = source[at + side * row + side[:, None]]
