"""Philox on the GPU. `normal` is the reference's: its launches are one exact operation each."""

from __future__ import annotations

import math

import numpy as np

from ..interface import Array, DType, Shape
from .common import Common
from .kernels import ANY_FLOAT, FLOATS, over_items


class Random(Common):
    """A thread computes a block of four words from its number alone."""

    def philox(self, seed: int, counter: int, count: int) -> Array:
        words = self.xp.empty(count, np.uint32)
        if count:
            args = [words, *_start(seed, counter), np.int64(count)]
            self._kernels.launch("random.cu", "philox", ANY_FLOAT, over_items(-(-count // 4)), args)
        return words

    def uniform(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        dtype = np.dtype(dtype)
        if dtype not in FLOATS:
            return super().uniform(seed, counter, shape, dtype)
        y = self.xp.empty(shape, dtype)
        if y.size:
            args = [y, *_start(seed, counter), np.int64(y.size)]
            self._kernels.launch("random.cu", "uniform", dtype, over_items(-(-y.size // 4)), args)
        return y

    def dropout(self, x: Array, p: float, seed: int, counter: int) -> tuple[Array, Array]:
        if x.dtype not in FLOATS or not x.size or p >= 1:
            return super().dropout(x, p, seed, counter)
        x = self._dense(x, x.dtype)
        y, mask = self.xp.empty_like(x), self.xp.empty(x.shape, bool)
        threshold = np.uint64(math.ceil(p * 2**32))
        args = [x, y, mask, threshold, x.dtype.type(1 / (1 - p)), *_start(seed, counter)]
        grid = over_items(-(-x.size // 4))
        self._kernels.launch("random.cu", "dropout", x.dtype, grid, [*args, np.int64(x.size)])
        return y, mask


def _start(seed: int, counter: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The seed, and the lower and the upper 64 bits of the counter."""
    return np.uint64(seed), np.uint64(counter % 2**64), np.uint64(counter >> 64)
