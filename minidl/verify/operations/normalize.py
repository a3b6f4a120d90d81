"""Normalisation: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..gradients import case, spread

EPS = 0.25  # large, so that forgetting it, or adding it in the wrong place, shows


def normal(x: np.ndarray, axes: tuple[int, ...], eps: float = EPS) -> np.ndarray:
    y: np.ndarray = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return y


def per_channel(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


def group_norm(x: np.ndarray, groups: int, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    grouped = x.reshape(x.shape[0], groups, -1)
    y: np.ndarray = normal(grouped, (2,)).reshape(x.shape) * per_channel(weight, x) + per_channel(
        bias, x
    )
    return y


def channels(n: int) -> tuple[np.ndarray, np.ndarray]:
    return spread(n, low=0.5, seed=11), spread(n, seed=12)


W4, B4 = channels(4)
LAYER = [
    case("layer_norm", lambda x, w, b: ops.layer_norm(x, 4, w, b, EPS),
         lambda x, w, b: normal(x, (1,)) * w + b, spread(3, 4), W4, B4),
    case("layer_norm: two axes", lambda x, w, b: ops.layer_norm(x, (2, 2), w, b, EPS),
         lambda x, w, b: normal(x, (1, 2)) * w + b, spread(3, 2, 2), W4.reshape(2, 2),
         B4.reshape(2, 2)),
    case("layer_norm: plain", lambda x: ops.layer_norm(x, 3, eps=EPS),
         lambda x: normal(x, (2,)), spread(2, 2, 3), order=3),
    case("layer_norm: weight", lambda x, w: ops.layer_norm(x, (4,), w, eps=EPS),
         lambda x, w: normal(x, (1,)) * w, spread(2, 4), W4),
    case("layer_norm: only the weight", lambda x, w: ops.layer_norm(x, (4,), w, eps=EPS),
         lambda x, w: normal(x, (1,)) * w, spread(2, 4), W4, constant=(0,)),
    case("layer_norm: weight from x", lambda x: ops.layer_norm(x, 4, x[0] * x[1], eps=EPS),
         lambda x: normal(x, (1,)) * x[0] * x[1], spread(2, 4)),
    case("layer_norm: default eps", lambda x: ops.layer_norm(x, 4), lambda x: normal(x, (1,), 1e-5),
         spread(2, 4)),
]  # fmt: skip
BATCH = [
    case(f"batch_norm: {shape}",
         lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True, eps=EPS),
         lambda x, w, b: normal(x, (0, *range(2, x.ndim))) * per_channel(w, x) + per_channel(b, x),
         spread(*shape), *channels(shape[1]))
    for shape in ((4, 3), (2, 2, 3), (2, 2, 2, 2), (1, 2, 3))
]  # fmt: skip
RUNNING = [
    case(f"batch_norm: evaluation {shape}",
         lambda x, w, b, m, v: ops.batch_norm(x, m, v, w, b, eps=EPS),
         lambda x, w, b, m, v: (x - per_channel(m, x)) / np.sqrt(per_channel(v, x) + EPS)
         * per_channel(w, x) + per_channel(b, x),
         spread(*shape), *channels(3), spread(3, seed=4), spread(3, low=0.2, seed=5),
         constant=(3, 4))
    for shape in ((4, 3), (2, 3, 2, 2))
]  # fmt: skip
GROUP = [
    case(f"group_norm: {groups}", lambda x, w, b, g=groups: ops.group_norm(x, g, w, b, EPS),
         lambda x, w, b, g=groups: group_norm(x, g, w, b), spread(2, 4, 2), W4, B4)
    for groups in (1, 2, 4)
]  # fmt: skip
PLAIN = [
    case("group_norm: plain", lambda x: ops.group_norm(x, 2, eps=EPS),
         lambda x: group_norm(x, 2, np.ones(4), np.zeros(4)), spread(2, 4)),
    case("batch_norm: plain", lambda x: ops.batch_norm(x, None, None, training=True, eps=EPS),
         lambda x: normal(x, (0,)), spread(4, 2)),
]  # fmt: skip


CASES = (*LAYER, *BATCH, *RUNNING, *GROUP, *PLAIN)
