"""Comparisons and logic: boolean results, nothing to differentiate."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.graph import mismatch
from ..engine.tensor import Tensor, TensorLike
from ..errors import DTypeError
from . import check


class Compare(Function):
    """y = whether a and b are as the operator says, elementwise."""

    def __init__(self, compute: Callable[[Any, Any], Any]) -> None:
        self.compute = compute

    def forward(self, a: Any, b: Any) -> Any:
        return self.backend.asarray(self.compute(a, b))


class Not(Function):
    """y = where a mask does not hold."""

    def forward(self, x: Any) -> Any:
        return self.backend.asarray(~x)


def _compare(name: str, compute: Callable[[Any, Any], Any], a: TensorLike, b: TensorLike) -> Tensor:
    a, b = check.operands(name, a, b)
    known = [x for x in (a, b) if isinstance(x, Tensor)]
    if len(known) == 2:
        if known[0].backend is not known[1].backend:
            raise mismatch(name, known[0].backend.name, known[1].backend.name)
        check.broadcast(name, known[0].shape, known[1].shape)
    return apply(Compare(compute), a, b)


def equal(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a == b; NaN equals nothing.

    >>> from minidl import tensor
    >>> equal(tensor([1, 2]), 2)
    Tensor([False,  True])
    """
    return _compare("equal", operator.eq, a, b)


def not_equal(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a != b.

    >>> from minidl import tensor
    >>> not_equal(tensor([1, 2]), 2)
    Tensor([ True, False])
    """
    return _compare("not_equal", operator.ne, a, b)


def less(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a < b.

    >>> from minidl import tensor
    >>> less(tensor([1, 2]), 2)
    Tensor([ True, False])
    """
    return _compare("less", operator.lt, a, b)


def less_equal(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a <= b.

    >>> from minidl import tensor
    >>> less_equal(tensor([1, 3]), 2)
    Tensor([ True, False])
    """
    return _compare("less_equal", operator.le, a, b)


def greater(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a > b.

    >>> from minidl import tensor
    >>> greater(tensor([1, 3]), 2)
    Tensor([False,  True])
    """
    return _compare("greater", operator.gt, a, b)


def greater_equal(a: TensorLike, b: TensorLike) -> Tensor:
    """Where a >= b.

    >>> from minidl import tensor
    >>> greater_equal(tensor([1, 2]), 2)
    Tensor([False,  True])
    """
    return _compare("greater_equal", operator.ge, a, b)


def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """Where both masks hold.

    >>> from minidl import tensor
    >>> logical_and(tensor([True, True]), tensor([True, False]))
    Tensor([ True, False])
    """
    return _compare("logical_and", operator.and_, _mask(a), _mask(b))


def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """Where at least one of two masks holds.

    >>> from minidl import tensor
    >>> logical_or(tensor([True, False]), tensor([False, False]))
    Tensor([ True, False])
    """
    return _compare("logical_or", operator.or_, _mask(a), _mask(b))


def logical_not(x: Tensor) -> Tensor:
    """Where the mask does not hold.

    >>> from minidl import tensor
    >>> logical_not(tensor([True, False]))
    Tensor([False,  True])
    """
    check.tensors("logical_not", x=x)
    return apply(Not(), _mask(x))


def _mask(x: Any) -> Any:
    if not check.is_mask(x):
        kind = getattr(x, "dtype", type(x).__name__)
        raise DTypeError(
            f"&, | and ~ combine masks (bool tensors), got {kind}; compare first: x > 0"
        )
    return x
