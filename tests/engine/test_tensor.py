"""What a tensor says about itself, and how it leaves the engine."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import minidl
from minidl.errors import (
    ArgumentError,
    BackendMismatch,
    DTypeError,
    GraphError,
    IndexRangeError,
    ShapeError,
)
from minidl.verify.tolerances import assert_same


def test_attributes(backend):
    x = minidl.zeros((2, 3), "int32", backend=backend)
    assert (x.shape, x.ndim, x.size, x.nbytes, x.dtype) == ((2, 3), 2, 6, 24, np.int32)
    assert (len(x), x.is_leaf, x.backend) == (2, True, backend)
    assert [row.tolist() for row in x] == [[0, 0, 0], [0, 0, 0]]
    assert not (minidl.ones(1, requires_grad=True, backend=backend) * 2).is_leaf


def test_no_attribute_comes_from_a_typing_error(backend):
    with pytest.raises(AttributeError):
        minidl.ones(1, backend=backend).gard = 1


def test_repr(backend):
    def text(x: minidl.Tensor) -> str:
        return re.sub(r", backend=[\w-]+", "", repr(x))

    x = minidl.tensor([[1.0, 2.5]], requires_grad=True, backend=backend)
    assert text(x) == "Tensor([[1. , 2.5]], requires_grad=True)"
    assert text(x * 2) == "Tensor([[2., 5.]], node=Multiply)"
    assert text(x.detach()) == "Tensor([[1. , 2.5]])"
    assert text(x.detach().astype("float64")) == "Tensor([[1. , 2.5]], dtype=float64)"
    assert text(minidl.tensor([1, 2], backend=backend)) == "Tensor([1, 2])"
    assert ("backend=" in repr(x)) == (backend.name != "numpy")


def test_arrays_and_dlpack_come_out(backend):
    x = minidl.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, backend=backend)
    expected = np.array([[1, 2], [3, 4]], np.float32)
    assert_same(np.asarray(x), expected)
    assert_same(np.asarray(x, np.float64), expected.astype(np.float64))
    assert_same(np.from_dlpack(x.to("numpy").detach()), expected)
    assert x.tolist() == expected.tolist()
    assert np.array(x).flags.writeable
    copied = np.array(x)
    copied[0, 0] = 9
    assert x[0, 0].item() == 1


def test_dlpack_shares_memory_on_a_cpu():
    x = minidl.zeros(3, backend="numpy")
    taken = np.from_dlpack(x)
    x[0] = 7
    assert taken[0] == 7
    assert x.__dlpack_device__() == (1, 0)  # (kDLCPU, 0)


def test_one_element_as_a_number(backend):
    x = minidl.tensor([[2.5]], backend=backend)
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert not minidl.tensor(0, backend=backend)
    i = minidl.tensor(2, backend=backend)
    assert [10, 20, 30][i] == 30
    assert isinstance(i.item(), int)
    many = minidl.ones(2, backend=backend)
    for convert in (float, int, bool, minidl.Tensor.item):
        with pytest.raises(ShapeError, match=r"\(2,\)"):
            convert(many)
    with pytest.raises(ShapeError, match=r"\.all\(\)"):
        bool(minidl.ones(0, backend=backend))
    with pytest.raises(DTypeError, match="float32"):
        [1, 2][minidl.tensor(1.0, backend=backend)]
    with pytest.raises(ShapeError, match="0-d"):
        len(minidl.tensor(1.0, backend=backend))


def test_all_and_any(backend):
    x = minidl.tensor([True, False], backend=backend)
    assert (x.any(), x.all(), (x | ~x).all(), (x & ~x).any()) == (True, False, True, False)


def test_hash_is_identity(backend):
    x, y = minidl.ones(2, backend=backend), minidl.ones(2, backend=backend)
    assert len({x, y, x}) == 2
    assert {x: "x", y: "y"}[y] == "y"


def test_methods_are_the_operations(backend):
    values = np.array([[0.25, 4.0, 1.0], [9.0, 0.5, 2.0]])
    x = minidl.from_numpy(values, backend=backend)
    for name in ("exp", "log", "sqrt", "abs", "tanh", "sigmoid", "relu", "clone", "squeeze"):
        assert_same(getattr(x, name)().numpy(), getattr(minidl.ops, name)(x).numpy())
    for name in ("sum", "mean", "var", "max", "min"):
        for options in ({}, {"axis": 1}, {"axis": (0, 1), "keepdims": True}):
            expected = getattr(minidl.ops, name)(x, **options)
            assert_same(getattr(x, name)(**options).numpy(), expected.numpy())
    assert_same(x.argmax(1).numpy(), values.argmax(1))
    for reshaped in (x.reshape(3, 2), x.reshape((3, 2)), x.reshape([-1, 2])):
        assert_same(reshaped.numpy(), values.reshape(3, 2))
    y = x.reshape(1, 2, 3)
    for moved in (y.transpose(2, 0, 1), y.permute((2, 0, 1))):
        assert_same(moved.numpy(), values.reshape(1, 2, 3).transpose(2, 0, 1))
    assert_same(y.T.numpy(), values.reshape(1, 2, 3).T)
    assert_same(y.transpose().numpy(), values.reshape(1, 2, 3).T)
    assert_same(y.mT.numpy(), values.T[None])
    assert_same(x.expand(2, 2, 3).numpy(), np.broadcast_to(values, (2, 2, 3)))
    assert (x.flatten().shape, y.flatten(1).shape) == ((6,), (1, 6))
    assert (x.unsqueeze(0).shape, y.squeeze(0).shape) == ((1, 2, 3), (2, 3))


OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_operators_on_both_sides(backend, operator):
    """Powers of two and small exponents: every result is exact."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 1.0])
    x, y = (minidl.from_numpy(v, backend=backend) for v in (a, b))
    assert_same(operator(x, y).numpy(), operator(a, b))
    assert_same(operator(x, 2).numpy(), operator(a, 2))
    assert_same(operator(2, x).numpy(), operator(2, a))


