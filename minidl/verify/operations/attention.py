"""Attention: cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import ops
from ...engine.creation import from_numpy
from ...engine.random import Generator
from ...engine.tensor import Tensor
from .. import oracle
from ..gradients import Case, case, spread

SEEN = np.array([[True, True, False], [False, True, True]])
NOWHERE = np.array([[True, True, False], [False, False, False]])
ADDED = np.where(NOWHERE, 0.5, -np.inf)


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None,
    causal: bool = False, scale: float | None = None, kept: Any = 1,
) -> np.ndarray:  # fmt: skip
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype.kind == "b" else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf)
    some = (scores > -np.inf).any(-1, keepdims=True)
    weights = np.exp(scores - np.where(some, scores.max(-1, keepdims=True), 0))
    y: np.ndarray = weights / np.where(some, weights.sum(-1, keepdims=True), 1) * kept @ v
    return y


def three(*lead: int, t: int = 2, s: int = 3, d: int = 2, e: int = 2) -> list[np.ndarray]:
    """query, key and value with these leading axes."""
    shapes = ((*lead, t, d), (*lead, s, d), (*lead, s, e))
    return [spread(*shape, low=-1, high=1, seed=i) for i, shape in enumerate(shapes)]


def dot(label: str, *inputs: np.ndarray, causal: bool = False, scale: float | None = None) -> Case:
    """query, key, value, and perhaps a mask."""

    def function(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return ops.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale)

    return case(
        f"scaled_dot_product_attention: {label}", function,
        lambda q, k, v, mask=None: attend(q, k, v, mask, causal, scale), *inputs,
    )  # fmt: skip


def dropped(*shape: int) -> np.ndarray:
    return oracle.dropout(np.ones(shape), 0.5, 3, 0)[0]


Q, K, V = three(1, 2)
DOT = [
    dot("plain", Q, K, V),
    dot("matrices", *three(), scale=0.75),
    dot("three axes", *three(2)),
    dot("five axes", *three(1, 2, 2), SEEN),
    dot("wide values", *three(1, 1, t=3, s=2, d=3, e=1)),
    dot("causal", *three(2, t=3), causal=True),
    dot("causal with fewer keys", *three(2, t=3, s=2), causal=True),
    dot("mask", Q, K, V, SEEN),
    dot("a query that may look nowhere", Q, K, V, NOWHERE),
    dot("mask and causal", Q, K, V, SEEN, causal=True),
    dot("heads that share a key", Q, K[:, :1], V[:, :1]),
    dot("learned mask", *three(2), spread(2, 3, low=-1, high=1, seed=7)),
]
MORE = [
    case("scaled_dot_product_attention: only the key",
         lambda q, k, v: ops.scaled_dot_product_attention(q, k, v), attend, Q, K, V,
         constant=(0, 2)),
    case("scaled_dot_product_attention: added mask",
         lambda q, k, v: ops.scaled_dot_product_attention(
             q, k, v, from_numpy(ADDED, q.backend).astype(q.dtype)),
         lambda q, k, v: attend(q, k, v, ADDED), Q, K, V),
    case("scaled_dot_product_attention: dropout",
         lambda q, k, v: ops.scaled_dot_product_attention(
             q, k, v, dropout_p=0.5, generator=Generator(3)),
         lambda q, k, v: attend(q, k, v, kept=dropped(1, 2, 2, 3)), Q, K, V),
    case("scaled_dot_product_attention: everything dropped",
         lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, dropout_p=1.0),
         lambda q, k, v: 0 * attend(q, k, v), Q, K, V),
    case("attention_weights", lambda q, k: ops.attention_weights(q, k, is_causal=True),
         lambda q, k: attend(q, k, np.eye(3), causal=True), Q, K),
    case("attention_weights: mask", lambda q, k, m: ops.attention_weights(q, k, m, scale=0.5),
         lambda q, k, m: attend(q, k, np.eye(3), m, scale=0.5), Q[0, 0], K[0, 0], NOWHERE),
]  # fmt: skip


def packed(x: np.ndarray, mask: np.ndarray | None = None, causal: bool = False) -> np.ndarray:
    query, key, value = (x[:, :, i].swapaxes(1, 2) for i in range(3))
    return attend(query, key, value, mask, causal).swapaxes(1, 2)


X = spread(2, 3, 3, 2, 2, low=-1, high=1)
SELF = [
    case("self_attention", ops.self_attention, packed, X),
    case("self_attention: causal", lambda x: ops.self_attention(x, is_causal=True),
         lambda x: packed(x, causal=True), X),
    case("self_attention: mask", ops.self_attention, packed, X[:1], SEEN[[0, 1, 0]]),
    case("self_attention: from a product", lambda x: ops.self_attention(x * x),
         lambda x: packed(x * x), X[:1]),
]  # fmt: skip


CASES = (*DOT, *MORE, *SELF)
