"""Comparisons and logic against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import BackendMismatch, DTypeError, ShapeError
from minidl.verify.operations.compare import CASES
from minidl.verify.strategies import special_values
from minidl.verify.tolerances import assert_same

from .cases import OperationCases

COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_comparisons_at_special_values(backend, name, dtype):
    a = special_values(dtype)
    x, y = (minidl.from_numpy(v, backend=backend) for v in (a, a[:, None].copy()))
    function, formula = getattr(ops, name), COMPARISONS[name]
    assert_same(function(x, y).numpy(), formula(a, a[:, None]))
    assert_same(function(x, 1.5).numpy(), formula(a, 1.5))
    assert_same(function(0, x).numpy(), formula(0, a))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_other_types_and_of_scalars(backend, name):
    function, formula = getattr(ops, name), COMPARISONS[name]
    for a, b in (
        (np.array([-1, 0, 3], np.int8), np.array([0, 0, 3], np.int64)),
        (np.array([True, False]), np.array([True, True])),
        (np.array(2.0), np.array(2.0)),
        (np.zeros((0, 2)), np.zeros(2)),
    ):
        result = function(*(minidl.from_numpy(v, backend=backend) for v in (a, b)))
        assert_same(result.numpy(), np.asarray(formula(a, b)))
        assert backend.is_array(result.data)
        assert not result.requires_grad


def test_logic(backend):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    x, y = (minidl.from_numpy(v, backend=backend) for v in (a, b))
    assert_same(ops.logical_and(x, y).numpy(), a & b)
    assert_same(ops.logical_or(x, y).numpy(), a | b)
    assert_same(ops.logical_not(x).numpy(), ~a)
    assert_same((x & True).numpy(), a)


def test_logic_needs_masks(backend):
    x, mask = minidl.ones(2, backend=backend), minidl.ones(2, "bool", backend=backend)
    for bad in (lambda: x & mask, lambda: mask | x, lambda: ~x, lambda: mask & 1):
        with pytest.raises(DTypeError, match=r"compare first: x > 0"):
            bad()


@pytest.mark.parametrize("name", [*COMPARISONS, "logical_and", "logical_or"])
def test_bad_operands(backend, other, name):
    function = getattr(ops, name)
    kind = "bool" if name.startswith("logical") else "float32"
    x = minidl.ones(2, kind, backend=backend)
    with pytest.raises(BackendMismatch, match=rf"{name}: .*\.to\("):
        function(x, minidl.ones(2, kind, backend=other))
    with pytest.raises(ShapeError, match=rf"{name}: shapes \(2,\) and \(3,\)"):
        function(x, minidl.ones(3, kind, backend=backend))
    with pytest.raises(DTypeError):
        function(x, [True, False])
