"""Functions of one number: cases."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ..gradients import case, spread

erf = np.vectorize(math.erf)
X, POSITIVE = spread(3, 4), spread(3, 4, low=0.2, high=3.0)

CASES = [
    case("negative", ops.negative, np.negative, X),
    case("abs", ops.abs, np.abs, X),
    case("exp", ops.exp, np.exp, X, order=3),
    case("log", ops.log, np.log, POSITIVE, order=3),
    case("sqrt", ops.sqrt, np.sqrt, POSITIVE, order=3),
    case("sin", ops.sin, np.sin, X, order=3),
    case("cos", ops.cos, np.cos, X, order=3),
    case("tanh", ops.tanh, np.tanh, X, order=3),
    case("erf", ops.erf, erf, X, order=3),
    case("sign", ops.sign, np.sign, X, order=0),
]
