"""Exact int8 products: cuBLAS where it has them, a dp4a kernel elsewhere."""

from __future__ import annotations

import math

import numpy as np

from ..interface import Array, DType, Pair, Shape
from ..numpy_backend.windows import framed, out_size
from .common import Common
from .kernels import ANY_FLOAT, CODES, FLOATS, MAX_GRID_Y, over_items

TILE = 16  # of a block in int8_matmul; integers.cu has the same number
ALIGNMENT = 16  # bytes; cuBLAS demands 4 and is said to be faster with 16
INT32 = np.dtype(np.int32)

# library_types.h and cublas_api.h of the CUDA toolkit
CUDA_R_8I, CUDA_R_32I, CUBLAS_COMPUTE_32I = 3, 10, 72
CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_GEMM_DEFAULT = 0, 1, -1


class Integers(Common):
    """Quantized values in, int32 sums out, in integer arithmetic throughout."""

    def int8_matmul(self, a: Array, b: Array) -> Array:
        """uint8 a is read as int8 a - 128, and 128 * sum(b) added: both kernels are int8 x int8."""
        if a.dtype == np.uint8:
            shifted = (a ^ np.uint8(128)).view(np.int8)
            return self._product(shifted, b) + b.sum(axis=1, dtype=np.int32) * np.int32(128)
        return self._product(a, b)

    def _conv_sums(
        self, x: Array, weight: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """Windows as rows for int8_matmul; groups go the reference's way, as a batched product."""
        if groups != 1:
            return super()._conv_sums(x, weight, pad_value, stride, padding, dilation, groups)
        kernel = weight.shape[2:]
        rows = self.im2col(x, kernel, stride, padding, dilation, pad_value).transpose(0, 2, 1)
        filters = weight.reshape(weight.shape[0], -1)
        y = self.int8_matmul(rows.reshape(-1, rows.shape[2]), filters)
        oh, ow = out_size(framed(x.shape[2:], padding), kernel, stride, dilation)
        return y.reshape(x.shape[0], oh, ow, weight.shape[0]).transpose(0, 3, 1, 2).copy()

    def _product(self, a: Array, b: Array) -> Array:
        (rows, inner), columns = a.shape, b.shape[0]
        if not rows * columns * inner:
            return self.xp.zeros((rows, columns), np.int32)
        width = -(-inner // ALIGNMENT) * ALIGNMENT
        a = self._padded(a, (rows, width))
        b = self._padded(b, (-(-columns // 4) * 4, width))
        out = self.xp.empty((rows, b.shape[0]), np.int32)
        if not self._cublas_product(a, b, out):
            args = [a.view(np.int32), b.view(np.int32), out, rows, b.shape[0], width // 4]
            grid = (-(-b.shape[0] // TILE), min(-(-rows // TILE), MAX_GRID_Y)), (TILE, TILE)
            self._kernels.launch("integers.cu", "int8_matmul", ANY_FLOAT, grid, args)
        return out if out.shape[1] == columns else out[:, :columns].copy()

    def _padded(self, x: Array, shape: Shape) -> Array:
        """x filled up with zeros; always at the start of an allocation, which CuPy aligns."""
        y = self.xp.zeros(shape, x.dtype)
        y[: x.shape[0], : x.shape[1]] = x
        return y

    def _cublas_product(self, a: Array, b: Array, out: Array) -> bool:
        """out = a @ b transposed through cuBLAS; False, and never tried again, if it declines.

        cuBLAS counts columns first: it sees out transposed = op(b) @ a, where op transposes.
        """
        cublas = self._libraries.cublas
        if cublas is None or not self._cublas_works:
            return False
        one, zero = np.array(1, np.int32), np.array(0, np.int32)
        (rows, inner), columns = a.shape, b.shape[0]
        try:
            cublas.gemmEx(
                self.xp.cuda.device.get_cublas_handle(), CUBLAS_OP_T, CUBLAS_OP_N,
                columns, rows, inner, one.ctypes.data,
                b.data.ptr, CUDA_R_8I, inner, a.data.ptr, CUDA_R_8I, inner, zero.ctypes.data,
                out.data.ptr, CUDA_R_32I, columns, CUBLAS_COMPUTE_32I, CUBLAS_GEMM_DEFAULT,
            )  # fmt: skip
        except RuntimeError:  # CUBLASError: this GPU or this cuBLAS has no int8 product
            self._cublas_works = False
        return self._cublas_works

    _cublas_works = True

    def quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int, dtype: DType
    ) -> Array:
        dtype = np.dtype(dtype)
        layout = channel_layout(x.shape, scale.shape)
        fits = x.dtype in FLOATS and dtype in CODES and zero_point.shape == scale.shape
        if layout is None or not fits or not x.size:
            return super().quantize(x, scale, zero_point, low, high, dtype)
        out = self.xp.empty(x.shape, dtype)
        limits = x.dtype.type(low), x.dtype.type(high)
        rule = self._dense(scale, x.dtype), self._dense(zero_point, INT32)
        args = [self._dense(x, x.dtype), *rule, *limits, out, np.int64(x.size), *layout]
        self._kernels.launch("integers.cu", "quantize", x.dtype, over_items(x.size), args, dtype)
        return out

    def dequantize(self, q: Array, scale: Array, zero_point: Array) -> Array:
        layout = channel_layout(q.shape, scale.shape)
        fits = scale.dtype in FLOATS and q.dtype in CODES and q.dtype.itemsize == 1
        if layout is None or not fits or zero_point.shape != scale.shape or not q.size:
            return super().dequantize(q, scale, zero_point)
        out = self.xp.empty(q.shape, scale.dtype)
        rule = self._dense(scale, scale.dtype), self._dense(zero_point, INT32)
        args = [self._dense(q, q.dtype), *rule, out, np.int64(q.size), *layout]
        grid = over_items(q.size)
        self._kernels.launch("integers.cu", "dequantize", scale.dtype, grid, args, q.dtype)
        return out


def channel_layout(shape: Shape, scale: Shape) -> tuple[np.int64, np.int64] | None:
    """(elements in a row that share a scale, number of scales), or None if scale has another form.

    >>> [int(n) for n in channel_layout((8, 3, 5, 5), (8, 1, 1, 1))]
    [75, 8]
    >>> channel_layout((4, 4), (4, 4)) is None
    True
    """
    if len(scale) > len(shape):
        return None
    scale = (1,) * (len(shape) - len(scale)) + scale
    axes = [axis for axis, n in enumerate(scale) if n != 1]
    if len(axes) > 1:
        return None
    inner = math.prod(shape[axes[0] + 1 :]) if axes else math.prod(shape)
    return np.int64(inner), np.int64(math.prod(scale))
