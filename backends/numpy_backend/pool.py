"""Pooling: a loop over the taps of the window, each a strided slice of the image."""

from __future__ import annotations

import math

from ..interface import Array, DType, Pair, Shape
from .common import quiet
from .windows import Windows, framed, out_size, taps

DENSE = (1, 1)  # pooling windows have no dilation


class Pool(Windows):
    """kh * kw passes over whole arrays are faster than an argmax over each window."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        xp = self.xp
        width = x.shape[3]
        lowest = -math.inf if x.dtype.kind == "f" else xp.iinfo(x.dtype).min
        x = self._frame(x, padding, lowest)
        out = out_size(x.shape[2:], kernel, stride, DENSE)
        windows = [(i, j, x[tap]) for i, j, tap in taps(kernel, stride, DENSE, out)]
        y = windows[0][2].copy()
        for _, _, candidate in windows[1:]:
            xp.maximum(y, candidate, out=y)
        index = xp.empty(y.shape, xp.int64)
        top = xp.arange(out[0]).reshape(-1, 1) * stride[0] - padding[0]
        left = xp.arange(out[1]) * stride[1] - padding[1]
        for i, j, candidate in reversed(windows):  # so that the first of equals is written last
            # Padding wins only where all is -inf; then tap (0, 0) does, and is clamped into x.
            position = xp.maximum(top + i, 0) * width + xp.maximum(left + j, 0)
            hit = (candidate == y) | (candidate != candidate)  # a NaN differs from itself
            xp.copyto(index, position, where=hit)
        return y, index

    @quiet
    def max_pool2d_grad(self, grad: Array, index: Array, shape: Shape) -> Array:
        n, c, h, w = shape
        image = self.xp.arange(n * c).reshape(n, c, 1, 1) * (h * w)
        flat = self.xp.zeros(n * c * h * w, grad.dtype)
        self._scatter_add(flat, (image + index).reshape(-1), grad.reshape(-1))
        return flat.reshape(shape)

    @quiet
    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
    ) -> Array:
        size = x.shape[2:]
        x = self._frame(x, padding, 0)
        out = out_size(x.shape[2:], kernel, stride, DENSE)
        y = self.xp.zeros((*x.shape[:2], *out), x.dtype)
        for _, _, tap in taps(kernel, stride, DENSE, out):
            y += x[tap]
        y /= self._divisor(size, kernel, stride, padding, count_include_pad, x.dtype)
        return y

    @quiet
    def avg_pool2d_grad(
        self, grad: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair,
        count_include_pad: bool,
    ) -> Array:  # fmt: skip
        n, c, h, w = shape
        share = grad / self._divisor((h, w), kernel, stride, padding, count_include_pad, grad.dtype)
        x = self.xp.zeros((n, c, *framed((h, w), padding)), grad.dtype)
        for _, _, tap in taps(kernel, stride, DENSE, grad.shape[2:]):
            x[tap] += share
        return x[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w]

    def _divisor(
        self, size: Pair, kernel: Pair, stride: Pair, padding: Pair, padded: bool, dtype: DType
    ) -> Array:
        """How many elements each window counts: a number, or (OH, OW) if padding does not count."""
        xp = self.xp
        if padded or padding == (0, 0):
            return kernel[0] * kernel[1]
        out = out_size(framed(size, padding), kernel, stride, DENSE)
        counts = []
        for axis in (0, 1):
            start = xp.arange(out[axis]) * stride[axis] - padding[axis]
            counts.append(xp.minimum(start + kernel[axis], size[axis]) - xp.maximum(start, 0))
        return (counts[0].reshape(-1, 1) * counts[1]).astype(dtype)
