"""What stands between quantized layers, in integers: sums, tables and pooling of codes."""

from __future__ import annotations

from ..interface import Array, Narrow, Pair, Requantize
from .int8 import halved
from .pool import DENSE, Pool
from .windows import out_size, taps


class Int8Between(Pool):
    """Each formula as the contract states it, in integers wide enough for every number."""

    def int8_add(
        self, a: Array, b: Array, zero_points: Pair, multipliers: Pair, narrow: Narrow
    ) -> Array:
        int32 = self.xp.int32
        n = (a.astype(int32) - zero_points[0]) * multipliers[0]
        n = n + (b.astype(int32) - zero_points[1]) * multipliers[1]
        return self._narrowed(n, narrow)

    def int8_lookup(self, x: Array, table: Array) -> Array:
        xp = self.xp
        return self._array(xp.take(table, x.astype(xp.uint8)))

    def int8_max_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        xp = self.xp
        x = self._frame(x, padding, xp.iinfo(x.dtype).min)
        out = out_size(x.shape[2:], kernel, stride, DENSE)
        first, *others = (x[tap] for _, _, tap in taps(kernel, stride, DENSE, out))
        y = first.copy()
        for candidate in others:
            xp.maximum(y, candidate, out=y)
        return y

    def int8_conv2d_pool(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Requantize, pool: Pair,
    ) -> Array:  # fmt: skip
        options = stride, padding, dilation, groups
        y = self.int8_conv2d(x, weight, packed, pad_value, *options, finish)
        return self.int8_max_pool2d(y, pool, pool, (0, 0))

    def int8_avg_pool2d(
        self, x: Array, zero_point: int, multiplier: Array, kernel: Pair, stride: Pair,
        padding: Pair, narrow: Narrow,
    ) -> Array:  # fmt: skip
        xp = self.xp
        size = x.shape[2:]
        x = self._frame(x.astype(xp.int64) - zero_point, padding, 0)
        out = out_size(x.shape[2:], kernel, stride, DENSE)
        total = xp.zeros((*x.shape[:2], *out), xp.int64)
        for _, _, tap in taps(kernel, stride, DENSE, out):
            total += x[tap]
        count = self._divisor(size, kernel, stride, padding, False, xp.int64)
        return self._narrowed(total * multiplier.astype(xp.int64)[count - 1], narrow)

    def _narrowed(self, n: Array, narrow: Narrow) -> Array:
        q = halved(n, narrow.shift, 1 << (narrow.shift - 1)) + narrow.zero_point
        return self._array(self.xp.clip(q, narrow.low, narrow.high).astype(narrow.dtype))
