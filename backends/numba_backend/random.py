"""Philox words and what is made of them, in one pass: integers, and floats without fused steps.

The formulas and their sources are in the NumPy backend's file of this name; the bits are the same.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numba import prange

from ..interface import Array, DType, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.random import (
    COS_TERMS,
    KEY_STEPS,
    LOG_2,
    LOG_TERMS,
    MASK,
    MULTIPLIERS,
    ROUNDS,
    SIN_TERMS,
    SQRT_HALF,
    TURN,
)
from .jit import Kernel, helper, kernel, lane
from .layout import F32, F64, flat, plain, suits
from .memory import empty

# Words. 2^13 of them take 4.4 us on one thread and on two; 2^15 12.4 and 9.2, but 48 if the other
# thread has to wake up; 2^18 78 and 42. A normal deviate takes twenty times as long: 2^13 of them
# 77 us and 45, or 65.
PARALLEL_FROM = 1 << 15
NORMAL_PARALLEL_FROM = 1 << 13
STRETCH = 1 << 10  # words of a task, a multiple of 4

Word: TypeAlias = Any  # np.uint64: Numba would mix it with a Python int to a float

M0, M1 = (np.uint64(m) for m in MULTIPLIERS)
STEP0, STEP1 = (np.uint64(k) for k in KEY_STEPS)
LOW, HALF = np.uint64(MASK), np.uint64(32)
LOGS, COSINES, SINES = (tuple(terms[::-1]) for terms in (LOG_TERMS, COS_TERMS, SIN_TERMS))


@lane
def block(key: Word, counter: tuple[Word, Word], i: int) -> tuple[Word, Word, Word, Word]:
    """The four words of Philox 4x32-10 block counter + i; a counter is its (lower, upper) half.

    The carry is taken from the bits: LLVM would make an addition with an overflow flag out of a
    comparison, and that has no vector form. Source: Warren (2013), "Hacker's Delight", 2-16.
    """
    step = np.uint64(i)
    lower = counter[0] + step
    carry = ((counter[0] & step) | ((counter[0] | step) & ~lower)) >> np.uint64(63)
    upper = counter[1] + carry
    c0, c1, c2, c3 = lower & LOW, lower >> HALF, upper & LOW, upper >> HALF
    k0, k1 = key & LOW, key >> HALF
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + STEP0) & LOW, (k1 + STEP1) & LOW
    return c0, c1, c2, c3


@helper
def fill_stretch(key: Word, counter: tuple[Word, Word], first: int, words: Array) -> None:
    """words = those of the blocks from counter + first on."""
    for i in range(words.size // 4):
        a, b, c, d = block(key, counter, first + i)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d


@kernel(exact=True)
def fill_words(key: Word, counter: tuple[Word, Word], words: Array) -> None:
    """words (4 * blocks,)."""
    for stretch in prange((words.size + STRETCH - 1) // STRETCH):
        start = stretch * STRETCH
        fill_stretch(key, counter, start // 4, words[start : start + STRETCH])


@kernel(exact=True)
def fill_uniform(key: Word, counter: tuple[Word, Word], y: Array) -> None:
    """y (4 * blocks,): the upper 24 bits of each word as a fraction."""
    real, bits = y.dtype.type, np.uint64(8)
    step = real(2.0**-24)
    for stretch in prange((y.size + STRETCH - 1) // STRETCH):
        start = stretch * STRETCH
        out = y[start : start + STRETCH]
        for i in range(out.size // 4):
            a, b, c, d = block(key, counter, start // 4 + i)
            out[4 * i] = real(np.int32(a >> bits)) * step
            out[4 * i + 1] = real(np.int32(b >> bits)) * step
            out[4 * i + 2] = real(np.int32(c >> bits)) * step
            out[4 * i + 3] = real(np.int32(d >> bits)) * step


@helper
def series(terms: tuple[float, ...], x: float) -> float:
    """Horner's rule; terms are given highest power first."""
    y = terms[0] * x + terms[1]
    for term in terms[2:]:
        y = y * x + term
    return y


