"""Fake quantization: a float model that feels the rounding already, so that it learns to bear it.

Rounding has the derivative 0 almost everywhere, which would teach nothing; on the way back it
counts as the identity instead ("straight through"): Bengio, Leonard & Courville (2013),
arXiv:1308.3432. Training with it: Jacob et al. (2018), arXiv:1712.05877, section 3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..engine.apply import apply
from ..engine.creation import Where, tensor
from ..engine.dtypes import float32, float64, int32
from ..engine.function import Function
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import Module, Parameter
from ..ops import check
from .observer import Extremes, MovingAverageMinMax, Observer
from .qtensor import Scheme, grids, scheme_of
from .slices import Slicing, checked, joined, scale_shape, sliced


class StraightThrough(Function):
    """y = s (clip(rint(x / s) + z, low, high) - z) on x (N, C, L) with s and z (C,).

    dL/dx = g where x / s rounds to a code without clipping, else 0; dL/ds = sum g dy/ds, in which
    dy/ds = y / s - x / s where x has a code and y / s elsewhere. Sources: Jacob et al. (2018),
    arXiv:1712.05877, section 3; Esser et al. (2020), arXiv:1902.08153, equations 3 and 5.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def forward(self, x: Any, scale: Any, zero_point: Any) -> Any:
        self.x, self.scale, self.zero_point = x, scale, zero_point
        return self.backend.fake_quantize(x, scale, zero_point, self.low, self.high)

    def backward(self, grad: Any) -> Any:
        given = grad, self.x, self.scale, self.zero_point, self.low, self.high
        x_grad = self.backend.fake_quantize_grad(*given) if self.needs[0] else None
        scale_grad = self.backend.fake_quantize_scale_grad(*given) if self.needs[1] else None
        return x_grad, scale_grad, None

    def definition(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        scale, zero = (ops.reshape(t, (-1, 1)) for t in (scale, zero_point.astype(x.dtype)))
        ratio, least, most = x / scale, self.low - zero, self.high - zero
        rounded = _rounded(ops.minimum(ops.maximum(ratio.detach(), least - 1), most + 1))
        steps = ops.minimum(ops.maximum(rounded, least), most)
        passed = ratio + (steps - ratio.detach())  # worth steps, with the derivative of ratio
        return ops.where(rounded == steps, passed, steps) * scale


def _rounded(x: Tensor) -> Tensor:
    """The nearest whole numbers, half to even: beside 1.5 * 2^23 float32 has no room for more."""
    room = 1.5 * 2.0 ** np.finfo(x.dtype).nmant
    return x + room - room


def fake_quantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    group_size: int | None = None,
) -> Tensor:
    """x moved to the nearest numbers with a code: what quantizing and dequantizing makes of it.

    The gradient passes unchanged where x lies within the range, to half a step beyond, and is 0
    outside. If scale requires a gradient it gets that of a learned step size (Esser et al. 2020).
    PyTorch has fake_quantize_per_tensor_affine and fake_quantize_per_channel_affine for this.
    Shapes: scale and zero_point (integer) as in `quantize`: () or a number, (n,) along axis, or
    (..., n) for groups. Scales must be positive; a NaN in x stays.
    Raises: ArgumentError, ShapeError, DTypeError, BackendMismatch.

    >>> import minidl
    >>> fake_quantize(minidl.tensor([0.3, -0.6, 9.0]), 0.5, 0, -7, 7)
    Tensor([ 0.5, -0.5,  3.5])
    """
    name = "fake_quantize"
    check.floating(name, x=x)
    low, high = _codes(quant_min, quant_max)
    slicing = checked(name, x.ndim, axis, group_size)
    shape = scale_shape(x.shape, *slicing)
    scale = _parameter(x, "scale", scale, shape)
    zero_point = _parameter(x, "zero_point", zero_point, shape)
    slices = sliced(x, *slicing)
    flat = (ops.reshape(t, (slices.shape[1],)) for t in (scale, zero_point))
    return joined(apply(StraightThrough(low, high), slices, *flat), x.shape, group_size)


