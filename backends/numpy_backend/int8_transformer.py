"""Layer normalisation and attention in integers: see the contract for each formula's source."""

from __future__ import annotations

from ..interface import Array, Narrow
from .int8 import Int8
from .int8_between import Int8Between


class Int8Transformer(Int8, Int8Between):
    """Each formula as the contract states it; 64 bits where the contract needs 32 only, too."""

    def int8_layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: int, narrow: Narrow
    ) -> Array:
        xp = self.xp
        columns = x.shape[1]
        x = x.astype(xp.int64)
        c = columns * x - x.sum(axis=1, keepdims=True)
        square = ((c * c).sum(axis=1, keepdims=True) + eps) << 12
        root = xp.maximum(self._isqrt(square // max(columns, 1)), 1)
        h = (c * ((1 << 40) // root) + (1 << 21)) >> 22
        return self._narrowed(h * weight + bias, narrow)

    def _isqrt(self, v: Array) -> Array:
        """floor(sqrt(v)) of int64 below 2^63: the root in float64, which is off by one at most."""
        xp = self.xp
        root = xp.sqrt(v.astype(xp.float64)).astype(xp.int64)
        root = root - (root * root > v)
        return root + ((root + 1) * (root + 1) <= v)

    def int8_attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        zero_points: tuple[int, int, int], multiplier: int, factor: int, narrow: Narrow,
    ) -> Array:  # fmt: skip
        xp = self.xp
        z0, z1, z2 = zero_points
        scores = self._centred_product(query, z0, key.transpose((0, 1, 3, 2)), z1)
        seen = self._seen(scores.shape, mask, causal)
        largest = xp.where(seen, scores, -(1 << 31)).max(axis=3, keepdims=True)
        u = xp.where(seen, self._falling((largest - scores) * multiplier >> 19), 0)
        total = u.sum(axis=3, keepdims=True)
        n = self._centred_product(u.astype(xp.uint8), 0, value, z2)
        return self._narrowed(n * ((factor << 16) // xp.maximum(total, 1)), narrow)

    def _falling(self, t: Array) -> Array:
        """255 * 2^(-t / 256), rounded: the weight of a key t 256ths of a halving below the best."""
        t = self.xp.clip(t, 0, 2560)
        i, f = t >> 8, t & 255
        p = (255 << 20) - f * (701440 - 700 * f)
        return ((p >> (i + 19)) + 1) >> 1

    def _centred_product(self, a: Array, a_zero: int, b: Array, b_zero: int) -> Array:
        """sum((a - a_zero) * (b - b_zero)) over the last axis of a and the last but one of b."""
        int64 = self.xp.int64
        rows = a.sum(axis=-1, keepdims=True, dtype=int64) * b_zero
        columns = b.sum(axis=-2, keepdims=True, dtype=int64) * a_zero
        sums = self._exact_matmul(a, b).astype(int64)
        return sums - rows - columns + a.shape[-1] * a_zero * b_zero

    def _seen(self, shape: tuple[int, ...], mask: Array | None, causal: bool) -> Array:
        """Which query may look at which key."""
        xp = self.xp
        seen = xp.ones(shape, bool) if mask is None else xp.broadcast_to(mask, shape)
        if causal:
            seen = seen & (xp.arange(shape[2])[:, None] >= xp.arange(shape[3]))
        return seen
