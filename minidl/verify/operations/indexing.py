"""Elements chosen by position, and the way back: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import case, eighths

X = eighths(2, 3, 4)
COLUMN = eighths(3, 2, seed=1)
INDEX = np.array([[2, 0, 0], [1, 1, 2]])

INDICES = {
    "number": 1,
    "from the end": -1,
    "slice": slice(0, 1),
    "step": (slice(None), slice(None, None, 2)),
    "negative step": (slice(None, None, -1), slice(2, 0, -1), slice(None, None, -2)),
    "empty slice": slice(2, 2),
    "new axis": (None, slice(None), None, 1),
    "ellipsis": (..., 2),
    "only ellipsis": ...,
    "ellipsis between": (1, ..., slice(0, 2)),
    "nothing": (),
    "list": [1, 0, 1],
    "empty list": [],
    "list of a list": [[1, 0], [1, 1]],
    "duplicates": np.array([0, 0, 0]),
    "negative": np.array([-1, -2]),
    "bytes": np.array([1], np.uint8),
    "two arrays": (np.array([0, 1, 0]), np.array([2, 2, 0])),
    "two that broadcast": (np.array([[0], [1]]), slice(None), np.array([1, 1, 3])),
    "apart": (np.array([0, 1]), slice(None), np.array([3, 3])),
    "number between": (np.array([0, 1, 1]), 1, np.array([3, 3, 0])),
    "with a new axis": (None, np.array([1, 1]), ..., slice(1, 3)),
    "mask": X > 1,
    "mask of the first axis": np.array([True, False]),
    "mask of two axes": X[..., 0] > 0,
    "mask and number": (np.array([False, True]), 2),
    "mask and slice": (slice(None), np.array([True, False, True]), slice(None, None, -1)),
    "mask that holds nowhere": np.zeros((2, 3), bool),
    "true": True,
    "false": False,
    "list of booleans": [True, False],
    "0-d array": np.array(1),
}
# Of x * x, so that the gradient depends on x and the second derivative is not 0.
CHOSEN = [
    case(f"getitem: {label}", lambda x, i=i: (x * x)[i], lambda x, i=i: (x * x)[i], X)
    for label, i in INDICES.items()
]
SCATTERED = [
    case("gather", lambda x, i: ops.gather(x, 1, i), lambda x, i: np.take_along_axis(x, i, 1),
         COLUMN.T.copy(), INDEX),
    case("gather: longer", lambda x, i: ops.gather(x * x, -1, i),
         lambda x, i: np.take_along_axis(x * x, i, 1), eighths(2, 3), np.tile(INDEX, 2)),
    case("gather_grad", lambda g, i: ops.gather_grad(g * g, 1, i, (2, 4)),
         lambda g, i: oracle.gather_grad(g * g, 1, i, (2, 4)), eighths(2, 3), INDEX),
    case("getitem_grad", lambda g: ops.getitem_grad(g * g, slice(1, None), (4, 4)),
         lambda g: np.pad(g * g, [(1, 0), (0, 0)]), eighths(3, 4)),
    case("getitem_grad: tensor", lambda g, i: ops.getitem_grad(g * g, i, (2, 4)),
         lambda g, i: oracle.getitem_grad(g * g, i, (2, 4)), eighths(3, 4), np.array([1, 1, 0])),
    case("index_add", lambda x, i, s: ops.index_add(x * x, 0, i, s * s),
         lambda x, i, s: oracle.index_add(x * x, 0, i, s * s), COLUMN, np.array([2, 0, 2, 2]),
         eighths(4, 2, seed=4)),
    case("index_add: last axis", lambda x, i, s: ops.index_add(x, -1, i, s * s),
         lambda x, i, s: oracle.index_add(x, 1, i, s * s), COLUMN, np.array([1]),
         eighths(3, 1, seed=4)),
    case("index_add: nothing", lambda x, i, s: ops.index_add(x, 0, i, s), lambda x, i, s: x, COLUMN,
         np.zeros(0, np.int64), np.zeros((0, 2))),
]  # fmt: skip  # fmt: skip


CASES = CHOSEN + SCATTERED
