"""Pooling: one image plane per task, tap by tap along lines so that the inner loops vectorise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.pool import DENSE
from ..numpy_backend.windows import framed, out_size
from .frames import reach
from .jit import helper, inlined, kernel
from .layout import plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 14  # elements of the image
SHORT = 8  # elements of an output line


@helper
def beats(v: float, best: float) -> bool:
    """Whether v is larger, or the first NaN; | and & instead of or and and: nothing to predict."""
    return (v > best) | ((v != v) & (best == best))


@kernel(exact=True)
def max_pairs(x: Array, y: Array, index: Array) -> None:
    """Windows of 2 x 2 side by side, the commonest by far; shapes as in `max_forward`."""
    width = x.shape[2]
    for p in prange(x.shape[0]):
        choice = np.empty(y.shape[2], np.int32)  # apart from index, whose width differs from x's
        for oh in range(y.shape[1]):
            top, bottom, best = x[p, 2 * oh], x[p, 2 * oh + 1], y[p, oh]
            for w in range(best.size):
                m, n = top[2 * w], np.int32(0)
                a, b, c = top[2 * w + 1], bottom[2 * w], bottom[2 * w + 1]
                n, m = np.int32(1) if beats(a, m) else n, a if beats(a, m) else m
                n, m = np.int32(2) if beats(b, m) else n, b if beats(b, m) else m
                n, m = np.int32(3) if beats(c, m) else n, c if beats(c, m) else m
                best[w], choice[w] = m, n
            where = index[p, oh]
            for w in range(where.size):
                where[w] = 2 * (oh * width + w) + (choice[w] & 1) + (choice[w] >> 1) * width


@inlined
def keep_best(line: Array, step: int, number: int, best: Array, choice: Array) -> None:
    """Where line[w * step] beats best[w], or nothing was chosen yet, take it and its number."""
    tap = np.int32(number)
    for w in range(best.size):
        v = line[w * step]
        wins = beats(v, best[w]) | (choice[w] < 0)
        best[w] = v if wins else best[w]
        choice[w] = tap if wins else choice[w]


@kernel(exact=True)
def max_forward(x: Array, y: Array, index: Array, kernel_size: Pair, stride: Pair,
                padding: Pair) -> None:  # fmt: skip
    """x (P, H, W) -> y and index (P, OH, OW): the first largest element, or the first NaN."""
    height, width = x.shape[1], x.shape[2]
    for p in prange(x.shape[0]):
        choice = np.empty(y.shape[2], np.int32)
        for oh in range(y.shape[1]):
            y[p, oh] = -np.inf
            choice[:] = -1
            top = oh * stride[0] - padding[0]
            for i in range(max(0, -top), min(kernel_size[0], height - top)):
                for j in range(kernel_size[1]):
                    low, high = reach(j - padding[1], stride[1], width, choice.size)
                    line = x[p, top + i, low * stride[1] + j - padding[1] :]
                    best, chosen = y[p, oh, low:high], choice[low:high]
                    number = i * kernel_size[1] + j
                    if stride[1] == 1:  # known strides become vector loads
                        keep_best(line, 1, number, best, chosen)
                    elif stride[1] == 2:
                        keep_best(line, 2, number, best, chosen)
                    else:
                        keep_best(line, stride[1], number, best, chosen)
            for w in range(choice.size):
                i, j = choice[w] // kernel_size[1], choice[w] % kernel_size[1]
                index[p, oh, w] = (top + i) * width + w * stride[1] - padding[1] + j


@kernel(exact=True)
def max_backward(grad: Array, index: Array, x_grad: Array) -> None:
    """x_grad (P, H * W) = grad (P, OH * OW) added up at index."""
    for p in prange(grad.shape[0]):
        plane, source, where = x_grad[p], grad[p], index[p]
        plane[:] = 0
        for w in range(source.size):
            plane[where[w]] += source[w]


@inlined
def add_line(line: Array, step: int, total: Array) -> None:
    for w in range(total.size):
        total[w] += line[w * step]


@inlined
def in_order(window: Array) -> Any:
    """The sum, one element after the other."""
    total = window.dtype.type(0)  # not 0.0, which is a float64
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            total += window[i, j]
    return total


@kernel(exact=True)
def mean_forward(x: Array, y: Array, kernel_size: Pair, stride: Pair, padding: Pair,
                 divisor: Array) -> None:  # fmt: skip
    """x (P, H, W) -> y (P, OH, OW): sums over windows, divided by divisor (OH, OW)."""
    height, width = x.shape[1], x.shape[2]
    for p in prange(x.shape[0]):
        if y.shape[2] < SHORT:  # lines too short for vectors: window by window
            for oh in range(y.shape[1]):
                top = oh * stride[0] - padding[0]
                for ow in range(y.shape[2]):
                    left = ow * stride[1] - padding[1]
                    window = x[p, max(top, 0) : min(top + kernel_size[0], height),
                               max(left, 0) : min(left + kernel_size[1], width)]  # fmt: skip
                    y[p, oh, ow] = in_order(window) / divisor[oh, ow]
            continue
        y[p] = 0
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                low, high = reach(j - padding[1], stride[1], width, y.shape[2])
                for oh in range(y.shape[1]):
                    h = oh * stride[0] + i - padding[0]
                    if 0 <= h < height:
                        total = y[p, oh, low:high]
                        line = x[p, h, low * stride[1] + j - padding[1] :]
                        if stride[1] == 1:  # known strides become vector loads
                            add_line(line, 1, total)
                        elif stride[1] == 2:
                            add_line(line, 2, total)
                        else:
                            add_line(line, stride[1], total)
        for oh in range(y.shape[1]):
            total, counts = y[p, oh], divisor[oh]
            for w in range(total.size):
                total[w] /= counts[w]


@kernel(exact=True)
def mean_backward(grad: Array, x_grad: Array, kernel_size: Pair, stride: Pair, padding: Pair,
                  divisor: Array) -> None:  # fmt: skip
    """x_grad (P, H, W) = grad / divisor (OH, OW), added to every element of its window."""
    height, width = x_grad.shape[1], x_grad.shape[2]
    for p in prange(grad.shape[0]):
        x_grad[p] = 0
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                low, high = reach(j - padding[1], stride[1], width, grad.shape[2])
                for oh in range(grad.shape[1]):
                    h = oh * stride[0] + i - padding[0]
                    if h < 0 or h >= height:
                        continue
                    source, counts = grad[p, oh, low:high], divisor[oh, low:high]
                    line = x_grad[p, h, low * stride[1] + j - padding[1] :]
                    for w in range(source.size):
                        line[w * stride[1]] += source[w] / counts[w]


def planes(x: Array) -> Array:
    """x (N, C, H, W) as a plain (N * C, H, W)."""
    return plain(x).reshape(-1, *x.shape[2:])


class Pool(NumpyBackend):
    """The same values and order of additions as the NumPy backend, in one pass over the image."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        size = out_size(framed(x.shape[2:], padding), kernel, stride, DENSE)
        y = empty((*x.shape[:2], *size), x.dtype)
        if not suits(x, y):
            return super().max_pool2d(x, kernel, stride, padding)
        index = empty(y.shape, np.int64)
        arrays = planes(x), planes(y), planes(index)
        if kernel == stride == (2, 2) and padding == (0, 0):
            max_pairs.sized(x.size, PARALLEL_FROM)(*arrays)
        else:
            max_forward.sized(x.size, PARALLEL_FROM)(*arrays, kernel, stride, padding)
        return y, index

    def max_pool2d_grad(self, grad: Array, index: Array, shape: Shape) -> Array:
        if not suits(grad) or index.dtype != np.int64:
            return super().max_pool2d_grad(grad, index, shape)
        images, size = shape[0] * shape[1], math.prod(grad.shape[2:])
        x_grad = empty(shape, grad.dtype)
        max_backward.sized(x_grad.size, PARALLEL_FROM)(
            plain(grad).reshape(images, size),
            plain(index).reshape(images, size),
            x_grad.reshape(images, -1),
        )
        return x_grad

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
    ) -> Array:
        size = out_size(framed(x.shape[2:], padding), kernel, stride, DENSE)
        y = empty((*x.shape[:2], *size), x.dtype)
        if not suits(x, y):
            return super().avg_pool2d(x, kernel, stride, padding, count_include_pad)
        divisor = self._divisors(x.shape[2:], size, kernel, stride, padding, count_include_pad, x)
        mean_forward.sized(x.size, PARALLEL_FROM)(
            planes(x), planes(y), kernel, stride, padding, divisor
        )
        return y

    def avg_pool2d_grad(
        self, grad: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair,
        count_include_pad: bool,
    ) -> Array:  # fmt: skip
        x_grad = empty(shape, grad.dtype)
        if not suits(grad, x_grad):
            return super().avg_pool2d_grad(grad, shape, kernel, stride, padding, count_include_pad)
        divisor = self._divisors(
            shape[2:], grad.shape[2:], kernel, stride, padding, count_include_pad, grad
        )
        mean_backward.sized(x_grad.size, PARALLEL_FROM)(
            planes(grad), planes(x_grad), kernel, stride, padding, divisor
        )
        return x_grad

    def _divisors(
        self, size: Shape, out: Shape, kernel: Pair, stride: Pair, padding: Pair, padded: bool,
        like: Array,
    ) -> Array:  # fmt: skip
        """What each of the `out` windows is divided by, one number per window."""
        divisor = self._divisor((size[0], size[1]), kernel, stride, padding, padded, like.dtype)
        return np.array(np.broadcast_to(divisor, out), like.dtype)
