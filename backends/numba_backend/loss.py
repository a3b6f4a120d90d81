"""Softmax cross-entropy, one row at a time."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import optional, plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 12  # logits
# Beyond, NumPy's vectorised exp is faster than ours element by element:
WIDEST = 32  # classes
GRAD_UP_TO = 1 << 12  # logits, for the gradient, where the exponentials are most of the work


@kernel()
def forward(logits: Array, target: Array, weight: Array, ignore_index: int, smoothing: float,
            loss: Array, log_probs: Array) -> None:  # fmt: skip
    """loss (N,) and log_probs (N, C); weight (C,), or empty for ones."""
    rows, classes = logits.shape
    for n in prange(rows):
        row, out = logits[n], log_probs[n]
        peak = row[0]
        for c in range(1, classes):
            peak = row[c] if row[c] > peak or row[c] != row[c] else peak
        total = 0.0
        for c in range(classes):
            out[c] = row[c] - peak
            total += math.exp(out[c])
        shift = math.log(total)
        spread = 0.0
        for c in range(classes):
            out[c] -= shift
            if smoothing > 0:
                spread += out[c] * weight[c] if weight.size else out[c]
        t = target[n]
        loss[n] = 0
        if t != ignore_index:
            own = out[t] * weight[t] if weight.size else out[t]
            loss[n] = (smoothing - 1) * own
            if smoothing > 0:
                loss[n] -= smoothing / classes * spread


@kernel()
def backward(grad: Array, log_probs: Array, target: Array, weight: Array, ignore_index: int,
             smoothing: float, logits_grad: Array) -> None:  # fmt: skip
    """Probabilities times the total weight of the row, less the weight of each class."""
    rows, classes = log_probs.shape
    total = float(classes)
    if weight.size:
        total = weight.sum()
    for n in prange(rows):
        row, out, t = log_probs[n], logits_grad[n], target[n]
        if t == ignore_index:
            out[:] = 0
            continue
        on_all = smoothing / classes * grad[n]
        on_target = (1 - smoothing) * grad[n]
        if weight.size:
            on_target *= weight[t]
        scale = on_target + on_all * total if smoothing > 0 else on_target
        for c in range(classes):
            out[c] = math.exp(row[c]) * scale
        if smoothing > 0:
            for c in range(classes):
                out[c] -= on_all * weight[c] if weight.size else on_all
        out[t] -= on_target


class Loss(NumpyBackend):
    """For few classes, where NumPy's many short passes cost most."""

    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, ignore_index: int,
        smoothing: float,
    ) -> tuple[Array, Array]:  # fmt: skip
        if not fits(logits, target, weight):
            return super().cross_entropy(logits, target, weight, ignore_index, smoothing)
        loss, log_probs = np.empty(logits.shape[0], logits.dtype), empty(logits.shape, logits.dtype)
        forward.sized(logits.size, PARALLEL_FROM)(
            plain(logits), plain(target), optional(weight, logits.dtype),
            ignore_index, float(smoothing), loss, log_probs,
        )  # fmt: skip
        return loss, log_probs

    def cross_entropy_grad(
        self, grad: Array, log_probs: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> Array:  # fmt: skip
        few = log_probs.size <= GRAD_UP_TO
        if not few or not fits(log_probs, target, weight) or grad.dtype != log_probs.dtype:
            return super().cross_entropy_grad(
                grad, log_probs, target, weight, ignore_index, smoothing
            )
        logits_grad = empty(log_probs.shape, log_probs.dtype)
        backward.serial(
            plain(grad), plain(log_probs), plain(target), optional(weight, grad.dtype),
            ignore_index, float(smoothing), logits_grad,
        )  # fmt: skip
        return logits_grad


def fits(logits: Array, target: Array, weight: Array | None) -> bool:
    """Whether these are the kernels' dtypes, and few enough classes."""
    return suits(logits, weight) and target.dtype == np.int64 and logits.shape[1] <= WIDEST
