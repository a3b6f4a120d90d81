"""In-place changes: refused on recorded tensors, noticed where a saved value was overwritten."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.errors import DTypeError, GraphError, ShapeError
from minidl.verify.tolerances import assert_same


def leaf(backend) -> minidl.Tensor:
    return minidl.tensor([1.0, 2.0, 3.0], requires_grad=True, backend=backend)


def same(x: minidl.Tensor, expected) -> None:
    assert_same(x.numpy(), np.array(expected, np.float32))


IN_PLACE = {
    "copy_": lambda x: x.copy_(minidl.zeros_like(x)),
    "fill_": lambda x: x.fill_(0),
    "zero_": lambda x: x.zero_(),
    "add_": lambda x: x.add_(1),
    "sub_": lambda x: x.sub_(1),
    "mul_": lambda x: x.mul_(2),
    "div_": lambda x: x.div_(2),
    "clamp_": lambda x: x.clamp_(0, 1),
    "setitem": lambda x: x.__setitem__(0, 5.0),
}


@pytest.mark.parametrize(("name", "change"), IN_PLACE.items(), ids=IN_PLACE)
def test_a_recorded_tensor_refuses_in_place_changes(backend, name, change):
    for x in (leaf(backend), leaf(backend) * 2):
        before = x.tolist()
        with pytest.raises(GraphError, match=rf"{name}: .*no_grad"):
            change(x)
        assert x.tolist() == before


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)
def test_a_saved_value_that_changed_is_noticed(backend, change):
    x = leaf(backend)
    constant = minidl.full(3, 4.0, backend=backend)
    y = (x * constant).sum()
    change(constant)
    with pytest.raises(GraphError, match=r"Multiply.*modified in place.*clone"):
        y.backward()
    assert x.grad is None


def test_what_an_integer_cannot_hold_is_refused(backend):
    x = minidl.tensor([1, 3], "uint8", backend=backend)
    for name in ("add_", "sub_", "mul_", "div_"):
        with pytest.raises(DTypeError, match=rf"{name}: the result is float64.*uint8.*astype"):
            getattr(x, name)(1.5)
    with pytest.raises(DTypeError, match="clamp_"):
        x.clamp_(0.5, 2)
    assert x.tolist() == [1, 3]
    assert x.copy_(minidl.tensor([4.5, 6.5], backend=backend)).tolist() == [4, 6]  # it says so
    assert x.sub_(minidl.ones_like(x), alpha=3).tolist() == [1, 3]


def test_an_element_is_a_view(backend):
    x = minidl.zeros((2, 2), backend=backend)
    x[0][1].fill_(5)
    x[1, 0].add_(7)
    same(x, [[0, 5], [7, 0]])


def test_in_place_results(backend):
    x = minidl.tensor([1.0, 2.0, 3.0], backend=backend)
    assert x.add_(1) is x
    same(x, [2, 3, 4])
    same(x.add_(minidl.ones(3, backend=backend), alpha=2), [4, 5, 6])
    same(x.sub_(1, alpha=3), [1, 2, 3])
    same(x.mul_(4).div_(2), [2, 4, 6])
    same(x.clamp_(3, 5), [3, 4, 5])
    same(x.copy_(7), [7, 7, 7])
    x[1:] = minidl.tensor([8.0, 9.0], backend=backend)
    x[x == 7] = 0.5
    same(x, [0.5, 8, 9])
    same(x.copy_(minidl.tensor([1], backend=backend)), [1, 1, 1])
    same(x.zero_(), [0, 0, 0])


def test_in_place_keeps_the_dtype(backend):
    x = minidl.tensor([1, 2, 3], dtype="int32", backend=backend)
    x.copy_(minidl.tensor([4.75, -5.75, 6.0], backend=backend))
    assert_same(x.numpy(), np.array([4, -5, 6], np.int32))
    y = minidl.ones(2, backend=backend).add_(minidl.ones(2, "float64", backend=backend))
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        lambda x, other: x.copy_(other),
        lambda x, other: x.add_(other),
        lambda x, other: x.__setitem__(slice(None), other),
    ],
    ids=["copy_", "add_", "setitem"],
)
def test_in_place_needs_a_shape_that_broadcasts(backend, change):
    x = minidl.ones(3, backend=backend)
    for shape in ((2,), (2, 3), (2, 1)):
        with pytest.raises(ShapeError, match=r"\(3,\)"):
            change(x, minidl.zeros(shape, backend=backend))
    same(x, [1, 1, 1])


def test_a_change_that_was_refused_is_none(backend, other):
    """What the graph saved is as it was, so it can still be differentiated."""
    x = minidl.ones(3, backend=backend)
    y = (x * leaf(backend)).sum()
    for wrong in ("a", 2j, minidl.ones(2, backend=backend), minidl.ones(3, backend=other)):
        for write in (x.copy_, x.fill_, x.add_, lambda v: x.__setitem__(slice(None), v)):
            with pytest.raises(minidl.errors.MinidlError):
                write(wrong)
    with pytest.raises(minidl.errors.IndexRangeError):
        x[3] = 0
    assert x.version.changed == 0
    y.backward()


def test_in_place_does_not_drop_history_silently(backend):
    x, w = minidl.zeros(3, backend=backend), leaf(backend)
    for change in (lambda: x.copy_(w), lambda: x.add_(w), lambda: x.__setitem__(0, w[0])):
        with pytest.raises(GraphError, match="value requires grad"):
            change()
    with minidl.no_grad():
        same(x.copy_(w), [1, 2, 3])


def test_in_place_refuses_another_backend(backend, other):
    x, y = minidl.ones(3, backend=backend), minidl.zeros(3, backend=other)
    for change in (lambda: x.copy_(y), lambda: x.__setitem__(0, y[0]), lambda: x.add_(y)):
        with pytest.raises(minidl.errors.BackendMismatch, match=other.name):
            change()


def test_a_value_that_was_not_saved_may_change(backend):
    x = leaf(backend)
    added = minidl.ones(3, backend=backend)
    y = (x + added) * 2
    added.fill_(100)  # addition needs neither summand
    with minidl.no_grad():
        x.fill_(50)
    y.sum().backward()
    same(x.grad, [2, 2, 2])


def test_a_result_that_was_saved_must_not_change(backend):
    x = leaf(backend)
    y = x.exp()  # its gradient uses the result
    z = y.sum()
    with minidl.no_grad():
        y.zero_()
    with pytest.raises(GraphError, match=r"Exp.*modified in place"):
        z.backward()


def test_leaf_changed_after_use(backend):
    x = leaf(backend)
    y = (x * x).sum()
    with minidl.no_grad():
        x.add_(1)
    with pytest.raises(GraphError, match="Multiply"):
        y.backward()
    (x * x).sum().backward()
    same(x.grad, [4, 6, 8])


def test_a_change_before_use_is_no_problem(backend):
    x = leaf(backend)
    with minidl.no_grad():
        x.add_(1)
    (x * x).sum().backward()
    same(x.grad, [4, 6, 8])


def test_a_detached_tensor_shares_memory_and_version(backend):
    x = leaf(backend)
    twin = x.detach()
    assert twin.version is x.version
    y = (x * x).sum()
    twin.mul_(2)  # not recorded, but it changes x
    same(x, [2, 4, 6])
    with pytest.raises(GraphError, match="Multiply"):
        y.backward()


VIEWS = {
    "reshape": lambda x: x.reshape(3, 1),
    "transpose": lambda x: x.T,
    "slice": lambda x: x[:2],
    "expand": lambda x: x.expand(2, 3),
    "alias": minidl.ops.alias,
    "detach": lambda x: x.detach(),
    "flip": minidl.ops.flip,
    "reshape twice": lambda x: x.reshape(1, 3).reshape(3),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_shares_its_version_with_its_base(backend, view):
    """A change through either name reaches the values that the other's operations saved."""
    base = minidl.tensor([1.0, 2.0, 3.0], backend=backend)
    seen = view(base)
    w = minidl.ones(1, requires_grad=True, backend=backend)
    y = (w * seen).sum()
    base.mul_(2)
    with pytest.raises(GraphError, match="Multiply"):
        y.backward()


