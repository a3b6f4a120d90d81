"""Matrix products in tiles, each tile one call of single-threaded BLAS."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from .blas import BLAS, gemm
from .jit import kernel
from .layout import optional, plain, suits
from .memory import empty

# rows * columns * depth from which on OpenBLAS starts threads of its own, which would spin beside
# ours for a tenth of a second. Smaller products are NumPy's.
LARGE = 1 << 19
TILE_WORK = 1 << 20  # rows * columns * depth of a tile: 20 us, some times what a launch costs
TILE_SIDE = 64  # thinner tiles make BLAS copy more than it multiplies
ENOUGH = 8  # tiles, from which on they only get smaller than 512 a side


@kernel()
def products(a: Array, trans_a: bool, b: Array, trans_b: bool, bias: Array, y: Array,
             tile: Pair) -> None:  # fmt: skip
    """y[n] = op(a[n]) @ op(b[n]) + bias; a and b of a single matrix serve every n."""
    batch, rows, columns = y.shape
    down, across = (rows + tile[0] - 1) // tile[0], (columns + tile[1] - 1) // tile[1]
    depth = a.shape[1] if trans_a else a.shape[2]
    for t in prange(batch * down * across):
        n, r, c = t // (down * across), t // across % down * tile[0], t % across * tile[1]
        r_end, c_end = min(r + tile[0], rows), min(c + tile[1], columns)
        out = y[n, r:r_end, c:c_end]
        scale = np.array([1, 0], y.dtype)
        if bias.size:
            out[:] = bias[c:c_end]
            scale[1] = 1
        left, right = a[n % a.shape[0]], b[n % b.shape[0]]
        top = left[0:depth, r:r_end] if trans_a else left[r:r_end, 0:depth]
        side = right[c:c_end, 0:depth] if trans_b else right[0:depth, c:c_end]
        gemm(top, trans_a, side, trans_b, out, scale)


def tile_size(batch: int, rows: int, columns: int, depth: int) -> Pair:
    """Halve the longer side of the product until there is enough to share; from shapes alone.

    >>> tile_size(1, 64, 120, 400), tile_size(1, 1024, 1024, 1024)
    ((64, 64), (512, 256))
    """
    height, width, tiles = rows, columns, batch
    while height * width * depth > TILE_WORK and max(height, width) > TILE_SIDE:
        if tiles >= ENOUGH and max(height, width) <= 512:
            break
        if width >= height:
            width = -(-width // 32) * 16  # about half, and a whole number of vectors
        else:
            height = -(-height // 32) * 16
        tiles = batch * -(-rows // height) * -(-columns // width)
    return height, width


class Linear(NumpyBackend):
    """Small products are the NumPy backend's, whose BLAS uses one thread for them."""

    def matmul(self, a: Array, b: Array) -> Array:
        # The larger operand times a side of the other bounds the work of a product from above.
        if a.size * b.shape[-1] < LARGE or not suits(a, b) or a.ndim < 2 or b.ndim < 2:
            return super().matmul(a, b)
        if b.ndim == 2:
            return _tall(a, b)
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        return _product(_stack(a, shape), _stack(b, shape), None, shape)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        if x.size * weight.shape[0] < LARGE or not suits(x, weight, bias):
            return super().linear(x, weight, bias)
        return _product(x, weight.T, bias, (x.shape[0], weight.shape[0]))


def _tall(a: Array, b: Array) -> Array:
    """a (..., M, K) @ b (K, N): the rows of all matrices in a make one matrix."""
    shape = (*a.shape[:-1], b.shape[1])
    if a.ndim > 2:
        a = a.reshape(-1, a.shape[-1])
    return _product(a, b, None, (a.shape[0], b.shape[1])).reshape(shape)


def _stack(x: Array, shape: Shape) -> Array:
    """x broadcast to the batch axes of shape, unless it is one matrix and so serves them all."""
    if math.prod(x.shape[:-2]) == 1 or x.shape[:-2] == shape[:-2]:
        return x
    return np.broadcast_to(x, (*shape[:-2], *x.shape[-2:]))


def _operand(x: Array) -> tuple[Array, bool]:
    """x (..., R, C) as a plain (B, R, C), and whether that is the transpose of what x was."""
    if not x.flags.c_contiguous:
        transposed = x.swapaxes(-1, -2)
        if transposed.flags.c_contiguous:
            return plain(transposed).reshape(-1, *transposed.shape[-2:]), True
    return plain(x).reshape(-1, *x.shape[-2:]), False


def _product(a: Array, b: Array, bias: Array | None, shape: Shape) -> Array:
    y = empty(shape, a.dtype)
    stack = y.reshape(-1, *shape[-2:])
    tile = tile_size(stack.shape[0], stack.shape[1], stack.shape[2], a.shape[-1])
    one = tile[0] >= shape[-2] and tile[1] >= shape[-1] and stack.shape[0] == 1
    with BLAS:
        (products.serial if one else products)(
            *_operand(a), *_operand(b), optional(bias, y.dtype), stack, tile
        )
    return y
