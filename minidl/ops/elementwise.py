"""Operations on each element by itself, and their chain rules.

Shapes broadcast and dtypes promote as in NumPy 2: a Python number never widens float32, but int64
with float32 or with a Python float is float64, and so is a quotient of integers (in PyTorch they
are float32). Convert integers first: x.astype("float32").
"""

from __future__ import annotations

import math
from typing import Any

from ..engine.apply import apply
from ..engine.creation import tensor
from ..engine.dtypes import float64
from ..engine.function import Function
from ..engine.tensor import Tensor, TensorLike
from ..errors import ArgumentError, DTypeError
from . import check


def _binary(function: Function, a: TensorLike, b: TensorLike) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.data.shape != b.data.shape:
            check.broadcast(function.name, a.shape, b.shape)
        return apply(function, a, b)
    x, number = (a, b) if isinstance(a, Tensor) else (b, a)
    small = type(number) is int and -(1 << 64) < number < 1 << 64
    if not (type(number) is float or (small and _floating(x))):  # they need no look
        a, b = check.operands(function.name, a, b)
        check.held(function.name, a, b)
        check.broadcast(function.name, *(x.shape for x in (a, b) if isinstance(x, Tensor)))
    return apply(function, a, b)


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.data.dtype.kind == "f"


class Add(Function):
    """y = a + b; dL/da = g, dL/db = g."""

    def forward(self, a: Any, b: Any) -> Any:
        return self.backend.add(a, b)

    def backward(self, grad: Any) -> Any:
        return grad, grad


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """a + b.

    >>> from minidl import tensor
    >>> add(tensor([1.0, 2.0]), 1)
    Tensor([2., 3.])
    """
    return _binary(Add(), a, b)


class Subtract(Function):
    """y = a - b; dL/da = g, dL/db = -g."""

    def forward(self, a: Any, b: Any) -> Any:
        return self.backend.subtract(a, b)

    def backward(self, grad: Any) -> Any:
        return grad, -grad if self.needs[1] else None


def subtract(a: TensorLike, b: TensorLike) -> Tensor:
    """a - b.

    >>> from minidl import tensor
    >>> subtract(1, tensor([1.0, 2.0]))
    Tensor([ 0., -1.])
    """
    if not _floating(a):
        check.signed("subtract", a, b)
    return _binary(Subtract(), a, b)


class Multiply(Function):
    """y = a b; dL/da = g b, dL/db = g a."""

    fresh = True

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return self.backend.multiply(a, b)

    def backward(self, grad: Any) -> Any:
        return (
            grad * self.b if self.needs[0] else None,
            grad * self.a if self.needs[1] else None,
        )


def multiply(a: TensorLike, b: TensorLike) -> Tensor:
    """a * b.

    >>> from minidl import tensor
    >>> multiply(tensor([[1.0], [2.0]]), tensor([3.0, 4.0])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    return _binary(Multiply(), a, b)


class Divide(Function):
    """y = a / b; dL/da = g / b, dL/db = -g a / b^2."""

    fresh = True

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return self.backend.divide(a, b)

    def backward(self, grad: Any) -> Any:
        return (
            grad / self.b if self.needs[0] else None,
            -grad * self.a / (self.b * self.b) if self.needs[1] else None,
        )


def divide(a: TensorLike, b: TensorLike) -> Tensor:
    """a / b; x / 0 is infinite or NaN, without a warning.

    >>> from minidl import tensor
    >>> divide(tensor([1.0, -1.0]), 0)
    Tensor([ inf, -inf])
    """
    return _binary(Divide(), a, b)


class Pow(Function):
    """y = a^b; dL/da = g b a^(b-1) (0 where b = 0), dL/db = g y log a (0 where a = 0)."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        self.y = self.backend.pow(a, b)
        return self.y

    def backward(self, grad: Any) -> Any:
        return (
            self._by_base(grad) if self.needs[0] else None,
            self._by_exponent(grad) if self.needs[1] else None,
        )

    def _by_base(self, grad: Any) -> Any:
        if isinstance(self.b, (int, float)):
            return grad * (self.b * self.backend.pow(self.a, self.b - 1)) if self.b else grad * 0
        slope = grad * self.b * self.backend.pow(self.a, self.b - 1)
        return self.backend.where(self.b == 0, 0.0, slope)

    def _by_exponent(self, grad: Any) -> Any:
        if isinstance(self.a, (int, float)):
            log = math.log(self.a) if self.a > 0 else 0.0 if self.a == 0 else math.nan
            return grad * self.y * log
        return self.backend.where(self.a == 0, 0.0, grad * self.y * self.backend.log(self.a))