def test_masks_have_no_minus(backend):
    m = minidl.tensor([True, False], backend=backend)
    for wrong in (lambda: -m, lambda: m - m, lambda: m - True):
        with pytest.raises(DTypeError, match="masks have no sign; use ~x"):
            wrong()
    with pytest.raises(DTypeError, match="sign: masks have no sign"):
        minidl.ops.sign(m)
    assert (m - 1).tolist() == [0, -1]


def test_a_number_that_an_integer_tensor_cannot_hold_is_refused(backend):
    """NumPy overflows, wraps around or raises an error of its own, depending on the function."""
    u, i = (minidl.tensor([1, 2], kind, backend=backend) for kind in ("uint8", "int64"))
    for wrong in (
        lambda: u + 300,
        lambda: -1 - u,
        lambda: u * np.int64(1000),
        lambda: i + 2**63,
        lambda: u.fill_(300),
        lambda: u.add_(-1),
        lambda: u.__setitem__(0, 300),
        lambda: i.__setitem__(0, float("nan")),
        lambda: i.fill_(1e30),
        lambda: minidl.ops.where(u > 1, u, 300),
        lambda: minidl.ops.pad(u, 1, 300),
    ):
        with pytest.raises(ArgumentError, match=r"(uint8|int64) cannot hold"):
            wrong()
    assert u.tolist() == i.tolist() == [1, 2]
    assert (u > 300).tolist() == [False, False]
    assert (u + 253).tolist() == [254, 255]


def test_an_integer_beyond_all_floats_is_refused(backend):
    x, huge = minidl.ones(2, backend=backend), 10**400
    for wrong in (
        lambda: x * huge,
        lambda: huge**x,
        lambda: x < huge,
        lambda: x.fill_(huge),
        lambda: x.__setitem__(0, -huge),
        lambda: x.astype("int64") + huge,
        lambda: minidl.ops.where(x > 0, x, huge),
        lambda: minidl.full(2, huge, backend=backend),
        lambda: minidl.ops.clip(x, None, huge),
    ):
        with pytest.raises(ArgumentError, match="is an integer that no float can hold"):
            wrong()
    assert (x * 10**30).dtype == np.float32


