"""Cross entropy with class weights, smoothing and ignored rows, one row at a time."""

from __future__ import annotations

import math

import numpy as np

from .reduce import log_softmax


def _share(classes: int, target: int, weight: np.ndarray | None, smoothing: float) -> list[float]:
    """How much each class's log-probability counts in the loss: loss = -sum_c share[c] logp[c]."""
    w = [1.0] * classes if weight is None else [float(v) for v in weight]
    return [
        (1 - smoothing) * w[c] * (c == target) + smoothing / classes * w[c] for c in range(classes)
    ]


def cross_entropy(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
    smoothing: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    log_probs = log_softmax(logits, 1)
    rows, classes = logits.shape
    loss = np.zeros(rows)
    for n in range(rows):
        if target[n] == ignore_index:
            continue
        share = _share(classes, int(target[n]), weight, smoothing)
        loss[n] = -math.fsum(s * log_probs[n, c] for c, s in enumerate(share) if s)
    return loss, log_probs


def cross_entropy_grad(
    grad: np.ndarray, log_probs: np.ndarray, target: np.ndarray, weight: np.ndarray | None,
    ignore_index: int, smoothing: float,
) -> np.ndarray:  # fmt: skip
    """The Jacobian d logp[c] / d logits[i] = delta_ic - p[i], summed over the shares."""
    rows, classes = log_probs.shape
    y = np.zeros((rows, classes))
    for n in range(rows):
        if target[n] == ignore_index:
            continue
        share = _share(classes, int(target[n]), weight, smoothing)
        for i in range(classes):
            p = math.exp(float(log_probs[n, i]))
            slope = math.fsum(-s * ((i == c) - p) for c, s in enumerate(share))
            y[n, i] = float(grad[n]) * slope
    return y
