"""Convolution in two dimensions.

A convolution is linear in its input and in its weight. So are its two gradients, and the gradients
of those are convolutions again: three operations that are closed under differentiation, to any
order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import check
from .check import Pair
from .shape import pad

Size = int | Pair


class Geometry(NamedTuple):
    """How the kernel moves: (vertical, horizontal) stride, padding and dilation, and groups."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


class Conv2d(Function):
    """y[n,o,i,j] = b[o] + sum over c,u,v of x[n, c, i*stride + u*dilation - padding, ...]
    w[o,c,u,v].

    dL/dx spreads g back through w, dL/dw correlates g with x, dL/db sums g. Source: Dumoulin &
    Visin (2016), arXiv:1603.07285, sections 2 and 4.
    """

    fresh = True

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        self.x, self.weight = x, weight
        return self.backend.conv2d(x, weight, bias, *self.geometry)

    def backward(self, grad: Any) -> Any:
        lib, x, weight, how = self.backend, self.x, self.weight, self.geometry
        return (
            lib.conv2d_input_grad(grad, weight, x.shape, *how) if self.needs[0] else None,
            lib.conv2d_weight_grad(grad, x, weight.shape, *how) if self.needs[1] else None,
            lib.sum(grad, (0, 2, 3)) if self.needs[2] else None,
        )


class Conv2dInputGrad(Function):
    """y = dL/dx of conv2d, linear in g and w; also the transposed convolution."""

    def __init__(self, shape: tuple[int, ...], geometry: Geometry) -> None:
        self.shape, self.geometry = shape, geometry

    def forward(self, grad: Any, weight: Any) -> Any:
        self.grad, self.weight = grad, weight
        return self.backend.conv2d_input_grad(grad, weight, self.shape, *self.geometry)

    def backward(self, outer: Any) -> Any:
        lib, weight, how = self.backend, self.weight, self.geometry
        return (
            lib.conv2d(outer, weight, None, *how) if self.needs[0] else None,
            lib.conv2d_weight_grad(self.grad, outer, weight.shape, *how) if self.needs[1] else None,
        )


class Conv2dWeightGrad(Function):
    """y = dL/dw of conv2d, linear in g and x."""

    def __init__(self, shape: tuple[int, ...], geometry: Geometry) -> None:
        self.shape, self.geometry = shape, geometry

    def forward(self, grad: Any, x: Any) -> Any:
        self.grad, self.x = grad, x
        return self.backend.conv2d_weight_grad(grad, x, self.shape, *self.geometry)

    def backward(self, outer: Any) -> Any:
        lib, x, how = self.backend, self.x, self.geometry
        return (
            lib.conv2d(x, outer, None, *how) if self.needs[0] else None,
            lib.conv2d_input_grad(self.grad, outer, x.shape, *how) if self.needs[1] else None,
        )


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Windows along one axis: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    Source: Dumoulin & Visin (2016), arXiv:1603.07285, relationship 15.

    >>> output_size(28, 5, 1, 0), output_size(7, 3, 2, 1)
    (24, 4)
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _geometry(operation: str, stride: Size, padding: Size, dilation: Size, groups: int) -> Geometry:
    return Geometry(
        check.pair(operation, "stride", stride),
        check.pair(operation, "padding", padding, 0),
        check.pair(operation, "dilation", dilation),
        check.integer(operation, "groups", groups, 1),
    )


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
    dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide a bank of kernels over images (a cross-correlation, as everywhere in deep learning).

    Shapes: x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW); see
    `output_size`.
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import ones
    >>> conv2d(ones((1, 1, 3, 3)), ones((1, 1, 2, 2))).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    check.floating("conv2d", x=x, weight=weight)
    geometry = _geometry("conv2d", stride, padding, dilation, groups)
    four = x.ndim == weight.ndim == 4
    if not four or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ShapeError(
            f"conv2d: x {x.shape} must be (N, C, H, W) and weight {weight.shape} "
            f"(O, C / groups, kh, kw) with groups = {groups} dividing C and O"
        )
    check.shape_is("conv2d", "bias", bias, weight.shape[:1])
    check.same_dtype("conv2d", x, weight=weight, bias=bias)
    _windows("conv2d", x.shape[2:], weight.shape[2:], *geometry[:3])
    return apply(Conv2d(geometry), x, weight, bias)


