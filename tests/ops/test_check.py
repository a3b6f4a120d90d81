"""The door: what `minidl.ops.check` lets in, and one message per thing that it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import errors, ops
from minidl.ops import check
from tests.strategies import shapes


@given(st.lists(shapes(max_dims=3, max_side=3), min_size=1, max_size=3))
def test_broadcast_is_numpys(drawn):
    try:
        expected = np.broadcast_shapes(*drawn)
    except ValueError:
        with pytest.raises(errors.ShapeError, match=r"door: shapes .* do not broadcast"):
            check.broadcast("door", *drawn)
    else:
        assert check.broadcast("door", *drawn) == expected


def test_axes():
    assert check.axis("door", -1, 3) == 2
    assert check.axis("door", np.int64(1), 3) == 1
    assert check.axes("door", None, 3) is None
    assert check.axes("door", [0, -1], 3) == (0, 2)
    assert check.axes("door", (), 3) == ()
    for wrong in (3, -4, 1.0, "1", None):
        with pytest.raises(errors.ShapeError, match=r"door: axis .* is not one of the 3 axes"):
            check.axis("door", wrong, 3)


def test_pairs():
    assert check.pair("door", "size", 2) == (2, 2)
    assert check.pair("door", "size", [1, np.int32(3)]) == (1, 3)
    assert check.pair("door", "size", 0, 0) == (0, 0)
    for wrong in (0, (1, 0), (1,), (1, 2, 3), 1.0, None, "ab", (1.0, 1)):
        with pytest.raises(errors.ArgumentError, match=r"door: size must be an integer >= 1"):
            check.pair("door", "size", wrong)


def test_in_range(backend):
    index = minidl.tensor([3, -2, 0], backend=backend)
    assert check.in_range("door", "index", index, -2, 4) == (-2, 3)
    assert check.in_range("door", "index", index[:0], 0, 0) == (0, 0)
    for low, high, wrong in ((-2, 3, 3), (-1, 4, -2)):
        with pytest.raises(
            errors.IndexRangeError, match=f"contains {wrong}, .* {low} to {high - 1}"
        ):
            check.in_range("door", "index", index, low, high)


def test_every_error_is_also_pythons_own():
    for error, builtin in (
        (errors.ShapeError, ValueError),
        (errors.ArgumentError, ValueError),
        (errors.BackendMismatch, ValueError),
        (errors.DTypeError, TypeError),
        (errors.IndexRangeError, IndexError),
        (errors.GraphError, RuntimeError),
    ):
        assert issubclass(error, builtin)
        assert issubclass(error, errors.MinidlError)


# One mistake in each family of operations: (call, error, what the message must name).
MISTAKES = {
    "shapes": (lambda x, i: x + x[:1, :2], "ShapeError", ["Add", "(2, 3)", "(1, 2)"]),
    "axis": (lambda x, i: x.sum(2), "ShapeError", ["sum", "2"]),
    "label": (
        lambda x, i: ops.cross_entropy(x, i + 9),
        "IndexRangeError",
        ["cross_entropy", "10", "0 to 2"],
    ),
    "row": (lambda x, i: ops.embedding(x, i + 9), "IndexRangeError", ["embedding", "0 to 1"]),
    "position": (lambda x, i: x[7], "IndexRangeError", ["getitem", "7", "length 2"]),
    "float index": (lambda x, i: x[x], "DTypeError", ["getitem", "float32"]),
    "float label": (lambda x, i: ops.nll_loss(x, x[:, 0]), "DTypeError", ["nll_loss", "astype"]),
    "reduction": (lambda x, i: ops.mse_loss(x, x, "avg"), "ArgumentError", ["mse_loss", "'avg'"]),
    "probability": (lambda x, i: ops.dropout(x, 1.5), "ArgumentError", ["dropout", "1.5"]),
    "stride": (
        lambda x, i: ops.max_pool2d(x.reshape(1, 1, 2, 3), 1, 0),
        "ArgumentError",
        ["max_pool2d", "stride", "0"],
    ),
    "groups": (
        lambda x, i: ops.conv2d(x.reshape(1, 2, 1, 3), x.reshape(2, 3, 1, 1), groups=2),
        "ShapeError",
        ["conv2d", "groups = 2", "(1, 2, 1, 3)", "(2, 3, 1, 1)"],
    ),
    "empty": (lambda x, i: x[:, :0].max(1), "ShapeError", ["max", "(2, 0)"]),
    "integers": (lambda x, i: ops.softmax(i), "DTypeError", ["softmax", "int64", "astype"]),
    "list": (lambda x, i: x * [1, 2, 3], "DTypeError", ["Multiply", "list", "minidl.tensor"]),
    "array": (lambda x, i: np.ones(3) * x, "DTypeError", ["Multiply", "numpy.ndarray"]),
    "dtypes": (
        lambda x, i: ops.linear(x, x.astype("float64")),
        "DTypeError",
        ["linear", "float32", "float64", "astype"],
    ),
    "product": (lambda x, i: x @ x, "ShapeError", ["matmul", "(2, 3)"]),
    "truth": (lambda x, i: bool(x > 0), "ShapeError", ["6 elements", ".any()"]),
    "in place": (
        lambda x, i: x.requires_grad_().add_(1),
        "GraphError",
        ["add_", "requires grad", "no_grad"],
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_the_same_error_everywhere_and_says_what_is_wrong(backend, call, error, words):
    x = minidl.ones((2, 3), backend=backend)
    i = minidl.tensor([0, 1], backend=backend)
    with pytest.raises(errors.MinidlError) as caught:
        call(x, i)
    assert type(caught.value).__name__ == error
    for word in words:
        assert word in str(caught.value)
