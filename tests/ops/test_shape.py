"""Other shapes and orders of the same elements, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, ShapeError
from minidl.verify.operations.shape import CASES, X
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


def test_concatenate_promotes_and_gives_each_part_its_own_dtype(backend):
    a = minidl.ones(2, requires_grad=True, backend=backend)
    b = minidl.ones(1, "float64", requires_grad=True, backend=backend)
    y = ops.concatenate([a, b, minidl.tensor([3], backend=backend)])
    assert_same(y.numpy(), np.array([1, 1, 1, 3.0]))
    y.backward(minidl.tensor([1.0, 2.0, 3.0, 4.0], "float64", backend=backend))
    assert_same(a.grad.numpy(), np.array([1, 2], np.float32))
    assert_same(b.grad.numpy(), np.array([3.0]))


def test_views_share_memory_on_a_cpu():
    x = minidl.tensor(X, backend="numpy")
    for view in (
        x.reshape(-1),
        x.T,
        x[0],
        x[1, 2, 3],
        x[0][0][0],
        x[..., ::-1],
        ops.alias(x),
        ops.flip(x),
        x.expand(2, 2, 3, 4),
    ):
        assert np.shares_memory(view.numpy(), x.numpy())
    for copied in (x[[0, 1]], x[x > -9], x.clone(), x.astype("float64"), ops.pad(x, 0)):
        assert not np.shares_memory(copied.numpy(), x.numpy())


def test_what_shares_memory_shares_its_version(backend):
    x = minidl.tensor(X, backend=backend)
    for view in (x.reshape(-1), x[0], x[..., ::-1]):
        assert view.version is x.version
    for copied in (x[[0, 1]], x[x > -9], x[:, [0]], ops.pad(x, 0)):
        assert copied.version is not x.version


def test_bad_shapes(backend):
    x = minidl.tensor(X, backend=backend)
    for shape in ((5, 5), (-1, -1), (-1, 5), (-1, 0), (-24,), (-1, -2, -12), ()):
        with pytest.raises(ShapeError, match=r"reshape: 24 elements \(shape \(2, 3, 4\)\)"):
            ops.reshape(x, shape)
    with pytest.raises(ShapeError, match=r"reshape: 1 elements .* shape \(-1, -1\)"):
        ops.reshape(x[0, 0, :1], (-1, -1))
    for shape in ((2.0, 12), "24", (None, 24)):
        with pytest.raises(ArgumentError, match="reshape: a shape consists of integers"):
            ops.reshape(x, shape)
    for shape in ((2, 3), (2, 3, 5), (4,), (2, 0, 4)):
        with pytest.raises(ShapeError, match="broadcast_to"):
            ops.broadcast_to(x, shape)


def test_bad_axes(backend):
    x = minidl.tensor(X, backend=backend)
    for axes in ((0, 1), (0, 1, 1), (0, 1, 3), (0, 1, 2, 2), (), (0,), 0):
        for function in (ops.transpose, minidl.Tensor.transpose):
            with pytest.raises(ShapeError, match="transpose"):
                function(x, axes)
    for name, call in {
        "swapaxes": lambda: ops.swapaxes(x, 0, 3),
        "flatten": lambda: ops.flatten(x, 3),
        "squeeze": lambda: ops.squeeze(x, 3),
        "unsqueeze": lambda: ops.unsqueeze(x, 4),
        "concatenate": lambda: ops.concatenate([x, x], 3),
        "stack": lambda: ops.stack([x, x], 4),
        "split": lambda: ops.split(x, 1, 3),
        "flip": lambda: ops.flip(x, 3),
        "gather": lambda: ops.gather(x, 3, minidl.zeros((2, 3, 4), "int64", backend=backend)),
    }.items():
        with pytest.raises(ShapeError, match=rf"{name}: axis \d is not one of"):
            call()
    with pytest.raises(ShapeError, match=r"squeeze: axis 1 of shape \(2, 3, 4\)"):
        ops.squeeze(x, 1)
    with pytest.raises(ShapeError, match=r"flip: axis \(0, 0\).*twice"):
        ops.flip(x, (0, 0))


def test_bad_concatenate_and_stack(backend, other):
    x, y = minidl.ones((2, 3), backend=backend), minidl.ones((2, 4), backend=backend)
    with pytest.raises(ShapeError, match=r"concatenate: shapes \(2, 3\), \(2, 4\)"):
        ops.concatenate([x, y])
    with pytest.raises(ShapeError, match=r"stack: shapes \(2, 3\), \(2, 4\)"):
        ops.stack([x, y])
    for function in (ops.concatenate, ops.stack):
        with pytest.raises(ShapeError, match=rf"{function.__name__}: needs at least one"):
            function([])
        with pytest.raises(DTypeError, match=f"{function.__name__}: .*must be a Tensor"):
            function([x, [1.0]])
    with pytest.raises(BackendMismatch, match="Concatenate"):
        ops.concatenate([x, minidl.ones((2, 3), backend=other)])


def test_bad_split_and_pad(backend):
    x = minidl.ones((2, 5), backend=backend)
    for size in (0, -1):
        with pytest.raises(ArgumentError, match=f"split: size .*got {size}"):
            ops.split(x, size, 1)
    for sizes in ([2, 2], [6, -1], []):
        with pytest.raises(ShapeError, match=r"split: sizes .* axis 1 of length 5"):
            ops.split(x, sizes, 1)
    with pytest.raises(ShapeError, match="pad: 1 widths for the 2 axes"):
        ops.pad(x, [(1, 1)])
    for widths in ([(1, -1), (0, 0)], [(1, 1, 1), (0, 0)], [(0.5, 1), (0, 0)], (1, 2), -1):
        with pytest.raises(ArgumentError, match="pad"):
            ops.pad(x, widths)


@pytest.mark.parametrize(
    "name",
    ["reshape", "transpose", "flatten", "squeeze", "unsqueeze", "broadcast_to", "split", "pad",
     "flip", "getitem", "gather", "index_add", "swapaxes"],
)  # fmt: skip
def test_what_is_no_tensor_is_refused(name):
    more = {"gather": (0, None), "index_add": (0, None, None), "swapaxes": (0, 1)}
    alone = ("transpose", "flatten", "squeeze", "flip")
    with pytest.raises(DTypeError, match="must be a Tensor, got list"):
        getattr(ops, name)([1.0], *(() if name in alone else more.get(name, (0,))))
