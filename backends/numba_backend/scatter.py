"""Rows of a table, and adding up at indices: in the order of the indices, so that the sums are
always the same.

Two threads never add to the same element: an embedding's gradient is sorted by rows, of which each
task has a range, and what scatters single elements stays on one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..interface import Array, DType, Shape
from ..numpy_backend import NumpyBackend
from .jit import helper, kernel
from .layout import plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 15  # elements
SUMS_PARALLEL_FROM = 1 << 17  # elements added and written: 12.2 us on two threads, 14.5 on one
PARTS = 16  # ranges of rows that an embedding's gradient is added up in


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
def sort_rows(index: Array, ends: Array, order: Array) -> None:
    """order = the positions in index, by row and then as they came; ends[r] of them are of rows up
    to r.

    A counting sort. Source: Knuth (1998), "The Art of Computer Programming", vol. 3, 5.2, D.
    """
    for r in range(ends.size):
        ends[r] = 0
    for i in range(index.size):
        ends[index[i]] += 1
    start = 0
    for r in range(ends.size):  # where the positions of each row begin
        count, ends[r] = ends[r], start
        start += count
    for i in range(index.size):
        order[ends[index[i]]] = i
        ends[index[i]] += 1


@helper
def first_row(ends: Array, work: int) -> int:
    """The first row that begins after so much work: one unit for each row and each position."""
    low, high = 0, ends.size
    while low < high:
        middle = (low + high) // 2
        if ends[middle] + middle < work:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(exact=True)
def add_rows(grad: Array, order: Array, ends: Array, weight: Array) -> None:
    """weight[r] = the sum of grad[i] over the positions i of row r, one after the other.

    A task has a range of rows, as much work as each other task as far as rows allow.
    """
    rows = ends.size
    work = rows + order.size
    for part in prange(PARTS):
        first = first_row(ends, part * work // PARTS)
        last = first_row(ends, (part + 1) * work // PARTS) if part + 1 < PARTS else rows
        i = ends[first - 1] if first > 0 else 0
        for r in range(first, last):
            row = weight[r]
            for d in range(row.size):
                row[d] = 0
            for k in range(i, ends[r]):
                source = grad[order[k]]
                for d in range(row.size):
                    row[d] += source[d]
            i = ends[r]


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
        ends, order = empty((rows,), np.int64), empty((index.size,), np.int64)
        sort_rows.serial(plain(index).reshape(-1), ends, order)
        weight = empty((rows, columns), grad.dtype)
        add_rows.sized(grad.size + weight.size, SUMS_PARALLEL_FROM)(
            plain(grad).reshape(-1, columns), order, ends, weight
        )
        return weight
