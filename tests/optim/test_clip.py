"""Gradient clipping: the norm by the oracle's sum, the scale, and what is left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.errors import ArgumentError, DTypeError, GraphError, NonFiniteError
from minidl.verify.running import Approx
from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_close, assert_same
from tests.optim.steps import give, parameter

F32 = np.float32
SHAPES = ((3, 4), (5,), ())


def parameters(kind: str = "normal") -> tuple[list[nn.Parameter], list[np.ndarray]]:
    grads = [fill(shape, F32, kind, i) for i, shape in enumerate(SHAPES)]
    params = [parameter(np.zeros(shape, F32)) for shape in SHAPES]
    for p, g in zip(params, grads, strict=True):
        give(p, g)
    return params, grads


def running_norm(grads: list[np.ndarray]) -> Approx:
    """sqrt of the sum of squares, each gradient by itself and then all of them."""
    values = [Approx(g.astype(np.float64).ravel(), F32) for g in grads]
    norms = [(v * v).sum().sqrt() for v in values]
    total = norms[0] * norms[0]
    for norm in norms[1:]:
        total = total + norm * norm
    return total.sqrt()


@pytest.mark.parametrize("max_norm", [1.0, 0.0, 100.0])
def test_the_joint_norm_is_limited(max_norm):
    params, grads = parameters()
    found = optim.clip_grad_norm_(params, max_norm)
    expected = math.sqrt(math.fsum(float(v) ** 2 for g in grads for v in g.ravel()))
    norm = running_norm(grads)
    assert found.shape == ()
    assert found.dtype == F32
    assert not found.requires_grad
    assert_close(found.numpy(), np.float64(expected), norm.bound.reshape(()))
    scale = Approx(max_norm, F32) / (norm + 1e-6)
    for p, g in zip(params, grads, strict=True):
        if expected < max_norm:
            assert_same(p.grad.numpy(), g)
            continue
        clipped = Approx(g.astype(np.float64).reshape(1, -1), F32) * scale.reshape(1, 1)
        want = g.astype(np.float64) * (max_norm / (expected + 1e-6))
        assert_close(p.grad.numpy(), want, clipped.bound.reshape(g.shape), F32)


def test_small_norms():
    """1e-6 on the norm: a norm of 0 divides nothing, one of that size counts twice."""
    p = parameter(np.zeros(2, F32))
    p.grad = minidl.zeros(2)
    assert optim.clip_grad_norm_(p, 0.0).item() == 0
    assert p.grad.tolist() == [0, 0]
    p.grad = minidl.tensor([1e-6, 0.0])
    optim.clip_grad_norm_(p, 1e-6)
    norm = running_norm([np.array([1e-6, 0.0], F32)]).reshape(())
    half = Approx(1e-6, F32) * (Approx(1e-6, F32) / (norm + 1e-6))
    assert_close(p.grad.numpy(), np.array([5e-7, 0.0]), half.bound)


def test_other_norms():
    p = parameter(np.zeros(3, F32))
    for norm_type, expected in ((1.0, 7), (math.inf, 4), (2, 5)):
        p.grad = minidl.tensor([3.0, -4.0, 0.0])
        assert optim.clip_grad_norm_(p, 100, norm_type).item() == expected
        assert p.grad.tolist() == [3, -4, 0]
    params = [parameter(np.zeros(1, F32)) for _ in range(2)]
    for q, value in zip(params, (-6.0, 2.0), strict=True):
        q.grad = minidl.tensor([value])
    assert optim.clip_grad_norm_(params, 100, 1).item() == 8
    assert optim.clip_grad_norm_(params, 100, math.inf).item() == 6
    p.grad = minidl.tensor([1.0, 1.0, 1.0])
    cube = optim.clip_grad_norm_(p, 100, 3)
    third = Approx(3.0, F32)._function("pow", lambda x: x ** (1 / 3))
    assert_close(cube.numpy(), np.float64(3 ** (1 / 3)), third.bound)


def test_clipping_stays_in_the_optimizers_memory():
    params, grads = parameters()
    optimizer = optim.SGD(params, lr=1.0)
    optimizer.zero_grad()
    for p, g in zip(params, grads, strict=True):
        give(p, g)
    before = [p.grad.data for p in params]
    optim.clip_grad_norm_(params, 0.5)
    optim.clip_grad_value_(params, 0.125)
    assert all(p.grad.data is data for p, data in zip(params, before, strict=True))
    optimizer.step()
    for p in params:
        assert_same(p.numpy(), -p.grad.numpy(), signed_zero=False)


def test_without_gradients_there_is_no_norm():
    p = parameter(np.zeros(2, F32))
    assert optim.clip_grad_norm_([p], 1.0).item() == 0
    assert p.grad is None
    optim.clip_grad_value_([p], 1.0)
    empty = parameter(np.zeros((0, 2), F32))
    give(empty, np.zeros((0, 2), F32))
    assert optim.clip_grad_norm_([empty], 1.0, math.inf).item() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_norms(bad):
    params, grads = parameters()
    with minidl.no_grad():
        params[1].grad[0] = bad
    with pytest.raises(NonFiniteError, match="norm of the gradients is"):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert_same(params[0].grad.numpy(), grads[0])
    norm = optim.clip_grad_norm_(params, 1.0)
    assert not np.isfinite(norm.item())


def test_gradients_with_a_graph_are_clipped_too():
    p = parameter(np.array([3.0, 4.0], F32))
    (p * p / 2).sum().backward(create_graph=True)
    optim.clip_grad_value_(p, 3.5)
    assert p.grad.tolist() == [3.0, 3.5]


def test_values_are_limited():
    params, grads = parameters("eighths")
    optim.clip_grad_value_(iter(params), 2.5)
    for p, g in zip(params, grads, strict=True):
        assert_same(p.grad.numpy(), np.clip(g, -2.5, 2.5).astype(F32))


def test_limits_below_zero_are_refused():
    params, _ = parameters()
    for call in (
        lambda: optim.clip_grad_norm_(params, -1.0),
        lambda: optim.clip_grad_norm_(params, math.nan),
        lambda: optim.clip_grad_norm_(params, 1.0, 0),
        lambda: optim.clip_grad_value_(params, -0.5),
        lambda: optim.clip_grad_norm_(params, None),
        lambda: optim.clip_grad_norm_(params, 1.0, "inf"),
    ):
        with pytest.raises(ArgumentError, match="clip_grad_"):
            call()


def test_only_parameters_are_clipped():
    for wrong in (nn.Linear(1, 1), 3, [1], None):
        with pytest.raises(DTypeError, match="clip_grad_norm_: parameter"):
            optim.clip_grad_norm_(wrong, 1.0)


@pytest.fixture
def scaled(backend, monkeypatch):
    """The sizes of the arrays that are scaled."""
    sizes = []
    kernel = backend.scale

    def counted(x, factor):
        sizes.append(x.size)
        kernel(x, factor)

    monkeypatch.setattr(backend, "scale", counted)
    return sizes


def test_gradients_that_touch_are_clipped_as_one(scaled):
    """16 elements fill a cache line, so the first two touch, and then there is a gap."""
    params = [parameter(np.zeros(n, F32)) for n in (32, (4, 5), 12)]
    optimizer = optim.SGD(params, lr=1.0)
    for p in params:
        give(p, np.ones(p.shape, F32))
    assert optim.clip_grad_norm_(params, 1.0).item() == 8
    assert sorted(scaled) == [12, 52]
    optim.clip_grad_norm_([params[0], params[2]], 0.5)
    assert sorted(scaled[2:]) == [12, 32]
    del optimizer
    optim.clip_grad_norm_(params, 0.1)
    assert sorted(scaled[4:]) == [12, 20, 32]


def test_a_norm_that_was_nan_leaves_nothing_behind():
    params = [parameter(np.zeros(n, F32)) for n in (3, 6)]
    optimizer = optim.SGD(params, lr=0.0)
    for value in (np.nan, 1.0):
        optimizer.zero_grad()
        for p in params:
            give(p, np.full(p.shape, value, F32))
        norm = optim.clip_grad_norm_(params, 1.0)
    assert norm.item() == 3


def test_clipping_counts_as_a_change():
    x = minidl.tensor([3.0, 4.0], requires_grad=True)
    (x * x).sum().backward()
    y = (x.grad * x).sum()
    optim.clip_grad_norm_(x, 1.0)
    with pytest.raises(GraphError, match="modified in place"):
        y.backward()
