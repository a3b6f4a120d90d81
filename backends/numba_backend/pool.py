"""Pooling: one image plane per task, tap by tap along lines so that the inner loops vectorise."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.pool import DENSE
from ..numpy_backend.windows import framed, out_size
from .conv_loops import reach
from .jit import kernel
from .layout import plain, suits

PARALLEL_FROM = 1 << 14  # elements of the image


@kernel(exact=True)
def max_forward(x: Array, y: Array, index: Array, kernel_size: Pair, stride: Pair,
                padding: Pair) -> None:  # fmt: skip
    """x (P, H, W) -> y and index (P, OH, OW): the first largest element, or the first NaN."""
    height, width = x.shape[1], x.shape[2]
    for p in prange(x.shape[0]):
        for oh in range(y.shape[1]):
            best, where = y[p, oh], index[p, oh]
            best[:] = -np.inf
            where[:] = -1  # nothing yet: a window of -inf still takes its first element
            for i in range(kernel_size[0]):
                h = oh * stride[0] + i - padding[0]
                if h < 0 or h >= height:
                    continue
                for j in range(kernel_size[1]):
                    low, high = reach(j - padding[1], stride[1], width, best.size)
                    first = low * stride[1] + j - padding[1]
                    line, top, position = x[p, h, first:], best[low:high], where[low:high]
                    first += h * width
                    for w in range(top.size):
                        v, b = line[w * stride[1]], top[w]
                        wins = (v > b) | (position[w] < 0) | ((v != v) & (b == b))
                        top[w] = v if wins else b
                        position[w] = first + w * stride[1] if wins else position[w]


@kernel(exact=True)
def max_backward(grad: Array, index: Array, x_grad: Array) -> None:
    """x_grad (P, H * W) = grad (P, OH * OW) added up at index."""
    for p in prange(grad.shape[0]):
        plane, source, where = x_grad[p], grad[p], index[p]
        plane[:] = 0
        for w in range(source.size):
            plane[where[w]] += source[w]


@kernel(exact=True)
def mean_forward(x: Array, y: Array, kernel_size: Pair, stride: Pair, padding: Pair,
                 divisor: Array) -> None:  # fmt: skip
    """x (P, H, W) -> y (P, OH, OW): sums over windows, divided by divisor (OH, OW)."""
    height, width = x.shape[1], x.shape[2]
    for p in prange(x.shape[0]):
        for oh in range(y.shape[1]):
            total, counts = y[p, oh], divisor[oh]
            total[:] = 0
            for i in range(kernel_size[0]):
                h = oh * stride[0] + i - padding[0]
                if h < 0 or h >= height:
                    continue
                for j in range(kernel_size[1]):
                    low, high = reach(j - padding[1], stride[1], width, total.size)
                    line, inner = x[p, h, low * stride[1] + j - padding[1] :], total[low:high]
                    for w in range(inner.size):
                        inner[w] += line[w * stride[1]]
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
        y = np.empty((*x.shape[:2], *size), x.dtype)
        if not suits(x, y):
            return super().max_pool2d(x, kernel, stride, padding)
        index = np.empty(y.shape, np.int64)
        max_forward.sized(x.size, PARALLEL_FROM)(
            planes(x), planes(y), planes(index), kernel, stride, padding
        )
        return y, index

    def max_pool2d_grad(self, grad: Array, index: Array, shape: Shape) -> Array:
        if not suits(grad) or index.dtype != np.int64:
            return super().max_pool2d_grad(grad, index, shape)
        images, size = shape[0] * shape[1], math.prod(grad.shape[2:])
        x_grad = np.empty(shape, grad.dtype)
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
        y = np.empty((*x.shape[:2], *size), x.dtype)
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
        x_grad = np.empty(shape, grad.dtype)
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
