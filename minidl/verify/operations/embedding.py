"""Embedding: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..gradients import case, eighths

TABLE = eighths(5, 3)


def scattered(grad: np.ndarray, index: np.ndarray, rows: int) -> np.ndarray:
    y = np.zeros((rows, grad.shape[-1]))
    for at in np.ndindex(index.shape):
        y[index[at]] += grad[at]
    return y


CASES = (
    case("embedding", ops.embedding, lambda w, i: w[i], TABLE, np.array([[4, 0], [4, 4]])),
    case("embedding: squared", lambda w, i: ops.embedding(w * w, i), lambda w, i: (w * w)[i],
         TABLE, np.array([1, 1, 2])),
    case("embedding: one row", ops.embedding, lambda w, i: w[i], TABLE, np.array(2)),
    case("embedding: bytes", ops.embedding, lambda w, i: w[i], TABLE, np.array([3], np.uint8)),
    case("embedding_grad", lambda g, i: ops.embedding_grad(g * g, i, 5),
         lambda g, i: scattered(g * g, i, 5), eighths(2, 2, 3), np.array([[4, 0], [4, 4]])),
)  # fmt: skip
