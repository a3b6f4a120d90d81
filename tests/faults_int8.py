"""Mistakes in what stands between quantized layers. See `faults.py`."""

from __future__ import annotations

import numpy as np

from backends.numpy_backend import NumpyBackend

from .faults import found_by


@found_by("int8_add")
class AddRoundsEachOperandOnItsOwn(NumpyBackend):
    """As libraries do that have one rescaling for each operand, and then add."""

    def int8_add(self, a, b, zero_points, multipliers, narrow):
        parts = (
            (x.astype(np.int32) - z) * m / 2.0**narrow.shift
            for x, z, m in zip((a, b), zero_points, multipliers, strict=True)
        )
        q = sum(np.rint(part) for part in parts) + narrow.zero_point
        return np.asarray(np.clip(q, narrow.low, narrow.high).astype(narrow.dtype))


@found_by("int8_add", "int8_avg_pool2d")
class NarrowRoundsHalfUp(NumpyBackend):
    def _narrowed(self, n, narrow):
        q = (n + (1 << (narrow.shift - 1)) >> narrow.shift) + narrow.zero_point
        return np.asarray(np.clip(q, narrow.low, narrow.high).astype(narrow.dtype))


@found_by("int8_add", "int8_avg_pool2d")
class NarrowWrapsAround(NumpyBackend):
    def _narrowed(self, n, narrow):
        return super()._narrowed(n, narrow._replace(low=-(2**40), high=2**40))


@found_by("int8_lookup")
class TablesStartWithTheLowestCode(NumpyBackend):
    def int8_lookup(self, x, table):
        return super().int8_lookup(x, np.roll(table, 128) if x.dtype == np.int8 else table)


@found_by("int8_max_pool2d")
class PaddingOfMaxPoolingIsCodeZero(NumpyBackend):
    def _frame(self, x, padding, value):
        return super()._frame(x, padding, 0 if x.dtype == np.int8 else value)


@found_by("int8_avg_pool2d")
class PaddingOfAveragePoolingIsCodeZero(NumpyBackend):
    """And so has the value -zero_point."""

    def int8_avg_pool2d(self, x, zero_point, multiplier, kernel, stride, padding, narrow):
        x = self._frame(x, padding, 0)
        rest = kernel, stride, (0, 0), narrow
        return super().int8_avg_pool2d(x, zero_point, multiplier, *rest)


@found_by("int8_avg_pool2d")
class AveragePoolingDividesByTheWholeWindow(NumpyBackend):
    def int8_avg_pool2d(self, x, zero_point, multiplier, *rest):
        same = np.full_like(multiplier, multiplier[-1])
        return super().int8_avg_pool2d(x, zero_point, same, *rest)


@found_by("int8_conv2d_pool")
class PoolingOfAConvolutionMovesByOne(NumpyBackend):
    def int8_conv2d_pool(self, *args):
        return self.int8_max_pool2d(self.int8_conv2d(*args[:-1]), args[-1], (1, 1), (0, 0))


@found_by("int8_layer_norm")
class LayerNormRoundsTheMeanFirst(NumpyBackend):
    def int8_layer_norm(self, x, weight, bias, eps, narrow):
        mean = np.rint(x.mean(axis=1, keepdims=True)) if x.size else 0
        c = ((x - mean) * x.shape[1]).astype(np.int64)
        root = np.maximum(
            self._isqrt((((c * c).sum(1, keepdims=True) + eps) << 12) // x.shape[1]), 1
        )
        h = (c * ((1 << 40) // root) + (1 << 21)) >> 22
        return self._narrowed(h * weight + bias, narrow)


@found_by("int8_layer_norm")
class LayerNormAddsSquaresIn32Bits(NumpyBackend):
    def _isqrt(self, v):
        return super()._isqrt(((v >> 12).astype(np.int32).astype(np.int64) << 12).clip(min=0))


@found_by("int8_attention")
class Int8AttentionIgnoresTheZeroPointOfTheQuery(NumpyBackend):
    def int8_attention(self, *args):
        zeros = (0, *args[5][1:])
        return super().int8_attention(*args[:5], zeros, *args[6:])


@found_by("int8_attention")
class Int8AttentionLooksForTheBestOutOfSight(NumpyBackend):
    def int8_attention(self, query, key, value, mask, causal, zero_points, multiplier, *rest):
        z0, z1, _ = zero_points
        scores = self._centred_product(query, z0, key.transpose((0, 1, 3, 2)), z1)
        self.best = scores.max(axis=3, keepdims=True) if scores.size else scores
        self.own = np.where(self._seen(scores.shape, mask, causal), scores, -(1 << 31))
        self.behind = (self.best - self.own.max(axis=3, keepdims=True)) * multiplier >> 19
        args = mask, causal, zero_points, multiplier, *rest
        return super().int8_attention(query, key, value, *args)

    def _falling(self, t):
        return super()._falling(t + self.behind)


@found_by("int8_attention")
class Int8AttentionWeightsHalvesLinearly(NumpyBackend):
    """Without the square of the parabola."""

    def _falling(self, t):
        t = np.clip(t, 0, 2560)
        i, f = t >> 8, t & 255
        return (((255 << 20) - f * 522240 >> (i + 19)) + 1) >> 1


@found_by("int8_lstm")
class Int8LstmRunsPastTheEnds(NumpyBackend):
    def int8_lstm(self, x, weight, packed, h, c, lengths, *rest):
        return super().int8_lstm(x, weight, packed, h, c, None, *rest)


@found_by("int8_lstm")
class Int8LstmStartsWithEmptyCells(NumpyBackend):
    def int8_lstm(self, x, weight, packed, h, c, *rest):
        return super().int8_lstm(x, weight, packed, h, np.zeros_like(c), *rest)


@found_by("int8_lstm")
class Int8LstmSwapsItsTables(NumpyBackend):
    def int8_lstm(self, *args):
        return super().int8_lstm(*args[:-3], args[-2], args[-3], args[-1])
