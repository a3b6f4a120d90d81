"""The door: what `minidl.ops.check` lets in, and one message per thing that it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import errors, ops
from minidl.ops import check
from minidl.verify.strategies import shapes


@given(st.lists(shapes(max_dims=3, max_side=3), min_size=1, max_size=3))
def test_broadcast_is_numpys(drawn):
    try:
        expected = np.broadcast_shapes(*drawn)
    except ValueError:
        with pytest.raises(errors.ShapeError, match=r"door: shapes .* do not broadcast"):
            check.broadcast("door", *drawn)
    else:
        assert check.broadcast("door", *drawn) == expected


def test_no_shapes_broadcast_to_that_of_a_number():
    assert check.broadcast("door") == ()


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


def test_numbers():
    assert check.number("door", "p", np.float32(0.5), 0, 1) == 0.5
    assert type(check.number("door", "p", np.float64(0.5))) is float
    assert np.isnan(check.number("door", "p", float("nan")))
    for wrong, bounds, text in (
        ("a", {}, "must be a number, got 'a'"),
        (2j, {}, "must be a number"),
        (-1, {"low": 0}, "must be a number >= 0, got -1"),
        (0, {"low": 0, "above": True}, "must be a number > 0, got 0"),
        (1, {"low": 0, "high": 1, "below": True}, "must be from 0 to below 1, got 1"),
        (float("nan"), {"low": 0, "high": 1}, "must be from 0 to 1, got nan"),
    ):
        with pytest.raises(errors.ArgumentError, match=f"door: p {text}"):
            check.number("door", "p", wrong, **bounds)


def test_integers():
    assert type(check.integer("door", "n", np.int8(3), 1)) is int
    for wrong in (0, 1.0, True, "1", None):
        with pytest.raises(errors.ArgumentError, match="door: n must be an integer >= 1, got"):
            check.integer("door", "n", wrong, 1)


def test_instances():
    for wrong, kind in ((3, "int"), (minidl.Tensor, "the class Tensor")):
        with pytest.raises(errors.DTypeError, match=f"door: x must be a Tensor, got {kind}!"):
            check.instance("door", "x", wrong, minidl.Tensor, "!")


def test_what_a_numpy_user_passes_works(backend):
    """NumPy's integers and scalars, arrays as shapes, iterators; none of them widens the result."""
    x = minidl.tensor(np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6), backend=backend)
    flat, two, half = x.reshape(np.array([6, 6])), np.int64(2), np.float64(0.5)
    for y, shape in (
        (flat * half, (6, 6)),
        (two - flat, (6, 6)),
        (flat / np.ones((2, 1, 6), np.float32), (2, 6, 6)),
        (np.ones((6, 1), np.float32) + flat, (6, 6)),
        (flat[range(2)], (2, 6)),
        (ops.split(flat, two)[0], (2, 6)),
        (ops.split(flat, np.array([2, 4]))[1], (4, 6)),
        (ops.pad(flat, two, half), (10, 10)),
        (ops.pad(flat, np.array([[1, 0], [0, 1]])), (7, 7)),
        (ops.concatenate(iter([flat, flat])), (12, 6)),
        (ops.stack(iter([flat, flat])), (2, 6, 6)),
        (flat.expand(two, -1, 6), (2, 6, 6)),
        (ops.clip(flat, half, np.float64(3)), (6, 6)),
        (ops.leaky_relu(flat, half), (6, 6)),
        (flat.var(correction=np.int64(0)), ()),
        (ops.layer_norm(flat, np.int64(6), eps=half), (6, 6)),
        (ops.batch_norm(flat, flat[0], flat[1], eps=half), (6, 6)),
        (ops.group_norm(flat, two, eps=half), (6, 6)),
        (ops.dropout(flat, half), (6, 6)),
        (ops.conv2d(x, x[..., :2, :2], stride=np.array([1, 2]), groups=np.int64(1)), (1, 1, 5, 3)),
        (ops.max_pool2d(x, two), (1, 1, 3, 3)),
        (ops.cross_entropy(flat, minidl.arange(6, backend=backend), None, two), ()),
    ):
        assert (y.shape, y.dtype) == (shape, np.float32)


def test_an_index_may_come_from_another_backend(backend, other):
    x = minidl.arange(4, backend=backend)
    picked = x[minidl.tensor([3, 1], backend=other)]
    assert (picked.backend, picked.tolist()) == (backend, [3, 1])


