"""Embedding: rows of a table."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import BackendMismatch, DTypeError, IndexRangeError, ShapeError
from minidl.verify.operations.embedding import CASES, TABLE
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


def test_nothing_looked_up(backend):
    w = minidl.tensor(TABLE, requires_grad=True, backend=backend)
    y = ops.embedding(w, minidl.zeros((0, 2), "int64", backend=backend))
    assert y.shape == (0, 2, 3)
    y.sum().backward()
    assert_same(w.grad.numpy(), np.zeros((5, 3)))


def test_bad_arguments(backend, other):
    w = minidl.tensor(TABLE, backend=backend)
    for wrong in (5, -1):
        with pytest.raises(IndexRangeError, match=f"embedding: index contains {wrong}, .* 0 to 4"):
            ops.embedding(w, minidl.tensor([0, wrong], backend=backend))
    with pytest.raises(DTypeError, match="embedding: index must hold integers, got float32"):
        ops.embedding(w, minidl.ones(2, backend=backend))
    with pytest.raises(DTypeError, match="embedding: index must be a Tensor"):
        ops.embedding(w, [0, 1])
    with pytest.raises(ShapeError, match=r"embedding: weight must be \(rows, features\)"):
        ops.embedding(w[0], minidl.tensor([0], backend=backend))
    with pytest.raises(BackendMismatch, match="Embedding"):
        ops.embedding(w, minidl.tensor([0], backend=other))
