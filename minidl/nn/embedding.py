"""Embedding: a learned table."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..engine.creation import Where, zeros
from ..engine.dtypes import float32
from ..engine.modes import no_grad
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from . import init
from .module import Module, Parameter


class Embedding(Module):
    """Rows of a learned table, looked up by number; the row padding_idx is zeros, and not learned.

    Shapes: index of integers, any shape -> (*index.shape, embedding_dim); weight (num_embeddings,
    embedding_dim), initially standard normal. Raises: ArgumentError; IndexRangeError when called.

    >>> import minidl
    >>> Embedding(10, 4)(minidl.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        init.positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype, backend=backend))
        init.normal_(self.weight, generator=generator)
        self.padding_idx = padding_idx
        if padding_idx is not None:
            padding_idx = ops.check.integer("Embedding", "padding_idx", padding_idx)
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(f"Embedding: no row {padding_idx} among {num_embeddings}")
            self.padding_idx = padding_idx % int(num_embeddings)
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, index: Tensor) -> Tensor:
        y = ops.embedding(self.weight, index)
        if self.padding_idx is None:
            return y
        # The same values, but no gradient flows to the padding row.
        return ops.where((index != self.padding_idx).unsqueeze(-1), y, y.detach())
