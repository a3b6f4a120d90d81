"""Functions of one number: values and gradients, the rule at every kink, odd input."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import DTypeError
from minidl.verify.gradients import kink
from minidl.verify.operations.unary import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


NAN, INF = np.nan, np.inf

KINKS = {
    "abs": (ops.abs, [-0.0, 0.0, NAN, INF, -INF], [0, 0, NAN, 1, -1]),
    "sqrt": (ops.sqrt, [0.0, -1.0, NAN, INF], [INF, NAN, NAN, 0]),
    "log": (ops.log, [0.0, -0.0, NAN, INF], [INF, -INF, NAN, 0]),
    "tanh": (ops.tanh, [-INF, INF, NAN], [0, 0, NAN]),
    "erf": (ops.erf, [-INF, INF, NAN], [0, 0, NAN]),
}  # fmt: skip


@pytest.mark.parametrize(("function", "x", "expected"), KINKS.values(), ids=KINKS)
def test_the_rule_at_kinks_and_ends(backend, function, x, expected):
    assert_same(kink(function, x, backend), np.array(expected, np.float32), signed_zero=False)


def test_a_second_derivative_at_a_kink_is_zero_not_nan(backend):
    x = minidl.tensor([-0.0, 0.0, 2.0], "float32", requires_grad=True, backend=backend)
    (first,) = minidl.grad(ops.abs(x * x).sum(), x, create_graph=True)
    (second,) = minidl.grad(first.sum(), x)
    assert np.isfinite(second.numpy()).all()


def test_extreme_arguments_do_not_overflow(backend):
    x = minidl.tensor([-1e30, -100.0, 100.0, 1e30], requires_grad=True, backend=backend)
    for function in (ops.tanh, ops.erf):
        y = function(x)
        (slope,) = minidl.grad(y.sum(), x)
        assert np.isfinite(y.numpy()).all()
        assert np.isfinite(slope.numpy()).all()


UNARY_NAMES = [
    "abs", "alias", "clip", "clone", "cos", "erf", "exp", "gelu", "leaky_relu", "log", "negative",
    "relu", "sigmoid", "sign", "silu", "sin", "softplus", "sqrt", "tanh",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY_NAMES)
@pytest.mark.parametrize("foreign", [[1.0], np.ones(1), 1.0, None], ids=lambda v: type(v).__name__)
def test_what_is_no_tensor_is_refused(name, foreign):
    with pytest.raises(DTypeError, match=r"(?i)expected a Tensor|must be a Tensor"):
        getattr(ops, name)(foreign)


@pytest.mark.parametrize(
    "name",
    ["cos", "erf", "exp", "gelu", "leaky_relu", "log", "sigmoid", "silu", "sin", "softplus",
     "sqrt", "tanh"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64"])
def test_smooth_functions_of_integers(backend, name, dtype):
    """Refused by name: NumPy would make float16 of eight bits, which is no dtype here."""
    x = minidl.tensor([1, 0, 2], dtype, backend=backend)
    with pytest.raises(DTypeError, match=rf"{name}: x must be floating.*{dtype}"):
        getattr(ops, name)(x)
