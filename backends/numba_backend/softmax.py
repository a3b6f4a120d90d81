"""The softmax family along the last axis, in the blocks of `rows.py`."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array, Axes
from ..numpy_backend import NumpyBackend
from . import vector_math as vm
from .jit import Kernel, kernel
from .layout import flat, plain, suits
from .memory import empty
from .rows import block_of_rows, exponentials, exponentiate, log_softmax_rows, peak_of, sum_of

PARALLEL_FROM = 1 << 13  # elements


@kernel()
def softmax(x: Array, y: Array, columns: int, step: int) -> None:
    """Arrays are flat; a block has step elements, a number of whole rows."""
    for block in prange((x.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, x.size)
        for n in range(start, stop, columns):
            row, out = x[n : n + columns], y[n : n + columns]
            peak = peak_of(row)
            for c in range(columns):
                out[c] = row[c] - peak
        exponentiate(y[start:stop])
        for n in range(start, stop, columns):
            out = y[n : n + columns]
            scale = x.dtype.type(sum_of(out))
            for c in range(columns):
                out[c] /= scale


@kernel()
def softmax_grad(grad: Array, y: Array, x_grad: Array, columns: int, step: int) -> None:
    for block in prange((y.size + step - 1) // step):
        for n in range(block * step, min((block + 1) * step, y.size), columns):
            g, row, out = grad[n : n + columns], y[n : n + columns], x_grad[n : n + columns]
            total = 0.0
            for c in range(columns):
                total += g[c] * row[c]
            shift = y.dtype.type(total)
            for c in range(columns):
                out[c] = g[c] * row[c] - row[c] * shift


@kernel()
def log_softmax(x: Array, y: Array, columns: int, step: int) -> None:
    for block in prange((x.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, x.size)
        log_softmax_rows(x[start:stop], y[start:stop], columns)


@kernel()
def log_softmax_grad(grad: Array, y: Array, x_grad: Array, columns: int, step: int) -> None:
    for block in prange((y.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, y.size)
        exponentials(y[start:stop], x_grad[start:stop])
        for n in range(start, stop, columns):
            g, out = grad[n : n + columns], x_grad[n : n + columns]
            scale = y.dtype.type(sum_of(g))
            for c in range(columns):
                out[c] = g[c] - out[c] * scale


@kernel()
def logsumexp(x: Array, y: Array, columns: int, step: int) -> None:
    """y has an element for each row. Around an infinite peak nothing is shifted: inf - inf is
    NaN.
    """
    for block in prange((x.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, x.size)
        powers = np.empty(stop - start, x.dtype)
        for n in range(start, stop, columns):
            row, out = x[n : n + columns], powers[n - start : n - start + columns]
            peak = peak_of(row)
            peak = peak if abs(peak) < np.inf else x.dtype.type(0)
            y[n // columns] = peak
            for c in range(columns):
                out[c] = row[c] - peak
        exponentiate(powers)
        for n in range(start, stop, columns):
            total = x.dtype.type(sum_of(powers[n - start : n - start + columns]))
            y[n // columns] += vm.log(total)


def by_rows(loop: Kernel, *arrays: Array) -> Array:
    """Run loop over the rows of arrays and of a new one, which is the result."""
    x = arrays[0]
    y = empty(x.shape, x.dtype)
    columns = x.shape[-1]
    loop.sized(y.size, PARALLEL_FROM)(
        *(flat(plain(a)) for a in arrays), flat(y), columns, block_of_rows(columns)
    )
    return y


class Softmax(NumpyBackend):
    """Other axes and integers are NumPy's."""

    def softmax(self, x: Array, axis: int) -> Array:
        if axis != x.ndim - 1 or not suits(x):
            return super().softmax(x, axis)
        return by_rows(softmax, x)

    def softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        if axis != y.ndim - 1 or not suits(grad, y):
            return super().softmax_grad(grad, y, axis)
        return by_rows(softmax_grad, grad, y)

    def log_softmax(self, x: Array, axis: int) -> Array:
        if axis != x.ndim - 1 or not suits(x):
            return super().log_softmax(x, axis)
        return by_rows(log_softmax, x)

    def log_softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        if axis != y.ndim - 1 or not suits(grad, y):
            return super().log_softmax_grad(grad, y, axis)
        return by_rows(log_softmax_grad, grad, y)

    def logsumexp(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        if axis not in (x.ndim - 1, (x.ndim - 1,)) or not suits(x):
            return super().logsumexp(x, axis, keepdims)
        y = np.empty((*x.shape[:-1], 1) if keepdims else x.shape[:-1], x.dtype)
        columns = x.shape[-1]
        loop = logsumexp.sized(x.size, PARALLEL_FROM)
        loop(flat(plain(x)), flat(y), columns, block_of_rows(columns))
        return y
