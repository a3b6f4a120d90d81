"""Softmax cross-entropy, in the blocks of `rows.py`."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import I64, NOTHING, laid, suits
from .memory import empty
from .rows import block_of_rows, exponentials, log_softmax_rows
from .softmax import PARALLEL_FROM


@kernel()
def forward(logits: Array, target: Array, weight: Array, ignore_index: int, smoothing: float,
            step: int, loss: Array, log_probs: Array) -> None:  # fmt: skip
    """loss (N,) and log_probs (N, C), flat as logits are; weight (C,), or empty for ones."""
    columns = logits.size // loss.size
    for block in prange((logits.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, logits.size)
        log_softmax_rows(logits[start:stop], log_probs[start:stop], columns)
        for n in range(start // columns, stop // columns):
            row, t = log_probs[n * columns : (n + 1) * columns], target[n]
            loss[n] = 0
            if t == ignore_index:
                continue
            loss[n] = (smoothing - 1) * (row[t] * weight[t] if weight.size else row[t])
            if smoothing > 0:
                spread = 0.0
                for c in range(columns):
                    spread += row[c] * weight[c] if weight.size else row[c]
                loss[n] -= smoothing / columns * spread


@kernel()
def backward(grad: Array, log_probs: Array, target: Array, weight: Array, ignore_index: int,
             smoothing: float, step: int, logits_grad: Array) -> None:  # fmt: skip
    """Probabilities times the total weight of the row, less the weight of each class."""
    columns, real = log_probs.size // grad.size, log_probs.dtype.type
    total = float(columns)
    if weight.size:
        total = weight.sum()
    for block in prange((log_probs.size + step - 1) // step):
        start, stop = block * step, min((block + 1) * step, log_probs.size)
        exponentials(log_probs[start:stop], logits_grad[start:stop])
        for n in range(start // columns, stop // columns):
            out, t = logits_grad[n * columns : (n + 1) * columns], target[n]
            if t == ignore_index:
                out[:] = 0
                continue
            on_all = real(smoothing / columns * grad[n])
            on_target = real((1 - smoothing) * grad[n] * (weight[t] if weight.size else 1))
            scale = real(on_target + on_all * total if smoothing > 0 else on_target)
            for c in range(columns):
                out[c] *= scale
            if smoothing > 0:
                for c in range(columns):
                    out[c] -= on_all * weight[c] if weight.size else on_all
            out[t] -= on_target


class Loss(NumpyBackend):
    """Integer targets of other widths are NumPy's."""

    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, ignore_index: int,
        smoothing: float,
    ) -> tuple[Array, Array]:  # fmt: skip
        if not suits(logits, weight) or target.dtype is not I64:
            return super().cross_entropy(logits, target, weight, ignore_index, smoothing)
        loss, log_probs = np.empty(logits.shape[0], logits.dtype), empty(logits.shape, logits.dtype)
        run = forward if logits.size >= PARALLEL_FROM else forward.serial
        x, labels, weights = laid(NOTHING[logits.dtype], logits, target, weight)
        run(
            x.reshape(-1), labels, weights, ignore_index, float(smoothing),
            block_of_rows(logits.shape[1]), loss, log_probs.reshape(-1),
        )  # fmt: skip
        return loss, log_probs

    def cross_entropy_grad(
        self, grad: Array, log_probs: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> Array:  # fmt: skip
        if not suits(log_probs, grad, weight) or target.dtype is not I64:
            return super().cross_entropy_grad(
                grad, log_probs, target, weight, ignore_index, smoothing
            )
        logits_grad = empty(log_probs.shape, log_probs.dtype)
        run = backward if log_probs.size >= PARALLEL_FROM else backward.serial
        g, x, labels, weights = laid(NOTHING[grad.dtype], grad, log_probs, target, weight)
        run(
            g, x.reshape(-1), labels, weights, ignore_index, float(smoothing),
            block_of_rows(log_probs.shape[1]), logits_grad.reshape(-1),
        )  # fmt: skip
        return logits_grad