def _windows(
    operation: str, size: Any, kernel: Any, stride: Pair, padding: Pair, dilation: Pair
) -> list[int]:
    found = [
        output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    if min(found) < 1:
        raise ShapeError(
            f"{operation}: a kernel of {tuple(kernel)} (dilation {dilation}) does not fit into "
            f"images of {tuple(size)} with padding {padding}"
        )
    return found


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """The transpose of conv2d: spreads each pixel over a window, so it enlarges images.

    Shapes: x (N, C, H, W), weight (C, O / groups, kh, kw), bias (O,) -> (N, O, OH, OW) with
    OH = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.
    Source: Dumoulin & Visin (2016), arXiv:1603.07285, section 4. Raises: ShapeError, DTypeError,
    ArgumentError.

    >>> from minidl import ones
    >>> conv_transpose2d(ones((1, 1, 2, 2)), ones((1, 1, 2, 2)), stride=2).shape
    (1, 1, 4, 4)
    """
    check.floating("conv_transpose2d", x=x, weight=weight)
    geometry = _geometry("conv_transpose2d", stride, padding, dilation, groups)
    extra = check.pair("conv_transpose2d", "output_padding", output_padding, 0)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[0] or x.shape[1] % groups:
        raise ShapeError(
            f"conv_transpose2d: x {x.shape} must be (N, C, H, W) and weight {weight.shape} "
            f"(C, O / groups, kh, kw) with groups = {groups} dividing C"
        )
    if any(
        e >= max(s, d) for e, s, d in zip(extra, geometry.stride, geometry.dilation, strict=True)
    ):
        raise ArgumentError(
            "conv_transpose2d: output_padding must be smaller than stride or dilation"
        )
    channels = weight.shape[1] * groups
    check.shape_is("conv_transpose2d", "bias", bias, (channels,))
    check.same_dtype("conv_transpose2d", x, weight=weight, bias=bias)
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(
            x.shape[2:], weight.shape[2:], *geometry[:3], extra, strict=True
        )
    ]
    if min(sizes) < 1:
        raise ShapeError(
            f"conv_transpose2d: padding {padding} leaves nothing of an output of {sizes}"
        )
    # Where output_padding reaches the stride, conv2d has windows that x lacks: they spread nothing.
    rows, columns = (e // s for e, s in zip(extra, geometry.stride, strict=True))
    if rows or columns:
        x = pad(x, ((0, 0), (0, 0), (0, rows), (0, columns)))
    y = apply(Conv2dInputGrad((x.shape[0], channels, *sizes), geometry), x, weight)
    return y if bias is None else y + bias.reshape(1, channels, 1, 1)


def conv2d_input_grad(
    grad: Tensor, weight: Tensor, shape: tuple[int, ...], stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> Tensor:  # fmt: skip
    """Gradient of conv2d with respect to an input of the given shape.

    >>> from minidl import ones
    >>> g, w = ones((1, 1, 1, 1)), ones((1, 1, 2, 2))
    >>> conv2d_input_grad(g, w, (1, 1, 2, 2), (1, 1), (0, 0), (1, 1), 1).shape
    (1, 1, 2, 2)
    """
    return apply(Conv2dInputGrad(shape, Geometry(stride, padding, dilation, groups)), grad, weight)


def conv2d_weight_grad(
    grad: Tensor, x: Tensor, shape: tuple[int, ...], stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> Tensor:  # fmt: skip
    """Gradient of conv2d with respect to a weight of the given shape.

    >>> from minidl import ones
    >>> g, x = ones((1, 1, 1, 1)), ones((1, 1, 2, 2))
    >>> conv2d_weight_grad(g, x, (1, 1, 2, 2), (1, 1), (0, 0), (1, 1), 1).shape
    (1, 1, 2, 2)
    """
    return apply(Conv2dWeightGrad(shape, Geometry(stride, padding, dilation, groups)), grad, x)
