"""Rows of a table, and adding up at indices: in the order of the indices, so that the sums are
always the same.

Two threads never add to the same element: an embedding's gradient is split by columns, and what
scatters single elements stays on one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..interface import Array, DType, Shape
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 15  # elements
BLOCK = 16  # columns per task: a cache line in float32


@kernel(exact=True)
def add_at(target: Array, index: Array, values: Array) -> None:
    """target[index] += values on flat arrays."""
    for i in range(index.size):
        target[index[i]] += values[i]


@kernel(exact=True)
def take_rows(weight: Array, index: Array, y: Array) -> None:
    """y[i] = weight[index[i]] for whole rows."""
    for i in prange(index.size):
        row, source = y[i], weight[index[i]]
        for d in range(row.size):
            row[d] = source[d]


@kernel(exact=True)
def add_rows(grad: Array, index: Array, weight: Array) -> None:
    """weight = 0, and then weight[index[i]] += grad[i] for whole rows."""
    columns = weight.shape[1]
    for block in prange((columns + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, columns)
        weight[:, start:stop] = 0
        for i in range(index.size):
            row, source = weight[index[i]], grad[i]
            for d in range(start, stop):
                row[d] += source[d]


class Scatter(NumpyBackend):
    """`_scatter_add` is what every other scattering method of the NumPy backend calls."""

    def _zeros(self, shape: Shape, dtype: DType) -> Array:
        """In memory that was used before: a fresh megabyte costs 190 us, to clear one 20."""
        x = empty(shape, dtype)
        x.fill(0)
        return x

    def _scatter_add(self, target: Array, index: Any, values: Array) -> None:
        whole = isinstance(index, np.ndarray) and index.dtype == np.int64 and index.ndim == 1
        if whole and suits(target, values) and target.ndim == 1 and target.flags.carray:
            add_at.serial(target, plain(index), plain(values))
        else:
            super()._scatter_add(target, index, values)

    def embedding(self, weight: Array, index: Array) -> Array:
        if (
            index.size * weight.shape[1] < PARALLEL_FROM
            or index.dtype != np.int64
            or not suits(weight)
        ):
            return super().embedding(weight, index)
        y = empty((*index.shape, weight.shape[1]), weight.dtype)
        take_rows(plain(weight), plain(index).reshape(-1), y.reshape(-1, weight.shape[1]))
        return y

    def embedding_grad(self, grad: Array, index: Array, rows: int) -> Array:
        columns = grad.shape[-1]
        if not suits(grad) or index.dtype != np.int64:
            return super().embedding_grad(grad, index, rows)
        weight = empty((rows, columns), grad.dtype)
        add_rows.sized(grad.size, PARALLEL_FROM)(
            plain(grad).reshape(-1, columns), plain(index).reshape(-1), weight
        )
        return weight
