"""An LSTM with 64 inputs and 128 units over 64 steps of time, forward and backward."""

from __future__ import annotations

import numpy as np
import training
from harness.workload import Row

TITLE = "LSTM 64 -> 128, T = 64, forward and backward"
ROWS = [Row("batch 32", 32, batch=32)]
STEPS = 1
# A gradient of the weights sums over 64 x 32 states, each of which went through up to 64 steps.
TOLERANCE = 1e-4
WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def model(nn):
    """The same text is a model of minidl and of PyTorch."""
    return nn.LSTM(64, 128)


def given(batch):
    random = np.random.default_rng(0)
    x = random.standard_normal((64, batch, 64), "float32")
    grad = random.standard_normal((64, batch, 128), "float32")
    return {"x": x, "grad": grad} | training.weights(training.shapes(model))


def in_minidl(given, compiled):
    import minidl

    lstm = model(minidl.nn)
    lstm.load_state_dict({name: minidl.tensor(given[name]) for name in WEIGHTS})
    x, grad = minidl.tensor(given["x"], requires_grad=True), minidl.tensor(given["grad"])

    def step(grad):
        x.grad = None
        lstm.zero_grad()
        y, _ = lstm(x)
        y.backward(grad)
        return y, x.grad, *(p.grad for p in lstm.parameters())

    step = compiled(step)
    return lambda: step(grad)


def in_pytorch(given, compiled):
    import torch

    lstm = model(torch.nn)
    lstm.load_state_dict({name: torch.tensor(given[name]) for name in WEIGHTS})
    x, grad = torch.tensor(given["x"], requires_grad=True), torch.tensor(given["grad"])
    forward = compiled(lstm)

    def step():
        x.grad = None
        lstm.zero_grad()
        y, _ = forward(x)
        y.backward(grad)
        return y, x.grad, *(p.grad for p in lstm.parameters())

    return step


def in_jax(given, compiled):
    import jax
    from jax import numpy as jnp

    def lstm(x, weight_ih, weight_hh, bias_ih, bias_hh):
        inputs = x @ weight_ih.T + (bias_ih + bias_hh)  # for all times at once

        def one_time(state, gates):
            h, c = state
            i, f, g, o = jnp.split(gates + h @ weight_hh.T, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[1], 128))
        return jax.lax.scan(one_time, (zero, zero), inputs)[1]

    def step(grad, *inputs):
        y, backward = jax.vjp(lstm, *inputs)
        return y, *backward(grad)

    step = compiled(step)
    inputs = [jnp.asarray(given[name]) for name in ("grad", "x", *WEIGHTS)]
    return lambda: step(*inputs)
