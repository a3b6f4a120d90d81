"""What stands between quantized layers, code by code in Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from backends import Narrow, Requantize

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


def int8_layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: int, narrow: Narrow
) -> np.ndarray:
    """Python's isqrt and floor division, a row at a time."""
    y = np.empty(x.shape, narrow.dtype)
    columns = x.shape[1]
    for n, row in enumerate(x.tolist()):
        total = sum(row)
        c = [columns * code - total for code in row]
        root = math.isqrt((sum(v * v for v in c) + eps) * 2**12 // columns) if columns else 1
        for d in range(columns):
            h = (c[d] * (2**40 // max(root, 1)) + 2**21) // 2**22
            value = h * int(weight[d]) + int(bias[d])
            y[n, d] = narrowed(Fraction(value, 2**narrow.shift), narrow)
    return y


def int8_attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray | None, causal: bool,
    zero_points: tuple[int, int, int], multiplier: int, factor: int, narrow: Narrow,
) -> np.ndarray:  # fmt: skip
    """One query at a time, over the keys that it sees."""
    q, k, v = (x.astype(object) - z for x, z in zip((query, key, value), zero_points, strict=True))
    shape = (*query.shape[:3], key.shape[2])
    seen = np.broadcast_to(True if mask is None else mask, shape)
    y = np.empty((*query.shape[:3], value.shape[3]), narrow.dtype)
    for n, h, t in np.ndindex(query.shape[:3]):
        keys = [s for s in range(shape[3]) if seen[n, h, t, s] and not (causal and s > t)]
        scores = [sum(a * b for a, b in zip(q[n, h, t], k[n, h, s], strict=True)) for s in keys]
        weights = [_weight((max(scores) - s) * multiplier // 2**19) for s in scores]
        share = factor * 2**16 // max(sum(weights), 1)
        for e in range(value.shape[3]):
            total = sum(u * v[n, h, s, e] for u, s in zip(weights, keys, strict=True))
            y[n, h, t, e] = narrowed(Fraction(total * share, 2**narrow.shift), narrow)
    return y


def _weight(t: int) -> int:
    i, f = divmod(min(t, 2560), 256)
    p = 255 * 2**20 - f * (701440 - 700 * f)
    return (p + (1 << (19 + i))) // (1 << (20 + i))


def int8_lstm(
    x: np.ndarray, weight: np.ndarray, h: np.ndarray, c: np.ndarray, lengths: np.ndarray | None,
    reverse: bool, inputs: Requantize, hidden: Requantize, sigmoid: np.ndarray, tanh: np.ndarray,
    narrow: Narrow,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """One sample after another, one unit at a time."""
    (steps, samples, wide), units = x.shape, h.shape[1]
    states = np.full((steps + 1, samples, units), narrow.zero_point, narrow.dtype)
    cells = c.copy()
    for n in range(samples):
        end = steps if lengths is None else int(lengths[n])
        state, cell = h[n].tolist(), c[n].tolist()
        for t in range(end)[::-1] if reverse else range(end):
            p = [
                _limited(_scaled(int(x[t, n, j]), inputs, j) + _scaled(
                    sum(a * b for a, b in zip(weight[j].tolist(), state, strict=True)), hidden, j
                ))
                for j in range(wide)
            ]  # fmt: skip
            for d in range(units):
                i, f, g, o = (
                    int(table[p[k * units + d] // 16 + 2048])
                    for k, table in enumerate((sigmoid, sigmoid, tanh, sigmoid))
                )
                cell[d] = _limited(round(Fraction(f * cell[d] * 16 + i * g, 2**19)))
                level = int(tanh[max(min(cell[d] // 8, 2047), -2048) + 2048])
                state[d] = narrowed(Fraction(o * level, 2**narrow.shift), narrow)
            states[t, n] = state
        states[steps, n], cells[n] = state, cell
    return states, cells


def _limited(n: int) -> int:
    return min(max(n, -(2**15)), 2**15 - 1)


def _scaled(total: int, finish: Requantize, j: int) -> int:
    total = (total + int(finish.offset[j]) + 2**31) % 2**32 - 2**31
    return _limited(round(Fraction(total * int(finish.multiplier[j]), 2 ** int(finish.shift[j]))))
