"""Helpers of loops over rows that lie one behind another, as softmax and cross-entropy have.

Rows are taken in blocks. In a block the exponentials are computed from one row to the next without
a break, so that their loop fills vectors even where a row has ten elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..interface import Array
from . import vector_math as vm
from .jit import helper

BLOCK = 1 << 11  # elements of a block: it stays in the first cache from one loop to the next


def block_of_rows(columns: int) -> int:
    """The size of a block of whole rows.

    >>> block_of_rows(10), block_of_rows(10**6)
    (2040, 1000000)
    """
    return max(BLOCK // columns, 1) * columns


@helper
def peak_of(row: Array) -> Any:
    """The largest element. A NaN may be passed over, but not by the exponentials that follow."""
    peak = vm.rank(row[0])
    for c in range(1, row.size):
        peak = max(peak, vm.rank(row[c]))
    return vm.unrank(peak)


@helper
def exponentials(x: Array, y: Array) -> None:
    """y = e^x, for two arrays."""
    for i in range(y.size):
        y[i] = vm.exp(x[i])


@helper
def exponentiate(x: Array) -> None:
    """x = e^x in place: a loop over two arrays has no vectors when they turn out to be one."""
    for i in range(x.size):
        x[i] = vm.exp(x[i])


@helper
def sum_of(row: Array) -> float:
    total = 0.0
    for c in range(row.size):
        total += row[c]
    return total


@helper
def log_softmax_rows(x: Array, y: Array, columns: int) -> None:
    """y = x - log(sum(e^x)) for each stretch of that many elements."""
    powers, shift = np.empty(x.size, x.dtype), np.empty(x.size // columns, x.dtype)
    for n in range(shift.size):
        row, out = x[n * columns : (n + 1) * columns], y[n * columns : (n + 1) * columns]
        peak = peak_of(row)
        for c in range(columns):
            out[c] = row[c] - peak
    exponentials(y, powers)
    for n in range(shift.size):
        shift[n] = sum_of(powers[n * columns : (n + 1) * columns])
    for n in range(shift.size):
        shift[n] = vm.log(shift[n])
    for n in range(shift.size):
        out = y[n * columns : (n + 1) * columns]
        for c in range(columns):
            out[c] -= shift[n]
