"""Ranges for a tensor that lies here whole, such as a weight: those of the least squared error."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.creation import tensor
from ..engine.tensor import Tensor
from ..errors import NonFiniteError
from ..ops import check
from .qtensor import grids, ranges, scheme_of
from .slices import checked, sliced

SHARES = [i / 100 for i in range(100, 19, -1)]  # of the full range; the wider of two equals wins


def mse_bounds(
    x: Tensor, scheme: str = "symmetric", dtype: Any = None, axis: int | None = None,
    group_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """For each slice the range whose codes give the least squared error, for `quantize(bounds=)`.

    The full range [min, max] is tried, and made narrower in steps of a hundredth down to a fifth:
    clipping few numbers pays when all the others get a finer step. Arguments as in `quantize`.
    Source: Nagel et al. (2021), arXiv:2106.08295, section 3.1, equation 13.
    Raises: DTypeError, ShapeError, ArgumentError, NonFiniteError.

    >>> import minidl
    >>> from minidl.compress import quantize, sqnr
    >>> x = minidl.randn(64, 512, generator=minidl.Generator(0))
    >>> full = quantize(x, dtype="int4", axis=0)
    >>> best = quantize(x, dtype="int4", axis=0, bounds=mse_bounds(x, dtype="int4", axis=0))
    >>> sqnr(x, best.dequantize()) - sqnr(x, full.dequantize()) > 1  # decibels
    True
    """
    check.floating("mse_bounds", x=x)
    chosen, lib = scheme_of(scheme, dtype), x.backend
    slicing = checked("mse_bounds", x.ndim, axis, group_size)
    if not lib.all_finite(x.data):
        raise NonFiniteError("mse_bounds: x has a NaN or an infinity; find out where it comes from")
    low, high = (np.asarray(end, np.float64) for end in ranges(x, *slicing))
    slices = sliced(x.detach(), *slicing).data
    best, least = np.ones(low.size), np.full(low.size, np.inf)
    for share in SHARES:
        steps, zeros = grids(share * low.ravel(), share * high.ravel(), chosen, x.dtype)
        scale, zero = (tensor(a, backend=lib).data for a in (steps, zeros))
        found = lib.fake_quantize(slices, scale, zero, chosen.low, chosen.high)
        off = lib.subtract(found, slices)
        error = lib.to_numpy(lib.sum(lib.multiply(off, off), (0, 2)))
        better = error < least
        best[better], least[better] = share, error[better]
    return low * best.reshape(low.shape), high * best.reshape(high.shape)
