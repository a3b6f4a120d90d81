"""Matrix products and Einstein sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import ops
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, ShapeError
from minidl.verify.gradients import check_order, eighths
from minidl.verify.operations.linear import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


def test_a_product_with_itself(backend):
    """One array in two places: both gradients arrive, also in the second derivative."""
    x = minidl.tensor(eighths(3, 3), requires_grad=True, backend=backend)
    check_order(lambda x: x @ x, [x], [0], 2)
    check_order(lambda x: ops.einsum("ij,ij->i", x, x), [x], [0], 2)


@given(sizes=st.tuples(*[st.integers(0, 3)] * 4), batch=st.booleans())
def test_products_of_any_size(backend, sizes, batch):
    """Empty ones too: a sum over nothing is 0."""
    b, n, d, o = sizes
    a, w = eighths(*((b, n, d) if batch else (n, d))), eighths(d, o, seed=1)
    xs = [minidl.tensor(v, requires_grad=True, backend=backend) for v in (a, w)]
    y = xs[0] @ xs[1]
    assert_same(y.numpy(), a @ w, signed_zero=False)
    y.sum().backward()
    ones = np.ones(y.shape)
    assert_same(xs[0].grad.numpy(), ones @ w.T, signed_zero=False)
    expected = (np.swapaxes(a, -1, -2) @ ones).reshape(b if batch else 1, d, o).sum(axis=0)
    assert_same(xs[1].grad.numpy(), expected, signed_zero=False)


def test_integer_products(backend):
    a, b = np.arange(6).reshape(2, 3), np.arange(6, dtype=np.int32).reshape(3, 2)
    x, y = (minidl.from_numpy(v, backend=backend) for v in (a, b))
    assert_same((x @ y).numpy(), a @ b)


def test_linear_without_rows(backend):
    x = minidl.zeros((0, 3), requires_grad=True, backend=backend)
    w = minidl.ones((2, 3), requires_grad=True, backend=backend)
    for rows in (x, x.reshape(0, 1, 3), x.reshape(2, 0, 3)):
        y = ops.linear(rows, w)
        assert y.shape == (*rows.shape[:-1], 2)
        (grad,) = minidl.grad(y.sum(), w)
        assert_same(grad.numpy(), np.zeros((2, 3), np.float32), signed_zero=False)


@pytest.mark.parametrize("wanted", range(3))
def test_what_is_frozen_costs_no_gradient_and_the_rest_gets_its_own(backend, wanted):
    arrays = eighths(2, 3), eighths(4, 3, seed=1), eighths(4, seed=2)
    whole, alone = (
        [minidl.tensor(a, requires_grad=i in ids, backend=backend) for i, a in enumerate(arrays)]
        for ids in (range(3), [wanted])
    )
    for inputs in (whole, alone):
        ops.linear(*inputs).sum().backward()
    assert_same(alone[wanted].grad.numpy(), whole[wanted].grad.numpy())
    assert [x.grad is None for x in alone] == [i != wanted for i in range(3)]


def test_linear_without_features(backend):
    """The empty sum is 0, so what is left is the bias."""
    bias = eighths(4)
    w, b = minidl.zeros((4, 0), backend=backend), minidl.tensor(bias, backend=backend)
    for rows in ((3,), (2, 3), ()):
        y = ops.linear(minidl.zeros((*rows, 0), w.dtype, backend=backend), w, b.astype(w.dtype))
        assert_same(y.numpy(), np.broadcast_to(bias.astype(np.float32), (*rows, 4)))


def test_bad_products(backend, other):
    x = minidl.ones((2, 3), backend=backend)
    for b in ((2, 3), (2,), ()):
        with pytest.raises(ShapeError, match=r"matmul: .*\(2, 3\)"):
            x @ minidl.ones(b, backend=backend)
    with pytest.raises(ShapeError, match=r"matmul: shapes .* do not broadcast"):
        ops.matmul(minidl.ones((2, 1, 3), backend=backend), minidl.ones((3, 3, 1), backend=backend))
    with pytest.raises(BackendMismatch, match="MatMul"):
        x @ minidl.ones((3, 2), backend=other)
    for foreign in ([[1.0]], 2.0):
        with pytest.raises(DTypeError, match=r"matmul: (b must be a Tensor|needs tensors)"):
            x @ foreign


def test_bad_linear(backend, other):
    def ones(*shape, dtype="float32", at=backend):
        return minidl.ones(shape, dtype, backend=at)

    for x, w in (((2, 3), (4, 2)), ((), (1, 1)), ((2, 3), (3,))):
        with pytest.raises(ShapeError, match="linear"):
            ops.linear(ones(*x), ones(*w))
    with pytest.raises(ShapeError, match=r"linear: bias must have shape \(4,\), got \(3,\)"):
        ops.linear(ones(2, 3), ones(4, 3), ones(3))
    with pytest.raises(DTypeError, match=r"linear: x is float32, but weight is float64"):
        ops.linear(ones(2, 3), ones(4, 3, dtype="float64"))
    with pytest.raises(DTypeError, match=r"linear: x must be floating, got int64"):
        ops.linear(ones(2, 3, dtype="int64"), ones(4, 3))
    with pytest.raises(DTypeError, match=r"linear: bias must be a Tensor, got list"):
        ops.linear(ones(2, 3), ones(4, 3), [1.0] * 4)
    with pytest.raises(BackendMismatch, match="Linear"):
        ops.linear(ones(2, 3), ones(4, 3), ones(4, at=other))


@pytest.mark.parametrize(
    ("spec", "shapes", "error"),
    [
        ("ij,jk->ik", [(2, 3)], ArgumentError),
        ("ij->ij", [(2, 3), (3, 2)], ArgumentError),
        ("ii->i", [(2, 2)], ArgumentError),
        ("ij->ii", [(2, 3)], ArgumentError),
        ("ij->ik", [(2, 3)], ArgumentError),
        ("i...->i", [(2, 3)], ArgumentError),
        ("i1->i", [(2, 3)], ArgumentError),
        ("éß->é", [(2, 3)], ArgumentError),
        ("", [], ArgumentError),
        (3, [(2,)], ArgumentError),
        ("ijk->i", [(2, 3)], ShapeError),
        ("ij,jk->ik", [(2, 3), (4, 2)], ShapeError),
    ],
)
def test_bad_einsum(backend, spec, shapes, error):
    with pytest.raises(error, match="einsum"):
        ops.einsum(spec, *(minidl.ones(s, backend=backend) for s in shapes))
    with pytest.raises(DTypeError, match="einsum: operand must be a Tensor"):
        ops.einsum("i->", [1.0])
