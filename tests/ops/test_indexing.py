"""Elements chosen by position, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import ops
from minidl.errors import DTypeError, IndexRangeError, ShapeError
from minidl.verify import oracle
from minidl.verify.gradients import check_order, covers, eighths
from minidl.verify.operations.indexing import CASES, INDICES, X
from minidl.verify.strategies import shapes
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("label", INDICES)
def test_indexing_moves_every_bit(backend, label):
    """Also with index arrays that are tensors of the backend."""
    index = INDICES[label]
    x = minidl.tensor(X, "float32", backend=backend)
    expected = X.astype(np.float32)[index]
    assert_same(x[index].numpy(), expected)

    def native(i):
        return minidl.tensor(i, backend=backend) if isinstance(i, np.ndarray) else i

    moved = tuple(map(native, index)) if isinstance(index, tuple) else native(index)
    assert_same(x[moved].numpy(), expected)
    written = X.astype(np.float32)
    written[index] = 9
    x[moved] = 9.0
    assert_same(x.numpy(), written)


@st.composite
def basic_indices(draw, shape: tuple[int, ...]) -> tuple:
    """Numbers, slices of any step, new axes and at most one ellipsis, as they fit the shape."""
    items: list = []
    for n in shape:
        if draw(st.integers(0, 4)) == 0:
            items.append(None)
        ends = st.none() | st.integers(-n - 1, n + 1)
        steps = st.none() | st.integers(-2, 3).filter(bool)
        whole = st.builds(slice, ends, ends, steps)
        items.append(draw(whole if n == 0 else whole | st.integers(-n, n - 1)))
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(items)))
        items = [*items[:cut], ...]
    return tuple(items)


@given(data=st.data(), shape=shapes(max_dims=3, max_side=4))
def test_any_basic_index(backend, data, shape):
    index = data.draw(basic_indices(shape))
    x = eighths(*shape)
    t = minidl.tensor(x, requires_grad=True, backend=backend)
    y = t[index]
    assert_same(y.numpy(), x[index])
    start = eighths(*y.shape, seed=6)
    y.backward(minidl.tensor(start, "float64", backend=backend))
    assert_same(t.grad.numpy(), oracle.getitem_grad(start, index, shape), signed_zero=False)


def test_second_derivatives_through_an_index_tensor(backend):
    x = minidl.tensor(X, requires_grad=True, backend=backend)
    i = minidl.tensor([1, 1, 0], backend=backend)
    check_order(lambda x: x[i] * x[i], [x], [0], 2)
    check_order(lambda x: x[:, i] ** 3, [x], [0], 2)


@covers("native_index")
def test_bad_indices(backend):
    x = minidl.ones((2, 3), backend=backend)
    for index, error, words in (
        (2, IndexRangeError, "index 2 is outside axis 0 of length 2"),
        ((slice(None), -4), IndexRangeError, "index -4 is outside axis 1 of length 3"),
        ((None, ..., 3), IndexRangeError, "index 3 is outside axis 1 of length 3"),
        ([0, 2], IndexRangeError, "axis 0 contains 2, allowed are -2 to 1"),
        ((0, np.array([-4])), IndexRangeError, "axis 1 contains -4, allowed are -3 to 2"),
        ((0, 0, 0), ShapeError, r"3 indices for a tensor with 2 axes \(shape \(2, 3\)\)"),
        ((..., 0, ...), ShapeError, "at most one ellipsis"),
        (np.ones(3, bool), ShapeError, r"a mask of shape \(3,\) on axes of lengths \(2,\)"),
        (np.ones((2, 2), bool), ShapeError, r"\(2, 2\) on axes of lengths \(2, 3\)"),
        (([0, 1], [0, 1, 2]), ShapeError, r"shapes \(2,\) and \(3,\)"),
        (0.5, DTypeError, "cannot index with float"),
        ("row", DTypeError, "cannot index with str"),
        (np.array([0.5]), DTypeError, "integers or booleans, got float64"),
        ([0.5], DTypeError, "integers or booleans, got float64"),
        ([[0], [0, 1]], DTypeError, "rows of equal length"),
    ):
        with pytest.raises(error, match=words):
            x[index]
        with pytest.raises(error, match=words):
            x[index] = 1.0


def test_bad_gather_and_index_add(backend):
    x = minidl.ones((2, 3), backend=backend)
    i = minidl.zeros((2, 3), "int64", backend=backend)
    with pytest.raises(IndexRangeError, match="gather: index contains 3, allowed are 0 to 2"):
        ops.gather(x, 1, i + 3)
    with pytest.raises(IndexRangeError, match="gather: index contains -1"):
        ops.gather(x, 1, i - 1)
    for wrong in (i[0], i.T, i[:1]):
        with pytest.raises(ShapeError, match=r"gather: index .* must match x \(2, 3\)"):
            ops.gather(x, 1, wrong)
    for wrong in (x, [[0, 0, 0]], i.astype("bool")):
        with pytest.raises(DTypeError, match="gather: index must"):
            ops.gather(x, 1, wrong)
    at = minidl.tensor([0, 2], backend=backend)
    with pytest.raises(IndexRangeError, match="index_add: index contains 2, allowed are 0 to 1"):
        ops.index_add(x, 0, at, x)
    with pytest.raises(ShapeError, match=r"index_add: .*needs a source of \(2, 2\)"):
        ops.index_add(x, 1, at, x)
    with pytest.raises(DTypeError, match="index_add: x is float32, but source is float64"):
        ops.index_add(x, 0, at[:1], x[:1].astype("float64"))
