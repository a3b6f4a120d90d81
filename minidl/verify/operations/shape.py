"""Other shapes and orders of the same elements, and the way back: cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ..gradients import case, eighths

X = eighths(2, 3, 4)


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

CASES = [
    case(label, square(function), square(formula), X)
    for label, (function, formula) in MOVES.items()
]
