"""Quantized products: packed weights, tiles of sums, and what becomes of them in one pass."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from ..interface import Array, DType, Finish, Pair, Requantize, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .dots import LANES, NATIVE, ROWS, SIGNED, WIDTH, linear_tile
from .finish import CODES, RELU, SUMS, code, real, result_dtype, row_in_floats, rule
from .int8_conv import TASKS, band, convolve, in_lines, quads_of, sums_of
from .int8_planes import phase_lines, places
from .jit import helper, kernel
from .layout import F32, flat, plain
from .memory import empty
from .microkernel import isa, transpose_block
from .outline import tasks

PARALLEL_FROM = 1 << 19  # multiply-adds
PARTS = 16  # into how many tasks a product is split, if its shape allows
TASK = 1 << 17  # multiply-adds: to begin a task takes as long as some 2^14 of them
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
           ends: tuple[int, int, int], height: int, panels: int, columns: int, y: Array,
           part: int) -> None:  # fmt: skip
    """y (rows, columns), as bytes, = codes (rows, 4 * depth) times packed, finished (`finish.py`).

    A task is some panels of columns and `height` rows.
    """
    depth = packed.shape[1] - 1
    rows = codes.size // (4 * depth)
    blocks = (rows + height - 1) // height
    weight = packed.reshape(-1)
    first, top = part // blocks * panels, part % blocks * height
    end = min(top + height, rows)
    rules = offset, factor.view(np.int32), last.view(np.int32)
    others = y[: y.size // 4 * 4]
    totals, numbers = others.view(np.int32), others.view(np.float32)
    tile = np.empty(ROWS * WIDTH, np.int32)
    for p in range(first, min(first + panels, packed.shape[0])):
        row, start = top, p * WIDTH
        stop = min(start + WIDTH, columns)
        while row < end:
            left = (end - row + ROWS - 1) // ROWS
            count = (end - row) // left
            linear_tile(count, tile, 0, WIDTH, codes, row * depth, depth, weight,
                        p * (depth + 1) * WIDTH, WIDTH, depth)  # fmt: skip
            if how == CODES:
                requantize_tile(tile, count, rules, start, stop - start, ends,
                                y, row * columns + start, columns)  # fmt: skip
            else:
                finish_tile(tile, count, offset, factor, last, start, stop - start, how,
                            totals, numbers, row * columns + start, columns)  # fmt: skip
            row += count


@helper
def requantize_tile(tile: Array, rows: int, rules: tuple[Array, Array, Array], start: int,
                    count: int, ends: tuple[int, int, int], y: Array, at: int,
                    step: int) -> None:  # fmt: skip
    """The rows of a tile as codes into y, the first one to `at`; constants are those from `start`
    on.
    """
    offset, multiplier, shift = rules
    zero, low, high = ends
    vectors = count // LANES
    for m in range(rows):
        close = row_in_floats(y, at + m * step, tile, m * WIDTH, vectors, offset, multiplier,
                              shift, start, zero, low, high)  # fmt: skip
        first = np.uintp(start)  # unsigned: not counted from the end
        begin, put = np.uintp(m * WIDTH), np.uintp(at + m * step)
        for n in range(np.uintp(0 if close else vectors * LANES), np.uintp(count)):
            total = np.int32(tile[begin + n] + offset[first + n])
            y[put + n] = code(total, multiplier[first + n], shift[first + n], zero, low, high)


@helper
def finish_tile(tile: Array, rows: int, offset: Array, factor: Array, last: Array, start: int,
                count: int, how: int, totals: Array, numbers: Array, at: int,
                step: int) -> None:  # fmt: skip
    """The rows of a tile as they are into totals, or into numbers; see `requantize_tile`."""
    first, columns = np.uintp(start), np.uintp(count)
    for m in range(rows):
        begin, put = np.uintp(m * WIDTH), np.uintp(at + m * step)
        if how == SUMS:
            for n in range(columns):
                totals[put + n] = tile[begin + n] + offset[first + n]
        else:
            relu = how == RELU
            for n in range(columns):
                total = np.int32(tile[begin + n] + offset[first + n])
                numbers[put + n] = real(total, factor[first + n], last[first + n], relu)


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
        panels = max(1, TASK // (height * depth * 4 * WIDTH))
        linear.sized(rows * outputs * depth * 4, PARALLEL_FROM)(
            -(-packed.shape[0] // panels) * -(-rows // height),
            rows_of_quads(x), packed, how.offset, how.factor, how.last, how.how, how.ends,
            height, panels, outputs, flat(y).view(np.uint8),
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
        plan = planned(x.shape, weight.shape, *options, pool)
        if plan is None:
            y = super().int8_conv2d(x, weight, packed, pad_value, *options, finish)
            return y if pool == (1, 1) else self.int8_max_pool2d(y, pool, pool, (0, 0))
        outputs = weight.shape[0]
        y = empty(plan.shape, result_dtype(finish))
        sums = None if x.dtype == NATIVE else sums_of(packed, outputs, groups)
        how = rule(finish, outputs, sums)
        convolve.sized(plan.work, PARALLEL_FROM)(
            plan.parts, plain(x).view(np.uint8), 0 if x.dtype == NATIVE else 128, pad_value & 255,
            packed, how.offset, how.factor, how.last, how.how, how.ends, plan.lined,
            weight.shape[2:], *options, pool, plan.used, plan.samples, plan.lines,
            plan.table, y.reshape(-1).view(np.uint8),
        )  # fmt: skip
        return y


class Plan(NamedTuple):
    """How a convolution is split into tasks."""

    shape: tuple[int, ...]  # of the result
    parts: int
    lined: bool
    used: Pair  # lines and columns before pooling
    samples: int
    lines: int
    work: int  # multiply-adds
    table: Array


@lru_cache(maxsize=1024)
def planned(
    x: Shape, weight: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int, pool: Pair
) -> Plan | None:
    """The plan for arrays of these shapes; None if there is nothing to compute."""
    samples, _, *image = x
    outputs, channels, *taps = weight
    kernel_size = taps[0], taps[1]
    height, width = out_size(framed((image[0], image[1]), padding), kernel_size, stride, dilation)
    shape = (samples, outputs, height // pool[0], width // pool[1])
    if not math.prod(shape) or not math.prod(x):
        return None
    lined = in_lines(channels, kernel_size[1])
    planes = channels if lined else -(-channels // 4)
    used = shape[2] * pool[0], width
    quads = planes * (image[1] + 2 * padding[1]) * stride[0]
    lines, some = band(samples, used[0], quads, pool[0]), max(1, samples // TASKS)
    parts = -(-samples // some) * -(-used[0] // lines)
    work = samples * outputs * math.prod((*used, *weight[1:]))
    high = phase_lines(lines, kernel_size[0], stride[0], dilation[0])
    width = (image[1] + 2 * padding[1] + stride[1] - 1) // stride[1]
    table = places(planes, lined, kernel_size, stride, dilation, high, width)
    return Plan(shape, parts, lined, used, some, lines, work, table)


def rows_of_quads(x: Array) -> Array:
    """x (N, D) as bytes of the kind that tiles multiply, rows filled up to quads; flat."""
    x = plain(x)
    if x.dtype == NATIVE and x.shape[1] % 4 == 0:
        return x.reshape(-1).view(np.uint8)
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
