"""Hooks on gradients, and the observer of operations."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.errors import GraphError, ShapeError
from minidl.verify.tolerances import assert_same


def leaf(backend) -> minidl.Tensor:
    return minidl.tensor([1.0, 2.0], requires_grad=True, backend=backend)


def same(x: minidl.Tensor, expected) -> None:
    assert_same(x.numpy(), np.array(expected, np.float32))


def test_a_leaf_hook_sees_the_sum_of_all_uses_once(backend):
    x, seen = leaf(backend), []
    x.register_hook(lambda grad: seen.append((grad.backend.name, grad.tolist())))
    (x * x + 3 * x).sum().backward()
    assert seen == [(backend.name, [5.0, 7.0])]
    same(x.grad, [5, 7])


def test_a_hook_in_the_middle_replaces_what_flows_on(backend):
    x = leaf(backend)
    y = x * 2
    y.register_hook(lambda grad: grad * 10)
    y.register_hook(lambda grad: grad + 1)  # in the order of registration
    (y * 3).sum().backward()
    same(x.grad, [62, 62])


def test_a_hook_that_replaces_decides_what_the_leaf_gets(backend):
    x = leaf(backend)
    x.register_hook(lambda grad: minidl.zeros_like(grad))
    (x * 2).sum().backward()
    same(x.grad, [0, 0])


def test_hooks_can_be_removed_in_any_order(backend):
    x = leaf(backend)
    removers = [x.register_hook(lambda grad, k=k: grad * k) for k in (2, 3, 5)]
    removers[1]()
    removers[1]()  # twice does no harm
    assert removers[0]() is None
    x.register_hook(lambda grad: grad * 7)
    (x * 1).sum().backward()
    same(x.grad, [35, 35])


def test_removing_twice_spares_the_hook_that_came_later(backend):
    x = leaf(backend)
    x.register_hook(lambda grad: grad * 2)
    remove = x.register_hook(lambda grad: grad * 3)
    remove()
    x.register_hook(lambda grad: grad * 5)
    remove()
    (x * 1).sum().backward()
    same(x.grad, [10, 10])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_keeps_the_shape(backend, create_graph):
    x = leaf(backend)
    x.register_hook(lambda grad: grad.sum())
    with pytest.raises(ShapeError, match=r"hook.*\(2,\).*\(\)"):
        (x * x).sum().backward(create_graph=create_graph)


def test_retaining_twice_is_retaining(backend):
    x = leaf(backend)
    y = x * 2
    assert y.retain_grad().retain_grad() is y
    assert x.retain_grad() is x
    (y * 3).sum().backward()
    same(y.grad, [3, 3])
    same(x.grad, [6, 6])
    with pytest.raises(GraphError, match="retain_grad"):
        minidl.ones(1, backend=backend).retain_grad()


def test_a_retained_gradient_is_what_all_other_hooks_made_of_it(backend):
    x = leaf(backend)
    y = x * 2
    y.register_hook(lambda grad: grad * 10)
    y.retain_grad()
    y.register_hook(lambda grad: grad + 1)
    (y * 3).sum().backward()
    same(y.grad, [31, 31])
    same(x.grad, [62, 62])


def test_hooks_apply_in_grad_too(backend):
    x = leaf(backend)
    y = x * 2
    y.register_hook(lambda grad: grad * 10)
    for_x, for_y = minidl.grad((y * 3).sum(), [x, y])
    same(for_x, [60, 60])
    same(for_y, [30, 30])


def test_hooks_see_history_under_create_graph(backend):
    x, seen = leaf(backend), []
    x.register_hook(lambda grad: seen.append(grad.requires_grad))
    (x * x).sum().backward(create_graph=True)
    x.grad = None
    (x * x).sum().backward()
    assert seen == [True, False]


def test_a_hook_sees_its_own_backend(backend, other):
    """Of a leaf whose gradient arrives from another backend."""
    x, seen = leaf(backend), []
    x.register_hook(lambda grad: seen.append(grad.backend.name) or grad * 2)
    (x.to(other) * 3).sum().backward()
    assert seen == [backend.name]
    same(x.grad, [6, 6])


def test_the_hook_of_a_parameter_moves_with_it(backend, other):
    layer, seen = minidl.nn.Linear(2, 1, backend=backend), []
    layer.weight.register_hook(lambda grad: seen.append(grad.backend) or grad * 2)
    layer.to(other)
    layer(minidl.ones((1, 2), backend=other)).backward()
    assert seen == [other]
    same(layer.weight.grad, [[2, 2]])


def test_only_what_requires_grad_has_hooks(backend):
    with pytest.raises(GraphError, match="register_hook"):
        minidl.ones(1, backend=backend).register_hook(print)


def test_the_observer_sees_both_directions(backend):
    x, seen = leaf(backend), []

    def observer(phase, function, inputs, result):
        if phase == "forward":
            seen.append((phase, function.name, [getattr(i, "shape", i) for i in inputs]))
            assert isinstance(result, minidl.Tensor)
        else:
            shapes = [None if g is None else g.shape for g in result]
            seen.append((phase, function.name, [g.shape for g in inputs], shapes))

    with minidl.observe(observer):
        y = (x * 2).sum()
        y.backward()
    (x * 2).sum().backward()
    assert seen == [
        ("forward", "Multiply", [(2,), 2]),
        ("forward", "Sum", [(2,)]),
        ("backward", "Sum", [()], [(2,)]),
        ("backward", "Multiply", [(2,)], [(2,), None]),
    ]


def test_an_observer_leaves_when_its_block_fails(backend):
    seen = []
    with pytest.raises(ZeroDivisionError), minidl.observe(lambda *args: seen.append(args)):
        raise ZeroDivisionError
    minidl.ones(1, backend=backend) + 1
    assert seen == []
