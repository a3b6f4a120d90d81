"""QTensor: 8-bit or 4-bit codes that stand for real numbers, and how numbers become codes.

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
from .slices import checked, scale_shape, sliced, spread


class Scheme(NamedTuple):
    """The codes that are used, and whether 0 is pinned to code 0."""

    name: str
    dtype: np.dtype[Any]
    low: int
    high: int
    bits: int = 8

    @property
    def kind(self) -> str:
        """What the codes are called: "int8", "uint8" or "int4"."""
        return self.dtype.name if self.bits == 8 else f"int{self.bits}"

    @property
    def symmetric(self) -> bool:
        """Whether code 0 stands for 0, so that the range is the same on both sides."""
        return self.name == "symmetric"


# Symmetric codes leave out -128 and -8: then -x has a code wherever x has one, and the error is at
# most half a step on both sides (Krishnamoorthi 2018, 2.3). With 4 bits that is one code of 16, 0.6
# decibels; affine codes waste none. A 4-bit code takes a byte here, and half of one in a packed
# weight or a file.
SYMMETRIC = Scheme("symmetric", int8, -127, 127)
AFFINE = Scheme("affine", uint8, 0, 255)
AFFINE_INT8 = Scheme("affine", int8, -128, 127)
SYMMETRIC_INT4 = Scheme("symmetric", int8, -7, 7, 4)
AFFINE_INT4 = Scheme("affine", int8, -8, 7, 4)
SCHEMES = (SYMMETRIC, AFFINE, AFFINE_INT8, SYMMETRIC_INT4, AFFINE_INT4)


def scheme_of(name: str, dtype: Any = None) -> Scheme:
    """The scheme of that name and dtype (default: int8 if symmetric, uint8 if affine; or "int4").

    Raises: ArgumentError for an unknown name, or a dtype that the scheme does not have.

    >>> scheme_of("symmetric").low, scheme_of("affine", "int8").low, scheme_of("affine", "int4").low
    (-127, -128, -8)
    """
    check.choice("quantize", "scheme", name, ("symmetric", "affine"))
    found = [s for s in SCHEMES if s.name == name]
    if dtype is None:
        return found[0]
    wanted = "int4" if isinstance(dtype, str) and dtype == "int4" else as_dtype(dtype).name
    for scheme in found:
        if scheme.kind == wanted:
            return scheme
    known = " or ".join(s.kind for s in found)
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
    scale, zero = grids(np.array(low), np.array(high), scheme, dtype)
    return float(scale), int(zero)


def grids(
    low: np.ndarray, high: np.ndarray, scheme: Scheme, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """`grid` for many ranges at once: scales in dtype, zero points in int32, shaped like low."""
    finite = np.isfinite(low) & np.isfinite(high)
    low = np.minimum(np.where(finite, low, 0.0), 0.0).astype(np.float64)
    high = np.maximum(np.where(finite, high, 0.0), 0.0).astype(np.float64)
    if scheme.symmetric:
        step = np.maximum(-low, high) / scheme.high
    else:
        step = high / (scheme.high - scheme.low) - low / (scheme.high - scheme.low)
    step = np.where(step == 0, 1.0, np.maximum(step, float(np.finfo(dtype).tiny)))
    scale = step.astype(dtype)
    zero = np.zeros(step.shape) if scheme.symmetric else scheme.low + np.rint(-low / scale)
    return np.where(finite, scale, np.nan).astype(dtype), np.where(finite, zero, 0).astype(int32)


class QTensor(Tensor):
    """Quantized numbers: a Tensor whose elements are int8 or uint8 codes, with what they stand for.

    `scale` and `zero_point` (int32) are Tensors of shape (), or (n,) with one entry per slice
    along `axis`, or (..., n) with one per `group_size` neighbours along the last axis. The
    operations of `minidl.ops` see the codes; `dequantize()` gives the numbers.

    >>> import minidl
    >>> q = quantize(minidl.tensor([0.0, 0.5, 1.0]), "affine")
    >>> q
    QTensor([  0, 127, 255], dtype=uint8, scale=0.00392157, zero_point=0)
    >>> q.dequantize()
    Tensor([0.   , 0.498, 1.   ])
    """

    __slots__ = ("axis", "group_size", "scale", "scheme", "zero_point")

    scale: Tensor
    zero_point: Tensor
    axis: int | None
    group_size: int | None
    scheme: Scheme

    def __init__(
        self,
        data: Array,
        backend: Backend,
        scale: Tensor,
        zero_point: Tensor,
        scheme: Scheme,
        axis: int | None = None,
        group_size: int | None = None,
    ) -> None:
        super().__init__(data, backend)
        self.scale, self.zero_point = scale, zero_point
        self.scheme, self.axis, self.group_size = scheme, axis, group_size

    def along(self, parameter: Tensor) -> Array:
        """scale or zero_point as an array that broadcasts against the codes."""
        return spread(parameter, self.shape, self.axis, self.group_size)

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
        codes = super().to(target).data
        return QTensor(codes, target, scale, zero_point, self.scheme, self.axis, self.group_size)

    def __repr__(self) -> str:
        codes = np.array2string(self.numpy(), separator=", ", prefix="QTensor(")
        notes = [f"dtype={self.scheme.kind}"]
        for name in ("scale", "zero_point"):
            value = np.array2string(
                getattr(self, name).numpy(), threshold=4, edgeitems=2, separator=", "
            )
            notes.append(f"{name}={value}")
        notes += [] if self.axis is None else [f"axis={self.axis}"]
        notes += [] if self.group_size is None else [f"group_size={self.group_size}"]
        notes += [] if self.backend.name == "numpy" else [f"backend={self.backend.name}"]
        return f"QTensor({', '.join([codes, *notes])})"


def quantize(
    x: Tensor,
    scheme: str = "symmetric",
    dtype: Any = None,
    axis: int | None = None,
    like: QTensor | None = None,
    group_size: int | None = None,
    bounds: tuple[Any, Any] | None = None,
) -> QTensor:
    """The codes nearest to the numbers in x, on a grid that just covers their range.

    scheme: "symmetric" (int8 codes -127 to 127, zero point 0; with dtype="int4" -7 to 7) or
    "affine" (uint8; or "int8", or "int4" from -8 to 7; the grid covers [min, max] and 0). axis: a
    grid for each slice along it, such as 0 for the output channels of a weight; group_size: one for
    each so many neighbours along the last axis; neither: one for all. bounds: the range (low, high)
    to cover in place of x's own, as an observer gives it: two numbers, or arrays with one for each
    slice. like: the grid of that QTensor, and nothing else.
    Between the smallest and the largest number with a code, |x - dequantized| <= scale / 2.
    Source: Jacob et al. (2017), arXiv:1712.05877, equations 1 and 13.
    Raises: DTypeError, ShapeError, ArgumentError; NonFiniteError if x has a NaN or an infinity.

    >>> import minidl
    >>> quantize(minidl.tensor([[1.0, -2.0], [0.25, 0.5]]), axis=0).tolist()
    [[64, -127], [64, 127]]
    >>> quantize(minidl.tensor([0.5, 2.0, 14.0, 7.0]), dtype="int4", group_size=2)
    QTensor([2, 7, 7, 4], dtype=int4, scale=[0.2857143, 2.       ], zero_point=[0, 0], group_size=2)
    """
    check.floating("quantize", x=x)
    if like is not None:
        return _on_the_grid_of(like, x)
    chosen = scheme_of(scheme, dtype)
    slicing = checked("quantize", x.ndim, axis, group_size)
    if not x.backend.all_finite(x.data):
        raise NonFiniteError(
            "quantize: x has a NaN or an infinity, so its range is not finite. Find out where it"
            " comes from; training with a smaller learning rate often avoids it."
        )
    shape = scale_shape(x.shape, *slicing)
    low, high = ranges(x, *slicing) if bounds is None else _given(bounds, shape)
    scales, zeros = grids(low, high, chosen, x.dtype)
    scale, zero_point = (tensor(a, backend=x.backend) for a in (scales, zeros))
    return _encode(x, scale, zero_point, chosen, *slicing)


def _on_the_grid_of(like: QTensor, x: Tensor) -> QTensor:
    check.instance("quantize", "like", like, QTensor)
    axis, size = like.axis, like.group_size
    lacks = (axis is not None and axis >= x.ndim) or (size is not None and not x.ndim)
    if lacks or scale_shape(x.shape, axis, size) != like.scale.shape:
        where = f"along axis {axis}" if size is None else f"of {size} numbers along the last axis"
        raise ShapeError(
            f"quantize: like has {like.scale.size} slices {where}, x has shape {x.shape}"
        )
    check.same_backend("quantize", x, like.scale)
    return _encode(x, like.scale, like.zero_point, like.scheme, axis, size)


def _given(bounds: Any, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The ends of ranges that somebody chose. Raises: ArgumentError, ShapeError, NonFiniteError."""
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ArgumentError(f"quantize: bounds must be a pair (low, high), got {bounds!r}")
    ends = [np.asarray(end, np.float64) for end in bounds]
    for end in ends:
        if end.shape != shape:
            raise ShapeError(f"quantize: bounds have shape {end.shape}, the scales {shape}")
    if not (np.isfinite(ends).all() and (ends[0] <= ends[1]).all()):
        raise NonFiniteError(
            f"quantize: bounds must be finite with low <= high, got {bounds!r}; has the observer"
            " seen data, and no NaN?"
        )
    return ends


def ranges(x: Tensor, axis: int | None, group_size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest element of each slice, on the host; 0 where there is none."""
    shape = scale_shape(x.shape, axis, group_size)
    if not x.size:
        return np.zeros(shape), np.zeros(shape)
    if not shape:
        low, high = x.backend.bounds(x.data)
        return np.array(low), np.array(high)
    slices = sliced(x.detach(), axis, group_size).data
    ends = (x.backend.to_numpy(f(slices, (0, 2))) for f in (x.backend.min, x.backend.max))
    smallest, largest = (end.reshape(shape) for end in ends)
    return smallest, largest


def _encode(
    x: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme,
    axis: int | None, group_size: int | None,
) -> QTensor:  # fmt: skip
    codes = x.backend.quantize(
        x.data,
        spread(scale, x.shape, axis, group_size),
        spread(zero_point, x.shape, axis, group_size),
        scheme.low,
        scheme.high,
        scheme.dtype,
    )
    return QTensor(codes, x.backend, scale, zero_point, scheme, axis, group_size)


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
