"""Pooling and its gradients; each is one launch, and none needs atomics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..interface import Array, Pair, Shape
from ..numpy_backend.pool import DENSE
from ..numpy_backend.windows import framed, out_size
from .common import Common
from .kernels import C_TYPES, WARP, launchable, over_planes

WARPS = 4  # of a block in max_pool2d_grad; pooling.cu has the same number


class Pooling(Common):
    """A window is cut off at the edge of the image instead of reading padding."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        if x.dtype not in C_TYPES or not x.size:
            return super().max_pool2d(x, kernel, stride, padding)
        n, c, h, w = x.shape
        shape = (n, c, *out_size(framed((h, w), padding), kernel, stride, DENSE))
        y, index = self.xp.empty(shape, x.dtype), self.xp.empty(shape, np.int64)
        window = (h, w, *shape[2:], *kernel, *stride, *padding)
        args = [self._dense(x, x.dtype), y, index, n * c, *window]
        self._pool("max_pool2d", n * c, (math.prod(shape[2:]), h * w), args)
        return y, index

    def max_pool2d_grad(self, grad: Array, index: Array, shape: Shape) -> Array:
        if not launchable(grad):
            return super().max_pool2d_grad(grad, index, shape)
        planes, out_size = shape[0] * shape[1], grad.shape[2] * grad.shape[3]
        grad_x = self.xp.zeros(shape, grad.dtype)
        args = [self._dense(grad, grad.dtype), self._dense(index, np.dtype(np.int64)), grad_x]
        grid = (-(-planes // WARPS),), (WARP, WARPS)
        sizes = [planes, out_size, shape[2] * shape[3]]
        self._kernels.launch("pooling.cu", "max_pool2d_grad", grad.dtype, grid, [*args, *sizes])
        return grad_x

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
    ) -> Array:
        if not launchable(x):
            return super().avg_pool2d(x, kernel, stride, padding, count_include_pad)
        n, c, h, w = x.shape
        shape = (n, c, *out_size(framed((h, w), padding), kernel, stride, DENSE))
        y = self.xp.empty(shape, x.dtype)
        window = (h, w, *shape[2:], *kernel, *stride, *padding, int(count_include_pad))
        args = [self._dense(x, x.dtype), y, n * c, *window]
        self._pool("avg_pool2d", n * c, (math.prod(shape[2:]), h * w), args)
        return y

    def avg_pool2d_grad(
        self,
        grad: Array,
        shape: Shape,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        if not launchable(grad):
            return super().avg_pool2d_grad(grad, shape, kernel, stride, padding, count_include_pad)
        n, c, h, w = shape
        grad_x = self.xp.empty(shape, grad.dtype)
        window = (h, w, *grad.shape[2:], *kernel, *stride, *padding, int(count_include_pad))
        args = [self._dense(grad, grad.dtype), grad_x, n * c, *window]
        self._pool("avg_pool2d_grad", n * c, (h * w, math.prod(grad.shape[2:])), args)
        return grad_x

    def _pool(self, name: str, planes: int, sizes: Pair, args: list[Any]) -> None:
        """args start with the array that is read; sizes: of a plane written, of a plane read."""
        grid = over_planes(planes, *sizes)
        self._kernels.launch("pooling.cu", name, args[0].dtype, grid, args)
