"""The words of the contract: kinds of arguments, and how sums of codes become results."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = Any  # np.ndarray, cupy.ndarray, or what a third-party backend calls an array
Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Axes: TypeAlias = int | tuple[int, ...] | None
DType: TypeAlias = np.dtype[Any]


class Rescale(NamedTuple):
    """Sums of products of codes become real numbers; every array has one element per output.

    y = float32(sum + offset) * scale + bias, and max(y, 0) if relu. The addition in the brackets is
    exact modulo 2^32; the conversion, the product and the second addition are rounded to float32
    one after the other, never fused.
    """

    offset: Array  # int32
    scale: Array  # float32
    bias: Array  # float32
    relu: bool


class Requantize(NamedTuple):
    """Sums of products of codes become codes again, in integers alone.

    q = clip(round_half_even((sum + offset) * multiplier / 2^shift) + zero_point, low, high). The
    addition in the brackets is exact modulo 2^32, the product has 64 bits; 0 <= multiplier < 2^31,
    1 <= shift <= 62. Source: Jacob et al. (2018), arXiv:1712.05877, section 2.2.
    """

    offset: Array  # int32
    multiplier: Array  # int32
    shift: Array  # int32
    zero_point: int
    low: int
    high: int
    dtype: DType  # int8 or uint8; int16 within `int8_lstm`


class Narrow(NamedTuple):
    """A whole number n, of which `shift` bits are a fraction, becomes a code, in integers alone.

    q = clip(round_half_even(n / 2^shift) + zero_point, low, high). A relu is a `low` that is the
    zero point. Source: Jacob et al. (2018), arXiv:1712.05877, section 2.2.
    """

    shift: int
    zero_point: int
    low: int
    high: int
    dtype: DType  # int8 or uint8


Finish: TypeAlias = Rescale | Requantize | None  # None: the sums themselves, int32


class SparseWeight(NamedTuple):
    """A matrix (O, D) of which only some blocks of R outputs x 1 input are stored; R is 1 or more.

    Blocks i R .. i R + R - 1 of the outputs make row i of blocks. Its blocks are those numbered
    starts[i] .. starts[i + 1] - 1, in any order: block k holds values[k, r] at (i R + r,
    indices[k]). What is beyond the last output, if R does not divide O, is not looked at. With
    R = 1 this is the format CSR, with others BCSR. Source: Saad (2003), "Iterative methods for
    sparse linear systems", 3.4.
    """

    values: Array  # (B, R)
    indices: Array  # int32 (B,)
    starts: Array  # int64 (ceil(O / R) + 1,), from 0 to B
    shape: Shape  # (O, D)
