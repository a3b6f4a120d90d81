"""backward() and grad(): what they add up, free, refuse and leave alone."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import DTypeError, GraphError, ShapeError
from minidl.verify.tolerances import assert_same


def leaf(backend, values=(1.0, 2.0, 3.0)) -> minidl.Tensor:
    return minidl.tensor(list(values), requires_grad=True, backend=backend)


def same(x: minidl.Tensor, expected, dtype=np.float32) -> None:
    assert_same(x.numpy(), np.array(expected, dtype))


def test_gradients_add_up_over_uses_and_over_calls(backend):
    x = leaf(backend)
    (x * x + x).sum().backward()
    same(x.grad, [3, 5, 7])
    (2 * x).sum().backward()
    same(x.grad, [5, 7, 9])


def test_backward_starts_from_the_given_gradient(backend):
    x = leaf(backend)
    (x * 2).backward(minidl.tensor([1.0, 0.0, -1.0], backend=backend))
    same(x.grad, [2, 0, -2])


def test_a_leaf_is_its_own_gradient(backend):
    x = minidl.tensor(3.0, requires_grad=True, backend=backend)
    x.backward()
    same(x.grad, 1)


def test_a_graph_is_used_once_unless_retained(backend):
    x = leaf(backend)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, [4, 8, 12])
    with pytest.raises(GraphError, match=r"already used and freed.*retain_graph=True"):
        y.backward()
    same(x.grad, [4, 8, 12])


def test_create_graph_retains(backend):
    x = leaf(backend)
    y = (x * x).sum()
    minidl.grad(y, x, create_graph=True)
    y.backward()
    same(x.grad, [2, 4, 6])


def test_a_shared_part_is_freed_for_both(backend):
    x = leaf(backend)
    shared = x.exp()
    first, second = shared.sum(), (shared * 2).sum()
    first.backward()
    with pytest.raises(GraphError, match="Exp"):
        second.backward()


def test_what_was_not_recorded_cannot_be_differentiated(backend):
    plain = minidl.ones(1, backend=backend)
    x = leaf(backend)
    with minidl.no_grad():
        unrecorded = (x * 2).sum()
    for y in (plain, unrecorded, (x > 1).astype("float32").sum()):
        with pytest.raises(GraphError, match="requires_grad=True"):
            y.backward()
    with pytest.raises(GraphError, match=r"grad: .*shape \(1,\)"):
        minidl.grad(x.sum(), plain)


def test_only_a_scalar_needs_no_gradient_to_start_from(backend):
    x = leaf(backend)
    with pytest.raises(ShapeError, match=r"\(3,\).*\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        (x * 2).backward(minidl.ones(2, backend=backend))
    assert x.grad is None


def test_the_gradient_to_start_from_must_be_a_tensor_of_this_backend(backend, other):
    x = leaf(backend)
    with pytest.raises(minidl.errors.DTypeError, match="backward"):
        (x * 2).backward(np.ones(3, np.float32))
    with pytest.raises(minidl.errors.BackendMismatch, match=other.name):
        (x * 2).backward(minidl.ones(3, backend=other))


def test_gradients_have_the_dtype_of_their_leaf(backend):
    x = leaf(backend)
    (x * 2).backward(minidl.ones(3, "float64", backend=backend))
    same(x.grad, [2, 2, 2])
    x.grad = None
    x.backward(minidl.ones(3, "float64", backend=backend))
    same(x.grad, [1, 1, 1])
    wide = minidl.ones(3, "float64", requires_grad=True, backend=backend)
    x.grad = None
    (x * wide).sum().backward()
    same(x.grad, [1, 1, 1])
    same(wide.grad, [1, 2, 3], np.float64)


def test_grad_touches_no_leaf(backend):
    x, w = leaf(backend), leaf(backend)
    (found,) = minidl.grad((x * w).sum(), x)
    same(found, [1, 2, 3])
    assert x.grad is None
    assert w.grad is None
    assert not found.requires_grad


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_caller_owns_each_gradient(backend, create_graph):
    """It may be changed in place: no other result, no gradient given and no input changes."""
    a, b, start = leaf(backend), leaf(backend), minidl.ones(3, backend=backend)
    mask = minidl.ones(3, backend=backend)
    a.register_hook(lambda grad: mask)
    found = minidl.grad(a + b.reshape(3), [a, b, b], start, create_graph=create_graph)
    for i, gradient in enumerate(found):
        gradient.mul_(10 + i)
    for i, gradient in enumerate(found):
        same(gradient, [10 + i] * 3)
    same(start, [1, 1, 1])
    same(mask, [1, 1, 1])
    (slope,) = minidl.grad(b.sum(), b, create_graph=create_graph)  # repeated, and so read-only
    same(slope.add_(1), [2, 2, 2])
    (slope,) = minidl.grad(b, b, start, create_graph=create_graph)
    assert not np.shares_memory(slope.data, start.data)


def test_a_copied_gradient_keeps_its_history(backend):
    x, start = leaf(backend), leaf(backend)
    with minidl.no_grad():
        y = minidl.enable_grad()(lambda: x + 0)()
        (slope,) = minidl.grad(y, x, start, create_graph=True)
    assert slope is not start
    (back,) = minidl.grad((slope * slope).sum(), start)
    same(back, [2, 4, 6])


def test_grad_of_several_outputs_and_inputs(backend):
    x, w = leaf(backend), leaf(backend)
    outputs = [(x * x).sum(), w * x]
    seeds = [None, minidl.tensor([1.0, 0.0, 2.0], backend=backend)]
    for_x, for_w = minidl.grad(outputs, [x, w], seeds)
    same(for_x, [3, 4, 12])
    same(for_w, [1, 0, 6])
    with pytest.raises(ShapeError, match="2 outputs but 1"):
        minidl.grad([(x * x).sum(), (w * x).sum()], [x, w], [None])


def test_grad_for_tensors_in_the_middle(backend):
    x = leaf(backend)
    middle = x * 2
    y = (middle * middle).sum()
    for_x, for_middle, for_y = minidl.grad(y, [x, middle, y])
    same(for_x, [8, 16, 24])
    same(for_middle, [4, 8, 12])
    same(for_y, 1)


def test_grad_for_a_middle_tensor_leaves_what_is_older_alone(backend):
    x = leaf(backend)
    middle = x.exp()
    y = (middle * 3).sum()
    (found,) = minidl.grad(y, middle)
    same(found, [3, 3, 3])
    middle.sum().backward()  # the part before `middle` was neither visited nor freed
    assert_same(x.grad.numpy(), np.asarray(middle.numpy()))


def test_a_tensor_used_at_several_depths_has_one_gradient(backend):
    """All its uses come first: hooks see the sum, once, and work on it is not repeated."""
    x, seen, visits = leaf(backend), [], []
    middle = x * 2
    middle.register_hook(lambda grad: seen.append(grad.tolist()))
    y = (middle + (middle * 3 + (middle * 5 + middle * middle))).sum()
    with minidl.observe(lambda phase, function, *_: visits.append(function.name)):
        for_x, for_middle = minidl.grad(y, [x, middle])
    same(for_middle, [13, 17, 21])
    same(for_x, [26, 34, 42])
    assert seen == [[13, 17, 21]]
    assert len(visits) == 8


def test_unused_inputs_are_refused_or_none(backend):
    x, other = leaf(backend), leaf(backend)
    y = (x * 2).sum()
    with pytest.raises(GraphError, match=r"input 1.*allow_unused=True"):
        minidl.grad(y, [x, other], retain_graph=True)
    found, nothing = minidl.grad(y, [x, other], allow_unused=True)
    same(found, [2, 2, 2])
    assert nothing is None


def test_gradients_of_any_order(backend):
    x = minidl.tensor(2.0, "float64", requires_grad=True, backend=backend)
    y = x**5
    for expected in (80.0, 160.0, 240.0, 240.0, 120.0):
        (y,) = minidl.grad(y, x, create_graph=True)
        same(y, expected, np.float64)
    (y,) = minidl.grad(y, x, allow_unused=True, create_graph=True)
    assert y is None or y.item() == 0


def test_a_gradient_penalty(backend):
    """Mixed: a first derivative inside a loss, on which backward() is called."""
    x, w = leaf(backend), leaf(backend, (3.0, -1.0, 2.0))
    (slope,) = minidl.grad((w * x * x).sum(), x, create_graph=True)
    (slope * slope).sum().backward()  # 4 w^2 x^2
    same(w.grad, [24, -32, 144])
    same(x.grad, [72, 16, 96])


def test_detach_is_a_constant_also_in_second_derivatives(backend):
    """d/dx (x sg(x)) = sg(x), whose derivative is 0, although both factors hold the same values."""
    x = leaf(backend)
    y = (x * x.detach() + x * x * x).sum()
    (slope,) = minidl.grad(y, x, create_graph=True)
    same(slope, [4, 14, 30])
    (curvature,) = minidl.grad(slope.sum(), x)
    same(curvature, [6, 12, 18])


def test_a_constant_around_the_same_array_is_a_constant(backend):
    x = leaf(backend)
    constant = minidl.from_numpy(x.numpy(), backend=backend)
    (slope,) = minidl.grad((x * constant + x * x).sum(), x, create_graph=True)
    (curvature,) = minidl.grad(slope.sum(), x)
    same(curvature, [2, 2, 2])


def test_create_graph_fills_grad_with_history(backend):
    x = leaf(backend)
    (x * x * x).sum().backward(create_graph=True)
    same(x.grad, [3, 12, 27])
    first = x.grad
    x.grad = None
    first.sum().backward()
    same(x.grad, [6, 12, 18])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_leaf_owns_its_gradient(backend, create_graph):
    a, b = leaf(backend), leaf(backend)
    (a + b).sum().backward(create_graph=create_graph)
    with minidl.no_grad():
        a.grad.mul_(7)
    same(a.grad, [7, 7, 7])
    same(b.grad, [1, 1, 1])


def test_the_gradient_to_start_from_stays_as_it_was(backend):
    x, start = leaf(backend), minidl.ones(3, backend=backend)
    (x + 0).backward(start, retain_graph=True)
    (x + 0).backward(start)
    same(x.grad, [2, 2, 2])
    same(start, [1, 1, 1])


def test_retained_gradients_do_not_share_memory(backend):
    x = leaf(backend)
    a, b = (x * 2).retain_grad(), (x * 3).retain_grad()
    (a + b).sum().backward()
    a.grad.mul_(5)
    same(a.grad, [5, 5, 5])
    same(b.grad, [1, 1, 1])


def test_grad_buffer_receives_the_gradient(backend):
    x = leaf(backend)
    x.grad_buffer = buffer = backend.asarray(np.full(3, 9, np.float32))
    (x * x).sum().backward()
    assert x.grad.data is buffer
    (x * x).sum().backward()
    assert x.grad.data is buffer
    same(x.grad, [4, 8, 12])
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.data is buffer
    same(x.grad, [3, 3, 3])


def test_a_non_leaf_gets_no_gradient_unless_asked(backend):
    x = leaf(backend)
    y, z = x * 2, x * 3
    z.retain_grad()
    (y + z * z).sum().backward()
    assert y.grad is None
    same(z.grad, [6, 12, 18])


def test_inputs_that_need_no_gradient_get_none(backend):
    x, constant = leaf(backend), minidl.ones(3, backend=backend)
    for y in (x * constant, ops.where(constant > 0, x, constant), ops.maximum(x, constant)):
        y.sum().backward()
    assert constant.grad is None
    assert x.grad is not None


def test_overflow_in_backward_is_a_value_not_a_warning(backend):
    x = minidl.tensor([0.0, 1.0], requires_grad=True, backend=backend)
    x.sqrt().sum().backward()
    same(x.grad, [np.inf, 0.5])


def test_an_empty_tensor_has_an_empty_gradient(backend):
    x = minidl.zeros((0, 3), requires_grad=True, backend=backend)
    (x * 2).sum().backward()
    same(x.grad, np.zeros((0, 3)))


def test_grad_takes_any_iterable_of_tensors_and_nothing_else(backend):
    x = minidl.ones(2, requires_grad=True, backend=backend)
    (slope,) = minidl.grad((x * 3).sum(), iter([x]))
    assert slope.tolist() == [3, 3]
    for wrong in ("a", 3, [None], np.ones(2)):
        with pytest.raises(DTypeError, match="grad: needs Tensors, got"):
            minidl.grad((x * 3).sum(), wrong)


def test_a_gradient_is_computed_where_an_optimizer_wants_it(backend):
    """`Function.into` saves a copy; a leaf that occurs twice must still get the sum of both."""
    weight = minidl.nn.Parameter(minidl.tensor([[1.0, 2.0], [3.0, 4.0]], backend=backend))
    x = minidl.tensor([[1.0, -1.0]], backend=backend)
    minidl.optim.SGD([weight], lr=0.1)
    buffer = weight.grad_buffer
    ops.linear(x, weight).sum().backward()
    assert weight.grad.data is buffer
    assert weight.grad.tolist() == [[1.0, -1.0], [1.0, -1.0]]
    before = weight.grad
    (slope,) = minidl.grad(ops.linear(x * 5, weight).sum(), weight)  # leaves what is there alone
    assert slope.tolist() == [[5.0, -5.0], [5.0, -5.0]]
    assert before.tolist() == [[1.0, -1.0], [1.0, -1.0]]
    weight.grad = None
    (ops.linear(x, weight).sum() + ops.linear(ops.linear(x, weight), weight).sum()).backward()
    expected = weight.grad.tolist()
    weight.grad = weight.grad_buffer = None
    (ops.linear(x, weight).sum() + ops.linear(ops.linear(x, weight), weight).sum()).backward()
    assert weight.grad.tolist() == expected
    weight.grad = None
    weight.grad_buffer = buffer
    ops.linear(weight, weight).sum().backward()  # both inputs of one operation
    expected = weight.grad.tolist()
    weight.grad = weight.grad_buffer = None
    ops.linear(weight, weight).sum().backward()
    assert weight.grad.tolist() == expected


def fresh_calls(backend):
    """Operations with inputs, which say that their gradients are fresh."""
    draw = np.random.default_rng(0).standard_normal

    def inputs(*shapes):
        return [
            minidl.tensor(draw(s), "float32", requires_grad=True, backend=backend) for s in shapes
        ]

    return [
        (ops.matmul, inputs((2, 3), (3, 4))),
        (ops.matmul, inputs((1, 1), (1, 1))),
        (ops.linear, inputs((1, 3), (2, 3), (2,))),
        (ops.linear_relu, inputs((1, 3), (2, 3), (2,))),
        (ops.conv2d, inputs((1, 2, 3, 3), (2, 2, 1, 1), (2,))),
        (ops.conv2d, inputs((1, 1, 1, 1), (1, 1, 1, 1), (1,))),
    ]


def test_fresh_gradients_share_no_memory(backend):
    for operation, inputs in fresh_calls(backend):
        y = operation(*inputs)
        grad = y.backend.copy(y.data)
        assert y.node.fresh
        known = [y.backend.to_numpy(a) for a in (grad, y.data, *(x.data for x in inputs))]
        for piece in y.node.backward(grad):
            host = y.backend.to_numpy(piece)
            assert not any(np.shares_memory(host, a) for a in known)
            known.append(host)


def test_fresh_gradients_become_the_leaves_without_a_copy(backend, monkeypatch):
    def refuse(backend, x):
        raise AssertionError("copied")

    for operation, inputs in fresh_calls(backend):
        y = operation(*inputs).sum()
        with monkeypatch.context() as patch:
            patch.setattr(type(y.backend), "copy", refuse)
            y.backward()
        assert all(x.grad is not None for x in inputs)


def test_what_a_hook_or_an_observer_kept_stays_as_it_was(backend):
    for operation, inputs in fresh_calls(backend):
        seen = []

        def watch(phase, function, given, result, seen=seen):
            seen.extend(result if phase == "backward" else ())

        hooks = [x.register_hook(lambda grad, seen=seen: seen.append(grad.data)) for x in inputs]
        operation(*inputs).sum().backward()
        for remove, x in zip(hooks, inputs, strict=True):
            remove()
            x.grad = None if x is inputs[0] else x.grad
        with minidl.observe(watch):
            operation(*inputs).sum().backward()
        before = [inputs[0].backend.to_numpy(a).copy() for a in seen if a is not None]
        operation(*inputs).sum().backward()
        after = [inputs[0].backend.to_numpy(a) for a in seen if a is not None]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
