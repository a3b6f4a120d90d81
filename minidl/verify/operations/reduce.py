"""Reductions and softmax: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import Case, case, spread

X = spread(2, 3, 4)
ROW = spread(3, 4, seed=5)
AXES = {"all": None, "first": 0, "last": -1, "two": (0, 2), "none": (), "negative": (-1, -3)}


def reductions() -> list[Case]:
    found = []
    for label, axis in AXES.items():
        for keep in (False, True):
            o = {"axis": axis, "keepdims": keep}
            if axis != ():
                found += [
                    case(f"max: {label} {keep}", lambda x, o=o: ops.max(x, **o),
                         lambda x, o=o: np.max(x, **o), X),
                    case(f"min: {label} {keep}", lambda x, o=o: ops.min(x, **o),
                         lambda x, o=o: np.min(x, **o), X),
                ]  # fmt: skip
            found += [
                case(f"sum: {label} {keep}", lambda x, o=o: ops.sum(x * x, **o),
                     lambda x, o=o: np.sum(x * x, **o), X),
                case(f"mean: {label} {keep}", lambda x, o=o: ops.mean(x * x, **o),
                     lambda x, o=o: np.mean(x * x, **o), X),
            ]  # fmt: skip
    for label in ("all", "last", "two"):
        o = {"axis": AXES[label], "keepdims": label == "last"}
        found += [
            case(f"var: {label}", lambda x, o=o: ops.var(x, **o),
                 lambda x, o=o: np.var(x, ddof=1, **o), X),
            case(f"var: {label} biased", lambda x, o=o: ops.var(x, correction=0, **o),
                 lambda x, o=o: np.var(x, **o), X),
            case(f"logsumexp: {label}", lambda x, o=o: ops.logsumexp(x, **o),
                 lambda x, o=o: np.log(np.sum(np.exp(x), **o)), spread(2, 2, 3)),
        ]  # fmt: skip
    return found


SOFTMAXES = [
    case(f"softmax log_softmax: axis {axis}",
         lambda x, axis=axis: ops.softmax(x, axis) * ops.log_softmax(x, axis),
         lambda x, axis=axis: oracle.softmax(x, axis) * oracle.log_softmax(x, axis), ROW)
    for axis in (0, 1)
]  # fmt: skip
OTHERS = [
    case("softmax: default axis", ops.softmax, lambda x: oracle.softmax(x, 1), spread(2, 3),
         order=3),
    case("log_softmax: default axis", ops.log_softmax, lambda x: oracle.log_softmax(x, 1), ROW),
    case("cumsum", lambda x: ops.cumsum(x * x, 1), lambda x: np.cumsum(x * x, 1), ROW),
    case("cumsum: first axis", lambda x: ops.cumsum(x, -2), lambda x: np.cumsum(x, 0), ROW),
    case("sum: of a scalar", ops.sum, np.sum, np.array(1.5)),
    case("argmax", lambda x: ops.argmax(x, 1), lambda x: np.argmax(x, 1), X, order=0),
    case("argmax: all", ops.argmax, np.argmax, X, order=0),
    case("argmin", lambda x: ops.argmin(x, -1), lambda x: np.argmin(x, -1), X, order=0),
    case("argmin: all", ops.argmin, np.argmin, X, order=0),
    case("sum: of integers", ops.sum, np.sum, np.arange(5, dtype=np.int8), order=0),
    case("sum: of masks", ops.sum, np.sum, np.array([True, False, True]), order=0),
]  # fmt: skip


CASES = (*reductions(), *SOFTMAXES, *OTHERS)
