"""Sums, and the softmax family along the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from ..interface import Array, Axes, Shape
from ..numpy_backend import NumpyBackend
from .jit import Kernel, inlined, kernel
from .layout import I64, flat, plain, suits
from .memory import empty

SUM_FROM = 1 << 16  # elements; below, NumPy's sum is as fast
SUM_ROW = 16  # elements that lie side by side in a sum over more than one axis
PARTS = 16  # into how many a sum over everything is split, whatever the number of threads
PARALLEL_FROM = 1 << 14  # elements of rows without an exponential
EXP_PARALLEL_FROM = 1 << 11
# Up to these sizes, NumPy's many passes cost more than its fast exp saves:
SHORT = 32  # elements per row
GRAD_UP_TO = 1 << 12  # elements, for a gradient that is mostly exponentials


@kernel()
def sum_blocks(x: Array, total: Array) -> None:
    """x (A, B, C) -> total (B,), added up in float64."""
    for b in prange(x.shape[1]):
        s = 0.0
        for a in range(x.shape[0]):
            row = x[a, b]
            for c in range(row.size):
                s += row[c]
        total[b] = s


@kernel()
def sum_parts(x: Array, total: Array) -> None:
    """x (n,), its stretches added up in float64 -> total (P,)."""
    parts = total.size
    for p in prange(parts):
        stretch = x[p * x.size // parts : (p + 1) * x.size // parts]
        s = 0.0
        for i in range(stretch.size):
            s += stretch[i]
        total[p] = s


@kernel(exact=True)
def extremes(x: Array) -> Any:
    """The smallest and the largest of integers."""
    low = high = x[0]
    for i in range(1, x.size):
        low, high = min(low, x[i]), max(high, x[i])
    return low, high


@inlined
def peak_of(row: Array) -> Any:
    """The largest element, or NaN if there is one."""
    peak = row[0]
    for c in range(1, row.size):
        peak = row[c] if row[c] > peak or row[c] != row[c] else peak
    return peak


@kernel()
def softmax(x: Array, y: Array) -> None:
    for n in prange(x.shape[0]):
        row, out = x[n], y[n]
        peak = peak_of(row)
        total = 0.0
        for c in range(row.size):
            out[c] = math.exp(row[c] - peak)
            total += out[c]
        scale = x.dtype.type(total)
        for c in range(row.size):
            out[c] /= scale


@kernel()
def softmax_grad(grad: Array, y: Array, x_grad: Array) -> None:
    for n in prange(y.shape[0]):
        g, row, out = grad[n], y[n], x_grad[n]
        total = 0.0
        for c in range(row.size):
            total += g[c] * row[c]
        shift = y.dtype.type(total)
        for c in range(row.size):
            out[c] = g[c] * row[c] - row[c] * shift


@kernel()
def log_softmax(x: Array, y: Array) -> None:
    for n in prange(x.shape[0]):
        row, out = x[n], y[n]
        peak = peak_of(row)
        total = 0.0
        for c in range(row.size):
            out[c] = row[c] - peak
            total += math.exp(out[c])
        shift = x.dtype.type(math.log(total))
        for c in range(row.size):
            out[c] -= shift


@kernel()
def log_softmax_grad(grad: Array, y: Array, x_grad: Array) -> None:
    for n in prange(y.shape[0]):
        g, row, out = grad[n], y[n], x_grad[n]
        total = 0.0
        for c in range(row.size):
            total += g[c]
        scale = y.dtype.type(total)
        for c in range(row.size):
            out[c] = g[c] - math.exp(row[c]) * scale


def rows(x: Array) -> Array:
    """x as a plain matrix of the rows along its last axis."""
    return plain(x).reshape(-1, x.shape[-1])


def by_rows(loop: Kernel, parallel_from: int, *arrays: Array) -> Array:
    """Run loop over the rows of arrays and of a new one, which is the result."""
    y = empty(arrays[0].shape, arrays[0].dtype)
    loop.sized(y.size, parallel_from)(*(rows(x) for x in arrays), rows(y))
    return y


def short_rows(x: Array, axis: int) -> bool:
    """Whether axis is the last one, and short enough for exponentials one by one."""
    return suits(x) and axis == x.ndim - 1 and x.shape[axis] <= SHORT


class Reduce(NumpyBackend):
    """Other axes, long rows and sums of integers are NumPy's."""

    def bounds(self, x: Array) -> tuple[float, float]:
        if x.dtype is not I64 or not x.flags.carray:
            return super().bounds(x)
        low, high = extremes.serial(flat(x))
        return float(low), float(high)

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        if x.size != 1 or len(x.shape) > len(shape) or type(x) is not np.ndarray:
            return super().broadcast_to(x, shape)
        y = np.ndarray(shape, x.dtype, x, strides=(0,) * len(shape))  # 0.3 us instead of 1.7
        y.flags.writeable = False
        return y

    def sum(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        if x.size < SUM_FROM or not suits(x) or not x.flags.c_contiguous:
            return super().sum(x, axis, keepdims)
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        kept = [a for a in range(x.ndim) if a not in axes]
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a in kept)
        if not kept:
            parts = np.empty(PARTS)
            sum_parts(plain(x).reshape(-1), parts)
            return np.full(shape, parts.sum(), x.dtype)
        first, last = kept[0], kept[-1] + 1
        after = math.prod(x.shape[last:])
        if last - first != len(kept) or after < SUM_ROW or math.prod(x.shape[first:last]) == 1:
            return super().sum(x, axis, keepdims)
        total = np.empty(math.prod(x.shape[first:last]), x.dtype)
        sum_blocks(plain(x).reshape(-1, total.size, after), total)
        return total.reshape(shape)

    def softmax(self, x: Array, axis: int) -> Array:
        if not short_rows(x, axis):
            return super().softmax(x, axis)
        return by_rows(softmax, EXP_PARALLEL_FROM, x)

    def softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        if not suits(grad, y) or axis != y.ndim - 1:
            return super().softmax_grad(grad, y, axis)
        return by_rows(softmax_grad, PARALLEL_FROM, grad, y)

    def log_softmax(self, x: Array, axis: int) -> Array:
        if not short_rows(x, axis):
            return super().log_softmax(x, axis)
        return by_rows(log_softmax, EXP_PARALLEL_FROM, x)

    def log_softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        if y.size > GRAD_UP_TO or not short_rows(y, axis) or grad.dtype is not y.dtype:
            return super().log_softmax_grad(grad, y, axis)
        return by_rows(log_softmax_grad, EXP_PARALLEL_FROM, grad, y)
