"""The contract: random numbers from a counter, the same bits on every backend."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .words import Array, DType, Shape


class Random(ABC):
    """Philox 4x32-10 and what is made of it."""

    @abstractmethod
    def philox(self, seed: int, counter: int, count: int) -> Array:
        """uint32 (count,): the words of Philox 4x32-10 blocks counter, counter + 1, ...

        seed has 64 bits, a key of two 32-bit words; a counter has 128 bits, four words, the lowest
        first. Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", 3.3.
        """

    @abstractmethod
    def uniform(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        """Multiples of 2^-24 in [0, 1), one Philox word each, whatever the floating dtype."""

    @abstractmethod
    def normal(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        """Standard normal deviates, one Philox word each, by Box & Muller (1958).

        Every step is exact or correctly rounded (+ - * / sqrt in float64), so all backends agree
        bit for bit.
        """

    @abstractmethod
    def dropout(self, x: Array, p: float, seed: int, counter: int) -> tuple[Array, Array]:
        """x with each element dropped (0) with probability p and the others scaled up; and the bool
        mask.

        Element i (C order) is kept where Philox word i >= ceil(p * 2^32), and then multiplied by
        1 / (1 - p), rounded to the dtype of x.
        """
