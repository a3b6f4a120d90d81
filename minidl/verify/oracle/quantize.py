"""Quantization and integer convolution in Python integers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from backends import Requantize, Rescale

from .conv import Pair, _triples, output_size
from .products import integer_matmul, wrap32


def quantize(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, low: int, high: int, dtype: np.dtype
) -> np.ndarray:
    """The division rounds in x's dtype; Python's round() then rounds half to even."""
    shape = x.shape
    scale, zero_point = np.broadcast_to(scale, shape), np.broadcast_to(zero_point, shape)
    q = np.empty(shape, dtype)
    for index in np.ndindex(shape):
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = float(x[index] / scale[index])
        zero = int(zero_point[index])
        if math.isnan(ratio):
            q[index] = zero
        elif math.isinf(ratio):
            q[index] = high if ratio > 0 else low
        else:
            q[index] = min(max(round(ratio) + zero, low), high)
    return q


def dequantize(q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """A whole number times a scale: one rounding, in scale's dtype."""
    shape = np.broadcast_shapes(q.shape, scale.shape, zero_point.shape)
    q, scale, zero_point = (np.broadcast_to(a, shape) for a in (q, scale, zero_point))
    y = np.empty(shape, scale.dtype)
    for index in np.ndindex(shape):
        y[index] = scale.dtype.type(int(q[index]) - int(zero_point[index])) * scale[index]
    return y


def finished(sums: np.ndarray, finish: Rescale | Requantize | None) -> np.ndarray:
    """Sums (N, O, ...), one at a time, as `Rescale` or `Requantize` says, in Python integers."""
    if finish is None:
        return sums
    y = np.empty(sums.shape, np.float32 if isinstance(finish, Rescale) else finish.dtype)
    for index in np.ndindex(sums.shape):
        o = index[1]
        total = (int(sums[index]) + int(finish.offset[o]) + 2**31) % 2**32 - 2**31
        if isinstance(finish, Rescale):
            with np.errstate(all="ignore"):
                value = np.float32(np.float32(total) * finish.scale[o]) + finish.bias[o]
            y[index] = 0 if finish.relu and value < 0 else value
        else:
            exact = Fraction(total * int(finish.multiplier[o]), 2 ** int(finish.shift[o]))
            q = round(exact) + finish.zero_point  # half to even
            y[index] = min(max(q, finish.low), finish.high)
    return y


def int8_linear(
    x: np.ndarray, weight: np.ndarray, finish: Rescale | Requantize | None
) -> np.ndarray:
    """The integer product, finished."""
    return finished(integer_matmul(x, weight), finish)


def int8_conv2d(
    x: np.ndarray, weight: np.ndarray, pad_value: int, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    """Frame x with pad_value, then add up an unpadded convolution in Python integers."""
    (top, left), (n, c, height, width) = padding, x.shape
    framed = np.full((n, c, height + 2 * top, width + 2 * left), pad_value, object)
    framed[:, :, top : top + height, left : left + width] = x.astype(object)
    weight = weight.astype(object)
    sizes = zip(framed.shape[2:], weight.shape[2:], stride, (0, 0), dilation, strict=True)
    y = np.zeros((n, weight.shape[0], *(output_size(*s) for s in sizes)), object)
    for out, source, tap in _triples(framed.shape, weight.shape, stride, (0, 0), dilation, groups):
        y[out] += framed[source] * weight[tap]
    return wrap32(y)


def _code(x: Any, scale: Any, zero: int) -> float:
    """The code that x would have were there codes without end; NaN and infinities stay."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = float(x / scale)
    return round(ratio) + zero if math.isfinite(ratio) else ratio


def fake_quantize(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, low: int, high: int
) -> np.ndarray:
    """x (N, C, L): a code, limited, less the zero point of its slice, times the scale."""
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        s, zero = scale[index[1]], int(zero_point[index[1]])
        code = _code(x[index], s, zero)
        steps = x.dtype.type(min(max(code, low), high) - zero)
        y[index] = x[index] if math.isnan(code) else steps * s
    return y


def has_code(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, low: int, high: int
) -> np.ndarray:
    """Whether the number rounds to a code from low to high."""
    found = np.empty(x.shape, bool)
    for index in np.ndindex(x.shape):
        code = _code(x[index], scale[index[1]], int(zero_point[index[1]]))
        found[index] = low <= code <= high
    return found


def fake_quantize_slopes(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, low: int, high: int
) -> np.ndarray:
    """The derivative of each y by its scale, in float64, rounding counted as the identity."""
    slopes = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        s, zero = scale[index[1]], int(zero_point[index[1]])
        code = _code(x[index], s, zero)
        if low <= code <= high:
            slopes[index] = code - zero - float(x[index]) / float(s)
        else:
            slopes[index] = min(max(code, low), high) - zero
    return slopes


def decoded(
    columns: int, weight: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, group_size: int
) -> np.ndarray:
    """The float64 weight (O, columns) behind codes, of which uint8 ones hold two."""
    y = np.empty((weight.shape[0], columns))
    for o, k in np.ndindex(y.shape):
        if weight.dtype == np.uint8:
            code = int(weight[o, k // 2]) // 16 ** (k % 2) % 16 - 8
        else:
            code = int(weight[o, k])
        g = k // group_size
        y[o, k] = (code - int(zero_point[o, g])) * float(scale[o, g])
    return y
