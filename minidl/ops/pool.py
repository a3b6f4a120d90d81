"""Pooling: one number for each window of an image."""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import check
from .check import Pair
from .conv import Size, _windows
from .linear import einsum
from .reduce import max as amax
from .shape import reshape, stack


class MaxPool2d(Function):
    """y = largest element of each window, which gets all of g (the first, if several are equal)."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair) -> None:
        self.settings = (kernel, stride, padding)

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        y, self.index = self.backend.max_pool2d(x, *self.settings)
        return y

    def backward(self, grad: Any) -> Any:
        return self.backend.max_pool2d_grad(grad, self.index, self.shape)


class MaxPool2dGrad(Function):
    """y = zeros with g added where the maxima were; its gradient picks those positions out."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, grad: Any, index: Any) -> Any:
        self.index = index
        return self.backend.max_pool2d_grad(grad, index, self.shape)

    def backward(self, grad: Any) -> Any:
        n, c, h, w = self.shape
        lib, flat = self.backend, (n, c, self.index.shape[2] * self.index.shape[3])
        picked = lib.gather(lib.reshape(grad, (n, c, h * w)), 2, lib.reshape(self.index, flat))
        return lib.reshape(picked, self.index.shape), None


class AvgPool2d(Function):
    """y = mean of each window, every element of which gets its share of g."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> None:
        self.settings = (kernel, stride, padding, count_include_pad)

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return self.backend.avg_pool2d(x, *self.settings)

    def backward(self, grad: Any) -> Any:
        return self.backend.avg_pool2d_grad(grad, self.shape, *self.settings)


class AvgPool2dGrad(Function):
    """y = dL/dx of avg_pool2d, linear in g; its gradient is avg_pool2d again."""

    def __init__(self, shape: tuple[int, ...], *settings: Any) -> None:
        self.shape, self.settings = shape, settings

    def forward(self, grad: Any) -> Any:
        return self.backend.avg_pool2d_grad(grad, self.shape, *self.settings)

    def backward(self, grad: Any) -> Any:
        *window, counted = self.settings
        return self.backend.avg_pool2d(grad, *window, count_include_pad=counted)


def windows(
    operation: str, kernel: Size, stride: Size | None, padding: Size
) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding as pairs that fit each other. Raises: ArgumentError.

    >>> windows("max_pool2d", 2, None, 0)
    ((2, 2), (2, 2), (0, 0))
    """
    window = check.pair(operation, "kernel_size", kernel)
    step = window if stride is None else check.pair(operation, "stride", stride)
    frame = check.pair(operation, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(frame, window, strict=True)):
        raise ArgumentError(
            f"{operation}: padding {padding} may be at most half the kernel {kernel}"
        )
    return window, step, frame


def _settings(operation: str, x: Tensor, *settings: Any) -> tuple[Pair, Pair, Pair]:
    check.floating(operation, x=x)
    if x.ndim != 4:
        raise ShapeError(f"{operation}: x must be (N, C, H, W), got {x.shape}")
    found = windows(operation, *settings)
    _windows(operation, x.shape[2:], *found, (1, 1))
    return found


def max_pool2d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0
) -> Tensor:
    """Largest element of each window; stride None means windows side by side.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW); see `conv.output_size`. Raises: ShapeError,
    DTypeError, ArgumentError.

    >>> from minidl import arange
    >>> max_pool2d(arange(4, dtype="float32").reshape(1, 1, 2, 2), 2).tolist()
    [[[[3.0]]]]
    """
    return apply(MaxPool2d(*_settings("max_pool2d", x, kernel_size, stride, padding)), x)


def max_pool2d_grad(grad: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of shape with grad added at the positions index (h * W + w).

    >>> from minidl import ones, zeros
    >>> max_pool2d_grad(ones((1, 1, 1, 1)), zeros((1, 1, 1, 1), "int64"), (1, 1, 1, 2)).tolist()
    [[[[1.0, 0.0]]]]
    """
    return apply(MaxPool2dGrad(shape), grad, index)


def avg_pool2d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, *,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """Mean of each window; stride None means windows side by side. PyTorch's ceil_mode, which
    comes before count_include_pad, is not here.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW); see `conv.output_size`. Raises: ShapeError,
    DTypeError, ArgumentError.

    >>> from minidl import arange
    >>> avg_pool2d(arange(4, dtype="float32").reshape(1, 1, 2, 2), 2).tolist()
    [[[[1.5]]]]
    """
    settings = _settings("avg_pool2d", x, kernel_size, stride, padding)
    return apply(AvgPool2d(*settings, count_include_pad), x)


def avg_pool2d_grad(
    grad: Tensor, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair,
    count_include_pad: bool,
) -> Tensor:  # fmt: skip
    """Gradient of avg_pool2d with respect to an input of the given shape.

    >>> from minidl import ones
    >>> avg_pool2d_grad(ones((1, 1, 1, 1)), (1, 1, 1, 2), (1, 2), (1, 2), (0, 0), True).tolist()
    [[[[0.5, 0.5]]]]
    """
    return apply(AvgPool2dGrad(shape, kernel, stride, padding, count_include_pad), grad)


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Where each of count adaptive windows begins and ends: floor(i size / count), ceil((i + 1)
    size / count).
    """
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _shares(size: int, count: int) -> list[list[float]]:
    """What each element contributes to the mean of each adaptive window."""
    return [
        [1 / (b - a) if a <= i < b else 0.0 for i in range(size)] for a, b in _bins(size, count)
    ]


def adaptive_avg_pool2d(x: Tensor, output_size: Size) -> Tensor:
    """Mean over windows chosen so that the result has the given size: windows side by side where
    the sizes divide, else A x B^T with rows of weights 1 / length.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW). Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import arange
    >>> adaptive_avg_pool2d(arange(6, dtype="float32").reshape(1, 1, 2, 3), 1).tolist()
    [[[[2.5]]]]
    """
    sizes = _adaptive("adaptive_avg_pool2d", x, output_size)
    (h, w), (m, n) = x.shape[2:], sizes
    if h % m == 0 and w % n == 0:
        return avg_pool2d(x, (h // m, w // n))
    rows, columns = (
        x.linked(x.backend.asarray(_shares(old, new), x.dtype), None)
        for old, new in zip(x.shape[2:], sizes, strict=True)
    )
    return einsum("nciw,jw->ncij", einsum("nchw,ih->nciw", x, rows), columns)


def adaptive_max_pool2d(x: Tensor, output_size: Size) -> Tensor:
    """Largest element of windows chosen so that the result has the given size.

    Shapes: x (N, C, H, W) -> (N, C, OH, OW). Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import arange
    >>> adaptive_max_pool2d(arange(6, dtype="float32").reshape(1, 1, 2, 3), (1, 2)).tolist()
    [[[[4.0, 5.0]]]]
    """
    height, width = _adaptive("adaptive_max_pool2d", x, output_size)
    cells = [
        amax(x[:, :, a:b, c:d], (2, 3))
        for a, b in _bins(x.shape[2], height)
        for c, d in _bins(x.shape[3], width)
    ]
    return reshape(stack(cells, 2), (*x.shape[:2], height, width))


def _adaptive(operation: str, x: Tensor, output_size: Size) -> Pair:
    check.floating(operation, x=x)
    sizes = check.pair(operation, "output_size", output_size)
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ShapeError(f"{operation}: x must be (N, C, H, W) with pixels, got {x.shape}")
    return sizes
