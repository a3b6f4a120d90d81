"""Moving elements without computing: shapes, indexing, gathering and its transpose, scattering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from ..interface import Array, Pair, Shape
from ..quiet import quiet
from .common import Common

BASIC = (int, slice, EllipsisType, type(None))


class ShapeOps(Common):
    """Views where NumPy's are views; every scatter goes through `_scatter_add`."""

    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def transpose(self, x: Array, axes: Shape) -> Array:
        return x.transpose(axes)

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        return self.xp.broadcast_to(x, shape)

    def concatenate(self, xs: Sequence[Array], axis: int) -> Array:
        return self.xp.concatenate(xs, axis=axis)

    def pad(self, x: Array, widths: Sequence[Pair], value: float = 0) -> Array:
        sides = list(zip(x.shape, widths, strict=True))
        y = self.xp.full([before + n + after for n, (before, after) in sides], value, x.dtype)
        y[tuple(slice(before, before + n) for n, (before, _) in sides)] = x
        return y

    def flip(self, x: Array, axis: Shape) -> Array:
        return self.xp.flip(x, axis)

    def getitem(self, x: Array, index: Any) -> Array:
        y = x[index]
        if isinstance(y, self.xp.ndarray):
            return y
        return x[*index, ...] if isinstance(index, tuple) else x[index, ...]  # a view, not a scalar

    @quiet
    def getitem_grad(self, grad: Array, index: Any, shape: Shape) -> Array:
        x = self._zeros(shape, grad.dtype)
        items = index if isinstance(index, tuple) else (index,)
        if all(isinstance(item, BASIC) or item.dtype.kind == "b" for item in items):
            x[index] = grad  # slices and masks take nothing twice
        else:
            self._add_at(x, self._positions(shape)[index], grad)
        return x

    @quiet
    def setitem(self, x: Array, index: Any, value: Any) -> None:
        x[index] = value

    def gather(self, x: Array, axis: int, index: Array) -> Array:
        return self.xp.take_along_axis(x, index, axis=axis)

    @quiet
    def gather_grad(self, grad: Array, axis: int, index: Array, shape: Shape) -> Array:
        x = self._zeros(shape, grad.dtype)
        self._add_at(x, self.gather(self._positions(shape), axis, index), grad)
        return x

    @quiet
    def index_add(self, x: Array, axis: int, index: Array, source: Array) -> Array:
        y = x.copy()
        self._add_at(y, self.xp.take(self._positions(x.shape), index, axis=axis), source)
        return y

    def embedding(self, weight: Array, index: Array) -> Array:
        return self.xp.take(weight, index, axis=0)

    @quiet
    def embedding_grad(self, grad: Array, index: Array, rows: int) -> Array:
        xp = self.xp
        columns = grad.shape[-1]
        weight = xp.zeros((rows, columns), grad.dtype)
        start = xp.asarray(index, dtype=xp.int64).reshape(-1, 1) * columns
        self._add_at(weight, start + xp.arange(columns), grad)
        return weight

    def _positions(self, shape: Shape) -> Array:
        """An array in which each element is its own position in C order."""
        return self.xp.arange(math.prod(shape)).reshape(shape)

    def _add_at(self, x: Array, positions: Array, values: Array) -> None:
        """In place, x C-contiguous; on one flat axis NumPy scatters 4 times as fast as on rows."""
        self._scatter_add(x.reshape(-1), positions.reshape(-1), values.reshape(-1))
