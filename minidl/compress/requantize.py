"""From one grid of codes to another in integers: real factors as a multiplier and a shift.

A sum of products of codes stands for s_x s_w times itself, and is to become a code of a grid s_y.
The factor m = s_x s_w / s_y is known beforehand, so that a multiplication of integers and a shift
do it: m = multiplier / 2^shift, with 31 bits of multiplier. Source: Jacob et al. (2018),
arXiv:1712.05877, section 2.2. How the result is rounded: `backends.Requantize` and `Narrow`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from backends import Array, Backend, Narrow, Requantize, Rescale

from ..engine.dtypes import float32, int32
from ..errors import ArgumentError, NonFiniteError
from .qtensor import Scheme

LONGEST_SHIFT = 62
ROOM = 2**31 - 1  # the largest sum
_ADD_BITS = 21  # of a multiplier in `int8_add`
_ADD_SHIFT = 30


class Grid(NamedTuple):
    """The numbers that codes stand for: scale * (code - zero_point)."""

    scale: float
    zero_point: int
    scheme: Scheme

    def code(self, x: float) -> int:
        """The code nearest to a number.

        >>> from .qtensor import AFFINE
        >>> Grid(0.5, 10, AFFINE).code(3.0)
        16
        """
        q = round(x / self.scale) + self.zero_point
        return min(max(q, self.scheme.low), self.scheme.high)

    def numbers(self) -> np.ndarray:
        """What each of the 256 bytes stands for, in the order of `Backend.int8_lookup`."""
        codes = np.arange(256, dtype=np.uint8).view(self.scheme.dtype).astype(np.float64)
        numbers: np.ndarray = (codes - self.zero_point) * self.scale
        return numbers

    def codes(self, x: np.ndarray) -> np.ndarray:
        """The codes nearest to numbers, of which none is NaN."""
        q = np.rint(x / self.scale) + self.zero_point
        codes: np.ndarray = np.clip(q, self.scheme.low, self.scheme.high)
        return codes.astype(self.scheme.dtype)

    def lowest(self, relu: bool) -> int:
        """The smallest code in use: that of 0 after a relu."""
        return max(self.scheme.low, self.zero_point) if relu else self.scheme.low

    def __str__(self) -> str:
        return f"{self.scheme.dtype} {self.scale:.6g} * (q - {self.zero_point})"


def fixed_point(factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """(multiplier, shift) as int32, with factors = multiplier / 2^shift to 2^-31 of themselves.

    Factors below 2^-32, which take every sum to 0, keep fewer bits: a shift is at most 62.
    Raises: ArgumentError for a factor that is negative, not finite, or 2^30 or more.

    >>> multiplier, shift = fixed_point([0.75])
    >>> multiplier.tolist(), shift.tolist(), multiplier.item() / 2 ** shift.item()
    ([1610612736], [31], 0.75)
    """
    m = np.asarray(factors, np.float64)
    if not np.all((m >= 0) & (m < 2.0**30)):
        raise ArgumentError(
            f"fixed_point: a factor must be at least 0 and below 2^30, got {m[~(m < 2.0**30)]};"
            " calibrate with data like that which the model will see"
        )
    _, exponent = np.frexp(m)
    shift = np.minimum(31 - exponent.astype(np.int64), LONGEST_SHIFT)
    multiplier = np.rint(np.ldexp(m, shift)).astype(np.int64)
    full = multiplier == 2**31  # rounded up to the next power of two
    multiplier, shift = np.where(full, 2**30, multiplier), np.where(full, shift - 1, shift)
    return multiplier.astype(int32), shift.astype(int32)


def requantizer(
    lib: Backend, offset: np.ndarray, factors: np.ndarray, grid: Grid, relu: bool
) -> Requantize:
    """What turns sums of products into codes of a grid; arrays have an element per output."""
    multiplier, shift = fixed_point(factors)
    return Requantize(
        lib.asarray(offset), lib.asarray(multiplier), lib.asarray(shift),
        grid.zero_point, grid.lowest(relu), grid.scheme.high, grid.scheme.dtype,
    )  # fmt: skip


def rescaler(lib: Backend, offset: np.ndarray, factors: np.ndarray, relu: bool) -> Rescale:
    """What turns sums of products into numbers."""
    bias = np.zeros(offset.shape, float32)
    return Rescale(
        lib.asarray(offset), lib.asarray(factors.astype(float32)), lib.asarray(bias), relu
    )


def narrow(grid: Grid, shift: int, relu: bool = False) -> Narrow:
    """What turns whole numbers with `shift` bits of fraction into codes of a grid."""
    low, high = grid.lowest(relu), grid.scheme.high
    return Narrow(shift, grid.zero_point, low, high, grid.scheme.dtype)


def for_addition(left: float, right: float, result: Grid) -> tuple[tuple[int, int], int]:
    """(multipliers, shift) of `Backend.int8_add` for two scales; right is negative to subtract.

    The larger multiplier has 21 bits, so that all sums fit 32; both are within half a unit.
    Raises: ArgumentError if the result's scale is so small that no shift of 1 or more is left.

    >>> from .qtensor import AFFINE
    >>> for_addition(1.0, -0.5, Grid(1.0, 0, AFFINE))
    ((1048576, -524288), 20)
    """
    factors = left / result.scale, right / result.scale
    _, exponent = math.frexp(max(map(abs, factors)))
    shift = min(_ADD_BITS - exponent, _ADD_SHIFT)
    if shift < 1:
        raise ArgumentError(
            f"for_addition: numbers of scales {left:g} and {abs(right):g} do not fit the scale"
            f" {result.scale:g} of their sum; calibrate with data like that which it will see"
        )
    a, b = (round(math.ldexp(f, shift)) for f in factors)
    return (a, b), shift


def quantized_weight(
    weight: np.ndarray, bias: np.ndarray | None, input_scale: float, scheme: Scheme,
    per_channel: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(codes, scales (O,) or (), bias int32 (O,)) of a layer: bias counts in units of s_x s_w.

    A channel whose bias would not fit beside its sums in 32 bits gets a coarser scale: its weights
    are so small that the bias is all there is (scale = |bias| / (s_x * what is left of 2^31)).
    Raises: ArgumentError if sums of products alone may not fit.

    >>> from .qtensor import SYMMETRIC
    >>> w, b = np.array([[1.0, -2.0]], np.float32), np.array([0.5], np.float32)
    >>> [x.tolist() for x in quantized_weight(w, b, 1.0, SYMMETRIC, False)]
    [[[64, -127]], 0.015748031437397003, [32]]
    """
    rows = weight.reshape(weight.shape[0], -1).astype(np.float64)
    depth, high = rows.shape[1], scheme.high
    if 255 * high * depth > ROOM:
        raise ArgumentError(
            f"quantize_model: a sum of {depth} products of 8-bit codes may not fit 32 bits; at most"
            f" {ROOM // (255 * high)}. Leave the layer out: modules=[...]."
        )
    if not (np.isfinite(rows).all() and (bias is None or np.isfinite(bias).all())):
        raise NonFiniteError("quantize_model: a weight or bias is not finite; train it again")
    offset = np.zeros(len(rows)) if bias is None else np.abs(bias.astype(np.float64)) / input_scale
    sizes = np.abs(rows)
    largest = sizes.max(axis=1, initial=0) if per_channel else sizes.max(initial=0)
    scale = np.where(largest > 0, largest / high, 1.0)
    sums = sizes.sum(axis=1) / scale + depth  # of codes, rounded up
    needed = offset / np.maximum(ROOM - 255 * sums, 1)
    scale = np.maximum(scale, needed if per_channel else needed.max(initial=0))
    scale = np.maximum(scale, np.finfo(float32).tiny).astype(float32)
    spread = np.broadcast_to(scale, len(rows)).astype(np.float64)
    codes = np.clip(np.rint(rows / spread[:, None]), -high, high)
    counted = np.rint(offset / spread).clip(max=ROOM)
    counted = counted if bias is None else np.copysign(counted, bias)
    return codes.astype(scheme.dtype).reshape(weight.shape), scale, counted.astype(int32)


def offsets(bias: Array, weight: np.ndarray, zero_point: int) -> np.ndarray:
    """bias - z_x sum q_w for each output, modulo 2^32: what a sum of products lacks."""
    sums = weight.reshape(weight.shape[0], -1).sum(axis=1, dtype=np.int64)
    lacking: np.ndarray = bias.astype(np.int64) - zero_point * sums
    return lacking.astype(int32)
