"""Elements chosen by position, and the way back."""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import DTypeError, ShapeError
from . import check
from .check import native_index


class GetItem(Function):
    """y = x[index]; an element that was taken twice gets both gradients."""

    def __init__(self, index: Any) -> None:
        self.index = index
        items = index if isinstance(index, tuple) else (index,)
        self.view = all(not hasattr(item, "dtype") for item in items)  # index arrays make copies

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return self.backend.getitem(x, self.index)

    def backward(self, grad: Any) -> Any:
        return self.backend.getitem_grad(grad, self.index, self.shape)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as in NumPy: numbers, slices, None, ..., masks, lists and integer tensors.

    Raises: IndexRangeError, ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> x = tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, -1], x[[1, 1], 0], x[x > 1.5]
    (Tensor([2., 4.]), Tensor([3., 3.]), Tensor([2., 3., 4.]))
    """
    check.tensors("getitem", x=x)
    return apply(GetItem(native_index(x, index)), x)


class GetItemGrad(Function):
    """Zeros with g added at index: linear in g, and its gradient is getitem again."""

    def __init__(self, index: Any, shape: tuple[int, ...]) -> None:
        self.index, self.shape = index, shape

    def forward(self, grad: Any) -> Any:
        return self.backend.getitem_grad(grad, self.index, self.shape)

    def backward(self, grad: Any) -> Any:
        return self.backend.getitem(grad, self.index)


def getitem_grad(grad: Tensor, index: Any, shape: tuple[int, ...]) -> Tensor:
    """Zeros of shape with grad added at index: the gradient of getitem.

    >>> from minidl import tensor
    >>> getitem_grad(tensor([1.0, 2.0]), slice(0, 2), (3,))
    Tensor([1., 2., 0.])
    """
    native = index.data if isinstance(index, Tensor) else index
    return apply(GetItemGrad(native, shape), grad)


class Gather(Function):
    """y[i] = x[index[i]] along axis; backward adds to where it was taken."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any, index: Any) -> Any:
        self.index, self.shape = index, x.shape
        return self.backend.gather(x, self.axis, index)

    def backward(self, grad: Any) -> Any:
        return self.backend.gather_grad(grad, self.axis, self.index, self.shape), None


def gather(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """y[i, j] = x[index[i, j], j] for axis 0, and so on: PyTorch's `gather`.

    Shapes: index has as many axes as x and the same lengths, except along axis.
    Raises: ShapeError, DTypeError, IndexRangeError.

    >>> from minidl import tensor
    >>> gather(tensor([[1.0, 2.0], [3.0, 4.0]]), 1, tensor([[1], [0]])).tolist()
    [[2.0], [3.0]]
    """
    check.tensors("gather", x=x)
    check.integers("gather", "index", index)
    at = check.axis("gather", axis, x.ndim)
    if index.ndim != x.ndim or any(
        a != b for i, (a, b) in enumerate(zip(index.shape, x.shape, strict=True)) if i != at
    ):
        raise ShapeError(
            f"gather: index {index.shape} must match x {x.shape} except along axis {axis}"
        )
    check.in_range("gather", "index", index, 0, x.shape[at])
    return apply(Gather(at), x, index)


class GatherGrad(Function):
    """Zeros with g added where gather took it; its gradient is gather again."""

    def __init__(self, axis: int, shape: tuple[int, ...]) -> None:
        self.axis, self.shape = axis, shape

    def forward(self, grad: Any, index: Any) -> Any:
        self.index = index
        return self.backend.gather_grad(grad, self.axis, index, self.shape)

    def backward(self, grad: Any) -> Any:
        return self.backend.gather(grad, self.axis, self.index), None


def gather_grad(grad: Tensor, axis: int, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of shape with grad added where gather took it.

    >>> from minidl import tensor
    >>> gather_grad(tensor([1.0, 2.0]), 0, tensor([2, 2]), (3,))
    Tensor([0., 0., 3.])
    """
    return apply(GatherGrad(axis, shape), grad, index)


class IndexAdd(Function):
    """y = x with source's slices added at index along axis; source gets g at index."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any, index: Any, source: Any) -> Any:
        self.index = index
        return self.backend.index_add(x, self.axis, index, source)

    def backward(self, grad: Any) -> Any:
        taken = (*[slice(None)] * self.axis, self.index)
        return grad, None, self.backend.getitem(grad, taken) if self.needs[2] else None


def index_add(x: Tensor, axis: int, index: Tensor, source: Tensor) -> Tensor:
    """x with source's slice i added to slice index[i] along axis; a new tensor.

    Shapes: index (R,); source as x, but of length R along axis.
    Raises: ShapeError, DTypeError, IndexRangeError.

    >>> from minidl import tensor, zeros
    >>> index_add(zeros(3), 0, tensor([0, 2, 2]), tensor([1.0, 2.0, 3.0]))
    Tensor([1., 0., 5.])
    """
    check.tensors("index_add", x=x, source=source)
    check.integers("index_add", "index", index)
    at = check.axis("index_add", axis, x.ndim)
    if index.ndim != 1 or source.shape != (*x.shape[:at], index.shape[0], *x.shape[at + 1 :]):
        raise ShapeError(
            f"index_add: x {x.shape} along axis {axis} with index {index.shape} needs a source of "
            f"{(*x.shape[:at], *index.shape, *x.shape[at + 1 :])}, got {source.shape}"
        )
    if source.dtype != x.dtype:
        raise DTypeError(f"index_add: x is {x.dtype}, but source is {source.dtype}")
    check.in_range("index_add", "index", index, 0, x.shape[at])
    return apply(IndexAdd(at), x, index, source)
