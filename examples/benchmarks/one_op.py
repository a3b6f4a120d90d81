"""One multiplication of two tensors with one element each: nothing but the cost of bookkeeping."""

from __future__ import annotations

import numpy as np
from harness.workload import Arrays, Row

TITLE = "one multiplication of size-1 tensors"
ROWS = [Row("forward", 1, backward=False), Row("forward and backward", 1, backward=True)]
STEPS = 1
TOLERANCE = 0.0  # one product, rounded once


def given(backward: bool) -> Arrays:
    return {"a": np.float32([1.5]), "b": np.float32([0.7]), "backward": np.array(backward)}


def in_minidl(given, compiled):
    import minidl

    a, b = (minidl.tensor(given[k], requires_grad=True) for k in ("a", "b"))

    def forward():
        return a * b

    def both():
        a.grad = b.grad = None
        (a * b).backward()
        return a.grad, b.grad

    return compiled(both if given["backward"] else forward)


def in_numpy(given, compiled):
    a, b = given["a"], given["b"]

    def forward():
        return a * b

    def both():
        a * b
        grad = np.ones_like(a)
        return grad * b, grad * a

    return both if given["backward"] else forward


def in_pytorch(given, compiled):
    import torch

    a, b = (torch.tensor(given[k], requires_grad=True) for k in ("a", "b"))
    multiply = compiled(lambda a, b: a * b)

    def forward():
        return multiply(a, b)

    def both():
        a.grad = b.grad = None
        multiply(a, b).backward()
        return a.grad, b.grad

    return both if given["backward"] else forward


def in_jax(given, compiled):
    import jax

    a, b = (jax.numpy.asarray(given[k]) for k in ("a", "b"))

    def forward(a, b):
        return a * b

    def both(a, b):
        y, backward = jax.vjp(forward, a, b)
        return backward(jax.numpy.ones_like(y))

    step = compiled(both if given["backward"] else forward)
    return lambda: step(a, b)


def in_mygrad(given, compiled):
    import mygrad

    a, b = (mygrad.tensor(given[k]) for k in ("a", "b"))

    def forward():
        return a * b

    def both():
        a.null_grad(), b.null_grad()
        (a * b).backward()
        return a.grad, b.grad

    return both if given["backward"] else forward


def in_dezero(given, compiled):
    from dezero import Variable

    a, b = (Variable(given[k]) for k in ("a", "b"))

    def forward():
        return a * b

    def both():
        a.cleargrad(), b.cleargrad()
        (a * b).backward()
        return a.grad, b.grad

    return both if given["backward"] else forward
