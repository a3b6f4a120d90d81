"""Nonlinearities as modules; each is the function of `minidl.ops` of the same name."""

from __future__ import annotations

from .. import ops
from ..engine.tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0).

    >>> import minidl
    >>> ReLU()(minidl.tensor([-1.0, 2.0]))
    Tensor([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x.

    >>> import minidl
    >>> LeakyReLU(0.1)(minidl.tensor([-1.0, 2.0]))
    Tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = ops.check.number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class GELU(Module):
    """x times the normal distribution function of x; see `ops.gelu`.

    >>> import minidl
    >>> GELU()(minidl.tensor([0.0, 1.0]))
    Tensor([0.    , 0.8413])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        ops.check.choice("GELU", "approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)


class SiLU(Module):
    """x * sigmoid(x).

    >>> import minidl
    >>> SiLU()(minidl.tensor([0.0, 1.0]))
    Tensor([0.    , 0.7311])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Sigmoid(Module):
    """1 / (1 + e^-x).

    >>> import minidl
    >>> Sigmoid()(minidl.tensor([0.0]))
    Tensor([0.5])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent.

    >>> import minidl
    >>> Tanh()(minidl.tensor([0.0]))
    Tensor([0.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softplus(Module):
    """log(1 + e^x).

    >>> import minidl
    >>> Softplus()(minidl.tensor([0.0]))
    Tensor([0.6931])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis, the last one unless told otherwise (PyTorch's dim).

    >>> import minidl
    >>> Softmax(0)(minidl.tensor([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis)


class LogSoftmax(Softmax):
    """The logarithm of `Softmax`.

    >>> import minidl
    >>> LogSoftmax(0)(minidl.tensor([0.0, 0.0]))
    Tensor([-0.6931, -0.6931])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, self.axis)
