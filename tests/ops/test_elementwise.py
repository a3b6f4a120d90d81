"""Elementwise arithmetic: values and gradients, the rule at every kink, broadcasting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.gradients import check_order, cotangent, kink, spread
from minidl.verify.operations.elementwise import CASES
from minidl.verify.strategies import shapes
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


NAN, INF = np.nan, np.inf

KINKS = {
    "clip": (lambda x: ops.clip(x, -1, 1), [-1.0, 1.0, NAN, 2.0, -INF], [1, 1, 1, 0, 0]),
    "pow 0": (lambda x: x**0, [0.0, NAN, INF], [0, 0, 0]),
    "pow 1": (lambda x: x**1, [0.0, -2.0, INF], [1, 1, 1]),
    "pow 2": (lambda x: x**2, [0.0, -3.0, NAN], [0, -6, NAN]),
    "pow 1/2": (lambda x: x**0.5, [0.0, 4.0, -1.0], [INF, 0.25, NAN]),
    "pow -1": (lambda x: x**-1, [0.0, 2.0, INF], [-INF, -0.25, 0]),
    "0 to the x": (lambda x: 0**x, [0.0, 2.0], [0, 0]),
    "1 to the x": (lambda x: 1**x, [0.0, 2.0], [0, 0]),
    "-1 to the x": (lambda x: (-1) ** x, [2.0, 3.0], [NAN, NAN]),
    "divide": (lambda x: 1 / x, [0.0, -0.0, INF], [-INF, -INF, 0]),
    "maximum of a number": (lambda x: ops.maximum(x, 1), [0.0, 1.0, 2.0, NAN], [0, 0.5, 1, 1]),
    "minimum of a number": (lambda x: ops.minimum(x, 1), [0.0, 1.0, 2.0, NAN], [1, 0.5, 0, 1]),
}  # fmt: skip


@pytest.mark.parametrize(("function", "x", "expected"), KINKS.values(), ids=KINKS)
def test_the_rule_at_kinks_and_ends(backend, function, x, expected):
    assert_same(kink(function, x, backend), np.array(expected, np.float32), signed_zero=False)


@pytest.mark.parametrize("name", ["clip", "maximum of a number"])
def test_a_second_derivative_at_a_kink_is_zero_not_nan(backend, name):
    function, points, _ = KINKS[name]
    finite = [p for p in points if np.isfinite(p)]
    x = minidl.tensor(finite, "float32", requires_grad=True, backend=backend)
    (first,) = minidl.grad(function(x * x).sum(), x, create_graph=True)
    (second,) = minidl.grad(first.sum(), x)
    assert np.isfinite(second.numpy()).all()


@pytest.mark.parametrize(
    ("function", "a", "b", "for_a", "for_b"),
    [
        (ops.maximum, [1, 2, 3, NAN, 0], [1, 3, 2, 0, NAN], [0.5, 0, 1, 1, 1], [0.5, 1, 0, 1, 1]),
        (ops.minimum, [1, 2, 3, NAN, 0], [1, 3, 2, 0, NAN], [0.5, 1, 0, 1, 1], [0.5, 0, 1, 1, 1]),
        (ops.pow, [0, 0, 2, -2, 0], [0, 2, 0, 3, 1], [0, 0, 0, 12, 1], [0, 0, math.log(2), NAN, 0]),
        (ops.multiply, [INF, 0], [0, NAN], [0, NAN], [INF, 0]),
    ],
    ids=["maximum", "minimum", "pow", "multiply"],
)
def test_rules_of_two_tensors(backend, function, a, b, for_a, for_b):
    xs = [minidl.tensor(v, "float64", requires_grad=True, backend=backend) for v in (a, b)]
    function(*xs).sum().backward()
    for x, expected in zip(xs, (for_a, for_b), strict=True):
        expected = np.array(expected, np.float64)
        finite = np.nan_to_num(expected, posinf=0, neginf=0)
        assert_close(x.grad.numpy(), expected, composed_bound(np.float64, finite))


@pytest.mark.parametrize("create_graph", [False, True])
def test_where_lets_no_nan_through_from_the_branch_not_taken(backend, create_graph):
    x = minidl.tensor([0.0, 4.0], requires_grad=True, backend=backend)
    y = ops.where(x > 0, ops.where(x > 0, x, 1.0).sqrt(), 0.0).sum()
    (slope,) = minidl.grad(y, x, create_graph=create_graph)
    assert_same(slope.numpy(), np.array([0, 0.25], np.float32))


BROADCASTING = {
    "add": (ops.add, np.add),
    "subtract": (ops.subtract, np.subtract),
    "multiply": (ops.multiply, np.multiply),
    "divide": (ops.divide, np.divide),
    "pow": (ops.pow, np.power),
    "maximum": (ops.maximum, np.maximum),
    "minimum": (ops.minimum, np.minimum),
}


@st.composite
def two_shapes(draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes that broadcast: axes of length 1 and leading axes left out, on either side."""
    full = draw(shapes(max_dims=3, max_side=3))
    found = []
    for _ in range(2):
        kept = tuple(n if draw(st.booleans()) else 1 for n in full)
        found.append(kept[draw(st.integers(0, len(kept))) :])
    return found[0], found[1]


