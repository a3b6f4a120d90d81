"""Arithmetic and elementary functions, element by element."""

from __future__ import annotations

from ..interface import Array
from .common import Common


class Elementwise(Common):
    """One universal function each; broadcasting and promotion are the library's own."""

    def add(self, a: Array, b: Array) -> Array:
        return self._ufunc(self.xp.add, a, b)

    def subtract(self, a: Array, b: Array) -> Array:
        return self._ufunc(self.xp.subtract, a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        return self._ufunc(self.xp.multiply, a, b)

    def divide(self, a: Array, b: Array) -> Array:
        return self._ufunc(self.xp.divide, a, b)

    def pow(self, a: Array, b: Array) -> Array:
        return self._ufunc(self.xp.power, a, b)

    def maximum(self, a: Array, b: Array) -> Array:
        return self._array(self.xp.maximum(a, b))

    def minimum(self, a: Array, b: Array) -> Array:
        return self._array(self.xp.minimum(a, b))

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self._array(self.xp.where(condition, a, b))

    def clip(self, x: Array, low: float | None, high: float | None) -> Array:
        if low is not None and high is not None:
            return self._array(self.xp.clip(x, low, high))
        if low is not None:
            return self.maximum(x, low)
        return x.copy() if high is None else self.minimum(x, high)

    def negative(self, x: Array) -> Array:
        return self._array(self.xp.negative(x))

    def abs(self, x: Array) -> Array:
        return self._array(self.xp.abs(x))

    def sign(self, x: Array) -> Array:
        return self._array(self.xp.sign(x))

    def exp(self, x: Array) -> Array:
        return self._ufunc(self.xp.exp, x)

    def log(self, x: Array) -> Array:
        return self._ufunc(self.xp.log, x)

    def sqrt(self, x: Array) -> Array:
        return self._ufunc(self.xp.sqrt, x)

    def sin(self, x: Array) -> Array:
        return self._ufunc(self.xp.sin, x)

    def cos(self, x: Array) -> Array:
        return self._ufunc(self.xp.cos, x)

    def tanh(self, x: Array) -> Array:
        return self._array(self.xp.tanh(x))
