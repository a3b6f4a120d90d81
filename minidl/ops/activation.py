"""Nonlinearities of networks, and their chain rules."""

from __future__ import annotations

import math
from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from . import check
from .elementwise import where
from .unary import erf, tanh


class Sigmoid(Function):
    """y = 1 / (1 + e^-x); dL/dx = g y (1 - y)."""

    def forward(self, x: Any) -> Any:
        self.y = self.backend.sigmoid(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return grad * self.y * (1 - self.y)


class Softplus(Function):
    """y = log(1 + e^x); dL/dx = g sigmoid(x)."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.softplus(x)

    def backward(self, grad: Any) -> Any:
        return grad * self.backend.sigmoid(self.x)


class Relu(Function):
    """y = max(x, 0); g passes where y > 0, so not at 0."""

    def forward(self, x: Any) -> Any:
        self.y = self.backend.relu(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return self.backend.relu_grad(grad, self.y)


class LeakyRelu(Function):
    """y = x where x > 0, else slope x; dL/dx = g or slope g (at 0: slope g)."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.leaky_relu(x, self.slope)

    def backward(self, grad: Any) -> Any:
        return self.backend.where(self.x > 0, grad, grad * self.slope)


class Gelu(Function):
    """y = x Phi(x). Source: Hendrycks & Gimpel (2016), arXiv:1606.08415, section 2."""

    def __init__(self, approximate: str) -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.gelu(x, self.approximate)

    def backward(self, grad: Any) -> Any:
        return self.backend.gelu_grad(grad, self.x, self.approximate)

    def definition(self, x: Tensor) -> Tensor:
        if self.approximate == "none":
            return x * 0.5 * (1 + erf(x * math.sqrt(0.5)))
        return x * 0.5 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


class Silu(Function):
    """y = x sigmoid(x). Source: Elfwing et al. (2017), arXiv:1702.03118, equation 5."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.silu(x)

    def backward(self, grad: Any) -> Any:
        return self.backend.silu_grad(grad, self.x)

    def definition(self, x: Tensor) -> Tensor:
        return x * sigmoid(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x).

    >>> from minidl import tensor
    >>> sigmoid(tensor([0.0, -1000.0]))
    Tensor([0.5, 0. ])
    """
    check.floating("sigmoid", x=x)
    return apply(Sigmoid(), x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), a smooth relu.

    >>> from minidl import tensor
    >>> softplus(tensor([0.0, 1000.0]))
    Tensor([6.9315e-01, 1.0000e+03])
    """
    check.floating("softplus", x=x)
    return apply(Softplus(), x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the gradient at 0 is 0.

    >>> from minidl import tensor
    >>> relu(tensor([-1.0, 2.0]))
    Tensor([0., 2.])
    """
    return apply(Relu(), x)


def relu_grad(grad: Tensor, y: Tensor) -> Tensor:
    """grad where y = relu(x) is not 0, else 0.

    >>> from minidl import tensor
    >>> relu_grad(tensor([1.0, 1.0]), tensor([0.0, 2.0]))
    Tensor([0., 1.])
    """
    return where(y <= 0, 0.0, grad)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x.

    >>> from minidl import tensor
    >>> leaky_relu(tensor([-1.0, 2.0]), 0.1)
    Tensor([-0.1,  2. ])
    """
    check.floating("leaky_relu", x=x)
    slope = check.number("leaky_relu", "negative_slope", negative_slope)
    return apply(LeakyRelu(float(slope)), x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate "tanh" takes a cheaper formula.

    Source: Hendrycks & Gimpel (2016), arXiv:1606.08415. Raises: ArgumentError.

    >>> from minidl import tensor
    >>> gelu(tensor([0.0, 1.0]))
    Tensor([0.    , 0.8413])
    """
    check.floating("gelu", x=x)
    check.choice("gelu", "approximate", approximate, ("none", "tanh"))
    return apply(Gelu(approximate), x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish. Source: Elfwing et al. (2017), arXiv:1702.03118.

    >>> from minidl import tensor
    >>> silu(tensor([0.0, 1.0]))
    Tensor([0.    , 0.7311])
    """
    check.floating("silu", x=x)
    return apply(Silu(), x)
