"""Comparisons and logic: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..gradients import case, spread

A, B = spread(3, 4, seed=1), spread(3, 4, seed=1)
B[1] += 1
B[2] -= 1
YES, NO = np.array([[True], [False]]), np.array([True, False])

CASES = [
    *(
        case(name, getattr(ops, name), getattr(np, name), A, B, order=0)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    ),
    case("less: a number", lambda x: ops.less(x, 0.5), lambda x: np.less(x, 0.5), A, order=0),
    case("greater: a number first", lambda x: ops.greater(1, x), lambda x: np.greater(1, x), A,
         order=0),
    case("logical_and", ops.logical_and, np.logical_and, YES, NO, order=0),
    case("logical_or", ops.logical_or, np.logical_or, YES, NO, order=0),
    case("logical_not", ops.logical_not, np.logical_not, YES, order=0),
]  # fmt: skip
