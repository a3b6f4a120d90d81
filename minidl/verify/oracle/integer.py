"""What stands between quantized layers, code by code in Python integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from backends import Narrow

from .conv import Pair
from .pool import _outputs, _windows


def narrowed(n: Fraction, narrow: Narrow) -> int:
    """A number, already divided by 2^shift, as a code; Python's round() rounds half to even."""
    return min(max(round(n) + narrow.zero_point, narrow.low), narrow.high)


def int8_add(
    a: np.ndarray, b: np.ndarray, zero_points: Pair, multipliers: Pair, narrow: Narrow
) -> np.ndarray:
    """One element at a time."""
    a, b = np.broadcast_arrays(a, b)
    q = np.empty(a.shape, narrow.dtype)
    for index in np.ndindex(a.shape):
        pair = int(a[index]), int(b[index])
        n = sum((x - z) * m for x, z, m in zip(pair, zero_points, multipliers, strict=True))
        q[index] = narrowed(Fraction(n, 2**narrow.shift), narrow)
    return q


def int8_lookup(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    y = np.empty(x.shape, table.dtype)
    for index in np.ndindex(x.shape):
        y[index] = table[int(x[index]) % 256]
    return y


def int8_max_pool2d(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    y = np.empty(_outputs(x.shape, kernel, stride, padding), x.dtype)
    for (oh, ow), positions in _windows(x.shape[2:], kernel, stride, padding):
        for n, c in np.ndindex(x.shape[:2]):
            y[n, c, oh, ow] = max(int(x[(n, c, *p)]) for p in positions)
    return y


def int8_avg_pool2d(
    x: np.ndarray, zero_point: int, multiplier: np.ndarray, kernel: Pair, stride: Pair,
    padding: Pair, narrow: Narrow,
) -> np.ndarray:  # fmt: skip
    y = np.empty(_outputs(x.shape, kernel, stride, padding), narrow.dtype)
    for (oh, ow), positions in _windows(x.shape[2:], kernel, stride, padding):
        factor = Fraction(int(multiplier[len(positions) - 1]), 2**narrow.shift)
        for n, c in np.ndindex(x.shape[:2]):
            total = sum(int(x[(n, c, *p)]) - zero_point for p in positions)
            y[n, c, oh, ow] = narrowed(total * factor, narrow)
    return y
