"""Nonlinearities: cases."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ..gradients import case, spread

erf = np.vectorize(math.erf)
X = spread(3, 4)


def sigmoid(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = 1 / (1 + np.exp(-x))
    return y


CASES = [
    case("sigmoid", ops.sigmoid, sigmoid, X, order=3),
    case("softplus", ops.softplus, lambda x: np.log1p(np.exp(x)), X),
    case("relu", ops.relu, lambda x: np.maximum(x, 0), X),
    case("leaky_relu", ops.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x), X),
    case(
        "leaky_relu: 0.25",
        lambda x: ops.leaky_relu(x, 0.25),
        lambda x: np.where(x > 0, x, x / 4),
        X,
    ),
    case("gelu", ops.gelu, lambda x: x / 2 * (1 + erf(x / math.sqrt(2))), X, order=3),
    case(
        "gelu: tanh",
        lambda x: ops.gelu(x, "tanh"),
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        X,
    ),
    case("silu", ops.silu, lambda x: x * sigmoid(x), X, order=3),
]
