"""Matrix products and Einstein sums: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..gradients import case, eighths

PRODUCTS = [
    case(f"matmul: {a} {b}", ops.matmul, np.matmul, eighths(*a), eighths(*b, seed=1))
    for a, b in (
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((2, 2, 3), (3, 2)),
        ((2, 3), (2, 3, 2)),
        ((2, 1, 2, 3), (3, 3, 1)),
        ((3,), (2, 3, 2)),
        ((2, 2, 3), (3,)),
        ((1, 1), (1, 1)),
    )
]
LINEAR = [
    case("linear", ops.linear, lambda x, w, b: x @ w.T + b, eighths(4, 3), eighths(2, 3, seed=1),
         eighths(2, seed=2)),
    case("linear: without bias", ops.linear, lambda x, w: x @ w.T, eighths(4, 3),
         eighths(2, 3, seed=1)),
    case("linear: more axes", ops.linear, lambda x, w, b: x @ w.T + b, eighths(2, 2, 3),
         eighths(2, 3, seed=1), eighths(2, seed=2)),
    case("linear: a vector", ops.linear, lambda x, w, b: x @ w.T + b, eighths(3),
         eighths(2, 3, seed=1), eighths(2, seed=2)),
    case("linear_relu", ops.linear_relu, lambda x, w, b: np.maximum(x @ w.T + b, 0),
         eighths(4, 3), eighths(2, 3, seed=1), eighths(2, seed=2)),
    case("linear_relu: more axes, without bias", ops.linear_relu,
         lambda x, w: np.maximum(x @ w.T, 0), eighths(2, 2, 3), eighths(2, 3, seed=1)),
    case("linear: only the weight", ops.linear, lambda x, w: x @ w.T, eighths(4, 3),
         eighths(2, 3, seed=1), constant=(0,)),
]  # fmt: skip
SUMS = [
    case(f"einsum: {spec}", lambda *xs, spec=spec: ops.einsum(spec, *xs),
         lambda *xs, spec=spec: np.einsum(spec, *xs),
         *(eighths(*shape, seed=i) for i, shape in enumerate(shapes)))
    for spec, *shapes in (
        ("ij,jk->ik", (2, 3), (3, 2)),
        ("ij,kj->ik", (2, 3), (4, 3)),
        ("ij,jk", (2, 3), (3, 2)),
        ("ij->ji", (2, 3)),
        ("ij->i", (2, 3)),
        ("ij->", (2, 3)),
        ("i,j->ij", (2,), (3,)),
        ("i,i->", (3,), (3,)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        ("bhqd,bhkd->bhqk", (1, 2, 2, 3), (1, 2, 3, 3)),
        ("ij,k->i", (2, 3), (4,)),
        ("i,i,i->i", (3,), (3,), (3,)),
        ("ij,jk,kl->il", (2, 2), (2, 3), (3, 2)),
        (" ab , bc -> ca ", (2, 3), (3, 2)),
        (",i->i", (), (3,)),
    )
]  # fmt: skip


CASES = (*PRODUCTS, *LINEAR, *SUMS)
