"""Sliding windows over (N, C, H, W), shared by convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..interface import Array, Pair, Shape
from ..quiet import quiet
from .common import Common


class Windows(Common):
    """Windows as columns and back."""

    def im2col(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, value: float = 0
    ) -> Array:
        """The windows are a view with six axes (N, C, kh, kw, OH, OW); reshaping copies it once."""
        x = self._frame(x, padding, value)
        n, c, h, w = x.shape
        sn, sc, sh, sw = x.strides
        oh, ow = out_size((h, w), kernel, stride, dilation)
        windows = self.xp.lib.stride_tricks.as_strided(
            x,
            (n, c, *kernel, oh, ow),
            (sn, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1]),
        )
        return windows.reshape(n, c * kernel[0] * kernel[1], oh * ow)

    @quiet
    def col2im(
        self, cols: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        n, c, h, w = shape
        (ph, pw), size = padding, framed((h, w), padding)
        oh, ow = out_size(size, kernel, stride, dilation)
        cols = cols.reshape(n, c, *kernel, oh, ow)
        x = self.xp.zeros((n, c, *size), cols.dtype)
        for i, j, tap in taps(kernel, stride, dilation, (oh, ow)):
            x[tap] += cols[:, :, i, j]
        return x[:, :, ph : ph + h, pw : pw + w]

    def _frame(self, x: Array, padding: Pair, value: float) -> Array:
        """x with padding rows and columns of value on each side."""
        ph, pw = padding
        return self.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), value) if ph or pw else x


def framed(size: Pair, padding: Pair) -> Pair:
    """Height and width with padding on both sides."""
    return size[0] + 2 * padding[0], size[1] + 2 * padding[1]


def out_size(size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """(OH, OW): how many windows fit into a framed image of this size."""
    oh, ow = ((n - d * (k - 1) - 1) // s + 1
              for n, k, s, d in zip(size, kernel, stride, dilation, strict=True))  # fmt: skip
    return oh, ow


def taps(
    kernel: Pair, stride: Pair, dilation: Pair, out: Pair
) -> Iterator[tuple[int, int, tuple[slice | None, ...]]]:
    """(i, j, index of the elements that tap (i, j) of the kernel meets, one per window)."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            first = i * dilation[0], j * dilation[1]
            rows, columns = (
                slice(start, start + step * n, step)
                for start, step, n in zip(first, stride, out, strict=True)
            )
            yield i, j, (slice(None), slice(None), rows, columns)


def grouped(cols: Array, groups: int) -> Array:
    """(N, C * K, P) -> (N, G, C / G * K, P): the channels of a group are neighbours."""
    n, k, p = cols.shape
    return cols.reshape(n, groups, k // groups, p)


def per_group(weight: Array, groups: int) -> Array:
    """(O, C / G, kh, kw) -> (G, O / G, C / G * kh * kw), to multiply what `grouped` gives."""
    o, *rest = weight.shape
    return weight.reshape(groups, o // groups, math.prod(rest))
