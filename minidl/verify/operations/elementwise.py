"""Elementwise arithmetic: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..gradients import case, spread

X, POSITIVE = spread(3, 4), spread(3, 4, low=0.2, high=3.0)
A, B = spread(3, 4, seed=1), spread(4, seed=2)

CASES = [
    case("add", ops.add, np.add, A, B),
    case("subtract", ops.subtract, np.subtract, A, B),
    case("multiply", ops.multiply, np.multiply, A, B),
    case("divide", ops.divide, np.divide, A, spread(4, low=0.5, seed=2)),
    case("pow", ops.pow, np.power, POSITIVE, B),
    case("pow: of a number", lambda b: ops.pow(3, b), lambda b: np.power(3.0, b), B, order=3),
    case("pow: cube", lambda a: ops.pow(a, 3), lambda a: a**3, A, order=3),
    case("pow: square", lambda a: a**2, np.square, A),
    case("pow: root", lambda a: ops.pow(a, 0.5), np.sqrt, POSITIVE, order=3),
    case("pow: inverse", lambda a: ops.pow(a, -1), np.reciprocal, POSITIVE),
    case("pow: first", lambda a: ops.pow(a, 1), lambda a: a, A),
    case("pow: zeroth", lambda a: ops.pow(a, 0), np.ones_like, A),
    case("maximum", ops.maximum, np.maximum, A, B),
    case("minimum", ops.minimum, np.minimum, A, B),
    case("maximum minimum: numbers", lambda a: ops.maximum(a, 0.5) * ops.minimum(1, a),
         lambda a: np.maximum(a, 0.5) * np.minimum(1, a), A),
    case("subtract divide: numbers", lambda a: (1 - a) / 3 + 2 / a,
         lambda a: (1 - a) / 3 + 2 / a, POSITIVE),
    case("where", lambda a, b: ops.where(a > b, a * a, b),
         lambda a, b: np.where(a > b, a * a, b), A, B),
    case("where: number", lambda a: ops.where(a > 0, a * a, 0.5),
         lambda a: np.where(a > 0, a * a, 0.5), A),
    case("multiply: itself", lambda a: a * a * a, lambda a: a**3, A, order=3),
    case("clip", lambda x: ops.clip(x, -1.0, 0.5), lambda x: np.clip(x, -1.0, 0.5), X),
    case("clip: below", lambda x: ops.clip(x, min=-1), lambda x: np.maximum(x, -1), X),
    case("clip: above", lambda x: ops.clip(x, max=0.5), lambda x: np.minimum(x, 0.5), X),
    case("clip: open", ops.clip, lambda x: x, X),
]  # fmt: skip
