"""Philox in Python integers; the distributions on top of it by the math library."""

from __future__ import annotations

import math

import numpy as np

MASK = 2**32 - 1


def philox_block(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Ten rounds of Philox 4x32 (Salmon et al. 2011, section 3.3, with its published constants)."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k0, right & MASK, (left >> 32) ^ d ^ k1, left & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return a, b, c, d


def philox(seed: int, counter: int, count: int) -> np.ndarray:
    key = (seed & MASK, seed >> 32 & MASK)
    words: list[int] = []
    block = counter
    while len(words) < count:
        words.extend(philox_block(tuple(block >> shift & MASK for shift in (0, 32, 64, 96)), key))
        block += 1
    return np.array(words[:count], np.uint32)


def uniform(seed: int, counter: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """The upper 24 bits of each word, in units of 2^-24."""
    words = philox(seed, counter, math.prod(shape)).tolist()
    return np.array([(w >> 8) * 2.0**-24 for w in words], dtype).reshape(shape)


def normal(seed: int, counter: int, shape: tuple[int, ...]) -> np.ndarray:
    """Box & Muller (1958): words 2i and 2i + 1 give deviates 2i (cosine) and 2i + 1 (sine)."""
    count = math.prod(shape)
    words = philox(seed, counter, count + count % 2).tolist()
    z = []
    for first, second in zip(words[::2], words[1::2], strict=True):
        radius = math.sqrt(-2 * math.log((first + 0.5) / 2**32))
        angle = 2 * math.pi * second / 2**32
        z += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(z[:count], np.float64).reshape(shape)


def dropout(x: np.ndarray, p: float, seed: int, counter: int) -> tuple[np.ndarray, np.ndarray]:
    words = philox(seed, counter, x.size).tolist()
    threshold = math.ceil(p * 2**32)
    mask = np.array([w >= threshold for w in words], bool).reshape(x.shape)
    scale = x.dtype.type(1 / (1 - p)) if p < 1 else x.dtype.type(0)
    y = np.zeros(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        if mask[index]:
            with np.errstate(over="ignore"):
                y[index] = x[index] * scale  # two numbers of one dtype: a single rounding
    return y, mask