def pow(a: TensorLike, b: TensorLike) -> Tensor:
    """a to the power b.

    >>> from minidl import tensor
    >>> pow(tensor([2.0, 3.0]), 2)
    Tensor([4., 9.])
    """
    if not _floating(a):
        a, b = check.operands("pow", a, b)
        if all(isinstance(x, int) or getattr(x, "dtype", float64).kind in "iu" for x in (a, b)):
            _not_negative(b)
    return _binary(Pow(), a, b)


def _not_negative(power: Any) -> None:
    least = power
    if isinstance(power, Tensor):
        least = power.backend.bounds(power.data)[0] if power.size else 0
    if least < 0:
        raise ArgumentError("pow: negative powers of integers need .astype('float64')")


class Maximum(Function):
    """y = max(a, b): the larger one gets g; where they are equal each gets g / 2."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return self.backend.maximum(a, b)

    def backward(self, grad: Any) -> Any:
        return _shared(self.backend, grad, self.a == self.b, self.a < self.b, self.b < self.a)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of a and b, NaN if either is; where they are equal each gets half the gradient.

    >>> from minidl import tensor
    >>> maximum(tensor([1.0, 5.0]), 2)
    Tensor([2., 5.])
    """
    return _binary(Maximum(), a, b)


class Minimum(Function):
    """y = min(a, b): the smaller one gets g; where they are equal each gets g / 2."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return self.backend.minimum(a, b)

    def backward(self, grad: Any) -> Any:
        return _shared(self.backend, grad, self.a == self.b, self.a > self.b, self.b > self.a)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of a and b, NaN if either is; where they are equal each gets half the gradient.

    >>> from minidl import tensor
    >>> minimum(tensor([1.0, 5.0]), 2)
    Tensor([1., 2.])
    """
    return _binary(Minimum(), a, b)


def _shared(lib: Any, grad: Any, equal: Any, a_loses: Any, b_loses: Any) -> tuple[Any, Any]:
    half = lib.where(equal, grad / 2, grad)
    return lib.where(a_loses, 0.0, half), lib.where(b_loses, 0.0, half)


class Where(Function):
    """y = a where the condition holds, else b; each gets g where it was chosen."""

    def forward(self, condition: Any, a: Any, b: Any) -> Any:
        self.condition = condition
        return self.backend.where(condition, a, b)

    def backward(self, grad: Any) -> Any:
        lib = self.backend
        return (
            None,
            lib.where(self.condition, grad, 0.0) if self.needs[1] else None,
            lib.where(self.condition, 0.0, grad) if self.needs[2] else None,
        )


def where(condition: Tensor, a: TensorLike, b: TensorLike) -> Tensor:
    """a where condition (bool) holds, else b. Raises: DTypeError, ShapeError.

    >>> from minidl import tensor
    >>> x = tensor([-1.0, 2.0])
    >>> where(x > 0, x, 0.0)
    Tensor([0., 2.])
    """
    condition, a, b = check.operands("where", condition, a, b)
    check.held("where", a, b)
    check.tensors("where", condition=condition)
    if condition.dtype.kind != "b":
        raise DTypeError(f"where: condition must be bool, got {condition.dtype}; compare: x > 0")
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):  # two numbers, as tensor() has them
        a, b = tensor([a, b], backend=condition.backend)
    check.broadcast("where", *(x.shape for x in (condition, a, b) if isinstance(x, Tensor)))
    return apply(Where(), condition, a, b)


class Clip(Function):
    """y = x limited to [low, high]; g passes where x is inside, the ends included."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.backend.clip(x, self.low, self.high)

    def backward(self, grad: Any) -> Any:
        lib = self.backend
        if self.low is not None:
            grad = lib.where(self.x < self.low, 0.0, grad)
        if self.high is not None:
            grad = lib.where(self.x > self.high, 0.0, grad)
        return grad


def clip(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max], two numbers; None leaves that side open. Raises: ArgumentError.

    >>> from minidl import tensor
    >>> clip(tensor([-2.0, 0.5, 2.0]), -1, 1)
    Tensor([-1. ,  0.5,  1. ])
    """
    check.tensors("clip", x=x)
    low, high = (v if v is None else check.number("clip", "a bound", v) for v in (min, max))
    return apply(Clip(low, high), x)
