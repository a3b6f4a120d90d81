"""Normalising layers: learned scale and shift, and for batch norm the running statistics."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import ops
from ..engine.creation import Where, as_shape, ones, zeros
from ..engine.dtypes import float32, int64
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import init
from .module import Module, Parameter


class _Norm(Module):
    weight: Parameter | None
    bias: Parameter | None

    def _affine(self, shape: Any, weight: bool, bias: bool, backend: Where, dtype: Any) -> None:
        self.weight = Parameter(ones(shape, dtype, backend=backend)) if weight else None
        self.bias = Parameter(zeros(shape, dtype, backend=backend)) if bias else None


class _BatchNorm(_Norm):
    axes: ClassVar[tuple[int, ...]]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True, *, backend: Where = None, dtype: Any = float32,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        init.positive(name, num_features=num_features)
        eps = ops.check.number(name, "eps", eps, 0)
        momentum = None if momentum is None else ops.check.number(name, "momentum", momentum, 0, 1)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._affine(num_features, affine, affine, backend, dtype)
        made = {
            "running_mean": zeros(num_features, dtype, backend=backend),
            "running_var": ones(num_features, dtype, backend=backend),
            "num_batches_tracked": zeros((), int64, backend=backend),
        }
        for key, buffer in made.items():
            self.register_buffer(key, buffer if track_running_stats else None)

    def forward(self, x: Tensor) -> Tensor:
        ops.check.tensors(type(self).__name__, x=x)
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: x must have {self.num_features} channels and "
                f"{' or '.join(map(str, self.axes))} axes, got {x.shape}"
            )
        momentum, seen = self.momentum, self.num_batches_tracked if self.training else None
        if momentum is None and seen is not None:  # the plain average of all batches
            momentum = 1 / (seen.item() + 1)
        y = ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None, momentum or 0.0, self.eps,
        )  # fmt: skip
        if seen is not None:
            with no_grad():
                seen.add_(1)
        return y


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of vectors or sequences; see `ops.batch_norm`.

    Shapes: (N, C) or (N, C, L). Raises: ShapeError.

    >>> import minidl
    >>> BatchNorm1d(2)(minidl.tensor([[1.0, 5.0], [3.0, 5.0]])).numpy().round(3).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images; see `ops.batch_norm`.

    Shapes: (N, C, H, W). Raises: ShapeError.

    >>> import minidl
    >>> BatchNorm2d(3)(minidl.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    axes = (4,)


class LayerNorm(_Norm):
    """Normalisation of each sample over its last axes; see `ops.layer_norm`.

    Shapes: (..., *normalized_shape). Raises: ShapeError, ArgumentError.

    >>> import minidl
    >>> LayerNorm(2)(minidl.tensor([[1.0, 3.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5,
        elementwise_affine: bool = True, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalized_shape = as_shape(normalized_shape)
        self.eps = ops.check.number("LayerNorm", "eps", eps, 0)
        if 0 in (self.normalized_shape or (0,)):
            raise ArgumentError(f"LayerNorm: normalized_shape {normalized_shape} has no elements")
        self.elementwise_affine = elementwise_affine
        shifted = elementwise_affine and bias
        self._affine(self.normalized_shape, elementwise_affine, shifted, backend, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(_Norm):
    """Normalisation of each sample over groups of channels; see `ops.group_norm`.

    Shapes: (N, num_channels, ...). Raises: ArgumentError, ShapeError.

    >>> import minidl
    >>> GroupNorm(2, 4)(minidl.ones((1, 4, 3, 3))).shape
    (1, 4, 3, 3)
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *,
        backend: Where = None, dtype: Any = float32,
    ) -> None:  # fmt: skip
        super().__init__()
        init.positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_groups = {num_groups} must divide num_channels = {num_channels}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = ops.check.number("GroupNorm", "eps", eps, 0), affine
        self._affine(num_channels, affine, affine, backend, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
