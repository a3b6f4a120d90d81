"""Mistakes in compiled kernels: races, mostly. See `faults.py`."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from backends.numba_backend import NumbaBackend

from .faults import found_by


@numba.njit(parallel=True)
def add_rows(grad, index, weight):
    """Two threads may add to one row at the same time, and one of the two sums is lost."""
    for i in prange(index.size):
        weight[index[i]] = weight[index[i]] + grad[i]


@numba.njit(parallel=True)
def row_max(x, y):
    for n in prange(x.shape[0]):
        peak = x[n, 0]
        for c in range(1, x.shape[1]):
            if x[n, c] > peak:  # False for NaN
                peak = x[n, c]
        y[n] = peak


@numba.njit(parallel=True)
def column_sums(x, total):
    """Every thread adds its rows to the one total."""
    for n in prange(x.shape[0]):
        total[:] = total + x[n]


@found_by("embedding_grad", races=True)
class EmbeddingGradRaces(NumbaBackend):
    def embedding_grad(self, grad, index, rows):
        weight = np.zeros((rows, grad.shape[-1]), grad.dtype)
        flat = np.ascontiguousarray(grad).reshape(index.size, grad.shape[-1])
        add_rows(flat, np.ascontiguousarray(index).reshape(-1), weight)
        return weight


@found_by("index_add", races=True)
class IndexAddRaces(NumbaBackend):
    def index_add(self, x, axis, index, source):
        if axis or x.ndim != 2:
            return super().index_add(x, axis, index, source)
        y = x.copy()
        add_rows(np.ascontiguousarray(source), np.ascontiguousarray(index), y)
        return y


@found_by("sum", races=True)
class SumOfColumnsRaces(NumbaBackend):
    def sum(self, x, axis=None, keepdims=False):
        if axis != 0 or x.ndim != 2 or x.dtype.kind != "f" or keepdims:
            return super().sum(x, axis, keepdims)
        total = np.zeros(x.shape[1], x.dtype)
        column_sums(np.ascontiguousarray(x), total)
        return total


@found_by("max")
class KernelOfMaxSkipsNan(NumbaBackend):
    def max(self, x, axis=None, keepdims=False):
        if axis != 1 or x.ndim != 2 or x.dtype.kind != "f" or keepdims:
            return super().max(x, axis, keepdims)
        y = np.empty(len(x), x.dtype)
        row_max(np.ascontiguousarray(x), y)
        return y
