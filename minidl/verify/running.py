"""Running error analysis: a value that carries a bound on its own rounding error.

`Approx` stands for a number computed in float32 or float64. Its value is held in float64, and each
operation adds the error that one rounding makes to the errors that it inherits, magnified as the
operation magnifies them. Write a formula in it and the bound of the formula comes out.
Source: Wilkinson (1963), "Rounding Errors in Algebraic Processes"; Higham (2002), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

import numpy as np

from .tolerances import REGROUPING, ULPS, gamma, unit_roundoff

Operand = Union["Approx", np.ndarray, float]


class Approx:
    """value (float64) computed in dtype, with an absolute error of at most error."""

    __array_priority__ = 1  # so that ndarray + Approx comes here

    def __init__(
        self, value: np.ndarray | float, dtype: np.dtype | type, error: np.ndarray | float = 0.0
    ) -> None:
        self.value = np.asarray(value, np.float64)
        self.dtype = np.dtype(dtype)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    def _rounded(self, value: np.ndarray, inherited: np.ndarray, roundings: float = 1) -> Approx:
        info = np.finfo(self.dtype)
        fresh = roundings * unit_roundoff(self.dtype) * np.abs(value) + float(info.tiny)
        total = inherited + fresh
        return Approx(value, self.dtype, np.where(np.isnan(total), np.inf, total))

    def _lift(self, other: Operand) -> Approx:
        return other if isinstance(other, Approx) else Approx(other, self.dtype)

    def __add__(self, other: Operand) -> Approx:
        other = self._lift(other)
        return self._rounded(self.value + other.value, self.error + other.error)

    def __neg__(self) -> Approx:
        return Approx(-self.value, self.dtype, self.error)

    def __sub__(self, other: Operand) -> Approx:
        return self + -self._lift(other)

    def __mul__(self, other: Operand) -> Approx:
        other = self._lift(other)
        inherited = np.abs(self.value) * other.error + np.abs(other.value) * self.error
        return self._rounded(self.value * other.value, inherited + self.error * other.error)

    def __truediv__(self, other: Operand) -> Approx:
        other = self._lift(other)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self.value / other.value
            room = np.abs(other.value) - other.error
            inherited = (self.error + np.abs(value) * other.error) / room
        return self._rounded(value, np.where(room > 0, inherited, np.inf))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Operand) -> Approx:
        return self._lift(other) - self

    def __rtruediv__(self, other: Operand) -> Approx:
        return self._lift(other) / self

    def __getitem__(self, index: Any) -> Approx:
        return Approx(self.value[index], self.dtype, self.error[index])

    def reshape(self, *shape: int) -> Approx:
        return Approx(self.value.reshape(*shape), self.dtype, self.error.reshape(*shape))

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = True) -> Approx:
        """n - 1 additions in any order: gamma(n - 1) times the sum of magnitudes."""
        value = self.value.sum(axis=axis, keepdims=keepdims)
        terms = self.value.size // max(value.size, 1)
        magnitude = (np.abs(self.value) + self.error).sum(axis=axis, keepdims=keepdims)
        inherited = self.error.sum(axis=axis, keepdims=keepdims)
        return Approx(value, self.dtype, inherited + gamma(terms, self.dtype) * magnitude)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = True) -> Approx:
        total = self.sum(axis, keepdims)
        return total / float(self.value.size // max(total.value.size, 1))

    def _function(self, name: str, function: Callable[[np.ndarray], np.ndarray]) -> Approx:
        """A monotone function: the error of its argument moves it no further than to either end."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value = function(self.value)
            ends = function(self.value - self.error), function(self.value + self.error)
            inherited = np.fmax(np.abs(ends[0] - value), np.abs(ends[1] - value))
        return self._rounded(value, np.where(self.error == 0, 0.0, inherited), 2 * ULPS[name])

    def exp(self) -> Approx:
        return self._function("exp", np.exp)

    def log(self) -> Approx:
        return self._function("log", lambda x: np.log(np.maximum(x, np.finfo(float).tiny)))

    def sigmoid(self) -> Approx:
        return self._function("sigmoid", lambda x: 1 / (1 + np.exp(-x)))

    def tanh(self) -> Approx:
        return self._function("tanh", np.tanh)

    def where(self, condition: np.ndarray, other: Operand) -> Approx:
        """self where condition holds, else other."""
        other = self._lift(other)
        return Approx(
            np.where(condition, self.value, other.value), self.dtype,
            np.where(condition, self.error, other.error),
        )  # fmt: skip

    def sqrt(self) -> Approx:
        """Of a non-negative number, so its error cannot take it below 0."""
        root = np.sqrt(self.value)
        low = root - np.sqrt(np.maximum(self.value - self.error, 0))
        high = np.sqrt(self.value + self.error) - root
        return self._rounded(root, np.maximum(low, high))

    @property
    def bound(self) -> np.ndarray:
        """What a test may allow: the running error, and room for another order of the terms."""
        return REGROUPING * self.error


def joined(parts: Sequence[Approx], axis: int) -> Approx:
    """Parts one behind another along an axis."""
    values, errors = [p.value for p in parts], [p.error for p in parts]
    return Approx(np.concatenate(values, axis), parts[0].dtype, np.concatenate(errors, axis))


def saved(exact: Approx, dtype: np.dtype | type) -> Approx:
    """What a backend kept of a result in dtype: rounded, and off by that and the result's error."""
    rounded = exact.value.astype(dtype).astype(np.float64)
    return Approx(rounded, dtype, np.abs(rounded - exact.value) + exact.error)
