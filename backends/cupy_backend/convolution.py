"""im2col and col2im on the GPU; the convolutions themselves are the reference's matrix products."""

from __future__ import annotations

from ..interface import Array, Pair, Shape
from ..numpy_backend.windows import framed, out_size
from .common import Common
from .kernels import C_TYPES, over_planes


class Convolution(Common):
    """One thread per element of the result; padding is never written to memory."""

    def im2col(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, value: float = 0
    ) -> Array:
        if x.dtype not in C_TYPES:
            return super().im2col(x, kernel, stride, padding, dilation, value)
        n, c, h, w = x.shape
        oh, ow = out_size(framed((h, w), padding), kernel, stride, dilation)
        rows = n * c * kernel[0] * kernel[1]
        cols = self.xp.empty((n, c * kernel[0] * kernel[1], oh * ow), x.dtype)
        if cols.size:
            window = (h, w, oh, ow, *kernel, *stride, *padding, *dilation)
            args = [self._dense(x, x.dtype), cols, rows, *window, x.dtype.type(value)]
            grid = over_planes(rows, oh * ow, h * w)
            self._kernels.launch("convolution.cu", "im2col", x.dtype, grid, args)
        return cols

    def col2im(
        self, cols: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        if cols.dtype not in C_TYPES:
            return super().col2im(cols, shape, kernel, stride, padding, dilation)
        n, c, h, w = shape
        x = self.xp.empty(shape, cols.dtype)
        if x.size:
            size = out_size(framed((h, w), padding), kernel, stride, dilation)
            window = (h, w, *size, *kernel, *stride, *padding, *dilation)
            args = [self._dense(cols, cols.dtype), x, n * c, *window]
            grid = over_planes(n * c, h * w, size[0] * size[1])
            self._kernels.launch("convolution.cu", "col2im", cols.dtype, grid, args)
        return x
