"""QTensor: 8-bit codes that stand for real numbers, and how numbers become codes.

A code q stands for scale * (q - zero_point). Sources: Jacob et al. (2017), arXiv:1712.05877,
section 2.1; Krishnamoorthi (2018), arXiv:1806.08342, section 2; Nagel et al. (2021),
arXiv:2106.08295, section 2.2.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from backends import Array, Backend

from ..engine.creation import tensor
from ..engine.dtypes import as_dtype, int8, int32, uint8
from ..engine.modes import get_backend
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, NonFiniteError, ShapeError
from ..ops import check


class Scheme(NamedTuple):
    """The codes that are used, and whether 0 is pinned to code 0."""

    name: str
    dtype: np.dtype[Any]
    low: int
    high: int

    @property
    def symmetric(self) -> bool:
        """Whether code 0 stands for 0, so that the range is the same on both sides."""
        return self.name == "symmetric"


# Symmetric codes leave out -128: then -x has a code wherever x has one (Krishnamoorthi 2018, 2.3).
SYMMETRIC = Scheme("symmetric", int8, -127, 127)
AFFINE = Scheme("affine", uint8, 0, 255)
AFFINE_INT8 = Scheme("affine", int8, -128, 127)


def scheme_of(name: str, dtype: Any = None) -> Scheme:
    """The scheme of that name and dtype (default: int8 if symmetric, uint8 if affine).

    Raises: ArgumentError for an unknown name, or a dtype that the scheme does not have.

    >>> scheme_of("symmetric").low, scheme_of("affine", "int8").low
    (-127, -128)
    """
    check.choice("quantize", "scheme", name, ("symmetric", "affine"))
    found = [s for s in (SYMMETRIC, AFFINE, AFFINE_INT8) if s.name == name]
    if dtype is None:
        return found[0]
    wanted = as_dtype(dtype)
    for scheme in found:
        if scheme.dtype == wanted:
            return scheme
    known = " or ".join(s.dtype.name for s in found)
    raise ArgumentError(f"quantize: the {name} scheme has codes of {known}, not {wanted}")


def grid(low: float, high: float, scheme: Scheme, dtype: np.dtype[Any]) -> tuple[float, int]:
    """(scale, zero_point) of the codes that cover the range [low, high]; scale is rounded to dtype.

    The range is first widened to contain 0, which must have a code of its own: padding, masks and
    ReLU produce it everywhere (Jacob et al. 2017, section 2.1). A range that is not finite gives
    the scale NaN, which carries it on to the result.

    >>> grid(-1.0, 1.0, SYMMETRIC, np.dtype("float64")) == (1 / 127, 0)
    True
    >>> grid(0.0, 255.0, AFFINE, np.dtype("float32"))
    (1.0, 0)
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan, 0
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.symmetric:
        scale = max(-low, high) / scheme.high
    else:
        scale = high / (scheme.high - scheme.low) - low / (scheme.high - scheme.low)
    if scale == 0:
        return 1.0, 0 if scheme.symmetric else scheme.low
    scale = float(dtype.type(max(scale, float(np.finfo(dtype).tiny))))
    return scale, 0 if scheme.symmetric else scheme.low + round(-low / scale)


class QTensor(Tensor):
    """Quantized numbers: a Tensor whose elements are int8 or uint8 codes, with what they stand for.

    `scale` and `zero_point` (int32) are Tensors of shape (), or (n,) with one entry per slice
    along `axis`. The operations of `minidl.ops` see the codes; `dequantize()` gives the numbers.

    >>> import minidl
    >>> q = quantize(minidl.tensor([0.0, 0.5, 1.0]), "affine")
    >>> q
    QTensor([  0, 127, 255], dtype=uint8, scale=0.00392157, zero_point=0)
    >>> q.dequantize()
    Tensor([0.   , 0.498, 1.   ])
    """

    __slots__ = ("axis", "scale", "scheme", "zero_point")

    scale: Tensor
    zero_point: Tensor
    axis: int | None
    scheme: Scheme

    def __init__(
        self,
        data: Array,
        backend: Backend,
        scale: Tensor,
        zero_point: Tensor,
        scheme: Scheme,
        axis: int | None = None,
    ) -> None:
        super().__init__(data, backend)
        self.scale, self.zero_point = scale, zero_point
        self.scheme, self.axis = scheme, axis

    def along(self, parameter: Tensor) -> Array:
        """scale or zero_point as an array that broadcasts against the codes."""
        return spread(parameter, self.ndim, self.axis)

    def dequantize(self) -> Tensor:
        """scale * (code - zero_point), in scale's dtype."""
        values = self.backend.dequantize(
            self.data, self.along(self.scale), self.along(self.zero_point)
        )
        return Tensor(values, self.backend)

    def to(self, backend: str | Backend) -> QTensor:
        """The same codes, scales and zero points on another backend."""
        target = get_backend(backend)
        if target is self.backend:
            return self
        scale, zero_point = self.scale.to(target), self.zero_point.to(target)
        return QTensor(super().to(target).data, target, scale, zero_point, self.scheme, self.axis)

    def __repr__(self) -> str:
        codes = np.array2string(self.numpy(), separator=", ", prefix="QTensor(")
        notes = [f"dtype={self.dtype}"]
        for name in ("scale", "zero_point"):
            value = np.array2string(
                getattr(self, name).numpy(), threshold=4, edgeitems=2, separator=", "
            )
            notes.append(f"{name}={value}")
        notes += [] if self.axis is None else [f"axis={self.axis}"]
        notes += [] if self.backend.name == "numpy" else [f"backend={self.backend.name}"]
        return f"QTensor({', '.join([codes, *notes])})"


