"""Reductions over axes, and softmax, which divides by one."""

from __future__ import annotations

import math
from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Axis, Tensor
from ..errors import ShapeError
from . import check


class _Reduction(Function):
    """Remembers which axes disappear, so that backward can bring them back."""

    def __init__(self, axis: tuple[int, ...] | None, keepdims: bool) -> None:
        self.axis, self.keepdims = axis, keepdims

    def remember(self, x: Any) -> None:
        """The shape of x, that of the result if its axes were kept, and how many elements each of
        its elements is made of.
        """
        gone = range(len(x.shape)) if self.axis is None else self.axis
        self.shape = x.shape
        self.kept_shape = tuple(1 if i in gone else n for i, n in enumerate(x.shape))
        self.count = math.prod(x.shape[i] for i in gone)

    def spread(self, grad: Any) -> Any:
        """The gradient repeated along the axes that were reduced."""
        return self.backend.broadcast_to(self.backend.reshape(grad, self.kept_shape), self.shape)


class Sum(_Reduction):
    """y = sum of x; every element gets g."""

    def forward(self, x: Any) -> Any:
        self.remember(x)
        return self.backend.sum(x, self.axis, self.keepdims)

    def backward(self, grad: Any) -> Any:
        return self.spread(grad)


class Mean(_Reduction):
    """y = sum of x / n; every element gets g / n."""

    def forward(self, x: Any) -> Any:
        self.remember(x)
        return self.backend.mean(x, self.axis, self.keepdims)

    def backward(self, grad: Any) -> Any:
        return self.spread(grad / self.count)


class Var(_Reduction):
    """y = sum (x - mean)^2 / (n - correction); dL/dx = g 2 (x - mean) / (n - correction)."""

    def __init__(self, axis: tuple[int, ...] | None, keepdims: bool, correction: float) -> None:
        super().__init__(axis, keepdims)
        self.correction = correction

    def forward(self, x: Any) -> Any:
        self.remember(x)
        self.x = x
        return self.backend.var(x, self.axis, self.correction, self.keepdims)

    def backward(self, grad: Any) -> Any:
        divisor = self.count - self.correction
        scale = 2 / divisor if divisor > 0 else float("nan")
        return self.spread(grad * scale) * (self.x - self.backend.mean(self.x, self.axis, True))


class Max(_Reduction):
    """y = largest element; equal largest elements share g evenly."""

    def forward(self, x: Any) -> Any:
        self.remember(x)
        self.x, self.y = x, self.backend.max(x, self.axis, self.keepdims)
        return self.y

    def backward(self, grad: Any) -> Any:
        chosen = self.backend.astype(self.x == self.spread(self.y), self.x.dtype)
        return self.spread(grad) * chosen / self.backend.sum(chosen, self.axis, True)


class Min(Max):
    """y = smallest element; equal smallest elements share g evenly."""

    def forward(self, x: Any) -> Any:
        self.remember(x)
        self.x, self.y = x, self.backend.min(x, self.axis, self.keepdims)
        return self.y


class ArgMax(Function):
    """Position of the largest (or smallest) element: integers, so nothing to differentiate."""

    def __init__(self, axis: int | None, smallest: bool = False) -> None:
        self.axis, self.smallest = axis, smallest

    def forward(self, x: Any) -> Any:
        return (self.backend.argmin if self.smallest else self.backend.argmax)(x, self.axis)


class CumSum(Function):
    """y_i = x_0 + ... + x_i; x_i is part of every later y, so dL/dx_i = g_i + g_(i+1) + ..."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return self.backend.cumsum(x, self.axis)

    def backward(self, grad: Any) -> Any:
        axis = (self.axis,)
        return self.backend.flip(
            self.backend.cumsum(self.backend.flip(grad, axis), self.axis), axis
        )


class LogSumExp(_Reduction):
    """y = log sum e^x; dL/dx = g e^(x - y), that is g softmax(x).

    Where every x is -inf, softmax is 0 / 0 (NaN). There each e^x is 0, and so is its share of g: a
    row in which all is masked teaches nothing, and spoils nothing.
    """

    def forward(self, x: Any) -> Any:
        self.remember(x)
        self.x, self.y = x, self.backend.logsumexp(x, self.axis, self.keepdims)
        return self.y

    def backward(self, grad: Any) -> Any:
        y = self.backend.where(self.y == -math.inf, 0.0, self.y)
        return self.spread(grad) * self.backend.exp(self.x - self.spread(y))


class Softmax(Function):
    """y = e^x / sum e^x; dL/dx = y (g - sum(g y)). Source: Bridle (1990), "Probabilistic
    interpretation".
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        self.y = self.backend.softmax(x, self.axis)
        return self.y

    def backward(self, grad: Any) -> Any:
        return self.backend.softmax_grad(grad, self.y, self.axis)


