"""Quantized arithmetic: to and from 8-bit integers, and exact products of them.

Source of the affine scheme: Jacob et al. (2018), arXiv:1712.05877, section 2.1.
"""

from __future__ import annotations

from ..interface import Array, DType, Finish, Pair, Rescale, Shape
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

    def int8_pack(self, weight: Array, groups: int) -> Array:
        return weight

    def int8_linear(self, x: Array, weight: Array, packed: Array, finish: Finish) -> Array:
        return self._finished(self.int8_matmul(x, weight), finish, (-1,))

    def int8_conv2d(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Finish,
    ) -> Array:  # fmt: skip
        sums = self._conv_sums(x, weight, pad_value, stride, padding, dilation, groups)
        return self._finished(sums, finish, (-1, 1, 1))

    @quiet
    def _finished(self, sums: Array, finish: Finish, channels: Shape) -> Array:
        """What becomes of int32 sums; arrays of one element per output are reshaped to channels."""
        xp = self.xp
        if finish is None:
            return sums
        total = sums + finish.offset.reshape(channels)
        if isinstance(finish, Rescale):
            y = total.astype(xp.float32) * finish.scale.reshape(channels)
            y += finish.bias.reshape(channels)
            return xp.maximum(y, 0) if finish.relu else y
        product = total.astype(xp.int64) * finish.multiplier.reshape(channels)
        shift = finish.shift.astype(xp.int64).reshape(channels)
        half = xp.left_shift(xp.ones_like(shift), shift - 1)
        q = halved(product, shift, half) + finish.zero_point
        return xp.clip(q, finish.low, finish.high).astype(finish.dtype)

    def _conv_sums(
        self, x: Array, weight: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """The int32 sums of int8_conv2d."""
        kernel = weight.shape[2:]
        cols = grouped(self.im2col(x, kernel, stride, padding, dilation, pad_value), groups)
        y = self._exact_matmul(per_group(weight, groups), cols)
        size = out_size(framed(x.shape[2:], padding), kernel, stride, dilation)
        return y.reshape(x.shape[0], weight.shape[0], *size)

    def _exact_matmul(self, a: Array, b: Array) -> Array:
        """a (..., M, K) @ b (..., K, P) -> int32, in stretches of K whose sums stay within 2^24."""
        xp = self.xp
        first, second = (255 if m.dtype == xp.uint8 else 128 for m in (a, b))
        stretch = 2**24 // (first * second)
        total = None
        for start in range(0, max(a.shape[-1], 1), stretch):
            part = xp.matmul(
                a[..., start : start + stretch].astype(xp.float32),
                b[..., start : start + stretch, :].astype(xp.float32),
            ).astype(xp.int32)
            total = part if total is None else xp.add(total, part, out=total)
        return total


def halved(n: Array, shift: Array | int, half: Array | int) -> Array:
    """round_half_even(n / 2^shift), half = 2^(shift - 1); of two neighbours equally near, the even
    one.

    >>> import numpy as np
    >>> halved(np.arange(-6, 7, 2), 2, 2)
    array([-2, -1,  0,  0,  0,  1,  2])
    """
    odd = (n >> shift) & 1
    return (n + (half - 1) + odd) >> shift
