"""Pooling: a loop over the taps of the window, each a strided slice of the image."""

from __future__ import annotations

import math

from ..interface import Array, DType, Pair, Shape
from ..quiet import quiet
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
        candidates = [x[tap].copy() for _, _, tap in taps(kernel, stride, DENSE, out)]
        y = candidates[0].copy()
        for candidate in candidates[1:]:
            xp.maximum(y, candidate, out=y)
        first = self._first_hit(candidates, y)
        top = xp.arange(out[0]).reshape(-1, 1) * stride[0] - padding[0]
        left = xp.arange(out[1]) * stride[1] - padding[1]
        offsets = xp.arange(kernel[0]).reshape(-1, 1) * width + xp.arange(kernel[1])
        index = xp.take(offsets.reshape(-1), first)
        index += top * width + left
        if padding != (0, 0):  # tap 0 lies in it and wins if all is -inf: name the first element
            inside = xp.maximum(top, 0) * width + xp.maximum(left, 0)
            index = xp.where(first == 0, inside, index)
        return y, index

    def _first_hit(self, candidates: list[Array], y: Array) -> Array:
        """The number of the first candidate that equals the maximum y, or is NaN."""
        xp = self.xp
        first = xp.zeros(y.shape, xp.uint8 if len(candidates) <= 256 else xp.int32)
        missing = xp.ones(y.shape, bool)
        for candidate in candidates[:-1]:
            missing &= candidate != y
            missing &= candidate == candidate  # only NaN differs from itself
            first += missing
        return first

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
