"""Where CuPy's reductions promise less than the contract."""

from __future__ import annotations

from ..interface import Array
from .common import Common


class Reductions(Common):
    """CuPy finds the first of equal values, but of several NaN whichever its threads meet first."""

    def argmax(self, x: Array, axis: int | None = None) -> Array:
        found = super().argmax(x, axis)
        return self._first_nan(x, axis, found) if x.dtype.kind == "f" else found

    def argmin(self, x: Array, axis: int | None = None) -> Array:
        found = super().argmin(x, axis)
        return self._first_nan(x, axis, found) if x.dtype.kind == "f" else found

    def _first_nan(self, x: Array, axis: int | None, found: Array) -> Array:
        """The index of the first NaN where there is one, else found."""
        nan = self.xp.isnan(x)
        return self.xp.where(nan.any(axis=axis), nan.argmax(axis=axis), found)
