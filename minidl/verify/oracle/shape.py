"""Moving elements: each result is filled one element at a time from a formula for its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]


def transpose(x: np.ndarray, axes: Shape) -> np.ndarray:
    y = np.empty([x.shape[a] for a in axes], x.dtype)
    for index in np.ndindex(y.shape):
        source = [0] * x.ndim
        for position, a in zip(index, axes, strict=True):
            source[a] = position
        y[index] = x[tuple(source)]
    return y


def concatenate(xs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    rows = [np.moveaxis(x, axis, 0)[i] for x in xs for i in range(x.shape[axis])]
    shape = list(xs[0].shape)
    shape[axis] = len(rows)
    y = np.empty(shape, np.result_type(*xs))
    for i, row in enumerate(rows):
        np.moveaxis(y, axis, 0)[i] = row
    return y


def pad(x: np.ndarray, widths: Sequence[tuple[int, int]], value: float) -> np.ndarray:
    y = np.empty([n + sum(w) for n, w in zip(x.shape, widths, strict=True)], x.dtype)
    for index in np.ndindex(y.shape):
        source = tuple(i - w[0] for i, w in zip(index, widths, strict=True))
        inside = all(0 <= i < n for i, n in zip(source, x.shape, strict=True))
        y[index] = x[source] if inside else value
    return y


def flip(x: np.ndarray, axis: Shape) -> np.ndarray:
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        source = list(index)
        for a in axis:
            source[a] = x.shape[a] - 1 - index[a]
        y[index] = x[tuple(source)]
    return y


def getitem_grad(grad: np.ndarray, index: Any, shape: Shape) -> np.ndarray:
    """Index an array that holds its own positions, and see where each element of grad came from."""
    positions = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)[index]
    y = [0.0] * int(np.prod(shape, dtype=np.int64))
    for position, g in zip(np.ravel(positions).tolist(), np.ravel(grad).tolist(), strict=True):
        y[position] += g
    return np.array(y, np.float64).reshape(shape)


def _along(index: np.ndarray, axis: int, shape: Shape) -> Iterator[tuple[Shape, Shape]]:
    """(position in the gathered array, position in the source) for every element of index."""
    for position in np.ndindex(index.shape):
        source = list(position)
        source[axis] = int(index[position]) % shape[axis]
        yield position, tuple(source)


def gather(x: np.ndarray, axis: int, index: np.ndarray) -> np.ndarray:
    y = np.empty(index.shape, x.dtype)
    for position, source in _along(index, axis, x.shape):
        y[position] = x[source]
    return y


def gather_grad(grad: np.ndarray, axis: int, index: np.ndarray, shape: Shape) -> np.ndarray:
    y = np.zeros(shape, np.float64)
    for position, source in _along(index, axis, shape):
        y[source] += grad[position]
    return y


def index_add(x: np.ndarray, axis: int, index: np.ndarray, source: np.ndarray) -> np.ndarray:
    y = np.array(x, np.float64)
    for position in np.ndindex(source.shape):
        target = list(position)
        target[axis] = int(index[position[axis]])
        y[tuple(target)] += source[position]
    return y