def test_a_change_through_a_view_reaches_its_base(backend):
    base = minidl.tensor([1.0, 2.0, 3.0], backend=backend)
    w = minidl.ones(1, requires_grad=True, backend=backend)
    y = (w * base).sum()
    base.reshape(3, 1).zero_()
    with pytest.raises(GraphError, match="Multiply"):
        y.backward()


def test_a_copy_has_a_version_of_its_own(backend):
    base = minidl.tensor([1.0, 2.0, 3.0], backend=backend)
    w = minidl.ones(1, requires_grad=True, backend=backend)
    y = (w * base.clone() + w * base[[0, 1, 2]]).sum()
    base.zero_()
    y.backward()
    same(w.grad, [12])


def test_switching_requires_grad_keeps_the_version_and_the_gradient(backend):
    x = leaf(backend)
    twin, hooked = x.detach(), []
    x.register_hook(hooked.append)
    (x * 2).sum().backward()
    x.requires_grad_(False).requires_grad_()
    assert x.version is twin.version
    same(x.grad, [2, 2, 2])
    (x * 2).sum().backward()
    assert len(hooked) == 2
    with pytest.raises(GraphError, match="leaf"):
        (x * 2).requires_grad_()
    with pytest.raises(minidl.errors.DTypeError, match="int64"):
        minidl.tensor([1], backend=backend).requires_grad_()


