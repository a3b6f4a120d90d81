"""Embedding: rows of a table, looked up by number."""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ShapeError
from . import check


class Embedding(Function):
    """y = weight[index]; a row that was looked up twice gets both gradients."""

    def forward(self, weight: Any, index: Any) -> Any:
        self.index, self.rows = index, weight.shape[0]
        return self.backend.embedding(weight, index)

    def backward(self, grad: Any) -> Any:
        return self.backend.embedding_grad(grad, self.index, self.rows), None


class EmbeddingGrad(Function):
    """Zeros with g added to the rows index: linear in g, and its gradient is the look-up again."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def forward(self, grad: Any, index: Any) -> Any:
        self.index = index
        return self.backend.embedding_grad(grad, index, self.rows)

    def backward(self, grad: Any) -> Any:
        return self.backend.embedding(grad, self.index), None


def embedding(weight: Tensor, index: Tensor) -> Tensor:
    """Rows of weight. PyTorch's function takes (input, weight); here the table comes first, as it
    is what is indexed.

    Shapes: weight (R, D), index of integers, any shape -> (*index.shape, D).
    Raises: ShapeError, DTypeError, IndexRangeError.

    >>> from minidl import tensor
    >>> embedding(tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([1, 1])).tolist()
    [[3.0, 4.0], [3.0, 4.0]]
    """
    check.floating("embedding", weight=weight)
    check.integers("embedding", "index", index)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight must be (rows, features), got {weight.shape}")
    check.in_range("embedding", "index", index, 0, weight.shape[0])
    return apply(Embedding(), weight, index)


def embedding_grad(grad: Tensor, index: Tensor, rows: int) -> Tensor:
    """Zeros (rows, D) with grad added to the rows index: the gradient of embedding.

    >>> from minidl import ones, tensor
    >>> embedding_grad(ones((2, 1)), tensor([1, 1]), 2).tolist()
    [[0.0], [2.0]]
    """
    return apply(EmbeddingGrad(rows), grad, index)