def test_negative_powers_of_integers(backend):
    i = minidl.tensor([1, 2], backend=backend)
    for wrong in (lambda: i**-1, lambda: i ** np.int64(-1), lambda: i ** (i - 2), lambda: 2**-i):
        with pytest.raises(ArgumentError, match="negative powers of integers"):
            wrong()
    assert (i**-1.0).tolist() == [1, 0.5]
    assert (i[:0] ** i[:0]).tolist() == []


def test_memory_that_is_shared_or_read_only_is_not_written(backend):
    x = minidl.tensor([1.0], backend=backend)
    fixed = np.ones(2, np.float32)
    fixed.flags.writeable = False
    repeated = [x.expand(3)]
    if backend.name != "cupy":  # which copies what it gets from the host
        repeated.append(minidl.from_numpy(fixed, backend=backend))
    for y in repeated:
        for write in (lambda y=y: y.add_(1), lambda y=y: y.__setitem__(0, 2)):
            with pytest.raises(ArgumentError, match=r"read-only; copy them: x\.clone\(\)"):
                write()
    assert x.expand(3).clone().add_(1).tolist() == [2, 2, 2]
    assert x.tolist() == [1]


def test_only_leaves_are_copied_and_pickled(backend):
    x = minidl.tensor([1.0], requires_grad=True, backend=backend)
    (x * 3).sum().backward()
    twin = copy.deepcopy(x)
    assert (twin.tolist(), twin.grad.tolist(), twin.requires_grad) == ([1], [3], True)
    assert twin.data is not x.data
    for take in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GraphError, match=r"graph along; use x\.detach"):
            take(x * 2)
    assert copy.deepcopy((x * 2).detach()).tolist() == [2]


def test_a_pickled_tensor_finds_its_backend():
    x = minidl.nn.Parameter(minidl.ones(2, backend="numpy"))
    again = pickle.loads(pickle.dumps(x))
    assert again.backend is x.backend
    assert (again + x).tolist() == [2, 2]


def test_format_of_one_number(backend):
    """As in a line that prints a loss."""
    x = minidl.tensor(0.12345, backend=backend)
    assert f"{x:.2f}" == "0.12"
    assert f"{x}" == str(x)
    with pytest.raises(ShapeError, match="exactly one element"):
        format(minidl.ones(2, backend=backend), ".2f")


@pytest.mark.parametrize("wrong", ["a", None, [[1], [2, 3]], {}], ids=repr)
def test_what_is_no_number_is_not_written(backend, wrong):
    x = minidl.ones((2, 2), backend=backend)
    for write in (x.copy_, x.fill_, lambda value: x.__setitem__(0, value)):
        with pytest.raises(DTypeError, match="needs a tensor, a number, or numbers in rows"):
            write(wrong)
    assert x.tolist() == [[1, 1], [1, 1]]


def test_other_operators(backend):
    a = np.array([[1.0, -2.0], [3.0, 4.0]])
    x = minidl.from_numpy(a, backend=backend)
    assert_same((-x).numpy(), -a)
    assert_same(abs(x).numpy(), abs(a))
    assert_same((x @ x).numpy(), a @ a)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("foreign", [[1.0, 2.0], "2", None, 2j, np.complex64(2)], ids=repr)
def test_what_is_no_tensor_and_no_number_is_refused_on_both_sides(backend, operator, foreign):
    x = minidl.ones(2, backend=backend)
    for operands in ((x, foreign), (foreign, x)):
        with pytest.raises(DTypeError, match=r"(?i)tensor"):
            operator(*operands)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_numpy_is_welcome_on_both_sides(backend, operator):
    """A scalar widens no tensor, as a Python number does not; an array counts as a tensor."""
    a = np.array([1, 2, 4], np.float32)
    x = minidl.from_numpy(a, backend=backend)
    for scalar in (np.float64(2), np.float32(2), np.int64(2)):
        assert_same(operator(x, scalar).numpy(), operator(a, 2))
        assert_same(operator(scalar, x).numpy(), operator(2, a))
    assert_same(operator(x, a).numpy(), operator(a, a))
    assert_same(operator(a, x).numpy(), operator(a, a))
    with pytest.raises(DTypeError, match="uint16"):
        operator(x, np.ones(3, np.uint16))


