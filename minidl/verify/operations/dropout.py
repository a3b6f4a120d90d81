"""Dropout: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...engine.random import Generator
from .. import oracle
from ..gradients import case, spread

X = spread(4, 5)


def kept(x: np.ndarray) -> np.ndarray:
    return oracle.dropout(x, 0.5, 3, 0)[0]  # doubling is exact


CASES = (
    case("dropout", lambda x: ops.dropout(x * x, 0.5, generator=Generator(3)),
         lambda x: kept(x * x), X),
    case("dropout: in evaluation", lambda x: ops.dropout(x, 0.9, False), lambda x: x, X),
    case("dropout: nothing", lambda x: ops.dropout(x, 0.0), lambda x: x, X),
    case("dropout: everything", lambda x: ops.dropout(x, 1.0), lambda x: 0 * x, X),
)  # fmt: skip
