"""What every part of the NumPy backend shares: the array library, quiet arithmetic, 0-d results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..interface import Array, Backend

# Division by zero, overflow and NaN are values here, not warnings. As a decorator, np.errstate
# changes the state for the duration of one call only and leaves the caller's settings alone.
quiet = np.errstate(all="ignore")


class Common(Backend):
    """Formulas are written over `xp`, so that a library with NumPy's names can take its place."""

    xp: Any = np

    def _array(self, x: Any) -> Array:
        """x itself, or the 0-d array for the scalar that NumPy returns in its place."""
        return x if isinstance(x, self.xp.ndarray) else self.xp.asarray(x)

    def _scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """In place: target[index] += values, in which an index that occurs twice counts twice."""
        np.add.at(target, index, values)
