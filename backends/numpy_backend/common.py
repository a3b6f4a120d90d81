"""What every part of the NumPy backend shares: the array library, quiet arithmetic, 0-d results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..interface import Array, Backend, DType, Shape
from ..quiet import IGNORE, STATE


class Common(Backend):
    """Formulas are written over `xp`, so that a library with NumPy's names can take its place."""

    xp: Any = np

    def _array(self, x: Any) -> Array:
        """x itself, or the 0-d array for the scalar that NumPy returns in its place."""
        return x if isinstance(x, self.xp.ndarray) else self.xp.asarray(x)

    def _ufunc(self, function: Callable[..., Any], *operands: Array) -> Array:
        """function(*operands) as an array, without warnings (see quiet.py)."""
        before = STATE.set(IGNORE)
        try:
            x = function(*operands)
        finally:
            STATE.reset(before)
        return x if isinstance(x, self.xp.ndarray) else self.xp.asarray(x)

    def _keep(self, x: Array, mask: Array) -> Array:
        """x where mask holds, else 0: its bits times 1 or 0, which infinity and NaN pass too.

        `where` would do, but it branches: on a random mask it takes eight times as long.
        """
        bits = self.xp.dtype(f"i{x.dtype.itemsize}")
        return self._array((x.view(bits) * mask).view(x.dtype))

    def _zeros(self, shape: Shape, dtype: DType) -> Array:
        """Zeros to which something will be added."""
        return self.xp.zeros(shape, dtype)

    def _scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """In place: target[index] += values, in which an index that occurs twice counts twice."""
        np.add.at(target, index, values)
