"""What becomes of 32-bit sums of products of codes: real numbers, codes again, or nothing.

One kernel does all of it, told by `how`, so that the tiles of `dots.py` are compiled once. Results
come as bytes and are seen as what they are; the constants of `Requantize` travel as those of
`Rescale`, whose bits they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..interface import Array, DType, Finish, Requantize
from .dots import SIGNED
from .jit import helper
from .layout import F32, plain

SUMS, REAL, RELU, CODES = 0, 1, 2, 3
_INT32 = np.dtype(np.int32)
# Codes of the other kind are multiplied as their neighbour 128 away, which the sums then show.
_SHIFT = np.int32(128 if SIGNED else -128)


class Rule(NamedTuple):
    """A `Finish` as kernels take it."""

    how: int
    offset: Array
    factor: Array  # scale, or the bits of multiplier
    last: Array  # bias, or the bits of shift
    ends: tuple[int, int, int]  # zero_point, low, high


_NO_ENDS = (0, 0, 0)
_NONE = np.empty(0, F32)


def rule(finish: Finish, outputs: int, sums: Array | None) -> Rule:
    """The rule for that many outputs; `sums` of their weights' codes, if x is of the other kind."""
    moved = None if sums is None else sums * _SHIFT
    if finish is None:
        offset = np.zeros(outputs, np.int32) if moved is None else moved
        return Rule(SUMS, offset, _NONE, _NONE, _NO_ENDS)
    offset = plain(finish.offset) if moved is None else finish.offset + moved
    if isinstance(finish, Requantize):
        factor, last = plain(finish.multiplier).view(F32), plain(finish.shift).view(F32)
        return Rule(CODES, offset, factor, last, (finish.zero_point, finish.low, finish.high))
    how = RELU if finish.relu else REAL
    return Rule(how, offset, plain(finish.scale), plain(finish.bias), _NO_ENDS)


def result_dtype(finish: Finish) -> DType:
    """What a finish makes of int32."""
    if finish is None:
        return _INT32
    return finish.dtype if isinstance(finish, Requantize) else F32


@helper
def real(total: np.int32, scale: np.float32, bias: np.float32, relu: bool) -> np.float32:
    """`Rescale`; NaN stays NaN."""
    y = np.float32(total) * scale + bias
    return np.float32(0) if relu and y <= 0 else y


@helper
def code(total: np.int32, multiplier: np.int32, shift: np.int32, zero: int, low: int,
         high: int) -> np.uint8:  # fmt: skip
    """`Requantize`, as the byte of an int8 or a uint8."""
    product, by = np.int64(total) * np.int64(multiplier), np.int64(shift)
    half = (np.int64(1) << (by - np.int64(1))) - np.int64(1)
    q = ((product + half + ((product >> by) & np.int64(1))) >> by) + zero
    least, most = np.int64(low), np.int64(high)
    return np.uint8(least if q < least else most if q > most else q)
