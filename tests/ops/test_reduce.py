"""Reductions and softmax."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import DTypeError, ShapeError
from minidl.verify import oracle
from minidl.verify.gradients import covers, eighths, spread
from minidl.verify.operations.reduce import CASES
from minidl.verify.tolerances import assert_close, assert_same, composed_bound, spacing

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@covers("softmax_grad", "log_softmax_grad")
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_elementary_gradient_is_the_kernel(backend, name, axis):
    for dtype in (np.float32, np.float64):
        grad, x = spread(3, 4, seed=8), spread(3, 4)
        y = getattr(oracle, name)(x, axis)
        a = [minidl.tensor(v, dtype, backend=backend) for v in (grad, y)]
        slow = getattr(ops, f"{name}_grad")(*a, axis).numpy()
        fast = backend.to_numpy(getattr(backend, f"{name}_grad")(*(t.data for t in a), axis))
        expected = getattr(oracle, f"{name}_grad")(grad, y, axis)
        for found in (slow, fast):
            assert_close(found, expected, composed_bound(dtype, grad, expected), dtype)


def gradient(function, values, backend) -> np.ndarray:
    x = minidl.tensor(values, requires_grad=True, backend=backend)
    function(x).sum().backward()
    return x.grad.numpy()


@pytest.mark.parametrize(("function", "sign"), [(ops.max, 1), (ops.min, -1)], ids=["max", "min"])
def test_equal_extremes_share_the_gradient(backend, function, sign):
    x = sign * np.array([[3, 3, 1], [2, 0, 1], [5, 5, 5]], np.float32)
    share = np.array([[0.5, 0.5, 0], [1, 0, 0], np.full(3, 1 / 3)], np.float32)
    assert_same(gradient(lambda t: function(t, axis=1), x, backend), share)
    assert_same(
        gradient(function, np.ones((2, 2), np.float32), backend), np.full((2, 2), 0.25, "f")
    )


@pytest.mark.parametrize("function", [ops.max, ops.min], ids=["max", "min"])
def test_nan_in_a_row_makes_its_maximum_and_gradient_nan(backend, function):
    x = np.array([[1, np.nan], [1, 2]], np.float32)
    y = function(minidl.tensor(x, backend=backend), axis=1).numpy()
    assert np.isnan(y).tolist() == [True, False]
    found = gradient(lambda t: function(t, axis=1), x, backend)
    assert np.isnan(found).tolist() == [[True, True], [False, False]]
    assert found[1].sum() == 1


def test_nan_comes_first_in_argmax(backend):
    x = minidl.tensor([1.0, np.nan, np.inf, np.nan], backend=backend)
    assert (ops.argmax(x).item(), ops.argmin(x).item()) == (1, 1)
    assert ops.argmax(minidl.tensor([1, 3, 3], backend=backend)).item() == 1


def test_softmax_does_not_overflow(backend):
    x = minidl.tensor([[1000.0, 1000.0], [-1000.0, 0.0]], requires_grad=True, backend=backend)
    assert_same(ops.softmax(x).numpy(), np.array([[0.5, 0.5], [0, 1]], np.float32))
    assert ops.log_softmax(x).tolist()[1] == [-1000, 0]
    y = ops.logsumexp(x, 1)
    assert y.tolist()[1] == 0
    (slope,) = minidl.grad(y.sum(), x)
    expected = np.array([[0.5, 0.5], [0, 1]])
    bound = spacing(y.numpy(), np.float32)[:, None]  # exp(x - y) magnifies the rounding of y
    assert_close(slope.numpy(), expected, bound, np.float32)


def test_minus_infinity_masks_entries(backend):
    x = minidl.tensor([[0.0, -np.inf, 0.0]], requires_grad=True, backend=backend)
    y = ops.softmax(x)
    assert_same(y.numpy(), np.array([[0.5, 0, 0.5]], np.float32))
    (slope,) = minidl.grad((y * y).sum(), x)
    assert_same(slope.numpy(), np.zeros((1, 3), np.float32), signed_zero=False)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_row_that_is_masked_as_a_whole_has_no_gradient(backend, create_graph):
    values = [[-np.inf, -np.inf], [-np.inf, 0.0], [np.nan, 0.0]]
    x = minidl.tensor(values, requires_grad=True, backend=backend)
    y = ops.logsumexp(x, 1)
    assert y.tolist()[:2] == [-np.inf, 0]
    (slope,) = minidl.grad(y.sum(), x, create_graph=create_graph)
    assert slope.tolist()[:2] == [[0, 0], [0, 1]]
    assert np.isnan(slope.tolist()[2]).all()
    if create_graph:
        (again,) = minidl.grad((slope[:2] * slope[:2]).sum(), x)
        assert again.tolist()[:2] == [[0, 0], [0, 0]]


def test_empty_reductions(backend):
    x = minidl.zeros((0, 3), backend=backend)
    assert_same(ops.sum(x, 0).numpy(), np.zeros(3, np.float32))
    assert_same(ops.sum(x, 1).numpy(), np.zeros(0, np.float32))
    assert_same(ops.max(x, 1).numpy(), np.zeros(0, np.float32))
    assert_same(ops.mean(x, 0).numpy(), np.full(3, np.nan, np.float32))
    assert_same(ops.mean(x).numpy(), np.array(np.nan, np.float32))
    for function in (ops.max, ops.min, ops.argmax, ops.argmin, ops.logsumexp, ops.softmax):
        with pytest.raises(ShapeError, match=r"\(0, 3\) has no element along axis 0"):
            function(x, 0)


def test_the_variance_of_one_value(backend):
    x = minidl.tensor([2.0], requires_grad=True, backend=backend)
    assert ops.var(x, correction=0).item() == 0
    y = ops.var(x)
    assert np.isnan(y.item())
    y.backward()
    assert np.isnan(x.grad.item())


def test_bad_axes(backend):
    x = minidl.tensor(eighths(2, 3), backend=backend)
    one = (ops.argmax, ops.argmin, ops.cumsum, ops.softmax, ops.log_softmax)
    many = (ops.sum, ops.mean, ops.var, ops.max, ops.min, ops.logsumexp)
    for function in (*one, *many):
        for axis in (2, -3, 0.5, "0"):
            with pytest.raises(ShapeError, match=rf"{function.__name__}: axis"):
                function(x, axis)
    for function in many:
        with pytest.raises(ShapeError, match=rf"{function.__name__}: axis \(0, -2\).*twice"):
            function(x, (0, -2))


@pytest.mark.parametrize("name", ["mean", "var", "logsumexp", "softmax", "log_softmax"])
def test_statistics_need_floats(backend, name):
    with pytest.raises(DTypeError, match=rf"{name}: x must be floating, got int64.*astype"):
        getattr(ops, name)(minidl.tensor([1, 2], backend=backend))
    for foreign in ([1.0], np.ones(2), None):
        with pytest.raises(DTypeError, match=f"{name}: x must be a Tensor"):
            getattr(ops, name)(foreign)
