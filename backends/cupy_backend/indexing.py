"""Scatter-add that gives the same bits on every run: a stable sort instead of atomics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..interface import Array
from .common import Common
from .kernels import C_TYPES, over_items


class Indexing(Common):
    """Float atomics would be faster, but add in whatever order threads arrive."""

    def _scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """Flat positions in a flat target, which is all that the reference asks for."""
        self._scatter_rows(target.reshape(1, -1, 1), index, values)

    def index_add(self, x: Array, axis: int, index: Array, source: Array) -> Array:
        y = x.copy()
        outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        self._scatter_rows(y.reshape(outer, x.shape[axis], inner), index, source)
        return y

    def embedding_grad(self, grad: Array, index: Array, rows: int) -> Array:
        y = self.xp.zeros((rows, grad.shape[-1]), grad.dtype)
        self._scatter_rows(y.reshape(1, rows, -1), index.reshape(-1), grad)
        return y

    def _scatter_rows(self, out: Array, index: Array, source: Array) -> None:
        """In place: out[:, index[k]] += source[:, k]; out (outer, R, inner), index (count,).

        The sort runs on the GPU: the launch depends on the length of the index, not on its values.
        """
        outer, rows, inner = out.shape
        if out.size == 0 or index.size == 0:
            return
        if out.dtype not in C_TYPES:  # float16, bool: CuPy's atomics
            self.xp.add.at(out, (slice(None), index), source.reshape(outer, -1, inner))
            return
        index = self._dense(index, np.dtype(np.int64)) % rows  # -1 is the last row, as in NumPy
        order = self.xp.argsort(index)  # CuPy's sort is stable
        source = self._dense(source, out.dtype)
        args = [out, source, index[order], self._dense(order, np.dtype(np.int64))]
        sizes = [np.int64(n) for n in (outer, rows, index.size, inner)]
        grid = over_items(out.size)
        self._kernels.launch("indexing.cu", "scatter_add", out.dtype, grid, [*args, *sizes])
