"""Softmax and cross-entropy in one step."""

from __future__ import annotations

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Loss(Common):
    """Label smoothing: Szegedy et al. (2016), arXiv:1512.00567, section 7."""

    @quiet
    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> tuple[Array, Array]:  # fmt: skip
        xp = self.xp
        log_probs = self.log_softmax(logits, 1)
        valid = target != ignore_index
        label = xp.where(valid, target, 0)
        loss = (smoothing - 1) * xp.take_along_axis(log_probs, label[:, None], axis=1)[:, 0]
        if weight is not None:
            loss *= weight[label]
        if smoothing:
            all_classes = log_probs if weight is None else weight * log_probs
            loss -= smoothing / logits.shape[1] * all_classes.sum(axis=1)
        return xp.where(valid, loss, 0), log_probs

    @quiet
    def cross_entropy_grad(
        self, grad: Array, log_probs: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> Array:  # fmt: skip
        """Probabilities times the total weight of the row, less the weight of each class."""
        xp = self.xp
        rows, classes = log_probs.shape
        valid = target != ignore_index
        label = xp.where(valid, target, 0)
        on_target = (1 - smoothing) * grad
        if weight is not None:
            on_target = on_target * weight[label]
        on_all = (smoothing / classes * grad)[:, None]
        y = xp.exp(log_probs)
        if smoothing:
            y *= on_target[:, None] + on_all * (classes if weight is None else weight.sum())
            y -= on_all if weight is None else on_all * weight
        else:
            y *= on_target[:, None]
        y[xp.arange(rows), label] -= on_target
        y[~valid] = 0
        return y
