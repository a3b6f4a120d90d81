"""One flat array behind all parameters: what leaves it, comes back, is missing or is shared."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.errors import BackendMismatch, GraphError, ShapeError
from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_close, assert_same
from tests.optim.steps import expected, give, parameter

F32 = np.float32
LR, EPS = 0.01, 1e-3


def normal(shape, seed: int) -> np.ndarray:
    return fill(shape, F32, "normal", seed)


def adam(params) -> optim.Adam:
    return optim.Adam(params, lr=LR, eps=EPS)


def follows(p: nn.Parameter, start: np.ndarray, grads, optimizer: optim.Optimizer) -> None:
    """p is what the oracle makes of start in a step for each of grads."""
    want, bound = expected(type(optimizer).__name__, optimizer.param_groups[0], start, grads)
    assert_close(p.numpy(), want, bound, start.dtype)


@pytest.fixture
def calls(backend, monkeypatch):
    """The sizes on which Adam's kernel is called."""
    sizes = []
    kernel = backend.adam_step

    def counted(param, *args):
        sizes.append(param.size)
        return kernel(param, *args)

    monkeypatch.setattr(backend, "adam_step", counted)
    return sizes


def test_a_step_is_one_kernel(calls):
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = adam(model.parameters())
    for _ in range(2):
        model(minidl.ones((2, 7))).sum().backward()
        optimizer.step()
    assert len(calls) == 2
    assert calls[0] >= 35 + 5 + 15 + 3


def test_backward_writes_where_the_kernel_reads(backend):
    params = [parameter(normal((3, 2), i)) for i in range(2)]
    optimizer = adam(params)
    for p in params:
        give(p, normal((3, 2), 5))
        assert p.grad.data is p.grad_buffer
    flat = optimizer._flats[0][0]
    assert_same(backend.to_numpy(flat.grads[1]), normal((3, 2), 5))
    assert flat.intact()


def test_a_parameter_without_a_gradient_is_skipped(calls):
    """It keeps its value, its moments and its own count of steps, as in PyTorch."""
    starts = [normal((4,), i) for i in range(3)]
    params = [parameter(a) for a in starts]
    optimizer = adam(params)
    grads = [[], [], []]
    for step, present in enumerate([(0, 2), (0, 1, 2), (1,), (0, 1, 2)]):
        optimizer.zero_grad()
        for i in present:
            grads[i].append(normal((4,), 10 * step + i))
            give(params[i], grads[i][-1])
        optimizer.step()
        for i in range(3):
            follows(params[i], starts[i], grads[i], optimizer)
    assert [len(g) for g in grads] == [3, 3, 3]
    # 0 and 2 apart; all three, but 1 in another step; 1 alone; all three in the same step.
    assert len(calls) == 2 + 3 + 1 + 1


def test_frozen_parameters_stay(backend):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    optimizer = adam(model.parameters())
    before = model[0].weight.numpy().copy()
    model(minidl.ones((1, 2))).sum().backward()
    optimizer.step()
    assert_same(model[0].weight.numpy(), before)
    model[0].requires_grad_()
    model(minidl.ones((1, 2))).sum().backward()
    optimizer.step()
    assert (model[0].weight.numpy() != before).all()


def test_a_gradient_that_was_replaced_is_used():
    starts = [normal((4,), i) for i in range(2)]
    params = [parameter(a) for a in starts]
    optimizer = adam(params)
    grads = [normal((4,), 7), normal((4,), 8)]
    for p in params:
        give(p, normal((4,), 9))
    for p, g in zip(params, grads, strict=True):
        p.grad = minidl.tensor(g)
    optimizer.step()
    for p, start, g in zip(params, starts, grads, strict=True):
        follows(p, start, [g], optimizer)
        assert_same(p.grad.numpy(), g)


def test_gradients_with_a_graph_are_used():
    start = normal((4,), 0)
    p = parameter(start)
    optimizer = adam([p])
    (p * p * p).sum().backward(create_graph=True)
    assert p.grad.requires_grad
    cubed = p.grad.numpy().copy()
    optimizer.step()
    follows(p, start, [cubed], optimizer)


def test_a_gradient_of_another_shape_or_backend_is_refused(backend, reference):
    p = parameter(normal((4,), 0))
    optimizer = adam([p])
    p.grad = minidl.zeros(3)
    with pytest.raises(ShapeError, match=r"\(3,\), its parameter \(4,\)"):
        optimizer.step()
    if backend is not reference:
        p.grad = minidl.zeros(4, backend=reference)
        with pytest.raises(BackendMismatch, match=reference.name):
            optimizer.step()


def test_data_that_was_assigned_is_taken_up():
    """The momentum stays: v = g and then v = g / 2 + h, from wherever the parameter is."""
    start, other, g, h = (fill((4,), F32, "integers", seed) for seed in range(4))
    p, q = parameter(start), parameter(start)
    optimizer = optim.SGD([p, q], lr=0.5, momentum=0.5)
    for step, grad in enumerate((g, h)):
        if step:
            p.data = minidl.tensor(other).data
        optimizer.zero_grad()
        for x in (p, q):
            give(x, grad)
        optimizer.step()
    assert_same(p.numpy(), other - (g / 4 + h / 2), signed_zero=False)
    assert_same(q.numpy(), start - g / 2 - (g / 4 + h / 2), signed_zero=False)


