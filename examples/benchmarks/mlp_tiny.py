"""A network so small that its arithmetic takes no time: what is left is each library's overhead."""

from __future__ import annotations

import training
from harness.workload import Row

TITLE = "MLP 16-32-4, Adam, training step"
ROWS = [Row("batch 16", 16, batch=16)]


def model(nn):
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def given(batch):
    return training.classified(model, batch, 16, classes=4)


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
        return x @ w["2.weight"] + w["2.bias"]

    return training.in_jax(model, given, compiled)


def in_mygrad(given, compiled):
    from mygrad.nnet import relu

    def model(w, x):
        x = relu(x @ w["0.weight"] + w["0.bias"])
        return x @ w["2.weight"] + w["2.bias"]

    return training.in_mygrad(model, given)


def in_dezero(given, compiled):
    from dezero.functions import linear, relu

    def model(w, x):
        x = relu(linear(x, w["0.weight"], w["0.bias"]))
        return linear(x, w["2.weight"], w["2.bias"])

    return training.in_dezero(model, given)
