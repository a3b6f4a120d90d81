"""Reductions: list the elements that belong to one result, then apply the definition to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Axes = int | tuple[int, ...] | None


def _normalized(axis: Axes, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def reduce_axes(
    function: Callable[[list[float]], float], x: np.ndarray, axis: Axes, keepdims: bool,
    dtype: type = np.float64,
) -> np.ndarray:  # fmt: skip
    """function of the list of elements along axis, for every position on the other axes."""
    axes = _normalized(axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    y = np.empty(kept, dtype)
    for position in np.ndindex(kept):
        slices = tuple(slice(None) if i in axes else p for i, p in enumerate(position))
        y[position] = function(x[slices].ravel().tolist())
    if keepdims:
        return y
    return y.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def total(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return reduce_axes(math.fsum, x, axis, keepdims)


def mean(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return reduce_axes(lambda v: math.fsum(v) / len(v), x, axis, keepdims)


def _var(values: Sequence[float], correction: float) -> float:
    centre = math.fsum(values) / len(values)
    return math.fsum((v - centre) ** 2 for v in values) / (len(values) - correction)


def var(x: np.ndarray, axis: Axes, correction: float, keepdims: bool) -> np.ndarray:
    return reduce_axes(lambda v: _var(v, correction), x, axis, keepdims)


def extreme(x: np.ndarray, axis: Axes, keepdims: bool, largest: bool) -> np.ndarray:
    def one(values: list[float]) -> float:
        best = values[0]
        for v in values:
            if math.isnan(v):
                return v
            if v > best if largest else v < best:
                best = v
        return best

    return reduce_axes(one, x, axis, keepdims, x.dtype.type)


def _arg(values: list[float], largest: bool) -> int:
    best = 0
    for i, v in enumerate(values):
        if math.isnan(v):
            return i
        if v > values[best] if largest else v < values[best]:
            best = i
    return best


def arg(x: np.ndarray, axis: int | None, largest: bool) -> np.ndarray:
    return reduce_axes(lambda v: _arg(v, largest), x, axis, False, np.int64)


def cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    y = np.empty(x.shape, np.float64)
    for index in np.ndindex(x.shape):
        before = [float(x[(*index[:axis], i, *index[axis + 1 :])]) for i in range(index[axis] + 1)]
        y[index] = math.fsum(before)
    return y


def _logsumexp(values: Sequence[float]) -> float:
    shift = max(values)
    if math.isinf(shift) and not any(math.isnan(v) for v in values):
        return shift
    return shift + math.log(math.fsum(math.exp(v - shift) for v in values))


def logsumexp(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return reduce_axes(_logsumexp, x, axis, keepdims)


def _rows(function: Callable[..., list[float]], axis: int, *arrays: np.ndarray) -> np.ndarray:
    """function of each line along axis of the arrays, written back where it came from."""
    moved = [np.moveaxis(np.asarray(a, np.float64), axis, -1) for a in arrays]
    y = np.empty(moved[0].shape, np.float64)
    for position in np.ndindex(y.shape[:-1]):
        y[position] = function(*(a[position].tolist() for a in moved))
    return np.moveaxis(y, -1, axis)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    def row(v: list[float]) -> list[float]:
        powers = [math.exp(a - max(v)) for a in v]
        return [p / math.fsum(powers) for p in powers]

    return _rows(row, axis, x)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    def row(v: list[float]) -> list[float]:
        # Not a - logsumexp(v), which would round at the size of the largest element.
        log_total = math.log(math.fsum(math.exp(a - max(v)) for a in v))
        return [a - max(v) - log_total for a in v]

    return _rows(row, axis, x)


def softmax_grad(grad: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """grad times the Jacobian dy_j/dx_i = y_j (delta_ij - y_i)."""

    def row(g: list[float], p: list[float]) -> list[float]:
        n = range(len(p))
        return [math.fsum(g[j] * p[j] * ((i == j) - p[i]) for j in n) for i in n]

    return _rows(row, axis, grad, y)


def log_softmax_grad(grad: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """grad times the Jacobian dy_j/dx_i = delta_ij - exp(y_i)."""

    def row(g: list[float], logp: list[float]) -> list[float]:
        n = range(len(logp))
        return [math.fsum(g[j] * ((i == j) - math.exp(logp[i])) for j in n) for i in n]

    return _rows(row, axis, grad, y)