def _codes(quant_min: Any, quant_max: Any) -> tuple[int, int]:
    low = check.integer("fake_quantize", "quant_min", quant_min, -(2**15))
    high = check.integer("fake_quantize", "quant_max", quant_max, low + 1)
    if high > 2**16:
        raise ArgumentError(f"fake_quantize: codes have at most 16 bits, got quant_max={high}")
    return low, high


def _parameter(x: Tensor, name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    """scale or zero_point as a tensor of that shape. Raises: ShapeError, DTypeError."""
    if isinstance(value, Tensor):
        found = value
    elif name == "zero_point":
        whole = check.integer("fake_quantize", name, value)
        found = tensor(whole, int32, backend=x.backend)
    else:
        number = check.number("fake_quantize", name, value)
        if not number > 0:
            raise ArgumentError(f"fake_quantize: scale must be positive, got {number}")
        found = tensor(number, x.dtype, backend=x.backend)
    if found.shape != shape:
        raise ShapeError(f"fake_quantize: {name} must have shape {shape}, got {found.shape}")
    if name == "scale":
        check.same_dtype("fake_quantize", x, scale=found)
        return found
    check.integers("fake_quantize", name, found)
    return found if found.dtype == int32 else found.astype(int32)


class FakeQuantize(Module):
    """Watches what passes, and moves it to the nearest numbers with a code.

    scheme, dtype, axis and group_size are those of `quantize`; with one of the latter two `like`
    is a tensor of the shape that will pass, such as the layer's weight. observer chooses the range,
    by default MovingAverageMinMax. Buffers: scale (1 before the first batch) and zero_point; ends,
    float64, those of the range of an observer that has no more than these, so that training goes on
    from a checkpoint as if nothing had been.
    Unlike PyTorch's it observes in training mode only, so evaluation changes nothing.
    Shapes: x of any shape -> the same. Raises: ArgumentError, ShapeError, DTypeError.

    >>> import minidl
    >>> layer = FakeQuantize("symmetric", "int4")
    >>> layer(minidl.tensor([7.0, -3.4]))
    Tensor([ 7., -3.])
    >>> layer.disable_fake_quant()(minidl.tensor([7.0, -3.4]))
    Tensor([ 7. , -3.4])
    """

    scale: Tensor
    zero_point: Tensor
    ends: Tensor | None

    def __init__(
        self, scheme: str = "affine", dtype: Any = None, axis: int | None = None,
        group_size: int | None = None, observer: Observer | None = None,
        like: Tensor | None = None, *, backend: Where = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scheme: Scheme = scheme_of(scheme, dtype)
        if like is None and (axis is not None or group_size is not None):
            raise ArgumentError(
                "FakeQuantize: with axis or group_size it must know the shape; pass like=weight"
            )
        if like is not None:
            check.floating("FakeQuantize", like=like)
        ndim = 0 if like is None else like.ndim
        self.slicing: Slicing = checked("FakeQuantize", ndim, axis, group_size)
        self.observer = MovingAverageMinMax(axis=axis, group_size=group_size) if (
            observer is None) else observer  # fmt: skip
        self.observer_enabled = self.fake_quant_enabled = True
        shape = scale_shape(() if like is None else like.shape, *self.slicing)
        where = backend if like is None else like.backend
        kind = float32 if like is None else like.dtype
        self.register_buffer("scale", tensor(np.ones(shape), kind, backend=where))
        self.register_buffer("zero_point", tensor(np.zeros(shape), int32, backend=where))
        self.register_buffer("ends", None)
        self._noted: Any = None  # the version of `ends` that the observer knows
        self._note()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.training and self.observer_enabled:
            self._recall()
            self.observer.observe(x.detach())
            self.calculate_qparams()
        if not self.fake_quant_enabled:
            return x
        low, high = self.scheme.low, self.scheme.high
        return fake_quantize(x, self.scale, self.zero_point, low, high, *self.slicing)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Set scale and zero_point by the range that the observer found, and return them."""
        self._recall()
        ends = [np.asarray(end, np.float64) for end in self.observer.bounds()]
        if ends[0].shape == self.scale.shape and not np.isposinf(ends[0]).any():
            # New tensors, since the graph of this step may still need the old ones.
            scale, zero = grids(ends[0], ends[1], self.scheme, self.scale.dtype)
            self.scale = tensor(scale, backend=self.scale.backend)
            self.zero_point = tensor(zero, backend=self.scale.backend)
            self._note()
        elif ends[0].shape != self.scale.shape and ends[0].shape:
            raise ShapeError(
                f"FakeQuantize: the observer's ranges have shape {ends[0].shape}, the scales"
                f" {self.scale.shape}; give both the same axis or group_size"
            )
        return self.scale, self.zero_point

    def _note(self) -> None:
        """Keep the ends of an observer with no more than these where `state_dict` finds them."""
        shape = self.scale.shape
        if isinstance(self.observer, Extremes) and np.shape(self.observer.low) in ((), shape):
            ends = np.stack([np.broadcast_to(end, shape) for end in self.observer.bounds()])
            self.ends = tensor(ends, float64, backend=self.scale.backend)
            self._noted = self.ends.version, self.ends.version.changed

    def _recall(self) -> None:
        """Tell the observer what was loaded into that buffer."""
        if self.ends is None or self._noted == (self.ends.version, self.ends.version.changed):
            return
        self._noted = self.ends.version, self.ends.version.changed
        low, high = self.ends.numpy()
        if isinstance(self.observer, Extremes):
            self.observer.low, self.observer.high = (
                end if end.ndim else end.item() for end in (low, high)
            )

    def enable_observer(self, enabled: bool = True) -> FakeQuantize:
        """Let the range follow what passes in training; returns the module."""
        self.observer_enabled = enabled
        return self

    def disable_observer(self) -> FakeQuantize:
        """Keep the range as it is, as is usual for the last epochs of training."""
        return self.enable_observer(False)

    def enable_fake_quant(self, enabled: bool = True) -> FakeQuantize:
        """Round what passes; returns the module."""
        self.fake_quant_enabled = enabled
        return self

    def disable_fake_quant(self) -> FakeQuantize:
        """Let everything pass as it is, still observed."""
        return self.enable_fake_quant(False)

    def extra_repr(self) -> str:
        """The scheme and its codes."""
        return f"{self.scheme.name} {self.scheme.kind}, axis={self.slicing[0]}"


class LearnedStepSize(Module):
    """Fake quantization whose step is learned with the weights (LSQ); 0 is code 0.

    like: a tensor such as will pass, a weight or a batch, from which the first step is made:
    2 mean|x| / sqrt(quant_max). The step's gradient is divided by sqrt(n * quant_max), n numbers to
    a step, so that it moves about as far as a weight, in proportion.
    Source: Esser et al. (2020), arXiv:1902.08153, sections 2.1 and 2.2.
    Shapes: x of any shape -> the same. Raises: ArgumentError, ShapeError, DTypeError.

    >>> import minidl
    >>> layer = LearnedStepSize(minidl.tensor([1.0, -2.0, 3.0]), -8, 4)
    >>> layer(minidl.tensor([1.2, -0.9])).tolist(), layer.scale.item()
    ([2.0, 0.0], 2.0)
    """

    def __init__(
        self, like: Tensor, quant_min: int, quant_max: int, axis: int | None = None,
        group_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check.floating("LearnedStepSize", like=like)
        if not like.size:
            raise ShapeError(f"LearnedStepSize: like {like.shape} has no numbers to begin with")
        self.codes = _codes(quant_min, check.integer("LearnedStepSize", "quant_max", quant_max, 1))
        self.slicing: Slicing = checked("LearnedStepSize", like.ndim, axis, group_size)
        shape = scale_shape(like.shape, *self.slicing)
        with no_grad():
            size = ops.mean(ops.abs(sliced(like, *self.slicing)), (0, 2))
            step = ops.where(size > 0, size * (2 / math.sqrt(self.codes[1])), 1.0)
            self.scale = Parameter(ops.reshape(step, shape))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        numbers = max(x.size // max(self.scale.size, 1), 1)
        share = 1 / math.sqrt(numbers * self.codes[1])
        kept = self.scale * share
        scale = kept + (self.scale - kept).detach()
        zeros = tensor(np.zeros(scale.shape), int32, backend=x.backend)
        return fake_quantize(x, scale, zeros, *self.codes, *self.slicing)
