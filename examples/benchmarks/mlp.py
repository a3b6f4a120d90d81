"""A first network: 784-256-128-10 with ReLU, as it learns digits. One training step."""

from __future__ import annotations

import training
from harness.workload import Row

TITLE = "MLP 784-256-128-10, Adam, training step"
ROWS = [Row(f"batch {n}", n, batch=n) for n in (32, 64, 256)]


def model(nn):
    """The same text is a model of minidl and of PyTorch."""
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def given(batch):
    return training.classified(model, batch, 784)


def in_minidl(given, compiled):
    from minidl import nn

    return training.in_minidl(model(nn), given, compiled)


def in_pytorch(given, compiled):
    from torch import nn

    return training.in_pytorch(model(nn), given, compiled)


def in_jax(given, compiled):
    from jax.nn import relu

    def model(w, x):
        x = relu(x @ w["0.weight"] + w["0.bias"])
        x = relu(x @ w["2.weight"] + w["2.bias"])
        return x @ w["4.weight"] + w["4.bias"]

    return training.in_jax(model, given, compiled)


def in_mygrad(given, compiled):
    from mygrad.nnet import relu

    def model(w, x):
        x = relu(x @ w["0.weight"] + w["0.bias"])
        x = relu(x @ w["2.weight"] + w["2.bias"])
        return x @ w["4.weight"] + w["4.bias"]

    return training.in_mygrad(model, given)


def in_dezero(given, compiled):
    from dezero.functions import linear, relu

    def model(w, x):
        x = relu(linear(x, w["0.weight"], w["0.bias"]))
        x = relu(linear(x, w["2.weight"], w["2.bias"]))
        return linear(x, w["4.weight"], w["4.bias"])

    return training.in_dezero(model, given)
