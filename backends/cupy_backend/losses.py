"""Cross entropy and its gradient, each in one launch with a block per row."""

from __future__ import annotations

import numpy as np

from ..interface import Array
from .common import Common
from .kernels import launchable, over_rows


class Losses(Common):
    """The reference takes about ten launches for the same."""

    def cross_entropy(
        self,
        logits: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        smoothing: float,
    ) -> tuple[Array, Array]:
        if not launchable(logits):
            return super().cross_entropy(logits, target, weight, ignore_index, smoothing)
        dtype, (rows, classes) = logits.dtype, logits.shape
        logits = self._dense(logits, dtype)
        loss, log_probs = self.xp.empty(rows, dtype), self.xp.empty_like(logits)
        rule = self._rule(logits, target, weight, ignore_index, smoothing)
        args = [logits, *rule, loss, log_probs, classes]
        self._kernels.launch("losses.cu", "cross_entropy", dtype, over_rows(rows, classes), args)
        return loss, log_probs

    def cross_entropy_grad(
        self, grad: Array, log_probs: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> Array:  # fmt: skip
        if not launchable(log_probs):
            return super().cross_entropy_grad(
                grad, log_probs, target, weight, ignore_index, smoothing
            )
        dtype, (rows, classes) = log_probs.dtype, log_probs.shape
        grad, log_probs = self._dense(grad, dtype), self._dense(log_probs, dtype)
        grad_logits = self.xp.empty_like(log_probs)
        rule = self._rule(log_probs, target, weight, ignore_index, smoothing)
        args = [grad, log_probs, *rule, grad_logits, classes]
        grid = over_rows(rows, classes)
        self._kernels.launch("losses.cu", "cross_entropy_grad", dtype, grid, args)
        return grad_logits

    def _rule(
        self, like: Array, target: Array, weight: Array | None, ignore_index: int, smoothing: float
    ) -> list[object]:
        """The kernels' arguments from `target` to `smoothing`; without weights `like` stands in."""
        weights = like if weight is None else self._dense(weight, like.dtype)
        target = self._dense(target, np.dtype(np.int64))
        weighted = int(weight is not None)
        return [target, weights, weighted, np.int64(ignore_index), like.dtype.type(smoothing)]
