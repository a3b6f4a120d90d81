"""Other shapes, orders and selections of the same elements, and the way back: cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import case, eighths

X = eighths(2, 3, 4)
COLUMN = eighths(3, 2, seed=1)
INDEX = np.array([[2, 0, 0], [1, 1, 2]])


def square(function: Callable[..., Any]) -> Callable[..., Any]:
    """function of x * x, so that its gradient depends on x and its second derivative is not 0."""
    return lambda x, *rest: function(x * x, *rest)


MOVES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reshape: flat": (lambda x: ops.reshape(x, -1), lambda x: x.reshape(-1)),
    "reshape: given": (lambda x: ops.reshape(x, (4, 6)), lambda x: x.reshape(4, 6)),
    "reshape: inferred": (lambda x: ops.reshape(x, [3, -1, 2]), lambda x: x.reshape(3, -1, 2)),
    "transpose": (ops.transpose, np.transpose),
    "transpose: given": (lambda x: ops.transpose(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "permute": (lambda x: ops.permute(x, (1, -1, 0)), lambda x: x.transpose(1, 2, 0)),
    "swapaxes": (lambda x: ops.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1)),
    "flatten": (ops.flatten, np.ravel),
    "flatten: rest": (lambda x: ops.flatten(x, 1), lambda x: x.reshape(2, 12)),
    "unsqueeze": (lambda x: ops.unsqueeze(x, 1), lambda x: x[:, None]),
    "unsqueeze: last": (lambda x: ops.unsqueeze(x, -1), lambda x: x[..., None]),
    "squeeze": (lambda x: ops.squeeze(x[:1, :, :1]), lambda x: x[0, :, 0]),
    "squeeze: one": (lambda x: ops.squeeze(x[:1, :, :1], -1), lambda x: x[:1, :, 0]),
    "squeeze: none": (ops.squeeze, lambda x: x),
    "broadcast_to": (
        lambda x: ops.broadcast_to(x[:, :1], (2, 2, 3, 4)),
        lambda x: np.broadcast_to(x[:, :1], (2, 2, 3, 4)),
    ),
    "expand": (lambda x: ops.expand(x, (1, 2, 3, 4)), lambda x: x[None]),
    "pad": (
        lambda x: ops.pad(x, [(1, 0), (0, 2), (1, 1)], -1.5),
        lambda x: np.pad(x, [(1, 0), (0, 2), (1, 1)], constant_values=-1.5),
    ),
    "pad: all sides": (lambda x: ops.pad(x, 1), lambda x: np.pad(x, 1)),
    "flip": (ops.flip, np.flip),
    "flip: some": (lambda x: ops.flip(x, (0, -1)), lambda x: np.flip(x, (0, 2))),
    "split": (lambda x: ops.split(x, 2, -1)[1], lambda x: x[..., 2:]),
    "split: rest": (lambda x: ops.split(x, 2, 1)[1], lambda x: x[:, 2:]),
    "split: sizes": (lambda x: ops.split(x, [1, 0, 3], 2)[2], lambda x: x[..., 1:]),
    "concatenate": (
        lambda x: ops.concatenate([x[:, :1], x, x], 1),
        lambda x: np.concatenate([x[:, :1], x, x], 1),
    ),
    "concatenate: last": (
        lambda x: ops.concatenate((x, x[..., :2]), -1),
        lambda x: np.concatenate((x, x[..., :2]), -1),
    ),
    "stack": (lambda x: ops.stack([x, 2 * x], 1), lambda x: np.stack([x, 2 * x], 1)),
    "stack: last": (lambda x: ops.stack([x, 2 * x], -1), lambda x: np.stack([x, 2 * x], -1)),
}

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
INDEXED = {f"getitem: {label}": (lambda x, i=i: x[i],) * 2 for label, i in INDICES.items()}
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
]  # fmt: skip


CASES = (
    *(
        case(label, square(function), square(formula), X)
        for label, (function, formula) in {**MOVES, **INDEXED}.items()
    ),
    *SCATTERED,
)