@helper
def box_muller(word: Word, angle: Word) -> tuple[float, float]:
    """Two deviates: radius sqrt(-2 log u) in the direction of angle / 2^32 turns."""
    m, e = math.frexp((np.float64(word) + 0.5) * 2.0**-32)
    if m < SQRT_HALF:
        m, e = 2 * m, e - 1
    s = (m - 1) / (m + 1)
    radius = math.sqrt(-2 * (np.float64(e) * LOG_2 + 2 * s * series(LOGS, s * s)))
    quarter = (np.int64(angle) + (1 << 29)) >> 30
    x = np.float64(np.int64(angle) - (quarter << 30)) * TURN
    cos, sin = series(COSINES, x * x), x * series(SINES, x * x)
    if quarter & 1:
        cos, sin = sin, cos
    if (quarter + 1) & 2:
        cos = -cos
    if quarter & 2:
        sin = -sin
    return radius * cos, radius * sin


@kernel(exact=True)
def fill_normal(key: Word, counter: tuple[Word, Word], y: Array) -> None:
    """y (4 * blocks,): words 0 and 1 of a block make two deviates, words 2 and 3 the others."""
    for i in prange(y.size // 4):
        a, b, c, d = block(key, counter, i)
        y[4 * i], y[4 * i + 1] = box_muller(a, b)
        y[4 * i + 2], y[4 * i + 3] = box_muller(c, d)


@kernel(exact=True)
def drop(key: Word, counter: tuple[Word, Word], threshold: Word, scale: float, x: Array, y: Array,
         mask: Array) -> None:  # fmt: skip
    """y = x * scale where the element's word reaches threshold, else 0."""
    for stretch in prange((x.size + STRETCH - 1) // STRETCH):
        start, stop = stretch * STRETCH, min((stretch + 1) * STRETCH, x.size)
        word = np.empty(STRETCH, np.uint32)
        fill_stretch(key, counter, start // 4, word)
        source, target, kept = x[start:stop], y[start:stop], mask[start:stop]
        for i in range(source.size):  # apart, so that it becomes vectors without branches
            keep = word[i] >= threshold
            scaled = source[i] * scale
            kept[i] = keep
            target[i] = scaled if keep else 0


class Random(NumpyBackend):
    """Whole blocks are made, and the rest of the last one dropped."""

    def philox(self, seed: int, counter: int, count: int) -> Array:
        words = empty((-(-count // 4) * 4,), np.uint32)
        fill_words.sized(count, PARALLEL_FROM)(np.uint64(seed), halves(counter), words)
        return words[:count]

    def uniform(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        if dtype not in (F32, F64):
            return super().uniform(seed, counter, shape, dtype)
        return filled(fill_uniform, PARALLEL_FROM, seed, counter, shape, dtype)

    def normal(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        if dtype not in (F32, F64):
            return super().normal(seed, counter, shape, dtype)
        return filled(fill_normal, NORMAL_PARALLEL_FROM, seed, counter, shape, dtype)

    def dropout(self, x: Array, p: float, seed: int, counter: int) -> tuple[Array, Array]:
        threshold = math.ceil(p * 2**32)
        if threshold > MASK or not suits(x):
            return super().dropout(x, p, seed, counter)
        y, mask = empty(x.shape, x.dtype), empty(x.shape, bool)
        drop.sized(x.size, PARALLEL_FROM)(
            np.uint64(seed), halves(counter), np.uint32(threshold), x.dtype.type(1 / (1 - p)),
            flat(plain(x)), flat(y), flat(mask),
        )  # fmt: skip
        return y, mask


def halves(counter: int) -> tuple[Word, Word]:
    """The lower and the upper 64 bits of a counter."""
    return np.uint64(counter % 2**64), np.uint64(counter >> 64)


def filled(
    fill: Kernel, parallel_from: int, seed: int, counter: int, shape: Shape, dtype: DType
) -> Array:
    """As many numbers as shape holds, made by a kernel that fills blocks of four."""
    count = math.prod(shape)
    y = empty((-(-count // 4) * 4,), dtype)
    fill.sized(count, parallel_from)(np.uint64(seed), halves(counter), y)
    return y[:count].reshape(shape)
