"""What stands between quantized layers: sums, tables and pooling of codes, byte by byte.

Kernels see bytes. An exclusive or with `flip`, 128 for int8 and 0 for uint8, turns a code into the
number code + flip, from 0 to 255, in the order of the codes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, DType, Narrow, Pair
from ..numpy_backend import NumpyBackend
from ..numpy_backend.pool import DENSE
from ..numpy_backend.windows import framed, out_size
from .frames import reach
from .jit import helper, inlined, kernel
from .layout import flat, plain
from .lines import copy_lines
from .memory import empty

# Elements from which threads pay: they work on 4 bytes and on 1 byte in a nanosecond.
ADD_FROM, LOOKUP_FROM, POOL_FROM, NORM_FROM = 1 << 16, 1 << 14, 1 << 16, 1 << 14
INT32 = np.dtype(np.int32)
BLOCK = 1 << 12  # codes of a task
PAIRS = 1 << 13  # codes of images that are pooled by pairs at once


@helper
def narrowed(n: np.int32, shift: np.int32, half: np.int32) -> np.int32:
    """round_half_even(n / 2^shift) in 32 bits; half is 2^(shift - 1) - 1."""
    return np.int32(np.int32(n + half + ((n >> shift) & np.int32(1))) >> shift)


@kernel(exact=True)
def add(a: Array, b: Array, flips: Pair, zeros: Pair, multipliers: Pair,
        numbers: tuple[int, int, int, int], q: Array) -> None:  # fmt: skip
    """q = (a - zeros[0]) * multipliers[0] + (b - zeros[1]) * multipliers[1], narrowed; flat, and b
    is repeated.
    """
    shift, zero, low, high = numbers
    by, half = np.int32(shift), np.int32((1 << (shift - 1)) - 1)
    first, second = np.int32(multipliers[0]), np.int32(multipliers[1])
    start = np.int32(-(zeros[0] + flips[0]) * multipliers[0])
    start = np.int32(start - (zeros[1] + flips[1]) * multipliers[1])
    turn, other = np.uint8(flips[0]), np.uint8(flips[1])
    least, most, base = np.int32(low), np.int32(high), np.int32(zero)
    blocks = (b.size + BLOCK - 1) // BLOCK
    for part in prange(a.size // b.size * blocks):
        start_b = part % blocks * BLOCK
        two = b[start_b : start_b + BLOCK]
        begin = part // blocks * b.size + start_b
        one, out = a[begin : begin + two.size], q[begin : begin + two.size]
        for i in range(out.size):
            n = np.int32(np.int32(one[i] ^ turn) * first + start)
            n = np.int32(n + np.int32(two[i] ^ other) * second)
            code = np.int32(narrowed(n, by, half) + base)
            out[i] = np.uint8(least if code < least else most if code > most else code)


@kernel(exact=True)
def lookup(x: Array, table: Array, y: Array) -> None:
    """y[i] = table[x[i]], x as bytes, flat."""
    for part in prange((x.size + BLOCK - 1) // BLOCK):
        begin = part * BLOCK
        source, out = x[begin : begin + BLOCK], y[begin : begin + BLOCK]
        for i in range(out.size):
            out[i] = table[source[i]]


@inlined
def keep_larger(line: Array, step: int, best: Array) -> None:
    for w in range(best.size):
        best[w] = max(best[w], line[w * step])


@kernel(exact=True)
def max_pool(x: Array, flip: int, kernel_size: Pair, stride: Pair, padding: Pair,
             y: Array) -> None:  # fmt: skip
    """x (P, H, W) -> y (P, OH, OW), as bytes: over the lines of a window, then along them."""
    height, width = x.shape[1], x.shape[2]
    turn = np.uint8(flip)
    for p in prange(x.shape[0]):
        largest = np.empty(width, np.uint8)
        for oh in range(y.shape[1]):
            top = oh * stride[0] - padding[0]
            first = max(0, top)
            line = x[p, first]
            for w in range(width):
                largest[w] = line[w] ^ turn
            for h in range(first + 1, min(top + kernel_size[0], height)):
                line = x[p, h]
                for w in range(width):
                    largest[w] = max(largest[w], line[w] ^ turn)
            best = y[p, oh]
            for w in range(best.size):
                best[w] = 0
            for j in range(kernel_size[1]):
                low, high = reach(j - padding[1], stride[1], width, best.size)
                part, some = largest[low * stride[1] + j - padding[1] :], best[low:high]
                if stride[1] == 1:  # known strides become vector loads
                    keep_larger(part, 1, some)
                elif stride[1] == 2:
                    keep_larger(part, 2, some)
                else:
                    keep_larger(part, stride[1], some)
            for w in range(best.size):
                best[w] ^= turn


@kernel(exact=True)
def max_pairs(x: Array, flip: int, some: int, y: Array) -> None:
    """`max_pool` of windows of 2 x 2 side by side, `some` images at a time.

    Loops run over all of their lines at once, since lines are short: pairs of odd lines, and those
    that reach into the next image, are computed and not used.
    """
    turn = np.uint8(flip)
    height, width, lines, columns = x.shape[1], x.shape[2], y.shape[1], y.shape[2]
    size = height * width
    flat, out = x.reshape(-1), y.reshape(-1)
    for part in prange((x.shape[0] + some - 1) // some):
        first = part * some
        count = min(some, x.shape[0] - first)
        above = flat[first * size : (first + count) * size - width]
        below = flat[first * size + width : (first + count) * size]
        larger = np.empty(above.size + 1, np.uint8)
        largest = np.empty(above.size // 2 + 1, np.uint8)
        for i in range(above.size):
            larger[i] = max(above[i] ^ turn, below[i] ^ turn)
        for i in range(largest.size - 1):
            largest[i] = max(larger[2 * i], larger[2 * i + 1]) ^ turn
        to = first * lines * columns
        if height % 2 == 0:
            copy_lines(out, to, columns, largest, 0, width, count * lines, columns)
        elif height > 1:
            for p in range(count):
                for h in range(lines):
                    start = p * size + 2 * h * width
                    for w in range(columns):
                        best = max(larger[start + 2 * w], larger[start + 2 * w + 1])
                        out[to + (p * lines + h) * columns + w] = best ^ turn


@kernel(exact=True)
def avg_pool(x: Array, flip: int, zero_point: int, multiplier: Array, kernel_size: Pair,
             stride: Pair, padding: Pair, numbers: tuple[int, int, int, int],
             y: Array) -> None:  # fmt: skip
    """x (P, H, W) -> y (P, OH, OW), as bytes: sums of lines, then along them, narrowed."""
    height, width = x.shape[1], x.shape[2]
    turn = np.uint8(flip)
    shift, zero, low, high = numbers
    half = (np.int64(1) << np.int64(shift - 1)) - np.int64(1)
    least, most = np.int64(low), np.int64(high)
    images, whole = x.reshape(-1), height == kernel_size[0] and width == kernel_size[1]
    for p in prange(x.shape[0]):
        if whole and y.shape[1] * y.shape[2] == 1 and padding[0] + padding[1] == 0:
            area, size = np.int32(0), np.uintp(height * width)
            for i in range(size):
                area += np.int32(images[np.uintp(p) * size + i] ^ turn)
            q = np.int64(area - np.int32(height * width) * np.int32(zero_point + flip))
            q *= np.int64(multiplier[height * width - 1])
            q = ((q + half + ((q >> shift) & np.int64(1))) >> shift) + zero
            y[p, 0, 0] = np.uint8(least if q < least else most if q > most else q)
            continue
        total = np.empty(width, np.int32)
        for oh in range(y.shape[1]):
            top = oh * stride[0] - padding[0]
            first, last = max(0, top), min(top + kernel_size[0], height)
            for w in range(width):
                total[w] = 0
            for h in range(first, last):
                line = x[p, h]
                for w in range(width):
                    total[w] += np.int32(line[w] ^ turn)
            codes = y[p, oh]
            for ow in range(codes.size):
                left = ow * stride[1] - padding[1]
                begin, end = max(0, left), min(left + kernel_size[1], width)
                count, n = (last - first) * (end - begin), np.int64(0)
                for w in range(begin, end):
                    n += np.int64(total[w])
                n = (n - np.int64(count * (zero_point + flip))) * np.int64(multiplier[count - 1])
                q = ((n + half + ((n >> shift) & np.int64(1))) >> shift) + zero
                codes[ow] = np.uint8(least if q < least else most if q > most else q)


@kernel(exact=True)
def layer_norm(x: Array, flip: int, weight: Array, bias: Array, eps: int,
               numbers: tuple[int, int, int, int], y: Array) -> None:  # fmt: skip
    """x (N, D) -> y (N, D), as bytes; in 64 bits, but for the codes and their sums."""
    shift, zero, low, high = numbers
    by, half = np.int64(shift), (np.int64(1) << np.int64(shift - 1)) - np.int64(1)
    least, most, turn = np.int64(low), np.int64(high), np.uint8(flip)
    columns = x.shape[1]
    for n in prange(x.shape[0]):
        row, out = x[n], y[n]
        total, square = np.int32(0), np.int64(0)
        for d in range(columns):
            total += np.int32(row[d] ^ turn)
        for d in range(columns):
            c = np.int64(np.int32(np.int32(row[d] ^ turn) * np.int32(columns)) - total)
            square += c * c
        spread = max(root(((square + eps) << np.int64(12)) // np.int64(columns)), np.int64(1))
        inverse = (np.int64(1) << np.int64(40)) // spread
        for d in range(columns):
            c = np.int64(np.int32(np.int32(row[d] ^ turn) * np.int32(columns)) - total)
            h = (c * inverse + np.int64(1 << 21)) >> np.int64(22)
            value = h * np.int64(weight[d]) + bias[d]
            q = ((value + half + ((value >> by) & np.int64(1))) >> by) + zero
            out[d] = np.uint8(least if q < least else most if q > most else q)


@helper
def root(v: np.int64) -> np.int64:
    """floor(sqrt(v)), v below 2^63: the root in float64 is off by one at most."""
    r = np.int64(math.sqrt(np.float64(v)))
    if r * r > v:
        return r - np.int64(1)
    return r + np.int64(1) if (r + 1) * (r + 1) <= v else r


def flip_of(dtype: DType) -> int:
    """What makes codes of this dtype numbers from 0 on."""
    return 128 if dtype == np.int8 else 0


def as_bytes(x: Array) -> Array:
    """Codes as bytes, plain."""
    return plain(x).view(np.uint8)


def numbers(narrow: Narrow) -> tuple[int, int, int, int]:
    return narrow.shift, narrow.zero_point, narrow.low, narrow.high


class Int8Between(NumpyBackend):
    """Arrays without elements are left to the NumPy backend."""

    def int8_add(
        self, a: Array, b: Array, zero_points: Pair, multipliers: Pair, narrow: Narrow
    ) -> Array:
        if not a.size or not b.size:
            return super().int8_add(a, b, zero_points, multipliers, narrow)
        flips = flip_of(a.dtype), flip_of(b.dtype)
        if a.ndim < b.ndim or a.size < b.size:
            a, b = b, a
            flips, zero_points, multipliers = flips[::-1], zero_points[::-1], multipliers[::-1]
        shape = a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)
        a = np.broadcast_to(a, shape)
        if b.shape != shape[a.ndim - b.ndim :]:
            b = np.broadcast_to(b, shape)
        q = empty(shape, narrow.dtype)
        add.sized(q.size, ADD_FROM)(
            flat(as_bytes(a)), flat(as_bytes(b)), flips, zero_points, multipliers, numbers(narrow),
            flat(q).view(np.uint8),
        )  # fmt: skip
        return q

    def int8_lookup(self, x: Array, table: Array) -> Array:
        if not x.size:
            return super().int8_lookup(x, table)
        y = empty(x.shape, table.dtype)
        lookup.sized(x.size, LOOKUP_FROM)(flat(as_bytes(x)), plain(table), flat(y))
        return y

    def int8_max_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        y = empty((*x.shape[:2], *out_size(framed(x.shape[2:], padding), kernel, stride, DENSE)),
                  x.dtype)  # fmt: skip
        if not y.size:
            return super().int8_max_pool2d(x, kernel, stride, padding)
        if kernel == stride == (2, 2) and padding == (0, 0):
            some = max(1, PAIRS // math.prod(x.shape[2:]))
            max_pairs.sized(x.size, POOL_FROM)(planes(x), flip_of(x.dtype), some, planes(y))
            return y
        max_pool.sized(x.size, POOL_FROM)(
            planes(x), flip_of(x.dtype), kernel, stride, padding, planes(y)
        )
        return y

    def int8_avg_pool2d(
        self, x: Array, zero_point: int, multiplier: Array, kernel: Pair, stride: Pair,
        padding: Pair, narrow: Narrow,
    ) -> Array:  # fmt: skip
        y = empty((*x.shape[:2], *out_size(framed(x.shape[2:], padding), kernel, stride, DENSE)),
                  narrow.dtype)  # fmt: skip
        if not y.size:
            return super().int8_avg_pool2d(
                x, zero_point, multiplier, kernel, stride, padding, narrow
            )
        avg_pool.sized(x.size, POOL_FROM)(
            planes(x), flip_of(x.dtype), zero_point, plain(multiplier), kernel, stride, padding,
            numbers(narrow), planes(y),
        )  # fmt: skip
        return y

    def int8_layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: int, narrow: Narrow
    ) -> Array:
        if not x.size:
            return super().int8_layer_norm(x, weight, bias, eps, narrow)
        y = empty(x.shape, narrow.dtype)
        layer_norm.sized(x.size, NORM_FROM)(
            as_bytes(x), flip_of(x.dtype), plain(weight), plain(bias), eps, numbers(narrow),
            as_bytes(y),
        )  # fmt: skip
        return y


def planes(x: Array) -> Array:
    """x (N, C, H, W) as bytes (N * C, H, W)."""
    return as_bytes(x).reshape(-1, *x.shape[2:])
