"""One 3 x 3 convolution from 32 to 64 channels on 28 x 28, forward and backward."""

from __future__ import annotations

import numpy as np
import training
from harness.workload import Arrays, Row

TITLE = "3 x 3 convolution 32 -> 64 on 28 x 28, forward and backward"
ROWS = [Row("batch 32", 32, batch=32)]
STEPS = 1
# Sums of up to 32 x 28 x 28 products (the weight's gradient), in any order.
TOLERANCE = 1e-4


def given(batch: int) -> Arrays:
    random = np.random.default_rng(0)
    drawn = {"x": (batch, 32, 28, 28), "grad": (batch, 64, 28, 28)}
    arrays = {name: random.standard_normal(shape, "float32") for name, shape in drawn.items()}
    return arrays | training.weights({"weight": (64, 32, 3, 3), "bias": (64,)})


def in_minidl(given, compiled):
    import minidl
    from minidl.nn.functional import conv2d

    x, weight, bias = (minidl.tensor(given[k], requires_grad=True) for k in ("x", "weight", "bias"))
    grad = minidl.tensor(given["grad"])

    def step(grad):
        x.grad = weight.grad = bias.grad = None
        y = conv2d(x, weight, bias, padding=1)
        y.backward(grad)
        return y, x.grad, weight.grad, bias.grad

    step = compiled(step)
    return lambda: step(grad)


def in_pytorch(given, compiled):
    import torch
    from torch.nn.functional import conv2d

    def make(channels_last):
        form = torch.channels_last if channels_last else torch.contiguous_format
        x, weight, grad = (
            torch.tensor(given[k]).to(memory_format=form) for k in ("x", "weight", "grad")
        )
        bias = torch.tensor(given["bias"], requires_grad=True)
        x.requires_grad_(), weight.requires_grad_()
        forward = compiled(lambda x, weight, bias: conv2d(x, weight, bias, padding=1))

        def step():
            x.grad = weight.grad = bias.grad = None
            y = forward(x, weight, bias)
            y.backward(grad)
            return y, x.grad, weight.grad, bias.grad

        return step

    return training.better(make)


def in_jax(given, compiled):
    import jax
    from jax import lax

    def conv2d(x, weight, bias):
        y = lax.conv_general_dilated(x, weight, (1, 1), "SAME")
        return y + bias[:, None, None]

    def step(x, weight, bias, grad):
        y, backward = jax.vjp(conv2d, x, weight, bias)
        return y, *backward(grad)

    step = compiled(step)
    inputs = [jax.numpy.asarray(given[k]) for k in ("x", "weight", "bias", "grad")]
    return lambda: step(*inputs)


def in_mygrad(given, compiled):
    import mygrad
    from mygrad.nnet import conv_nd

    x, weight, bias = (mygrad.tensor(given[k]) for k in ("x", "weight", "bias"))

    def step():
        y = conv_nd(x, weight, stride=1, padding=1) + bias.reshape(64, 1, 1)
        y.backward(given["grad"])
        return y, x.grad, weight.grad, bias.grad

    return step


def in_dezero(given, compiled):
    from dezero import Variable
    from dezero.functions import conv2d

    x, weight, bias = (Variable(given[k]) for k in ("x", "weight", "bias"))

    def step():
        for v in (x, weight, bias):
            v.cleargrad()
        y = conv2d(x, weight, bias, pad=1)
        y.grad = Variable(given["grad"])
        y.backward()
        return y, x.grad, weight.grad, bias.grad

    return step