def test_moving_a_model_moves_the_state(backend, reference):
    start, grads = normal((4, 3), 0), [normal((4, 3), i) for i in (1, 2, 3)]
    layer = nn.Linear(3, 4, bias=False)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor(start))
    optimizer = adam(layer.parameters())
    for grad, target in zip(grads, (backend, reference, backend), strict=True):
        layer.to(target)
        optimizer.zero_grad()
        give(layer.weight, grad)
        optimizer.step()
        assert layer.weight.backend is target
        assert {x.backend for x in optimizer.state_dict()["tensors"].values()} == {target}
    follows(layer.weight, start, grads, optimizer)


def test_another_dtype_keeps_the_state():
    start, grads = normal((4,), 0), [normal((4,), 1), normal((4,), 2)]
    layer = nn.LayerNorm(4, bias=False)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor(start))
    optimizer = adam(layer.parameters())
    give(layer.weight, grads[0])
    optimizer.step()
    layer.double()
    optimizer.zero_grad()
    give(layer.weight, grads[1].astype(np.float64))
    optimizer.step()
    assert layer.weight.dtype == np.float64
    want, bound = expected("Adam", optimizer.param_groups[0], start, grads)
    assert_close(layer.weight.numpy(), want, bound, np.float64)


def test_another_shape_is_refused():
    p = parameter(normal((4,), 0))
    optimizer = adam([p])
    give(p, normal((4,), 1))
    optimizer.step()
    p.data, p.grad = minidl.zeros(5).data, None
    with pytest.raises(ShapeError, match=r"shape \(4,\) became \(5,\)"):
        optimizer.step()


def test_two_dtypes_in_one_group():
    starts = [normal((4,), 0), normal((3,), 1).astype(np.float64)]
    params = [parameter(a) for a in starts]
    optimizer = adam(params)
    grads = [normal((4,), 2), normal((3,), 3).astype(np.float64)]
    for p, g in zip(params, grads, strict=True):
        give(p, g)
    optimizer.step()
    for p, start, g in zip(params, starts, grads, strict=True):
        follows(p, start, [g], optimizer)


def test_a_parameter_of_two_optimizers_follows_both():
    start, *grads = (fill((4,), F32, "integers", seed) for seed in range(4))
    p = parameter(start)
    one, two = optim.SGD([p], lr=0.5), optim.SGD([p], lr=0.25)
    for optimizer, grad in zip((one, two, one), grads, strict=True):
        optimizer.zero_grad()
        give(p, grad)
        optimizer.step()
    expected = start - grads[0] / 2 - grads[1] / 4 - grads[2] / 2
    assert_same(p.numpy(), expected, signed_zero=False)


def test_shared_parameters_are_updated_once(calls):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = adam(model.parameters())
    assert len(optimizer.param_groups[0]["params"]) == 1
    model(minidl.ones((1, 3))).sum().backward()
    optimizer.step()
    assert len(calls) == 1


def test_a_graph_from_before_a_step_is_refused():
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = minidl.ones((1, 2), requires_grad=True)
    loss = model(x).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(GraphError, match="modified in place"):
        loss.backward()


def test_an_optimizer_made_between_forward_and_backward_changes_nothing():
    model = nn.Linear(2, 2)
    x = minidl.ones((1, 2))
    loss = model(x).sum()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    before = model.bias.numpy().copy()
    loss.backward()
    optimizer.step()
    assert_same(model.bias.numpy(), before - F32(0.5))


def test_loading_weights_keeps_them_in_the_flat_array(backend):
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    model.load_state_dict({n: minidl.ones(x.shape) for n, x in model.state_dict().items()})
    assert optimizer._flats[0][0].intact()
    give(model.bias, np.ones(2, F32))
    optimizer.step()
    assert model.bias.tolist() == [0.5, 0.5]
    assert model.weight.tolist() == np.ones((2, 3)).tolist()


# -- constraints --------------------------------------------------------------------------------
OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "RMSprop": lambda ps: optim.RMSprop(ps, momentum=0.9),
    "Adagrad": optim.Adagrad,
    "Adam": lambda ps: optim.Adam(ps, weight_decay=0.1),
    "AdamW": optim.AdamW,
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_mask_survives_every_optimizer(make):
    p = parameter(normal((6,), 0))
    free = parameter(normal((6,), 1))
    mask = minidl.tensor(np.array([1, 0, 1, 0, 0, 1], F32))
    p.constraint = lambda q: q.mul_(mask)
    optimizer = make([free, p])
    for step in range(3):
        optimizer.zero_grad()
        for x in (free, p):
            give(x, normal((6,), step + 2))
        optimizer.step()
        assert_same(p.numpy() == 0, mask.numpy() == 0)
        assert (free.numpy() != 0).all()


def test_a_constraint_is_not_called_without_a_gradient():
    p = parameter(normal((2,), 0))
    p.constraint = lambda q: q.zero_()
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.step()
    assert (p.numpy() != 0).all()
    give(p, np.ones(2, F32))
    optimizer.step()
    assert p.tolist() == [0, 0]
    assert p.requires_grad
    assert p.is_leaf
