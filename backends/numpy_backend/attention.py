"""Scaled dot-product attention, with all its weights in memory.

Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.2.1.
"""

from __future__ import annotations

import math

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Attention(Common):
    """Each row of weights W is e^(score - logsumexp): it needs no division, and backward no sum."""

    @quiet
    def attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array]:  # fmt: skip
        scores = self._scores(query, key, mask, causal, scale)
        logsumexp = self.logsumexp(scores, 3)
        weights = self._weights(scores, logsumexp)
        if p:
            weights, _ = self.dropout(weights, p, seed, counter)
        return self.matmul(weights, value), logsumexp

    @quiet
    def attention_grad(
        self, grad: Array, query: Array, key: Array, value: Array, mask: Array | None, y: Array,
        logsumexp: Array, causal: bool, scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """With dropout, y = (W * M) value and G = (grad value^T) * M, where M is 0 or 1 / (1 - p):

        dL/dvalue = (W * M)^T grad, dL/dscores = W * (G - delta) with delta = sum over keys of W * G
        = grad . y, and from there as through any product. Source: Dao et al. (2022),
        arXiv:2205.14135, appendix B.2.
        """
        weights = self._weights(self._scores(query, key, mask, causal, scale), logsumexp)
        kept, slope = weights, self.matmul(grad, self._mT(value))
        if p:
            kept, _ = self.dropout(weights, p, seed, counter)
            slope, _ = self.dropout(slope, p, seed, counter)
        value_grad = self.matmul(self._mT(kept), grad)
        slope = slope - (grad * y).sum(axis=3, keepdims=True)
        slope *= weights
        slope *= scale
        return self.matmul(slope, key), self.matmul(self._mT(slope), query), value_grad

    def _scores(
        self, query: Array, key: Array, mask: Array | None, causal: bool, scale: float
    ) -> Array:
        xp = self.xp
        scores = self.matmul(query * scale, self._mT(key))
        if mask is not None:
            boolean = mask.dtype.kind == "b"
            scores = xp.where(mask, scores, -math.inf) if boolean else scores + mask
        if causal:
            queries, keys = scores.shape[2:]
            seen = xp.arange(queries)[:, None] >= xp.arange(keys)
            scores = xp.where(seen, scores, -math.inf)
        return scores

    def _weights(self, scores: Array, logsumexp: Array) -> Array:
        """softmax(scores); 0 where a row has nothing to look at: -inf less -inf would be NaN."""
        xp = self.xp
        shift = xp.where(logsumexp == -math.inf, 0, logsumexp)
        return xp.exp(scores - shift[..., None])

    def _mT(self, x: Array) -> Array:  # noqa: N802  (NumPy's name)
        return x.transpose((0, 1, 3, 2))
