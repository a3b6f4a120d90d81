"""Nonlinearities: values and gradients, the rule at every kink, kernels against definitions."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError
from minidl.verify.gradients import Case, check_definition, covers, kink, spread
from minidl.verify.operations.activation import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


NAN, INF = np.nan, np.inf

KINKS = {
    "relu": (ops.relu, [-0.0, 0.0, NAN, INF, -INF], [0, 0, 1, 1, 0]),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.25), [0.0, NAN, INF, -INF], [0.25, 0.25, 1, 0.25]),
    "sigmoid": (ops.sigmoid, [-INF, INF, NAN, -1000.0], [0, 0, NAN, 0]),
    "softplus": (ops.softplus, [-INF, INF, NAN, 1000.0], [0, 1, NAN, 1]),
    "gelu": (ops.gelu, [0.0, -INF, INF, NAN], [0.5, 0, 1, NAN]),
    "silu": (ops.silu, [0.0, -INF, INF, NAN], [0.5, 0, 1, NAN]),
}


@pytest.mark.parametrize(("function", "x", "expected"), KINKS.values(), ids=KINKS)
def test_the_rule_at_kinks_and_ends(backend, function, x, expected):
    assert_same(kink(function, x, backend), np.array(expected, np.float32), signed_zero=False)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_a_second_derivative_at_a_kink_is_zero_not_nan(backend, name):
    function, points, _ = KINKS[name]
    finite = [p for p in points if np.isfinite(p)]
    x = minidl.tensor(finite, "float32", requires_grad=True, backend=backend)
    (first,) = minidl.grad(function(x * x - 1).sum(), x, create_graph=True)
    (second,) = minidl.grad(first.sum(), x)
    assert np.isfinite(second.numpy()).all()


def test_extreme_arguments_do_not_overflow(backend):
    x = minidl.tensor([-1e30, -100.0, 100.0, 1e30], requires_grad=True, backend=backend)
    for function in (ops.sigmoid, ops.softplus, ops.silu, ops.gelu, ops.relu):
        y = function(x)
        (slope,) = minidl.grad(y.sum(), x)
        assert np.isfinite(y.numpy()).all()
        assert np.isfinite(slope.numpy()).all()


FUSED = {"gelu": ops.gelu, "gelu tanh": lambda x: ops.gelu(x, "tanh"), "silu": ops.silu}


@pytest.mark.parametrize("function", FUSED.values(), ids=FUSED)
def test_the_definition_is_the_kernel(backend, function):
    check_definition(backend, Case("", function, None, (spread(5, 7, low=-6, high=6),)))


@covers("relu_grad")
def test_relu_grad(backend):
    grad, y = spread(3, 4), np.maximum(spread(3, 4, seed=3), 0)
    t = [minidl.from_numpy(a, backend=backend) for a in (grad, y)]
    expected = np.where(y > 0, grad, 0)
    assert_same(ops.relu_grad(*t).numpy(), expected, signed_zero=False)
    assert_same(backend.to_numpy(backend.relu_grad(*(a.data for a in t))), expected, False)


def test_settings(backend):
    x = minidl.ones(2, backend=backend)
    assert ops.leaky_relu(x, np.float64(0.5)).dtype == np.float32
    with pytest.raises(ArgumentError, match=r"gelu: approximate.*none, tanh.*'fast'"):
        ops.gelu(x, "fast")