def test_integers_to_integer_powers_are_integers(backend):
    i = minidl.tensor([0, 2, 3], backend=backend)
    for y, expected in ((i**2, [0, 4, 9]), (i**i, [1, 4, 27]), (2**i, [1, 4, 8])):
        assert (y.dtype, y.tolist()) == (np.int64, expected)
    assert (i[:0] ** i[:0]).shape == (0,)


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
    "array": (lambda x, i: ops.exp(np.ones(3)), "DTypeError", ["exp", "ndarray"]),
    "too large": (lambda x, i: i.astype("int8") + 300, "ArgumentError", ["Add", "int8", "300"]),
    "too small": (lambda x, i: -1 * i.astype("uint8"), "ArgumentError", ["Multiply", "-1"]),
    "shape of an array": (lambda x, i: x - np.ones(2), "ShapeError", ["Subtract", "(2,)"]),
    "no operand": (lambda x, i: ops.add(1, np.ones(2)), "DTypeError", ["Add", "int and ndarray"]),
    "power": (lambda x, i: i**-1, "ArgumentError", ["pow", "astype"]),
    "one power of many": (lambda x, i: i ** (i - 1), "ArgumentError", ["pow", "astype"]),
    "sign of a mask": (lambda x, i: -(x > 0), "DTypeError", ["masks", "~x"]),
    "keepdims as axis": (lambda x, i: x.sum(True), "ShapeError", ["sum", "True"]),
    "correction": (lambda x, i: x.var(correction="a"), "ArgumentError", ["var", "correction"]),
    "slope": (lambda x, i: ops.leaky_relu(x, "a"), "ArgumentError", ["leaky_relu", "'a'"]),
    "bound": (lambda x, i: ops.clip(x, [0], 1), "ArgumentError", ["clip", "number", "[0]"]),
    "half a slice": (lambda x, i: x[0.5:], "DTypeError", ["getitem", "slice", "0.5"]),
    "slice step": (lambda x, i: x[::0], "DTypeError", ["getitem", "step"]),
    "nothing as index": (lambda x, i: x[[None]], "DTypeError", ["getitem", "object"]),
    "piece": (lambda x, i: ops.split(x, 1.5), "ArgumentError", ["split", "size", "1.5"]),
    "pieces": (lambda x, i: ops.split(x, [0.5, 1.5]), "ArgumentError", ["split", "size"]),
    "frame": (lambda x, i: ops.pad(x, 1.5), "ArgumentError", ["pad", "width", "1.5"]),
    "frame of text": (lambda x, i: ops.pad(x, 1, "a"), "ArgumentError", ["pad", "value", "'a'"]),
    "one": (lambda x, i: ops.concatenate(3), "DTypeError", ["concatenate", "int"]),
    "order": (lambda x, i: x.transpose(0), "ShapeError", ["transpose", "2 axes"]),
    "order of text": (lambda x, i: x.transpose("ab"), "ShapeError", ["transpose", "'a'"]),
    "new -1": (lambda x, i: x.expand(-1, 2, 3), "ArgumentError", ["shape", "-1"]),
    "eps": (lambda x, i: ops.layer_norm(x, 3, eps=-1), "ArgumentError", ["layer_norm", "eps"]),
    "size": (lambda x, i: ops.layer_norm(x, 3.0), "ArgumentError", ["shape", "3.0"]),
    "momentum": (
        lambda x, i: ops.batch_norm(x, x[0], x[0], training=True, momentum=2),
        "ArgumentError",
        ["batch_norm", "momentum", "from 0 to 1"],
    ),
    "one statistic": (
        lambda x, i: ops.batch_norm(x, None, x[0], training=True),
        "ArgumentError",
        ["batch_norm", "running_mean", "running_var"],
    ),
    "statistics": (
        lambda x, i: ops.batch_norm(x, *[x[0].astype("int64")] * 2, training=True),
        "DTypeError",
        ["batch_norm", "running_mean", "int64"],
    ),
    "ignored": (
        lambda x, i: ops.cross_entropy(x, i, ignore_index=None),
        "ArgumentError",
        ["cross_entropy", "ignore_index", "None"],
    ),
    "smoothing": (
        lambda x, i: ops.cross_entropy(x, i, label_smoothing="a"),
        "ArgumentError",
        ["cross_entropy", "label_smoothing"],
    ),
    "delta": (lambda x, i: ops.huber_loss(x, x, delta=None), "ArgumentError", ["huber_loss"]),
    "weight": (
        lambda x, i: ops.binary_cross_entropy_with_logits(x, x, 3),
        "DTypeError",
        ["binary_cross_entropy_with_logits", "weight", "int"],
    ),
    "generator": (
        lambda x, i: ops.dropout(x, generator=5),
        "DTypeError",
        ["dropout", "generator", "minidl.Generator"],
    ),
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