def spread(parameter: Tensor, ndim: int, axis: int | None) -> Array:
    """One number per slice along axis, as an array that broadcasts against `ndim` axes."""
    if axis is None:
        return parameter.data
    shape = tuple(parameter.size if i == axis else 1 for i in range(ndim))
    return parameter.backend.reshape(parameter.data, shape)


def quantize(
    x: Tensor,
    scheme: str = "symmetric",
    dtype: Any = None,
    axis: int | None = None,
    like: QTensor | None = None,
) -> QTensor:
    """The codes nearest to the numbers in x, on a grid that just covers their range.

    scheme: "symmetric" (int8 codes -127 to 127, zero point 0) or "affine" (uint8, or int8 with
    dtype="int8"; the grid covers [min, max] and 0). axis: a grid for each slice along it, such as
    0 for the output channels of a weight; None: one for all. like: the grid of that QTensor.
    Between the smallest and the largest number with a code, |x - dequantized| <= scale / 2.
    Source: Jacob et al. (2017), arXiv:1712.05877, equations 1 and 13.
    Raises: DTypeError, ShapeError, ArgumentError; NonFiniteError if x has a NaN or an infinity.

    >>> import minidl
    >>> quantize(minidl.tensor([[1.0, -2.0], [0.25, 0.5]]), axis=0).tolist()
    [[64, -127], [64, 127]]
    """
    check.floating("quantize", x=x)
    if like is not None:
        check.instance("quantize", "like", like, QTensor)
        slices = None if like.axis is None or like.axis >= x.ndim else x.shape[like.axis]
        if like.axis is not None and slices != like.scale.size:
            raise ShapeError(
                f"quantize: like has {like.scale.size} slices along axis {like.axis}, x has shape "
                f"{x.shape}"
            )
        check.same_backend("quantize", x, like.scale)
        return _encode(x, like.scale, like.zero_point, like.scheme, like.axis)
    chosen = scheme_of(scheme, dtype)
    axis = None if axis is None else check.axis("quantize", axis, x.ndim)
    if not x.backend.all_finite(x.data):
        raise NonFiniteError(
            "quantize: x has a NaN or an infinity, so its range is not finite. Find out where it"
            " comes from; training with a smaller learning rate often avoids it."
        )
    grids = [grid(low, high, chosen, x.dtype) for low, high in _ranges(x, axis)]
    scales, zeros = zip(*grids, strict=True) if grids else ((), ())
    shape = () if axis is None else (len(grids),)
    scale = tensor(np.array(scales, x.dtype).reshape(shape), backend=x.backend)
    zero_point = tensor(np.array(zeros, int32).reshape(shape), backend=x.backend)
    return _encode(x, scale, zero_point, chosen, axis)


def _ranges(x: Tensor, axis: int | None) -> list[tuple[float, float]]:
    """(smallest, largest) element of x, or of each slice along axis; (0, 0) where there is none."""
    if axis is None:
        return [x.backend.bounds(x.data) if x.size else (0.0, 0.0)]
    if not x.size:
        return [(0.0, 0.0)] * x.shape[axis]
    others = tuple(i for i in range(x.ndim) if i != axis)
    ends = (x.backend.to_numpy(f(x.data, others)) for f in (x.backend.min, x.backend.max))
    low, high = ends
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _encode(
    x: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme, axis: int | None
) -> QTensor:
    codes = x.backend.quantize(
        x.data,
        spread(scale, x.ndim, axis),
        spread(zero_point, x.ndim, axis),
        scheme.low,
        scheme.high,
        scheme.dtype,
    )
    return QTensor(codes, x.backend, scale, zero_point, scheme, axis)


def sqnr(reference: Any, approximation: Any) -> float:
    """Signal-to-quantization-noise ratio in decibels: 10 log10(sum x^2 / sum (x - y)^2).

    reference and approximation are Tensors or arrays of one shape. Raises: ShapeError, DTypeError.
    Infinity if they are equal; each
    bit of a good quantizer is worth 6 dB (Widrow & Kollar 2008, "Quantization Noise", chapter 1).

    >>> import minidl
    >>> round(sqnr(minidl.tensor([1.0, 1.0]), minidl.tensor([1.1, 0.9])), 3)
    20.0
    """
    try:
        x, y = (np.asarray(a, np.float64) for a in (reference, approximation))
    except (TypeError, ValueError) as error:
        raise DTypeError(f"sqnr: needs tensors or arrays of numbers: {error}") from error
    if x.shape != y.shape:
        raise ShapeError(f"sqnr: shapes {x.shape} and {y.shape} must be equal")
    noise = float(np.sum((x - y) ** 2))
    signal = float(np.sum(x * x))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
