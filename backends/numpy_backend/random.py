"""Random numbers: a function of (seed, counter), bit for bit the same on every backend.

Uniform words come from Philox 4x32-10: Salmon, Moraes, Dror & Shaw (2011), "Parallel random
numbers: as easy as 1, 2, 3", section 3.3. Normal deviates are made of them by Box & Muller (1958).
Libraries round log, sin and cos differently, so these three are spelled out here in + - * / and
frexp on float64, which IEEE 754 rounds in one way only. Every operation is one rounded step: a
port must neither fuse a multiplication with an addition nor change the order.
"""

from __future__ import annotations

import math

from ..interface import Array, DType, Shape
from ..quiet import quiet
from .common import Common

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # golden ratio and sqrt(3) - 1
ROUNDS = 10
MASK = 0xFFFFFFFF
CHUNK = 1 << 13  # blocks at a time: the words of a round stay in the cache

SQRT_HALF = math.sqrt(0.5)
LOG_2 = math.log(2)
TURN = 2 * math.pi * 2.0**-32  # radians in one step of a 32-bit word
LOG_TERMS = [1 / (2 * k + 1) for k in range(11)]
SIN_TERMS = [(-1) ** k / math.factorial(2 * k + 1) for k in range(9)]
COS_TERMS = [(-1) ** k / math.factorial(2 * k) for k in range(9)]


class Random(Common):
    """Words, and what is made of words: uniforms, normals, dropout masks."""

    def philox(self, seed: int, counter: int, count: int) -> Array:
        xp = self.xp
        blocks = -(-count // 4)
        words = xp.empty((blocks, 4), xp.uint32)
        for start in range(0, blocks, CHUNK):
            part = words[start : start + CHUNK]
            number = xp.arange(part.shape[0], dtype=xp.uint64)
            first = (counter + start) % 2**128
            number += first % 2**64  # and wraps there
            upper = (number < first % 2**64) + xp.asarray(first >> 64, dtype=xp.uint64)
            even = xp.stack([number & MASK, upper & MASK])
            odd = xp.stack([number >> 32, upper >> 32])
            even, odd = self._philox_rounds(even, odd, (seed & MASK, seed >> 32))
            part[:, 0::2], part[:, 1::2] = even.T, odd.T
        return words.reshape(-1)[:count]

    def _philox_rounds(self, even: Array, odd: Array, key: tuple[int, int]) -> tuple[Array, Array]:
        """Words 0 and 2, and words 1 and 3, of n blocks: (2, n) uint64 each, and so returned."""
        xp = self.xp
        multipliers = xp.asarray([[m] for m in MULTIPLIERS], dtype=xp.uint64)
        for i in range(ROUNDS):
            keys = [[(k + i * step) & MASK] for k, step in zip(key, KEY_STEPS, strict=True)]
            product = (even * multipliers)[::-1]
            even = (product >> 32) ^ odd ^ xp.asarray(keys, dtype=xp.uint64)
            odd = product & MASK
        return even, odd

    def uniform(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        words = self.philox(seed, counter, math.prod(shape)) >> 8  # 24 bits fit a float32
        y = words.astype(dtype)
        y *= 2.0**-24
        return y.reshape(shape)

    def normal(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        """Words 2k and 2k + 1 give deviates 2k and 2k + 1: radius sqrt(-2 log u) and an angle."""
        xp = self.xp
        count = math.prod(shape)
        words = self.philox(seed, counter, count + count % 2)
        u = (words[0::2].astype(xp.float64) + 0.5) * 2.0**-32  # in (0, 1), so that log is finite
        radius = xp.sqrt(-2 * self._log(u))
        cos, sin = self._cos_sin(words[1::2])
        pairs = xp.stack([radius * cos, radius * sin], axis=1)
        return pairs.reshape(-1)[:count].reshape(shape).astype(dtype)

    def _log(self, u: Array) -> Array:
        """log(2^e m) = e log 2 + 2 artanh(s), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2))."""
        xp = self.xp
        m, e = xp.frexp(u)
        low = m < SQRT_HALF
        m = xp.where(low, 2 * m, m)
        e = (e - low).astype(xp.float64)
        s = (m - 1) / (m + 1)
        return e * LOG_2 + 2 * s * _series(LOG_TERMS, s * s)

    def _cos_sin(self, words: Array) -> tuple[Array, Array]:
        """Cosine and sine of 2 pi * word / 2^32; integers find the nearest quarter turn exactly."""
        xp = self.xp
        words = words.astype(xp.int64)
        quarter = (words + (1 << 29)) >> 30
        x = (words - (quarter << 30)).astype(xp.float64) * TURN  # |x| <= pi / 4
        square = x * x
        cos, sin = _series(COS_TERMS, square), x * _series(SIN_TERMS, square)
        odd = (quarter & 1) == 1
        cos, sin = xp.where(odd, sin, cos), xp.where(odd, cos, sin)
        left, below = ((quarter + 1) & 2) == 2, (quarter & 2) == 2  # where cos and sin are negative
        return xp.where(left, -cos, cos), xp.where(below, -sin, sin)

    @quiet
    def dropout(self, x: Array, p: float, seed: int, counter: int) -> tuple[Array, Array]:
        """Srivastava et al. (2014), section 10: scaled in training, not in use."""
        xp = self.xp
        threshold = math.ceil(p * 2**32)
        if threshold > MASK:
            return xp.zeros(x.shape, x.dtype), xp.zeros(x.shape, bool)
        words = self.philox(seed, counter, math.prod(x.shape))
        mask = (words >= threshold).reshape(x.shape)
        return self._keep(self._array(x * (1 / (1 - p))), mask), mask


def _series(terms: list[float], x: Array) -> Array:
    """Horner's rule, highest power first: multiply, round, add, round."""
    y = terms[-1] * x + terms[-2]
    for term in terms[-3::-1]:
        y = y * x + term
    return y
