"""Observers: they watch the numbers that pass a point of the model and choose a range for them."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ..engine.dtypes import float64
from ..engine.tensor import Tensor
from ..errors import ShapeError
from ..ops import check
from .qtensor import ranges
from .slices import checked, scale_shape


class Observer(Protocol):
    """What static quantization asks of an observer; another rule is another class with these two.

    Sources of rules: Krishnamoorthi (2018), arXiv:1806.08342, section 2.5; Nagel et al. (2021),
    arXiv:2106.08295, section 3.1.
    """

    def observe(self, x: Tensor) -> None:
        """Take note of one batch."""

    def bounds(self) -> tuple[Any, Any]:
        """The range to quantize, from all batches so far; (inf, -inf) before the first.

        Two floats; two arrays shaped like the scales from an observer of slices.
        """


class Extremes:
    """What observers share that keep two ends, or two for each slice along `axis` or each group."""

    def __init__(self, axis: int | None = None, group_size: int | None = None) -> None:
        name = type(self).__name__
        axis = None if axis is None else check.integer(name, "axis", axis)
        self.axis, self.group_size = axis, group_size
        checked(name, 1 if axis is None else max(axis + 1, -axis), axis, group_size)
        self.low: Any = math.inf
        self.high: Any = -math.inf

    def bounds(self) -> tuple[Any, Any]:
        """(lowest, highest) number of the range."""
        return self.low, self.high

    def _ends(self, x: Tensor) -> tuple[Any, Any] | None:
        """The extremes of a batch as floats or float64 arrays; None if it has no numbers."""
        check.floating(type(self).__name__, x=x)
        slicing = checked(type(self).__name__, x.ndim, self.axis, self.group_size)
        if not x.size:
            return None
        low, high = (np.asarray(end, float64) for end in ranges(x, *slicing))
        if not scale_shape(x.shape, *slicing):
            return float(low), float(high)
        check_slices(type(self).__name__, low.shape, np.shape(self.low))
        return low, high


def check_slices(name: str, found: tuple[int, ...], before: tuple[int, ...]) -> None:
    """All batches must have the same slices. Raises: ShapeError."""
    if before not in ((), found):
        raise ShapeError(f"{name}: x has slices {found}, batches before had {before}")


class MinMax(Extremes):
    """The smallest and the largest number seen: nothing of the calibration data is clipped.

    axis or group_size: a range for each slice, as in `quantize`; then bounds are arrays.

    >>> import minidl
    >>> seen = MinMax()
    >>> seen.observe(minidl.tensor([-1.0, 2.0]))
    >>> seen.observe(minidl.tensor([0.0, 3.0]))
    >>> seen.bounds()
    (-1.0, 3.0)
    """

    def observe(self, x: Tensor) -> None:
        """Widen the range to hold all of x; a NaN stays, so that it cannot go unnoticed."""
        ends = self._ends(x)
        if ends is not None:
            self.low = _plain(np.minimum(self.low, ends[0]))
            self.high = _plain(np.maximum(self.high, ends[1]))


class MovingAverageMinMax(Extremes):
    """A moving average of each batch's smallest and largest number: one wild batch counts little.

    An end moves by averaging_constant (0 to 1) of the way to the batch's; the first batch sets it.
    Source: Jacob et al. (2018), arXiv:1712.05877, section 3.1. Raises: ArgumentError.

    >>> import minidl
    >>> seen = MovingAverageMinMax(0.25)
    >>> for batch in ([-1.0, 2.0], [-1.0, 6.0]):
    ...     seen.observe(minidl.tensor(batch))
    >>> seen.bounds()
    (-1.0, 3.0)
    """

    def __init__(
        self, averaging_constant: float = 0.01, axis: int | None = None,
        group_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(axis, group_size)
        self.averaging_constant = check.number(
            "MovingAverageMinMax", "averaging_constant", averaging_constant, 0, 1
        )

    def observe(self, x: Tensor) -> None:
        """Move both ends towards those of x; a NaN stays."""
        ends = self._ends(x)
        if ends is None:
            return
        if np.all(np.isinf(self.low)) and np.all(np.isinf(self.high)):
            self.low, self.high = ends
        self.low = self.low + self.averaging_constant * (ends[0] - self.low)
        self.high = self.high + self.averaging_constant * (ends[1] - self.high)


def _plain(x: Any) -> Any:
    """A float for a 0-d array or scalar of NumPy's."""
    return x if np.ndim(x) else float(x)
