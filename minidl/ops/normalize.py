"""Normalisation: subtract a mean, divide by a standard deviation, then scale and shift.

All three share one derivative. With x_hat = (x - mean) / std over n values and g = dL/dy * weight,
dL/dx = (g - mean(g) - x_hat * mean(g * x_hat)) / std. Source: Ioffe & Szegedy (2015),
arXiv:1502.03167, section 3.
"""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.creation import as_shape, ones, zeros
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import check
from .reduce import mean, var
from .shape import reshape


class LayerNorm(Function):
    """y = weight x_hat + bias, where x_hat = (x - mean) / sqrt(var + eps) over each row.

    Source: Ba, Kiros & Hinton (2016), arXiv:1607.06450, section 3.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        self.x, self.weight = x, weight
        y, self.mean, self.inv_std = self.backend.layer_norm(x, weight, bias, self.eps)
        return y

    def backward(self, grad: Any) -> Any:
        return self.backend.layer_norm_grad(grad, self.x, self.weight, self.mean, self.inv_std)

    def definition(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = x - mean(x, 1, True)
        return weight * (centred / (var(x, 1, 0, True) + self.eps).sqrt()) + bias


class BatchNorm(Function):
    """y = weight x_hat + bias, where x_hat = (x - mean) / sqrt(var + eps) over each channel of the
    batch.

    Source: Ioffe & Szegedy (2015), arXiv:1502.03167, algorithm 1.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        self.x, self.weight = x, weight
        y, self.mean, self.var = self.backend.batch_norm(x, weight, bias, self.eps)
        return y

    def backward(self, grad: Any) -> Any:
        return self.backend.batch_norm_grad(
            grad, self.x, self.weight, self.mean, self.var, self.eps
        )

    def definition(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x_hat = (x - mean(x, (0, 2), True)) / (var(x, (0, 2), 0, True) + self.eps).sqrt()
        return reshape(weight, (-1, 1)) * x_hat + reshape(bias, (-1, 1))


def layer_norm(
    x: Tensor, normalized_shape: int | tuple[int, ...], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Bring each sample's last axes to mean 0 and variance 1, then scale and shift elementwise.

    Shapes: x (..., *normalized_shape); weight and bias normalized_shape, or None for 1 and 0.
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> layer_norm(tensor([[1.0, 3.0]]), 2)
    Tensor([[-1.,  1.]])
    """
    check.floating("layer_norm", x=x)
    shape, eps = as_shape(normalized_shape), check.number("layer_norm", "eps", eps, 0)
    if x.shape[x.ndim - len(shape) :] != shape or not shape or 0 in shape:
        raise ShapeError(
            f"layer_norm: x {x.shape} must end in the axes {shape}, which hold elements"
        )
    weight, bias = _affine("layer_norm", x, weight, bias, shape)
    size = weight.size
    rows = reshape(x, (x.size // size, size))
    y = apply(LayerNorm(eps), rows, reshape(weight, (size,)), reshape(bias, (size,)))
    return reshape(y, x.shape)


def batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Bring each channel to mean 0 and variance 1, then scale and shift it.

    In training the statistics are the batch's, and the running ones move towards them by momentum
    (the variance with n - 1, as in PyTorch); otherwise the running ones are used.

    Shapes: x (N, C) or (N, C, ...), all others (C,). Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> batch_norm(tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    check.floating("batch_norm", x=x)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: x must be (N, C) or (N, C, ...), got {x.shape}")
    eps = check.number("batch_norm", "eps", eps, 0)
    momentum = check.number("batch_norm", "momentum", momentum, 0, 1)
    channels = x.shape[1]
    check.shape_is("batch_norm", "running_mean", running_mean, (channels,))
    check.shape_is("batch_norm", "running_var", running_var, (channels,))
    check.same_backend("batch_norm", x, running_mean, running_var)
    check.same_dtype("batch_norm", x, running_mean=running_mean, running_var=running_var)
    weight, bias = _affine("batch_norm", x, weight, bias, (channels,))
    per_channel = x.size // channels if channels else 0
    if running_mean is None or running_var is None:
        if not training or running_mean is not running_var:
            raise ArgumentError(
                "batch_norm: needs running_mean and running_var; in training, neither will do"
            )
    elif not training:
        return _with_running(x, running_mean, running_var, weight, bias, eps)
    if per_channel < 2:
        raise ShapeError(
            f"batch_norm: training needs at least 2 values per channel, got x {x.shape}"
        )
    function = BatchNorm(eps)
    y = apply(function, reshape(x, (x.shape[0], channels, per_channel // x.shape[0])), weight, bias)
    if running_mean is not None and running_var is not None:
        unbiased = function.var * (per_channel / (per_channel - 1))
        for running, batch in ((running_mean, function.mean), (running_var, unbiased)):
            kept = x.backend.multiply(running.data, 1 - momentum)
            x.backend.copyto(running.data, x.backend.add(kept, batch * momentum))
            running.version.change()
    return reshape(y, x.shape)


def _with_running(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = weight / (var + eps).sqrt()
    return x * reshape(scale, shape) + reshape(bias - mean * scale, shape)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Bring each group of channels of each sample to mean 0 and variance 1, then scale and shift
    each channel.

    Source: Wu & He (2018), arXiv:1803.08494, section 3. Shapes: x (N, C, ...), weight and bias
    (C,).
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> group_norm(tensor([[1.0, 3.0, 5.0, 5.0]]), 2)
    Tensor([[-1.,  1.,  0.,  0.]])
    """
    check.floating("group_norm", x=x)
    num_groups = check.integer("group_norm", "num_groups", num_groups, 1)
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: {num_groups} groups do not divide the channels of x {x.shape}"
        )
    if x.size == 0:
        raise ShapeError(f"group_norm: x {x.shape} has no elements")
    weight, bias = _affine("group_norm", x, weight, bias, (x.shape[1],))
    rows = reshape(x, (x.shape[0] * num_groups, -1))
    normal = reshape(layer_norm(rows, rows.shape[1], eps=eps), x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return normal * reshape(weight, shape) + reshape(bias, shape)


def _affine(
    operation: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    check.shape_is(operation, "weight", weight, shape)
    check.shape_is(operation, "bias", bias, shape)
    check.same_dtype(operation, x, weight=weight, bias=bias)
    return (
        ones(shape, x.dtype, backend=x.backend) if weight is None else weight,
        zeros(shape, x.dtype, backend=x.backend) if bias is None else bias,
    )
