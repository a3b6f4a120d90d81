"""Functions of one number, of each element by itself, and their derivatives."""

from __future__ import annotations

import math
from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from . import check


class Negative(Function):
    """y = -x; dL/dx = -g."""

    def forward(self, x: Any) -> Any:
        return self.backend.negative(x)

    def backward(self, grad: Any) -> Any:
        return -grad


def negative(x: Tensor) -> Tensor:
    """-x.

    >>> from minidl import tensor
    >>> negative(tensor([1.0]))
    Tensor([-1.])
    """
    check.signed("negative", x)
    return apply(Negative(), x)


class Abs(Function):
    """y = |x|; dL/dx = g sign(x), 0 at 0."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.abs(x)

    def backward(self, grad: Any) -> Any:
        return grad * self.backend.sign(self.x)


def abs(x: Tensor) -> Tensor:
    """|x|; the gradient at 0 is 0.

    >>> from minidl import tensor
    >>> abs(tensor([-2.0]))
    Tensor([2.])
    """
    return apply(Abs(), x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, a constant for gradients.

    >>> from minidl import tensor
    >>> sign(tensor([-2.0, 0.0, 3.0]))
    Tensor([-1.,  0.,  1.])
    """
    check.tensors("sign", x=x)
    check.signed("sign", x)
    return x.linked(x.backend.sign(x.data), None)


class Exp(Function):
    """y = e^x; dL/dx = g y."""

    def forward(self, x: Any) -> Any:
        self.y = self.backend.exp(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return grad * self.y


def exp(x: Tensor) -> Tensor:
    """e to the power x.

    >>> from minidl import tensor
    >>> exp(tensor([0.0, 1.0]))
    Tensor([1.    , 2.7183])
    """
    check.floating("exp", x=x)
    return apply(Exp(), x)


class Log(Function):
    """y = ln x; dL/dx = g / x."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.log(x)

    def backward(self, grad: Any) -> Any:
        return grad / self.x


def log(x: Tensor) -> Tensor:
    """Natural logarithm; -inf at 0 and NaN below, without a warning.

    >>> from minidl import tensor
    >>> log(tensor([1.0, 0.0]))
    Tensor([  0., -inf])
    """
    check.floating("log", x=x)
    return apply(Log(), x)


class Sqrt(Function):
    """y = x^(1/2); dL/dx = g / (2 y)."""

    def forward(self, x: Any) -> Any:
        self.y = self.backend.sqrt(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return grad / (2 * self.y)


def sqrt(x: Tensor) -> Tensor:
    """Square root.

    >>> from minidl import tensor
    >>> sqrt(tensor([4.0, 9.0]))
    Tensor([2., 3.])
    """
    check.floating("sqrt", x=x)
    return apply(Sqrt(), x)


class Sin(Function):
    """y = sin x; dL/dx = g cos x."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.sin(x)

    def backward(self, grad: Any) -> Any:
        return grad * self.backend.cos(self.x)


def sin(x: Tensor) -> Tensor:
    """Sine of x in radians.

    >>> from minidl import tensor
    >>> sin(tensor([0.0]))
    Tensor([0.])
    """
    check.floating("sin", x=x)
    return apply(Sin(), x)


class Cos(Function):
    """y = cos x; dL/dx = -g sin x."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.cos(x)

    def backward(self, grad: Any) -> Any:
        return -grad * self.backend.sin(self.x)


def cos(x: Tensor) -> Tensor:
    """Cosine of x in radians.

    >>> from minidl import tensor
    >>> cos(tensor([0.0]))
    Tensor([1.])
    """
    check.floating("cos", x=x)
    return apply(Cos(), x)


class Tanh(Function):
    """y = tanh x; dL/dx = g (1 - y^2)."""

    def forward(self, x: Any) -> Any:
        self.y = self.backend.tanh(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return grad * (1 - self.y * self.y)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent.

    >>> from minidl import tensor
    >>> tanh(tensor([0.0, 100.0]))
    Tensor([0., 1.])
    """
    check.floating("tanh", x=x)
    return apply(Tanh(), x)


class Erf(Function):
    """y = erf x; dL/dx = g 2/sqrt(pi) exp(-x^2)."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.erf(x)

    def backward(self, grad: Any) -> Any:
        return grad * (2 / math.sqrt(math.pi) * self.backend.exp(-self.x * self.x))


def erf(x: Tensor) -> Tensor:
    """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    >>> from minidl import tensor
    >>> erf(tensor([0.0, 1.0]))
    Tensor([0.    , 0.8427])
    """
    check.floating("erf", x=x)
    return apply(Erf(), x)
