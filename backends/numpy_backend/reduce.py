"""Reductions: sums, extrema, and the softmax family."""

from __future__ import annotations

import math
from typing import Any

from ..interface import Array, Axes
from ..quiet import quiet
from .common import Common


class Reduce(Common):
    """The soft functions subtract the maximum first, so that the largest exponent is 0."""

    @quiet
    def sum(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        return self._array(self._total(x, axis, keepdims))

    @quiet
    def mean(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        return self._array(self._total(x, axis, keepdims) / _count(x, axis))

    @quiet
    def var(
        self, x: Array, axis: Axes = None, correction: float = 0, keepdims: bool = False
    ) -> Array:
        """In two passes: E[x^2] - E[x]^2 would cancel."""
        centred = self._array(x - self._total(x, axis, True) / _count(x, axis))
        centred *= centred
        degrees_of_freedom = max(_count(x, axis) - correction, 0)
        return self._array(self._total(centred, axis, keepdims) / degrees_of_freedom)

    def max(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        return self._array(x.max(axis=axis, keepdims=keepdims))

    def min(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        return self._array(x.min(axis=axis, keepdims=keepdims))

    def argmax(self, x: Array, axis: int | None = None) -> Array:
        return self._array(x.argmax(axis=axis))

    def argmin(self, x: Array, axis: int | None = None) -> Array:
        return self._array(x.argmin(axis=axis))

    @quiet
    def cumsum(self, x: Array, axis: int) -> Array:
        return x.cumsum(axis=axis, dtype=self._total_dtype(x))

    @quiet
    def logsumexp(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        xp = self.xp
        peak = self._peak(x, axis)
        peak = xp.where(xp.isfinite(peak), peak, 0)  # inf - inf would be NaN
        y = xp.log(self._total(xp.exp(x - peak), axis, True)) + peak
        return self._array(y if keepdims else y.sum(axis=axis))  # sums of one element each

    @quiet
    def softmax(self, x: Array, axis: int) -> Array:
        y = x - self._peak(x, axis)
        self.xp.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
        return y

    @quiet
    def softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        weighted = grad * y
        return weighted - y * weighted.sum(axis=axis, keepdims=True)

    @quiet
    def log_softmax(self, x: Array, axis: int) -> Array:
        xp = self.xp
        y = x - self._peak(x, axis)
        y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
        return y

    @quiet
    def log_softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        return grad - self.xp.exp(y) * grad.sum(axis=axis, keepdims=True)

    def _total(self, x: Array, axis: Axes, keepdims: bool) -> Any:
        return x.sum(axis=axis, dtype=self._total_dtype(x), keepdims=keepdims)

    def _total_dtype(self, x: Array) -> Any:
        return self.xp.int64 if x.dtype.kind in "biu" else None

    def _peak(self, x: Array, axis: Axes) -> Array:
        """The maximum along axis, which is kept; 0 where there is nothing to take it of."""
        if x.size:
            return x.max(axis=axis, keepdims=True)
        return x.sum(axis=axis, keepdims=True)


def _count(x: Array, axis: Axes) -> int:
    """How many elements one result of a reduction is made of."""
    if axis is None:
        return math.prod(x.shape)
    return math.prod(x.shape[a] for a in ((axis,) if isinstance(axis, int) else axis))
