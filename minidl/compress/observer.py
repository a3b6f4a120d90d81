"""Observers: they watch the numbers that pass a point of the model and choose a range for them."""

from __future__ import annotations

import math
from typing import Protocol

from ..engine.tensor import Tensor


class Observer(Protocol):
    """What static quantization asks of an observer; another rule is another class with these two.

    Sources of rules: Krishnamoorthi (2018), arXiv:1806.08342, section 2.5; Nagel et al. (2021),
    arXiv:2106.08295, section 3.1.
    """

    def observe(self, x: Tensor) -> None:
        """Take note of one batch."""

    def bounds(self) -> tuple[float, float]:
        """The range to quantize, from all batches so far; (inf, -inf) before the first."""


class MinMax:
    """The smallest and the largest number seen: nothing of the calibration data is clipped.

    >>> import minidl
    >>> seen = MinMax()
    >>> seen.observe(minidl.tensor([-1.0, 2.0]))
    >>> seen.observe(minidl.tensor([0.0, 3.0]))
    >>> seen.bounds()
    (-1.0, 3.0)
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def observe(self, x: Tensor) -> None:
        """Widen the range to hold all of x; a NaN stays, so that it cannot go unnoticed."""
        if x.size:
            low, high = x.backend.bounds(x.data)
            self.low = low if low != low else min(self.low, low)
            self.high = high if high != high else max(self.high, high)

    def bounds(self) -> tuple[float, float]:
        """(smallest, largest) number seen."""
        return self.low, self.high