class LogSoftmax(Function):
    """y = x - log sum e^x; dL/dx = g - e^y sum(g)."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        self.y = self.backend.log_softmax(x, self.axis)
        return self.y

    def backward(self, grad: Any) -> Any:
        return self.backend.log_softmax_grad(grad, self.y, self.axis)


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axis (all axes if None; none if (), as in NumPy: to PyTorch that means all). Raises:
    ShapeError.

    >>> from minidl import tensor
    >>> sum(tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([4., 6.])
    """
    check.tensors("sum", x=x)
    return apply(Sum(check.axes("sum", axis, x.ndim), keepdims), x)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axis (all axes if None). Raises: ShapeError.

    >>> from minidl import tensor
    >>> mean(tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1, keepdims=True).tolist()
    [[1.5], [3.5]]
    """
    check.floating("mean", x=x)
    return apply(Mean(check.axes("mean", axis, x.ndim), keepdims), x)


def var(x: Tensor, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Tensor:
    """Variance over axis: squared distances from the mean, divided by n - correction.

    The default 1 (Bessel) is PyTorch's; NumPy's is 0. Raises: ShapeError.

    >>> from minidl import tensor
    >>> var(tensor([1.0, 3.0])).item(), var(tensor([1.0, 3.0]), correction=0).item()
    (2.0, 1.0)
    """
    check.floating("var", x=x)
    less = check.number("var", "correction", correction)
    return apply(Var(check.axes("var", axis, x.ndim), keepdims, less), x)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over axis (PyTorch's `amax`); equal ones share the gradient. Raises:
    ShapeError.

    >>> from minidl import tensor
    >>> max(tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1)
    Tensor([5., 4.])
    """
    _not_empty("max", x, axis)
    return apply(Max(check.axes("max", axis, x.ndim), keepdims), x)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axis (PyTorch's `amin`); equal ones share the gradient. Raises:
    ShapeError.

    >>> from minidl import tensor
    >>> min(tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1)
    Tensor([1., 3.])
    """
    _not_empty("min", x, axis)
    return apply(Min(check.axes("min", axis, x.ndim), keepdims), x)


def argmax(x: Tensor, axis: int | None = None) -> Tensor:
    """Position of the first largest element along axis (in the flattened tensor if None). Raises:
    ShapeError.

    >>> from minidl import tensor
    >>> argmax(tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([1, 0])
    """
    _not_empty("argmax", x, axis)
    return apply(ArgMax(None if axis is None else check.axis("argmax", axis, x.ndim)), x)


def argmin(x: Tensor, axis: int | None = None) -> Tensor:
    """Position of the first smallest element along axis (in the flattened tensor if None). Raises:
    ShapeError.

    >>> from minidl import tensor
    >>> argmin(tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    Tensor([0, 1])
    """
    _not_empty("argmin", x, axis)
    return apply(ArgMax(None if axis is None else check.axis("argmin", axis, x.ndim), True), x)


def _not_empty(operation: str, x: Tensor, axis: Axis) -> None:
    check.tensors(operation, x=x)
    chosen = check.axes(operation, axis, x.ndim)
    if 0 in (x.shape if chosen is None else [x.shape[i] for i in chosen]):
        raise ShapeError(f"{operation}: shape {x.shape} has no element along axis {axis}")


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sum along axis. Raises: ShapeError.

    >>> from minidl import tensor
    >>> cumsum(tensor([1.0, 2.0, 3.0]), 0)
    Tensor([1., 3., 6.])
    """
    check.tensors("cumsum", x=x)
    return apply(CumSum(check.axis("cumsum", axis, x.ndim)), x)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exponentials over axis, without overflow; where all are -inf, the gradient
    is 0. Raises: ShapeError.

    >>> from minidl import tensor
    >>> logsumexp(tensor([1000.0, 1000.0])).item()
    1000.693...
    """
    check.floating("logsumexp", x=x)
    _not_empty("logsumexp", x, axis)
    return apply(LogSumExp(check.axes("logsumexp", axis, x.ndim), keepdims), x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Exponentials along axis, divided by their sum. Raises: ShapeError.

    >>> from minidl import tensor
    >>> softmax(tensor([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """
    check.floating("softmax", x=x)
    _not_empty("softmax", x, axis)
    return apply(Softmax(check.axis("softmax", axis, x.ndim)), x)


def softmax_grad(grad: Tensor, y: Tensor, axis: int) -> Tensor:
    """y * (grad - sum(grad * y)): the gradient through y = softmax(x).

    >>> from minidl import tensor
    >>> softmax_grad(tensor([1.0, 0.0]), tensor([0.5, 0.5]), 0)
    Tensor([ 0.25, -0.25])
    """
    return y * (grad - sum(grad * y, axis, True))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x - logsumexp(x) along axis. Raises: ShapeError.

    >>> from minidl import tensor
    >>> log_softmax(tensor([0.0, 0.0]))
    Tensor([-0.6931, -0.6931])
    """
    check.floating("log_softmax", x=x)
    _not_empty("log_softmax", x, axis)
    return apply(LogSoftmax(check.axis("log_softmax", axis, x.ndim)), x)


def log_softmax_grad(grad: Tensor, y: Tensor, axis: int) -> Tensor:
    """grad - e^y * sum(grad): the gradient through y = log_softmax(x).

    >>> from minidl import tensor
    >>> log_softmax_grad(tensor([1.0, 0.0]), tensor([-0.6931472, -0.6931472]), 0)
    Tensor([ 0.5, -0.5])
    """
    return grad - y.exp() * sum(grad, axis, True)
