"""Quantized arithmetic: to and from 8-bit integers, and exact products of them.

Source of the affine scheme: Jacob et al. (2018), arXiv:1712.05877, section 2.1.
"""

from __future__ import annotations

from ..interface import Array, DType, Pair
from ..quiet import quiet
from .windows import Windows, framed, grouped, out_size, per_group


class Int8(Windows):
    """Sums of integer products go through float32 BLAS: integers up to 2^24 are exact there."""

    @quiet
    def quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int, dtype: DType
    ) -> Array:
        xp = self.xp
        y = xp.rint(x / scale)
        y = xp.where(xp.isnan(y), 0, y) + zero_point.astype(x.dtype)
        return self._array(xp.clip(y, low, high).astype(dtype))

    @quiet
    def dequantize(self, q: Array, scale: Array, zero_point: Array) -> Array:
        return self._array((q - zero_point).astype(scale.dtype) * scale)

    def int8_matmul(self, a: Array, b: Array) -> Array:
        return self._exact_matmul(a, b.T)

    def int8_conv2d(
        self, x: Array, weight: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        kernel = weight.shape[2:]
        cols = grouped(self.im2col(x, kernel, stride, padding, dilation, pad_value), groups)
        y = self._exact_matmul(per_group(weight, groups), cols)
        size = out_size(framed(x.shape[2:], padding), kernel, stride, dilation)
        return y.reshape(x.shape[0], weight.shape[0], *size)

    def _exact_matmul(self, a: Array, b: Array) -> Array:
        """a (..., M, K) @ b (..., K, P) -> int32, in stretches of K whose sums stay within 2^24."""
        xp = self.xp
        largest = max(255 if m.dtype == xp.uint8 else 128 for m in (a, b))
        stretch = 2**24 // (largest * 128)
        total = None
        for start in range(0, max(a.shape[-1], 1), stretch):
            part = xp.matmul(
                a[..., start : start + stretch].astype(xp.float32),
                b[..., start : start + stretch, :].astype(xp.float32),
            ).astype(xp.int32)
            total = part if total is None else xp.add(total, part, out=total)
        return total