def test_adding_to_a_gradient_counts_as_a_change(backend):
    """x.grad is added to in place, so an operation that saved it must not be differentiated."""
    x, w = leaf(backend), leaf(backend)
    (x * 2).sum().backward()
    y = (w * x.grad).sum()
    (x * 3).sum().backward()
    with pytest.raises(GraphError, match="Multiply"):
        y.backward()


def test_a_fused_operation_notices_as_well(backend):
    x = minidl.randn(2, 3, requires_grad=True, backend=backend)
    weight = minidl.ones(3, backend=backend)
    y = minidl.ops.layer_norm(x, 3, weight).sum()
    weight.zero_()
    with pytest.raises(GraphError, match="LayerNorm"):
        y.backward()


GRAPHS = {
    "an elementary operation": (lambda h: h**3, "Pow"),
    "a definition": (minidl.ops.silu, "Multiply|Sigmoid"),
}


@pytest.mark.parametrize(("function", "name"), GRAPHS.values(), ids=GRAPHS)
def test_a_change_between_two_derivatives_is_noticed(backend, function, name):
    """The graph of the gradient saved it too, and only there does anything need it any more."""
    x = leaf(backend)
    h = x + 1
    (slope,) = minidl.grad(function(h).sum(), x, create_graph=True)
    with minidl.no_grad():
        h.add_(10)
    with pytest.raises(GraphError, match=rf"({name}): a value needed.*modified in place"):
        minidl.grad(slope.sum(), x)


INDICES = {
    "an index tensor": lambda backend: minidl.tensor([0, 1], backend=backend),
    "an index array": lambda backend: np.array([0, 1]),
    "a mask": lambda backend: minidl.tensor([True, True, False], backend=backend),
    "a mask array": lambda backend: np.array([True, True, False]),
}


@pytest.mark.parametrize("make", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("wrap", [lambda i: i, lambda i: (..., i)], ids=["alone", "in a tuple"])
def test_the_gradient_goes_where_the_index_pointed(backend, make, wrap):
    x, index = leaf(backend), make(backend)
    y = x[wrap(index)].sum()
    index[0] = 2 if len(index) == 2 else False
    y.backward()
    same(x.grad, [1, 1, 0])
