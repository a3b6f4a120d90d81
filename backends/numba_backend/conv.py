"""Convolution and its two gradients: tiles of columns, multiplied while they are in the cache.

Work is split by what it writes (output rows, samples, channels). Only the weight gradient sums
over samples: it does so in a number of parts that depends on the shapes alone, added in order, so
that no result depends on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .blas import BLAS, gemm
from .conv_loops import add_columns, fill_columns, put_rows, take_rows
from .jit import kernel
from .layout import optional, plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 18  # multiply-adds; below, a launch costs more than it saves
CACHE = 1 << 16  # elements of a tile of columns: a quarter of a megabyte in float32
PARTS = 16  # into how many tasks work is split, if its shape allows
PARTIAL_SUMS = 1 << 20  # elements that the parts of a weight gradient may take together


@kernel()
def forward(x: Array, weight: Array, bias: Array, y: Array, stride: Pair, padding: Pair,
            dilation: Pair, groups: int, tile: int) -> None:  # fmt: skip
    """y = weight @ columns + bias, a tile of output rows at a time; weight (O, C / G, kh, kw)."""
    outs, channels = weight.shape[0] // groups, weight.shape[1]
    kernel_size, size = (weight.shape[2], weight.shape[3]), (y.shape[2], y.shape[3])
    matrix = weight.reshape(weight.shape[0], -1)
    rows = y.shape[0] * size[0]
    for t in prange((rows + tile - 1) // tile):
        scale = np.array([1, 0], x.dtype)
        width = min(tile, rows - t * tile) * size[1]
        cols = np.empty((matrix.shape[1], width), x.dtype)
        result = np.empty((outs, width), x.dtype)
        for g in range(groups):
            fill_columns(x, g * channels, channels, kernel_size, stride, padding, dilation, size,
                         t * tile, cols, 0)  # fmt: skip
            gemm(matrix[g * outs : (g + 1) * outs], False, cols, False, result, scale)
            put_rows(result, y, g * outs, t * tile, bias)


@kernel()
def input_grad(grad: Array, weight: Array, x_grad: Array, stride: Pair, padding: Pair,
               dilation: Pair, groups: int, parts: int, blocks: int,
               tile: int) -> None:  # fmt: skip
    """x_grad = the columns weight' @ grad, added to where they were taken.

    A task is some samples (one of `parts`) and some channels of each group (one of `blocks`).
    """
    outs, channels = weight.shape[0] // groups, weight.shape[1]
    kernel_size, size = (weight.shape[2], weight.shape[3]), (grad.shape[2], grad.shape[3])
    taps = kernel_size[0] * kernel_size[1]
    samples = grad.shape[0]
    for task in prange(parts * blocks):
        part, block = task // blocks, task % blocks
        first, last = block * channels // blocks, (block + 1) * channels // blocks
        matrix = weight.reshape(weight.shape[0], -1)[:, first * taps : last * taps]
        scale = np.array([1, 0], grad.dtype)
        start, stop = part * samples // parts, (part + 1) * samples // parts
        for g in range(groups):
            x_grad[start:stop, g * channels + first : g * channels + last] = 0
        for row in range(start * size[0], stop * size[0], tile):
            width = min(tile, stop * size[0] - row) * size[1]
            cols = np.empty(((last - first) * taps, width), grad.dtype)
            rows = np.empty((outs, width), grad.dtype)
            for g in range(groups):
                take_rows(grad, g * outs, row, rows)
                gemm(matrix[g * outs : (g + 1) * outs], True, rows, False, cols, scale)
                add_columns(cols, x_grad, g * channels + first, last - first, kernel_size, stride,
                            padding, dilation, size, row)  # fmt: skip


@kernel()
def weight_grad(grad: Array, x: Array, partial: Array, stride: Pair, padding: Pair,
                dilation: Pair, groups: int, blocks: int, tile: int) -> None:  # fmt: skip
    """partial[p] = sum over part p of the samples of grad @ columns', by blocks of channels."""
    parts, outs, channels = partial.shape[0], partial.shape[1] // groups, partial.shape[2]
    kernel_size, size = (partial.shape[3], partial.shape[4]), (grad.shape[2], grad.shape[3])
    taps = kernel_size[0] * kernel_size[1]
    samples = grad.shape[0]
    for task in prange(parts * blocks):
        part, block = task // blocks, task % blocks
        first, last = block * channels // blocks, (block + 1) * channels // blocks
        matrix = partial[part].reshape(partial.shape[1], -1)[:, first * taps : last * taps]
        scale = np.array([1, 0], grad.dtype)
        stop = (part + 1) * samples // parts * size[0]
        for row in range(part * samples // parts * size[0], stop, tile):
            width = min(tile, stop - row) * size[1]
            cols = np.empty(((last - first) * taps, width), grad.dtype)
            rows = np.empty((outs, width), grad.dtype)
            for g in range(groups):
                fill_columns(x, g * channels + first, last - first, kernel_size, stride, padding,
                             dilation, size, row, cols, 0)  # fmt: skip
                take_rows(grad, g * outs, row, rows)
                gemm(rows, False, cols, True, matrix[g * outs : (g + 1) * outs], scale)
            scale[1] = 1  # from the second tile on, add


@kernel()
def add_up(partial: Array, total: Array) -> None:
    """total = the sum of partial's rows, in order."""
    for i in prange(total.size):
        value = partial[0, i]
        for part in range(1, partial.shape[0]):
            value += partial[part, i]
        total[i] = value


def tile_rows(depth: int, rows: int, length: int) -> int:
    """How many output rows of `length` make a tile, for columns of `depth` elements."""
    width = min(max(CACHE // depth, 64), 1024)
    return max(1, min(width // length, -(-rows // PARTS)))


class Conv(NumpyBackend):
    """Results do not depend on tiles beyond the rounding of sums, which BLAS orders as it likes."""

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        kernel_size = weight.shape[2:]
        size = out_size(framed(x.shape[2:], padding), kernel_size, stride, dilation)
        y = empty((x.shape[0], weight.shape[0], *size), x.dtype)
        if not suits(x, weight, bias, y):
            return super().conv2d(x, weight, bias, stride, padding, dilation, groups)
        depth = math.prod(weight.shape[1:])
        tile = tile_rows(depth, x.shape[0] * size[0], size[1])
        with BLAS:
            forward.sized(y.size * depth, PARALLEL_FROM)(
                plain(x), plain(weight), optional(bias, x.dtype), y,
                stride, padding, dilation, groups, tile,
            )  # fmt: skip
        return y

    def conv2d_input_grad(
        self, grad: Array, weight: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        x_grad = empty(shape, grad.dtype)
        if not suits(grad, weight, x_grad):
            return super().conv2d_input_grad(grad, weight, shape, stride, padding, dilation, groups)
        depth = math.prod(weight.shape[1:])
        parts = min(shape[0], PARTS)
        blocks = min(weight.shape[1], -(-PARTS // parts))
        tile = tile_rows(depth, shape[0] * grad.shape[2], grad.shape[3])
        with BLAS:
            input_grad.sized(grad.size * depth, PARALLEL_FROM)(
                plain(grad), plain(weight), x_grad,
                stride, padding, dilation, groups, parts, blocks, tile,
            )  # fmt: skip
        return x_grad

    def conv2d_weight_grad(
        self, grad: Array, x: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        weight = math.prod(shape)
        if not suits(grad, x) or not weight:
            return super().conv2d_weight_grad(grad, x, shape, stride, padding, dilation, groups)
        depth = math.prod(shape[1:])
        parts = max(1, min(x.shape[0], PARTS, PARTIAL_SUMS // weight))
        blocks = min(shape[1], -(-PARTS // parts))
        partial = empty((parts, *shape), grad.dtype)
        tile = tile_rows(depth, x.shape[0] * grad.shape[2], grad.shape[3])
        with BLAS:
            weight_grad.sized(grad.size * depth, PARALLEL_FROM)(
                plain(grad), plain(x), partial, stride, padding, dilation, groups, blocks, tile
            )
        if parts == 1:
            return partial[0]
        total = empty(shape, grad.dtype)
        add_up.sized(partial.size, 1 << 16)(partial.reshape(parts, -1), total.reshape(-1))
        return total
