"""Pooling, one window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .conv import Index, Pair, output_size

Window = tuple[Pair, list[Pair]]


def _windows(size: Index, kernel: Pair, stride: Pair, padding: Pair) -> Iterator[Window]:
    """((oh, ow), the positions (h, w) of the window that lie inside x, row by row)."""
    counts = [output_size(*v) for v in zip(size, kernel, stride, padding, strict=True)]
    for oh, ow in np.ndindex(*counts):
        top, left = oh * stride[0] - padding[0], ow * stride[1] - padding[1]
        positions = [
            (h, w)
            for h in range(top, top + kernel[0])
            for w in range(left, left + kernel[1])
            if 0 <= h < size[0] and 0 <= w < size[1]
        ]
        yield (oh, ow), positions


def _outputs(shape: Index, kernel: Pair, stride: Pair, padding: Pair) -> Index:
    sizes = (output_size(*v) for v in zip(shape[2:], kernel, stride, padding, strict=True))
    return (*shape[:2], *sizes)


def max_pool2d(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    shape = _outputs(x.shape, kernel, stride, padding)
    y, index = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    for (oh, ow), positions in _windows(x.shape[2:], kernel, stride, padding):
        for n, c in np.ndindex(x.shape[:2]):
            best = positions[0]
            for p in positions:
                value, record = float(x[(n, c, *p)]), float(x[(n, c, *best)])
                if math.isnan(record):
                    break
                if math.isnan(value) or value > record:
                    best = p
            y[n, c, oh, ow] = x[(n, c, *best)]
            index[n, c, oh, ow] = best[0] * x.shape[3] + best[1]
    return y, index


def max_pool2d_grad(grad: np.ndarray, index: np.ndarray, shape: Index) -> np.ndarray:
    y = np.zeros(shape)
    for n, c, oh, ow in np.ndindex(grad.shape):
        h, w = divmod(int(index[n, c, oh, ow]), shape[3])
        y[n, c, h, w] += float(grad[n, c, oh, ow])
    return y


def _divisor(kernel: Pair, positions: list[Pair], count_include_pad: bool) -> int:
    return kernel[0] * kernel[1] if count_include_pad else len(positions)


def avg_pool2d(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> np.ndarray:
    y = np.empty(_outputs(x.shape, kernel, stride, padding))
    for (oh, ow), positions in _windows(x.shape[2:], kernel, stride, padding):
        divisor = _divisor(kernel, positions, count_include_pad)
        for n, c in np.ndindex(x.shape[:2]):
            y[n, c, oh, ow] = math.fsum(float(x[(n, c, *p)]) for p in positions) / divisor
    return y


def avg_pool2d_grad(
    grad: np.ndarray, shape: Index, kernel: Pair, stride: Pair, padding: Pair,
    count_include_pad: bool,
) -> np.ndarray:  # fmt: skip
    y = np.zeros(shape)
    for (oh, ow), positions in _windows(shape[2:], kernel, stride, padding):
        divisor = _divisor(kernel, positions, count_include_pad)
        for n, c in np.ndindex(tuple(shape[:2])):
            for p in positions:
                y[(n, c, *p)] += float(grad[n, c, oh, ow]) / divisor
    return y
