"""Products with weights that are held as codes.

With one row of x the product waits for its weights, and codes are an eighth or a quarter of the
bytes: they are decoded in registers, between the load and the multiplication. With more rows the
weight is decoded once, and multiplied as any other.

1024 x 1024, one row, in microseconds on two threads: float32 99; 8 bits 18, in groups of 128 24; 4
bits in groups of 128 38, of 32 71. 4096 x 4096: 3200; 270, 380; 560, 1100.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import F32, flat, optional, plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 16  # weights
PARTS = 64  # into how many tasks the outputs are split


@kernel()
def by_bytes(x: Array, weight: Array, scale: Array, zero: Array, bias: Array, size: int,
             y: Array) -> None:  # fmt: skip
    """y (O,) = weight (O, D) int8, decoded, times x (D,), plus bias."""
    outputs, columns = weight.shape
    for part in prange(PARTS):
        for o in range(part * outputs // PARTS, (part + 1) * outputs // PARTS):
            codes = weight[o]
            total = np.float32(0)
            for g in range(scale.shape[1]):
                at, end = g * size, min((g + 1) * size, columns)
                numbers, group = x[at:end], codes[at:end]
                z, t = np.float32(zero[o, g]), np.float32(0)
                for k in range(group.size):
                    t += (np.float32(group[k]) - z) * numbers[k]
                total += t * scale[o, g]
            y[o] = total + bias[o] if bias.size else total


@kernel()
def by_nibbles(x: Array, weight: Array, scale: Array, zero: Array, bias: Array, size: int,
               y: Array) -> None:  # fmt: skip
    """The same for packed codes (O, D / 2): x holds its even elements, then its odd ones, so that
    bytes and numbers lie side by side. A group is `size` bytes.
    """
    outputs, half = weight.shape
    for part in prange(PARTS):
        even, odd = x[:half], x[half:]
        for o in range(part * outputs // PARTS, (part + 1) * outputs // PARTS):
            codes = weight[o]
            total = np.float32(0)
            for g in range(scale.shape[1]):
                at, end = g * size, min((g + 1) * size, half)
                first, second, group = even[at:end], odd[at:end], codes[at:end]
                z, t = np.float32(zero[o, g] + 8), np.float32(0)
                for k in range(group.size):
                    t += (np.float32(group[k] & np.uint8(15)) - z) * first[k]
                    t += (np.float32(group[k] >> np.uint8(4)) - z) * second[k]
                total += t * scale[o, g]
            y[o] = total + bias[o] if bias.size else total


@kernel(exact=True)
def decode(weight: Array, scale: Array, zero: Array, size: int, nibbles: bool, y: Array) -> None:
    """y (O, D): what the codes stand for; a group is `size` elements of a row of weight."""
    outputs, columns = y.shape
    for o in prange(outputs):
        codes, row = weight[o], y[o]
        for g in range(scale.shape[1]):
            s = scale[o, g]
            at, end = g * size, min((g + 1) * size, codes.size)
            group = codes[at:end]
            if nibbles:
                z, out = np.float32(zero[o, g] + 8), row[2 * at :]
                pairs = min(group.size, columns // 2 - at)
                for k in range(pairs):
                    out[2 * k] = (np.float32(group[k] & np.uint8(15)) - z) * s
                    out[2 * k + 1] = (np.float32(group[k] >> np.uint8(4)) - z) * s
                if pairs < group.size:  # the last of an odd number
                    out[2 * pairs] = (np.float32(group[pairs] & np.uint8(15)) - z) * s
            else:
                z, out = np.float32(zero[o, g]), row[at:]
                for k in range(group.size):
                    out[k] = (np.float32(np.int8(group[k])) - z) * s


class WeightOnly(NumpyBackend):
    """Groups of an odd number of packed codes begin in the middle of bytes: the NumPy backend's."""

    def weight_only_linear(
        self, x: Array, weight: Array, scale: Array, zero_point: Array, bias: Array | None,
        group_size: int,
    ) -> Array:  # fmt: skip
        nibbles = weight.dtype == np.uint8
        split = nibbles and group_size % 2 == 1 and scale.shape[1] > 1
        if x.dtype is not F32 or not suits(x, scale, bias) or split:
            return super().weight_only_linear(x, weight, scale, zero_point, bias, group_size)
        columns, outputs = x.shape[1], weight.shape[0]
        size = -(-group_size // 2) if nibbles else group_size
        codes, grid = plain(weight), (plain(scale), plain(zero_point))
        if x.shape[0] > 1:
            decoded = empty((outputs, columns), F32)
            decode.sized(decoded.size, PARALLEL_FROM)(
                codes.view(np.uint8), *grid, size, nibbles, decoded
            )
            return self.linear(x, decoded, bias)
        y = empty((1, outputs), F32)
        loop = by_nibbles if nibbles else by_bytes
        numbers = _planes(x[0], codes.shape[1]) if nibbles else flat(plain(x))
        loop.sized(outputs * columns, PARALLEL_FROM)(
            numbers, codes, *grid, optional(bias, F32), size, flat(y)
        )
        return y


def _planes(x: Array, half: int) -> Array:
    """The even elements of x, then the odd ones, filled up to as many."""
    planes = np.zeros(2 * half, F32)
    planes[:half], planes[half : half + x.size // 2] = x[0::2], x[1::2]
    return planes
