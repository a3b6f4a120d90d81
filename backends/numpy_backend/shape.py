"""Moving elements without computing: shapes, indexing, gathering and its transpose, scattering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from ..interface import Array, Pair, Shape
from .common import Common, quiet

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
        return self._array(x[index])

    @quiet
    def getitem_grad(self, grad: Array, index: Any, shape: Shape) -> Array:
        x = self.xp.zeros(shape, grad.dtype)
        items = index if isinstance(index, tuple) else (index,)
        if all(isinstance(item, BASIC) for item in items):
            x[index] = grad  # a basic index takes nothing twice
        else:
            self._scatter_add(x, index, grad)
        return x

    @quiet
    def setitem(self, x: Array, index: Any, value: Any) -> None:
        x[index] = value

    def gather(self, x: Array, axis: int, index: Array) -> Array:
        return self.xp.take_along_axis(x, index, axis=axis)

    @quiet
    def gather_grad(self, grad: Array, axis: int, index: Array, shape: Shape) -> Array:
        xp = self.xp
        strides = [math.prod(shape[a + 1 :]) for a in range(len(shape))]
        position = index * strides[axis]  # in the flattened result
        for a, n in enumerate(index.shape):
            if a != axis:
                steps = xp.arange(n) * strides[a]
                position = position + steps.reshape(-1, *[1] * (len(shape) - 1 - a))
        flat = xp.zeros(math.prod(shape), grad.dtype)
        self._scatter_add(flat, position.reshape(-1), grad.reshape(-1))
        return flat.reshape(shape)

    @quiet
    def index_add(self, x: Array, axis: int, index: Array, source: Array) -> Array:
        xp = self.xp
        y = x.copy()
        self._scatter_add(xp.moveaxis(y, axis, 0), index, xp.moveaxis(source, axis, 0))
        return y

    def embedding(self, weight: Array, index: Array) -> Array:
        return self.xp.take(weight, index, axis=0)

    @quiet
    def embedding_grad(self, grad: Array, index: Array, rows: int) -> Array:
        columns = grad.shape[-1]
        position = index.reshape(-1, 1) * columns + self.xp.arange(columns)
        flat = self.xp.zeros(rows * columns, grad.dtype)
        self._scatter_add(flat, position.reshape(-1), grad.reshape(-1))
        return flat.reshape(rows, columns)
