"""Depth and memory: long graphs need no recursion, and graphs go without the cycle collector."""

from __future__ import annotations

import gc
import sys
import weakref

import numpy as np
import pytest

import minidl
from minidl import ops

DEPTH = 20_000  # twenty times the interpreter's recursion limit


@pytest.fixture
def no_collector():
    """Reference counting alone has to free everything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chain(x: minidl.Tensor, depth: int = DEPTH) -> minidl.Tensor:
    y = x
    for _ in range(depth):
        y = y + 1
    return y


def test_backward_through_a_deep_graph(backend):
    assert sys.getrecursionlimit() < DEPTH
    x = minidl.zeros(1, requires_grad=True, backend=backend)
    y = chain(x)
    assert y.item() == DEPTH
    y.backward()
    assert x.grad.item() == 1


def test_a_deep_graph_is_deleted(backend, no_collector):
    x = minidl.zeros(1, requires_grad=True, backend=backend)
    y = chain(x)
    node = weakref.ref(y.node)
    del y
    assert node() is None


def test_a_deep_gradient_graph(backend):
    """Under create_graph the way back is recorded, and is as deep again."""
    x = minidl.tensor([1.0], "float64", requires_grad=True, backend=backend)
    y = x
    for _ in range(2_000):
        y = y * 1.0
    (slope,) = minidl.grad((y * y).sum(), x, create_graph=True)
    (curvature,) = minidl.grad(slope, x)
    assert curvature.item() == 2
    del y, slope


class Value:
    """An array that can be referred to weakly, in place of the one that an operation saves."""


class Keeper(minidl.Function):
    """The identity; saves a value for backward."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def forward(self, x):
        return x + 0

    def backward(self, grad):
        assert self.value is not None
        return grad


def test_saved_values_are_freed_by_backward(backend, no_collector):
    x = minidl.zeros(1, requires_grad=True, backend=backend)
    value = Value()
    alive = weakref.ref(value)
    y = minidl.apply(Keeper(value), x)
    del value
    assert alive() is not None
    y.backward()
    assert alive() is None  # although y and its node still exist


@pytest.mark.parametrize("decorate", [None, "retain_grad", "hook", "create_graph"])
def test_a_graph_goes_with_its_last_tensor(backend, no_collector, decorate):
    x = minidl.zeros(1, requires_grad=True, backend=backend)
    y = ops.softmax(x.exp(), 0)
    if decorate == "retain_grad":
        y.retain_grad()
    elif decorate == "hook":
        y.register_hook(lambda grad: None)
    node, tensor = weakref.ref(y.node), weakref.ref(y)
    z = (y * y).sum()
    if decorate == "create_graph":
        minidl.grad(z, x, create_graph=True)
    else:
        z.backward()
    del z, y
    assert tensor() is None
    assert node() is None


def test_unrecorded_results_keep_nothing(backend, no_collector):
    x = minidl.ones(1, requires_grad=True, backend=backend)
    seen = []
    with minidl.observe(lambda phase, function, *_: seen.append(weakref.ref(function))):
        with minidl.no_grad():
            y = x.exp()
        z = minidl.ones(1, backend=backend).exp()
    assert [reference() for reference in seen if reference() is not None] == []
    assert y.node is None
    assert z.node is None


def test_a_gradient_graph_does_not_outlive_its_tensors(backend, no_collector):
    """No reference runs from the leaf back to what was computed from it."""
    x = minidl.tensor([2.0], requires_grad=True, backend=backend)
    y = x * x * x
    node = weakref.ref(y.node)
    y.backward()
    assert np.asarray(x.grad.numpy()) == 12
    del y
    assert node() is None
