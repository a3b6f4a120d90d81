"""Observers that leave rare extremes outside: all that was seen, counted in some thousand bins.

Bins are as wide as a power of two and begin at multiples of it. When the range grows, two
neighbours become one bin of twice the width: nothing is estimated, and batches in any order lead
to the same counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..ops import check
from .qtensor import Scheme, grid, scheme_of


class Counts:
    """How many numbers fell between k * width and (k + 1) * width, for bins k from `first` on.

    >>> seen = Counts(4)
    >>> seen.add(np.array([0.0, 1.0, 3.0, 3.0]))
    >>> seen.width, seen.first, seen.counts.tolist()
    (1.0, 0, [1, 1, 0, 2])
    >>> seen.add(np.array([-1.0]))
    >>> seen.width, seen.first, seen.counts.tolist()
    (2.0, -1, [1, 2, 2])
    """

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.width = 0.0  # before the first number
        self.first = 0
        self.counts = np.zeros(0, np.int64)
        self.low, self.high = math.inf, -math.inf

    def add(self, x: np.ndarray) -> None:
        """Count finite numbers."""
        if not x.size:
            return
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self._widen()
        at = np.floor(x.ravel().astype(np.float64) / self.width).astype(np.int64) - self.first
        self.counts += np.bincount(at, minlength=self.counts.size)

    def _widen(self) -> None:
        """Let the bins cover the range, twice as wide as long as there are too many."""
        width = self.width or 2.0 ** max(math.floor(math.log2(self._least())), -1000)
        while math.floor(self.high / width) - math.floor(self.low / width) >= self.bins:
            width *= 2
        old = np.arange(self.first, self.first + self.counts.size)
        moved = np.floor(old * (self.width / width)).astype(np.int64)
        self.first = math.floor(self.low / width)
        fresh = np.zeros(math.floor(self.high / width) - self.first + 1, np.int64)
        np.add.at(fresh, moved - self.first, self.counts)
        self.counts, self.width = fresh, width

    def _least(self) -> float:
        """A width that is surely not too large: it would give a constant its own bin."""
        size = max(abs(self.low), abs(self.high), 1e-300)
        return max(self.high - self.low, size / self.bins) / self.bins

    def centres(self) -> np.ndarray:
        """The middle of each bin."""
        middle: np.ndarray = (self.first + np.arange(self.counts.size) + 0.5) * self.width
        return middle

    def below(self, share: float) -> float:
        """The number below which that share of all lies, as if a bin's were spread over it."""
        wanted, upto = share * self.counts.sum(), np.cumsum(self.counts)
        k = int(np.searchsorted(upto, wanted))
        k = min(k, self.counts.size - 1)
        inside = (wanted - (upto[k] - self.counts[k])) / max(self.counts[k], 1)
        found = (self.first + k + inside) * self.width
        return float(min(max(found, self.low), self.high))


class _Counting:
    """What observers by histogram share: one range for the whole tensor."""

    def __init__(self, bins: int) -> None:
        name = type(self).__name__
        self.seen = Counts(check.integer(name, "bins", bins, 16))
        self.bad = False

    def observe(self, x: Tensor) -> None:
        """Count the numbers in x; a NaN or an infinity stays, so that it cannot go unnoticed."""
        check.floating(type(self).__name__, x=x)
        self.bad = self.bad or not x.backend.all_finite(x.data)
        if not self.bad:
            self.seen.add(x.numpy())

    def bounds(self) -> tuple[float, float]:
        """The range; (inf, -inf) before the first batch, NaN after a NaN."""
        if self.bad:
            return math.nan, math.nan
        if not self.seen.counts.size:
            return math.inf, -math.inf
        return self._chosen()

    def _chosen(self) -> tuple[float, float]:
        raise NotImplementedError


class Percentile(_Counting):
    """The middle `percentile` percent of all numbers seen; half of the others lie on either side.

    Memory: at most `bins` counts. Source: Wu et al. (2020), arXiv:2004.09602, section 5.
    Raises: ArgumentError.

    >>> import minidl
    >>> seen = Percentile(99.0)
    >>> seen.observe(minidl.arange(0, 1000).astype("float32"))
    >>> [round(end) for end in seen.bounds()]
    [5, 994]
    """

    def __init__(self, percentile: float = 99.99, bins: int = 4096) -> None:
        super().__init__(bins)
        self.percentile = check.number("Percentile", "percentile", percentile, 0, 100, above=True)

    def _chosen(self) -> tuple[float, float]:
        outside = (1 - self.percentile / 100) / 2
        return self.seen.below(outside), self.seen.below(1 - outside)


class Histogram(_Counting):
    """The range whose codes give the least mean squared error, over all numbers seen.

    scheme and dtype are those that will be used, as in `quantize`. The error of a candidate is that
    of the bins' centres, quantized; candidates are the whole range made narrower, at both ends
    together and then at each by itself. Sources: Sung, Shin & Hwang (2015), arXiv:1511.06488,
    section 3; Nagel et al. (2021), arXiv:2106.08295, section 3.1, equation 13. Raises:
    ArgumentError.

    >>> import minidl
    >>> seen = Histogram("symmetric", "int4")
    >>> seen.observe(minidl.randn(100_000, generator=minidl.Generator(0)))
    >>> low, high = seen.bounds()
    >>> 2 < high < 3  # of a normal distribution, whose largest number is above 4
    True
    """

    STEPS = 100  # candidates along each way

    def __init__(self, scheme: str = "affine", dtype: Any = None, bins: int = 4096) -> None:
        super().__init__(bins)
        self.scheme: Scheme = scheme_of(scheme, dtype)
        if self.seen.bins < 4 << self.scheme.bits:
            raise ArgumentError(
                f"Histogram: {self.seen.bins} bins cannot tell {1 << self.scheme.bits} codes apart;"
                f" at least {4 << self.scheme.bits}"
            )

    def _chosen(self) -> tuple[float, float]:
        low, high = min(self.seen.low, 0.0), max(self.seen.high, 0.0)
        if self.scheme.symmetric:
            high = max(-low, high)
            return min((self.error(-s * high, s * high), -s * high, s * high)
                       for s in self._shares())[1:]  # fmt: skip
        both = min((self.error(s * low, s * high), s * low, s * high) for s in self._shares())
        whole = self.error(low, high), low, high
        return min(self._by_ends(low, high, *begin) for begin in (whole, both))[1:]

    def _by_ends(
        self, lowest: float, highest: float, least: float, low: float, high: float
    ) -> tuple[float, float, float]:
        """(error, low, high) after each end was moved to its best place, twice."""
        for _ in range(2):
            for s in self._shares():
                least, high = min((least, high), (self.error(low, s * highest), s * highest))
            for s in self._shares():
                least, low = min((least, low), (self.error(s * lowest, high), s * lowest))
        return least, low, high

    def _shares(self) -> list[float]:
        return [(i + 1) / self.STEPS for i in range(self.STEPS)]

    def error(self, low: float, high: float) -> float:
        """The mean squared error of all numbers seen if this were the range."""
        scale, zero = grid(low, high, self.scheme, np.dtype(np.float64))
        x = self.seen.centres()
        codes = np.clip(np.rint(x / scale) + zero, self.scheme.low, self.scheme.high)
        return float(np.dot((x - (codes - zero) * scale) ** 2, self.seen.counts))
