"""Convolution as a list of (output, input, weight) triples, each product of which is one term.

The forward pass and both gradients are three ways to add up the same triples, which is the
definition of a gradient of a bilinear map.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]
Index = tuple[int, ...]


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """How many windows fit."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _windows(shape: Index, kernel: Index, stride: Pair, padding: Pair, dilation: Pair) -> list[int]:
    measures = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    return [output_size(*m) for m in measures]


def _taps(
    shape: Index, kernel: Index, stride: Pair, padding: Pair, dilation: Pair
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(oh, ow, kh, kw, h, w) for every window and every tap in it; h, w may lie in the padding."""
    sizes = _windows(shape, kernel, stride, padding, dilation)
    for oh, ow, kh, kw in np.ndindex(*sizes, *kernel):
        h = oh * stride[0] - padding[0] + kh * dilation[0]
        w = ow * stride[1] - padding[1] + kw * dilation[1]
        yield oh, ow, kh, kw, h, w


def _triples(
    x_shape: Index, w_shape: Index, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Positions in y, x and weight of every product that convolution adds up."""
    outputs, depth = w_shape[0], w_shape[1]
    for oh, ow, kh, kw, h, w in _taps(x_shape, w_shape[2:], stride, padding, dilation):
        if not (0 <= h < x_shape[2] and 0 <= w < x_shape[3]):
            continue
        for n, o, c in np.ndindex(x_shape[0], outputs, depth):
            channel = o // (outputs // groups) * depth + c
            yield (n, o, oh, ow), (n, channel, h, w), (o, c, kh, kw)


def _collect(terms: dict[Index, list[float]], shape: Index) -> np.ndarray:
    y = np.zeros(shape)
    for index, values in terms.items():
        y[index] = math.fsum(values)
    return y


def conv2d(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    x64, w64 = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    terms: dict[Index, list[float]] = defaultdict(list)
    for out, source, tap in _triples(x.shape, weight.shape, stride, padding, dilation, groups):
        terms[out].append(x64[source] * w64[tap])
    sizes = _windows(x.shape, weight.shape[2:], stride, padding, dilation)
    y = _collect(terms, (x.shape[0], weight.shape[0], *sizes))
    return y if bias is None else y + np.asarray(bias, np.float64).reshape(1, -1, 1, 1)


def conv2d_input_grad(
    grad: np.ndarray, weight: np.ndarray, shape: Index, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    g64, w64 = np.asarray(grad, np.float64), np.asarray(weight, np.float64)
    terms: dict[Index, list[float]] = defaultdict(list)
    for out, source, tap in _triples(shape, weight.shape, stride, padding, dilation, groups):
        terms[source].append(g64[out] * w64[tap])
    return _collect(terms, shape)


def conv2d_weight_grad(
    grad: np.ndarray, x: np.ndarray, shape: Index, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    g64, x64 = np.asarray(grad, np.float64), np.asarray(x, np.float64)
    terms: dict[Index, list[float]] = defaultdict(list)
    for out, source, tap in _triples(x.shape, shape, stride, padding, dilation, groups):
        terms[tap].append(g64[out] * x64[source])
    return _collect(terms, shape)


def im2col(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, value: float
) -> np.ndarray:
    n, c, height, width = x.shape
    sizes = _windows(x.shape, kernel, stride, padding, dilation)
    y = np.empty((n, c, *kernel, *sizes), x.dtype)
    for oh, ow, kh, kw, h, w in _taps(x.shape, kernel, stride, padding, dilation):
        inside = 0 <= h < height and 0 <= w < width
        y[:, :, kh, kw, oh, ow] = x[:, :, h, w] if inside else value
    return y.reshape(n, c * kernel[0] * kernel[1], sizes[0] * sizes[1])


def col2im(
    cols: np.ndarray, shape: Index, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    n, c, height, width = shape
    sizes = _windows(shape, kernel, stride, padding, dilation)
    cols = np.asarray(cols, np.float64).reshape(n, c, *kernel, *sizes)
    y = np.zeros(shape)
    for oh, ow, kh, kw, h, w in _taps(shape, kernel, stride, padding, dilation):
        if 0 <= h < height and 0 <= w < width:
            y[:, :, h, w] += cols[:, :, kh, kw, oh, ow]
    return y