def repeated_sum(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """grad added up over every axis along which an array of that shape was repeated."""
    padded = (1,) * (grad.ndim - len(shape)) + shape
    axes = tuple(i for i, n in enumerate(padded) if n == 1)
    return grad.sum(axis=axes, keepdims=True).reshape(shape)


@pytest.mark.parametrize("name", BROADCASTING)
@given(pair=two_shapes())
def test_gradients_add_up_over_repetitions(backend, name, pair):
    """The gradient of a repeated operand is that of its full copy, summed over the copies."""
    function, _ = BROADCASTING[name]
    full = np.broadcast_shapes(*pair)
    arrays = [spread(*s, low=0.25, seed=i) for i, s in enumerate(pair)]
    small = [minidl.tensor(a, requires_grad=True, backend=backend) for a in arrays]
    copies = [np.broadcast_to(a, full).copy() for a in arrays]
    large = [minidl.tensor(a, requires_grad=True, backend=backend) for a in copies]
    for xs in (small, large):
        y = function(*xs)
        y.backward(cotangent(y))
    for a, b in zip(small, large, strict=True):
        expected = repeated_sum(b.grad.numpy(), a.shape)
        bound = composed_bound(np.float64, np.abs(b.grad.numpy()).sum())
        assert_close(a.grad.numpy(), expected, bound, np.float64)


@pytest.mark.parametrize("name", BROADCASTING)
@given(pair=two_shapes())
def test_gradients_of_repeated_operands_are_differentiated_again(backend, name, pair):
    function, formula = BROADCASTING[name]
    arrays = [spread(*s, low=0.5, seed=i) for i, s in enumerate(pair)]
    xs = [minidl.tensor(a, requires_grad=True, backend=backend) for a in arrays]
    expected = formula(*arrays)
    assert_close(function(*xs).numpy(), expected, composed_bound(np.float64, *arrays, expected))
    if expected.size <= 9:
        check_order(function, xs, [0, 1], 2)


def test_bad_arguments(backend):
    x = minidl.ones(2, backend=backend)
    with pytest.raises(DTypeError, match="where: needs tensors or numbers, got list"):
        ops.where([True, False], x, 0.0)
    with pytest.raises(DTypeError, match=r"where: condition.*float32"):
        ops.where(x, x, 0.0)
    with pytest.raises(DTypeError, match="None"):
        ops.where(x > 0, None, x)
    with pytest.raises(ShapeError, match=r"where: shapes \(2,\) and \(3,\)"):
        ops.where(x > 0, minidl.ones(3, backend=backend), 0.0)


def test_where_of_two_numbers_has_the_dtype_of_a_new_tensor(backend):
    mask = minidl.tensor([True, False], backend=backend)
    for a, b, dtype in ((1.0, 0.0, "float32"), (1, 0.5, "float32"), (1, 0, "int64")):
        assert_same(ops.where(mask, a, b).numpy(), np.array([a, b], dtype))


def test_settings_do_not_widen(backend):
    x = minidl.ones(2, backend=backend)
    assert ops.clip(x, np.float64(0)).dtype == np.float32
    for bounds in ((0, x), ([1.0], 2), ("a", None)):
        with pytest.raises(ArgumentError, match="clip: a bound must be a number"):
            ops.clip(x, *bounds)
