"""The same numbers elsewhere: in another array, dtype or library."""

from __future__ import annotations

from typing import Any

from backends import Backend

from ..engine.apply import apply
from ..engine.dtypes import as_dtype
from ..engine.function import Function
from ..engine.tensor import Tensor
from . import check


class Alias(Function):
    """y = x, as an operation of its own: a mark in the graph."""

    view = True

    def forward(self, x: Any) -> Any:
        return self.backend.getitem(x, ...)

    def backward(self, grad: Any) -> Any:
        return grad


def alias(x: Tensor) -> Tensor:
    """x itself as a new node of the graph; shares memory.

    >>> from minidl import tensor
    >>> alias(tensor([1.0]))
    Tensor([1.])
    """
    return apply(Alias(), x)


class Clone(Function):
    """y = a copy of x; dL/dx = g."""

    def forward(self, x: Any) -> Any:
        return self.backend.copy(x)

    def backward(self, grad: Any) -> Any:
        return grad


def clone(x: Tensor) -> Tensor:
    """A copy of x, with history.

    >>> from minidl import tensor
    >>> clone(tensor([1.0]))
    Tensor([1.])
    """
    return apply(Clone(), x)


class AsType(Function):
    """y = x in another dtype; dL/dx = g in x's dtype (the graph converts it back)."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, x: Any) -> Any:
        return self.backend.astype(x, self.dtype)

    def backward(self, grad: Any) -> Any:
        return grad


def astype(x: Tensor, dtype: Any) -> Tensor:
    """x converted to another dtype, as NumPy converts it. Raises: DTypeError.

    >>> from minidl import tensor
    >>> astype(tensor([1.7, -1.7]), "int32")
    Tensor([ 1, -1], dtype=int32)
    """
    return apply(AsType(as_dtype(dtype)), x)


class ToBackend(Function):
    """y = x on another backend; dL/dx = g brought back."""

    def __init__(self, source: Backend, target: Backend) -> None:
        self.source, self.target = source, target

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, grad: Any) -> Any:
        if isinstance(grad, Tensor):
            return grad.to(self.source)
        return self.source.asarray(self.target.to_numpy(grad))


def to_backend(x: Tensor, backend: Backend) -> Tensor:
    """x with its values on another backend.

    >>> from minidl import tensor, get_backend
    >>> to_backend(tensor([1.0]), get_backend("numpy"))
    Tensor([1.])
    """
    check.tensors("to_backend", x=x)
    result = apply(ToBackend(x.backend, backend), x)
    result.backend, result.data = backend, backend.asarray(x.backend.to_numpy(x.data))
    if result.data is x.data:  # two backends that share the host's memory: a view of it, as the
        result.version = x.version  # graph tells tensors apart by the array object that they hold
        result.data = backend.getitem(x.data, ...)
    return result
