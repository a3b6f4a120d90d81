"""Quantized products: packed weights, tiles of sums, and what becomes of them in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, DType, Finish, Pair, Requantize
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .dots import NATIVE, ROWS, SIGNED, WIDTH, linear_tile
from .finish import CODES, RELU, SUMS, code, real, result_dtype, rule
from .int8_conv import TASKS, band, convolve, in_lines, quads_of, sums_of
from .jit import helper, kernel
from .layout import F32, flat, plain
from .memory import empty
from .microkernel import isa, transpose_block
from .outline import tasks

PARALLEL_FROM = 1 << 19  # multiply-adds
PARTS = 16  # into how many tasks a product is split, if its shape allows
QUANTIZE_FROM = 1 << 15  # elements
SIDE = isa().vector // 4  # of the squares that transpose_block takes
_BYTES = (np.dtype(np.uint8), np.dtype(np.int8))


@kernel(exact=True)
def quantize(x: Array, scale: float, zero: int, low: int, high: int, q: Array) -> None:
    """q = clip(round_half_even(x / scale) + zero, low, high) as bytes; NaN becomes zero.

    Ends first, which are whole numbers: what is left to round is small, and adding 1.5 * 2^23
    leaves no room for its fraction, so that the processor rounds it, half to even.
    """
    least, most, room = np.float32(low - zero), np.float32(high - zero), np.float32(12582912)
    for i in prange(x.size):
        y = x[i] / scale
        y = np.float32(0) if y != y else y
        y = least if y < least else y
        y = most if y > most else y
        q[i] = np.uint8(np.int32((y + room) - room) + np.int32(zero))


@tasks(calls=[linear_tile], exact=True)
def linear(codes: Array, packed: Array, offset: Array, factor: Array, last: Array, how: int,
           ends: tuple[int, int, int], height: int, columns: int, y: Array,
           part: int) -> None:  # fmt: skip
    """y (rows, columns), as bytes, = codes (rows, 4 * depth) times packed, finished (`finish.py`).

    A task is a panel of columns and `height` rows.
    """
    depth = packed.shape[1] - 1
    rows = codes.size // (4 * depth)
    blocks = (rows + height - 1) // height
    weight = packed.reshape(-1)
    p, row = part // blocks, part % blocks * height
    end, start = min(row + height, rows), p * WIDTH
    stop = min(start + WIDTH, columns)
    tile = np.empty(ROWS * WIDTH, np.int32)
    while row < end:
        left = (end - row + ROWS - 1) // ROWS
        count = (end - row) // left
        linear_tile(count, tile, 0, WIDTH, codes, row * depth, depth, weight,
                    p * (depth + 1) * WIDTH, WIDTH, depth)  # fmt: skip
        finish_tile(tile, count, offset, factor, last, start, stop - start, how, ends,
                    y, row * columns + start, columns)  # fmt: skip
        row += count


@helper
def finish_tile(tile: Array, rows: int, offset: Array, factor: Array, last: Array, start: int,
                count: int, how: int, ends: tuple[int, int, int], y: Array, at: int,
                step: int) -> None:  # fmt: skip
    """The rows of a tile into y, the first one to `at`; constants are those from `start` on."""
    offset, factor, last = offset[start:], factor[start:], last[start:]
    if how == SUMS:
        totals = y.view(np.int32)
        for m in range(rows):
            sums, out = tile[m * WIDTH :], totals[at + m * step :]
            for n in range(count):
                out[n] = sums[n] + offset[n]
    elif how == CODES:
        multiplier, shift = factor.view(np.int32), last.view(np.int32)
        zero, low, high = ends
        for m in range(rows):
            sums, codes = tile[m * WIDTH :], y[at + m * step :]
            for n in range(count):
                total = np.int32(sums[n] + offset[n])
                codes[n] = code(total, multiplier[n], shift[n], zero, low, high)
    else:
        numbers, relu = y.view(np.float32), how == RELU
        for m in range(rows):
            sums, line = tile[m * WIDTH :], numbers[at + m * step :]
            for n in range(count):
                total = np.int32(sums[n] + offset[n])
                line[n] = real(total, factor[n], last[n], relu)


@kernel(calls=[transpose_block])
def pack(weight: Array, quads: Array, packed: Array) -> None:
    """packed[p, k, l] = quad k of row p * WIDTH + l of weight, 0 beyond; the last k holds the sums.

    weight (O, D) as int8 and as quads of bytes (O, depth) of which the last may be filled up.
    """
    outputs, depth = quads.shape
    side = SIDE
    source, target = quads.reshape(-1), packed.reshape(-1)
    for p in prange(packed.shape[0]):
        panel = packed[p]
        count = min(WIDTH, outputs - p * WIDTH)
        blocks, squares = depth // side * side, count // side * side
        to = p * (depth + 1) * WIDTH
        for n in range(0, squares, side):
            for k in range(0, blocks, side):
                transpose_block(source, (p * WIDTH + n) * depth + k, depth, target,
                                to + k * WIDTH + n, WIDTH)  # fmt: skip
        for n in range(WIDTH):
            total = np.int32(0)
            if n < count:
                row, whole = quads[p * WIDTH + n], weight[p * WIDTH + n]
                for k in range(blocks if n < squares else 0, depth):
                    panel[k, n] = row[k]
                for k in range(whole.size):
                    total += np.int32(whole[k])
            else:
                panel[:depth, n] = 0
            panel[depth, n] = total


class Int8(NumpyBackend):
    """What is not of bytes, or empty, is left to the NumPy backend."""

    def quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int, dtype: DType
    ) -> Array:
        dtype = np.dtype(dtype)
        one = scale.size == 1 and zero_point.size == 1 and scale.ndim <= x.ndim
        if not (one and x.size and x.dtype is F32 and scale.dtype is F32 and dtype in _BYTES):
            return super().quantize(x, scale, zero_point, low, high, dtype)
        q = empty(x.shape, dtype)
        quantize.sized(x.size, QUANTIZE_FROM)(
            flat(plain(x)), np.float32(scale.item()), zero_point.item(), low, high,
            flat(q).view(np.uint8),
        )  # fmt: skip
        return q

    def int8_pack(self, weight: Array, groups: int) -> Array:
        if not weight.size:
            return super().int8_pack(weight, groups)
        return pack_matrix(weight) if weight.ndim == 2 else quads_of(weight, groups)

    def int8_matmul(self, a: Array, b: Array) -> Array:
        if not a.size or not b.size:
            return super().int8_matmul(a, b)
        return self.int8_linear(a, b, pack_matrix(b), None)

    def int8_linear(self, x: Array, weight: Array, packed: Array, finish: Finish) -> Array:
        if not x.size or not weight.size:
            return super().int8_linear(x, weight, packed, finish)
        rows, outputs, depth = x.shape[0], weight.shape[0], packed.shape[1] - 1
        y = empty((rows, outputs), result_dtype(finish))
        sums = None if x.dtype == NATIVE else flat(packed[:, depth])[:outputs]
        how = rule(finish, outputs, sums)
        height = -(-rows // -(-PARTS // packed.shape[0]))
        linear.sized(rows * outputs * depth * 4, PARALLEL_FROM)(
            packed.shape[0] * -(-rows // height),
            rows_of_quads(x), packed, how.offset, how.factor, how.last, how.how, how.ends,
            height, outputs, flat(y).view(np.uint8),
        )  # fmt: skip
        return y

    def int8_conv2d(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Finish,
    ) -> Array:  # fmt: skip
        options = stride, padding, dilation, groups
        return self._convolved(x, weight, packed, pad_value, *options, finish, (1, 1))

    def int8_conv2d_pool(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Requantize, pool: Pair,
    ) -> Array:  # fmt: skip
        options = stride, padding, dilation, groups
        return self._convolved(x, weight, packed, pad_value, *options, finish, pool)

    def _convolved(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Finish, pool: Pair,
    ) -> Array:  # fmt: skip
        """int8_conv2d, then int8_max_pool2d in windows of `pool`."""
        options = stride, padding, dilation, groups
        kernel_size, outputs = weight.shape[2:], weight.shape[0]
        height, width = out_size(framed(x.shape[2:], padding), kernel_size, stride, dilation)
        pooled = height // pool[0], width // pool[1]
        y = empty((x.shape[0], outputs, *pooled), result_dtype(finish))
        if not y.size or not x.size:
            y = super().int8_conv2d(x, weight, packed, pad_value, *options, finish)
            return y if pool == (1, 1) else self.int8_max_pool2d(y, pool, pool, (0, 0))
        sums = None if x.dtype == NATIVE else sums_of(packed, outputs, groups)
        how = rule(finish, outputs, sums)
        lined = in_lines(weight.shape[1], kernel_size[1])
        planes = weight.shape[1] if lined else -(-weight.shape[1] // 4)
        used = pooled[0] * pool[0], width
        quads = planes * (x.shape[3] + 2 * padding[1]) * stride[0]
        lines, samples = band(x.shape[0], used[0], quads, pool[0]), max(1, x.shape[0] // TASKS)
        convolve.sized(x.shape[0] * outputs * math.prod((*used, *weight.shape[1:])), PARALLEL_FROM)(
            -(-x.shape[0] // samples) * -(-used[0] // lines),
            plain(x).view(np.uint8), 0 if x.dtype == NATIVE else 128, pad_value & 255, packed,
            how.offset, how.factor, how.last, how.how, how.ends, lined, kernel_size, *options,
            pool, used, samples, lines, flat(y).view(np.uint8),
        )  # fmt: skip
        return y


def rows_of_quads(x: Array) -> Array:
    """x (N, D) as bytes of the kind that tiles multiply, rows filled up to quads; flat."""
    x = plain(x)
    if x.dtype != NATIVE:
        x = x.view(NATIVE) ^ NATIVE.type(-128 if SIGNED else 128)
    missing = -x.shape[1] % 4
    if missing:
        x = np.pad(x, ((0, 0), (0, missing)))
    return flat(x).view(np.uint8)


def pack_matrix(weight: Array) -> Array:
    """The panels of `pack` for a weight (O, D)."""
    outputs, depth = weight.shape[0], -(-weight.shape[1] // 4)
    quads = plain(np.pad(weight, ((0, 0), (0, -weight.shape[1] % 4))))
    packed = empty((-(-outputs // WIDTH), depth + 1, WIDTH), np.int32)
    pack.sized(weight.size, PARALLEL_FROM)(quads, quads.view(np.int32), packed)
    return packed
