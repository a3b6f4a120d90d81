"""Attention, one query at a time; gradients by the whole Jacobian of softmax."""

from __future__ import annotations

import math

import numpy as np

from .random import dropout
from .reduce import softmax


def _scores(
    query: np.ndarray, key: np.ndarray, mask: np.ndarray | None, causal: bool, scale: float
) -> np.ndarray:
    shape = (*query.shape[:3], key.shape[2])
    if mask is not None:
        mask = np.broadcast_to(mask, shape)
    y = np.empty(shape)
    for n, h, t, s in np.ndindex(shape):
        pairs = zip(query[n, h, t].tolist(), key[n, h, s].tolist(), strict=True)
        y[n, h, t, s] = scale * math.fsum(a * b for a, b in pairs)
        if mask is not None and mask.dtype.kind == "f":
            y[n, h, t, s] += float(mask[n, h, t, s])
        hidden = mask is not None and mask.dtype.kind == "b" and not mask[n, h, t, s]
        if hidden or (causal and s > t):
            y[n, h, t, s] = -math.inf
    return y


def _weights(scores: np.ndarray) -> np.ndarray:
    """A row that may look nowhere has no weights."""
    y = np.zeros(scores.shape)
    for row in np.ndindex(scores.shape[:3]):
        if scores[row].size and scores[row].max() > -math.inf:
            y[row] = softmax(scores[row], 0)
    return y


def _kept(shape: tuple[int, ...], p: float, seed: int, counter: int) -> np.ndarray:
    """0 or 1 / (1 - p) for each weight."""
    return dropout(np.ones(shape), p, seed, counter)[0]


def attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray | None, causal: bool,
    scale: float, p: float, seed: int, counter: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    scores = _scores(query, key, mask, causal, scale)
    weights = _weights(scores) * _kept(scores.shape, p, seed, counter)
    y = np.empty((*query.shape[:3], value.shape[3]))
    logsumexp = np.empty(query.shape[:3])
    for n, h, t in np.ndindex(logsumexp.shape):
        row = scores[n, h, t].tolist()
        peak = max(row, default=-math.inf)
        total = math.fsum(math.exp(v - peak) for v in row) if peak > -math.inf else 0.0
        logsumexp[n, h, t] = peak + math.log(total) if total else -math.inf
        for e in range(value.shape[3]):
            pairs = zip(weights[n, h, t].tolist(), value[n, h, :, e].tolist(), strict=True)
            y[n, h, t, e] = math.fsum(w * v for w, v in pairs)
    return y, logsumexp


def attention_grad(
    grad: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray,
    mask: np.ndarray | None, causal: bool, scale: float, p: float, seed: int, counter: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """dweight_s / dscore_r = weight_s (delta_rs - weight_r)."""
    grad, query, key, value = (np.asarray(a, np.float64) for a in (grad, query, key, value))
    weights = _weights(_scores(query, key, mask, causal, scale))
    kept = _kept(weights.shape, p, seed, counter)
    query_grad, key_grad, value_grad = (np.zeros(a.shape) for a in (query, key, value))
    for n, h, t in np.ndindex(weights.shape[:3]):
        w, k = weights[n, h, t], kept[n, h, t]
        keys = range(len(w))
        for s in keys:
            value_grad[n, h, s] += w[s] * k[s] * grad[n, h, t]
        slope = [k[s] * math.fsum(grad[n, h, t] * value[n, h, s]) for s in keys]
        for r in keys:
            score = math.fsum(slope[s] * w[s] * ((r == s) - w[r]) for s in keys)
            query_grad[n, h, t] += scale * score * key[n, h, r]
            key_grad[n, h, r] += scale * score * query[n, h, t]
    return query_grad, key_grad, value_grad