def test_numpy_is_welcome_in_products_masks_and_in_place(backend):
    a, mask = np.ones((2, 2), np.float32), np.array([True, False])
    x, m = minidl.from_numpy(a, backend=backend), minidl.from_numpy(mask, backend=backend)
    assert_same((x @ a).numpy(), a @ a)
    assert_same((a @ x).numpy(), a @ a)
    assert_same((m & mask).numpy(), mask)
    assert_same((mask | m).numpy(), mask)
    assert_same(x.clone().add_(np.float64(2)).mul_(a).numpy(), a + 2)
    assert_same(minidl.ops.where(mask, x, 0).numpy(), np.where(mask, a, np.float32(0)))
    with pytest.raises(DTypeError, match="matmul: b must be a Tensor, got float"):
        x @ np.float32(2)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_two_backends_do_not_mix(backend, other, operator):
    x, y = minidl.ones(2, backend=backend), minidl.ones(2, backend=other)
    with pytest.raises(BackendMismatch) as caught:
        operator(x, y)
    for word in (f"{backend.name!r}", f"{other.name!r}", ".to("):
        assert word in str(caught.value)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_shapes_that_do_not_broadcast(backend, operator):
    x, y = minidl.ones((2, 3), backend=backend), minidl.ones((2, 1, 4), backend=backend)
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(2, 1, 4\).*axis -1"):
        operator(x, y)


@pytest.mark.parametrize("operator", [OPERATORS[k] for k in "+-*/"], ids=list("+-*/"))
def test_dtypes_promote_as_in_numpy(backend, operator):
    kinds = ("float32", "float64", "int8", "uint8", "int32", "int64")
    for first in kinds:
        a = np.array([1, 2], first)
        x = minidl.from_numpy(a, backend=backend)
        for scalar in (2, 0.5, True):
            assert operator(x, scalar).dtype == operator(a, scalar).dtype
            assert operator(scalar, x).dtype == operator(scalar, a).dtype
        for second in kinds:
            b = np.array([2, 2], second)
            result = operator(x, minidl.from_numpy(b, backend=backend))
            assert_same(result.numpy(), operator(a, b))


def test_moving_between_backends_keeps_history(backend, other):
    x = minidl.tensor([1.0, 2.0], requires_grad=True, backend=backend)
    assert x.to(backend) is x
    moved = x.to(other)
    assert moved.backend is other
    back = (moved * 3).to(backend)
    assert back.backend is backend
    (back * x).sum().backward()
    assert x.grad.backend is backend
    assert_same(x.grad.numpy(), np.array([6, 12], np.float32))


def test_second_derivatives_across_backends(backend, other):
    x = minidl.tensor([1.0, 2.0], requires_grad=True, backend=backend)
    (slope,) = minidl.grad((x.to(other) ** 3).sum(), x, create_graph=True)
    assert slope.backend is backend
    (curvature,) = minidl.grad(slope.sum(), x)
    assert_same(curvature.numpy(), np.array([6, 12], np.float32))


def test_indexing_errors(backend):
    x = minidl.ones((2, 3), backend=backend)
    for index in (2, -3, (0, 3), [0, 2], minidl.tensor([5], backend=backend)):
        with pytest.raises(IndexRangeError, match=r"getitem.*axis"):
            x[index]
    with pytest.raises(IndexRangeError):
        x[5] = 1.0
    for index in (1.0, np.array([0.5]), "a", minidl.ones(1, backend=backend), [0.5]):
        with pytest.raises(DTypeError, match="getitem"):
            x[index]
    mask = minidl.tensor([True, False, True], backend=backend)
    for index in ((0, 0, 0), mask, (Ellipsis, mask, 0, 0)):
        with pytest.raises(ShapeError, match="getitem"):
            x[index]
