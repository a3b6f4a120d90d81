"""LeNet-5 (LeCun et al., 1998) with ReLU and max pooling, on 28 x 28. One training step."""

from __future__ import annotations

import training
from harness.workload import Row

TITLE = "LeNet-5 on 28 x 28, Adam, training step"
ROWS = [Row(f"batch {n}", n, batch=n) for n in (64, 256)]


def model(nn):
    """The same text is a model of minidl and of PyTorch."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def given(batch):
    return training.classified(model, batch, 1, 28, 28)


def in_minidl(given, compiled):
    from minidl import nn

    return training.in_minidl(model(nn), given, compiled)


def in_pytorch(given, compiled):
    from torch import nn

    def make(channels_last):
        return training.in_pytorch(model(nn), given, compiled, channels_last=channels_last)

    return training.better(make)


def in_jax(given, compiled):
    from jax import lax
    from jax import numpy as jnp
    from jax.nn import relu

    def conv(x, weight, bias, padding):
        y = lax.conv_general_dilated(x, weight, (1, 1), padding)
        return relu(y + bias[:, None, None])

    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def model(w, x):
        x = pool(conv(x, w["0.weight"], w["0.bias"], "SAME"))
        x = pool(conv(x, w["3.weight"], w["3.bias"], "VALID")).reshape(len(x), -1)
        x = relu(x @ w["7.weight"] + w["7.bias"])
        x = relu(x @ w["9.weight"] + w["9.bias"])
        return x @ w["11.weight"] + w["11.bias"]

    return training.in_jax(model, given, compiled)


def in_mygrad(given, compiled):
    from mygrad.nnet import conv_nd, max_pool, relu

    def model(w, x):
        x = relu(conv_nd(x, w["0.weight"], stride=1, padding=2) + w["0.bias"].reshape(6, 1, 1))
        x = max_pool(x, (2, 2), 2)
        x = relu(conv_nd(x, w["3.weight"], stride=1) + w["3.bias"].reshape(16, 1, 1))
        x = max_pool(x, (2, 2), 2).reshape(len(x), 400)
        x = relu(x @ w["7.weight"] + w["7.bias"])
        x = relu(x @ w["9.weight"] + w["9.bias"])
        return x @ w["11.weight"] + w["11.bias"]

    return training.in_mygrad(model, given)


def in_dezero(given, compiled):
    from dezero.functions import conv2d, linear, pooling, relu, reshape

    def model(w, x):
        x = pooling(relu(conv2d(x, w["0.weight"], w["0.bias"], pad=2)), 2, 2)
        x = pooling(relu(conv2d(x, w["3.weight"], w["3.bias"])), 2, 2)
        x = reshape(x, (len(x), 400))
        x = relu(linear(x, w["7.weight"], w["7.bias"]))
        x = relu(linear(x, w["9.weight"], w["9.bias"]))
        return linear(x, w["11.weight"], w["11.bias"])

    return training.in_dezero(model, given)
