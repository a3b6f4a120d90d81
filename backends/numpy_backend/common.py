"""What every part of the NumPy backend shares: the array library, quiet arithmetic, 0-d results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import numpy as np

from ..interface import Array, Backend

# Division by zero, overflow and NaN are values here, not warnings. As a decorator, np.errstate
# changes the state for the duration of one call only and leaves the caller's settings alone.
quiet = np.errstate(all="ignore")


class _Quiet(threading.local):
    """The same for a single call at a sixth of the cost (0.1 us): a context made once per thread.

    NumPy keeps its error state in a context variable, and what `seterr` does in a copy of the
    context stays there. `run` must not be entered twice: only for functions that call nothing here.
    """

    def __init__(self) -> None:
        context = copy_context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quiet = _Quiet()


class Common(Backend):
    """Formulas are written over `xp`, so that a library with NumPy's names can take its place."""

    xp: Any = np

    def _array(self, x: Any) -> Array:
        """x itself, or the 0-d array for the scalar that NumPy returns in its place."""
        return x if isinstance(x, self.xp.ndarray) else self.xp.asarray(x)

    def _ufunc(self, function: Callable[..., Any], *operands: Array) -> Array:
        """function(*operands) as an array, without warnings."""
        return self._array(_quiet.run(function, *operands))

    def _keep(self, x: Array, mask: Array) -> Array:
        """x where mask holds, else 0: its bits times 1 or 0, which infinity and NaN pass too.

        `where` would do, but it branches: on a random mask it takes eight times as long.
        """
        bits = self.xp.dtype(f"i{x.dtype.itemsize}")
        return self._array((x.view(bits) * mask).view(x.dtype))

    def _scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """In place: target[index] += values, in which an index that occurs twice counts twice."""
        np.add.at(target, index, values)
