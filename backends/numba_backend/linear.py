"""Matrix products in tiles, each computed by the micro-kernel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from .layout import F32, F64, plain, suits
from .memory import empty
from .microkernel import PANEL, ROWS, micro, product, transpose_block
from .outline import tasks

# rows * columns * depth from which on a tile is worth a launch; also where OpenBLAS starts threads
# of its own, which would spin beside ours for a tenth of a second. Smaller products are NumPy's.
LARGE = 1 << 19
HEIGHT = 256  # rows of a tile: with DEPTH numbers each, what stays in the second cache
NOTHING = {dtype: np.empty(0, dtype) for dtype in (F32, F64)}  # in place of what is left out
WHOLE = 1 << 18  # bytes of b that all tiles may read again: they stay in the second cache
FEW = 4  # tiles; with fewer, rows are split as well
Triple = tuple[int, int, int]


@tasks(calls=[micro, transpose_block])
def products(a: Array, a_strides: Triple, b: Array, b_strides: Triple, bias: Array, y: Array,
             depth: int, tile: Pair, relu: bool, gate: Array, part: int) -> None:  # fmt: skip
    """A tile of y[n] = a[n] @ b[n] + bias, and relu of it if asked for, while it is in the cache.

    a and b are flat; their strides are (matrix, row, column). Where gate, flat and as large as y,
    is not positive, y becomes 0: so relu's gradient is taken in the same pass.
    """
    rows, columns = y.shape[1:]
    down, across = (rows + tile[0] - 1) // tile[0], (columns + tile[1] - 1) // tile[1]
    n, r, c = part // (down * across), part // across % down * tile[0], part % across * tile[1]
    height, width = min(tile[0], rows - r), min(tile[1], columns - c)
    if bias.size:
        start = bias[c : c + width]
        for m in range(r, r + height):
            row = y[n, m, c : c + width]
            for i in range(width):  # an assignment of slices takes 1.3 s to compile
                row[i] = start[i]
    product(
        a, n * a_strides[0] + r * a_strides[1], a_strides[1], a_strides[2],
        b, n * b_strides[0] + c * b_strides[2], b_strides[1], b_strides[2],
        y.reshape(-1), (n * rows + r) * columns + c, columns, height, width, depth, bias.size > 0,
    )  # fmt: skip
    if relu:
        for m in range(r, r + height):
            row = y[n, m, c : c + width]
            for i in range(width):
                row[i] = 0 if row[i] <= 0 else row[i]
    if gate.size:
        for m in range(r, r + height):
            row, start = y[n, m, c : c + width], gate[(n * rows + m) * columns + c :]
            for i in range(width):
                row[i] = 0 if start[i] <= 0 else row[i]


@lru_cache(1024)
def tile_size(batch: int, rows: int, columns: int, read: int, itemsize: int) -> tuple[Pair, int]:
    """Height and width of the tiles that are shared among the threads, and how many they are; from
    shapes alone.

    read: bytes of b if it is read where it is, else 0, for what is packed is packed for each tile.
    Where that is little and the rows are long, a tile is a band of them, which is how the optimizer
    shares them out too: the gradient of 256 x 784 weights over 32 samples, in a training step, took
    46 us in tiles, 37 in bands. Bands of short rows are too small: 3000 x 16 x 32 took 20, not 13.

    >>> tile_size(1, 64, 256, 0, 4)[0][0], tile_size(1, 1000, 16, 0, 4)[0][0] < 256
    (64, True)
    >>> tile_size(1, 256, 784, 1 << 17, 4)[0][1]
    784
    """
    width, bands = 2 * PANEL // itemsize, rows // (2 * ROWS) // FEW * FEW
    if 0 < read <= WHOLE and bands and columns > FEW * width:
        height, width = -(-rows // bands), columns
    else:
        if rows < HEIGHT and batch * -(-columns // width) < FEW:
            width = PANEL // itemsize  # parts of rows would each pack all of b
        parts = max(-(-rows // HEIGHT), -(-FEW // (batch * -(-columns // width))))
        height = -(-rows // parts)
        height = min(-(-height // ROWS) * ROWS, rows) if parts > 1 else rows
    return (height, width), batch * -(-rows // height) * -(-columns // width)


class Linear(NumpyBackend):
    """Small products are the NumPy backend's, whose BLAS uses one thread for them."""

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        # The larger operand times a side of the other bounds the work of a product from above.
        if a.size * b.shape[-1] < LARGE or not suits(a, b) or a.ndim < 2 or b.ndim < 2:
            return self._ufunc(np.matmul, a, b) if out is None else super().matmul(a, b, out)
        if a.ndim == b.ndim == 2:
            shape: Shape = (a.shape[0], b.shape[1])
        elif b.ndim == 2:  # the rows of all matrices in a make one matrix
            shape, a = (*a.shape[:-1], b.shape[1]), a.reshape(-1, a.shape[-1])
        else:
            shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
            a, b = _stack(a, shape), _stack(b, shape)
        y = out if out is not None and out.flags.carray else empty(shape, a.dtype)
        _product(a, b, None, y)
        if out is None or y is out:
            return y
        out[...] = y
        return out

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        if x.size * weight.shape[0] < LARGE or not suits(x, weight, bias):
            return super().linear(x, weight, bias)
        return _rows(x, weight, bias, relu=False)

    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        if x.size * weight.shape[0] < LARGE or not suits(x, weight, bias):
            return super().linear_relu(x, weight, bias)
        return _rows(x, weight, bias, relu=True)


def _rows(x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    y = empty((x.shape[0], weight.shape[0]), x.dtype)
    _product(x, weight.T, bias, y, relu)
    return y


def _stack(x: Array, shape: Shape) -> Array:
    """x broadcast to the batch axes of shape, unless it is one matrix and so serves them all."""
    if math.prod(x.shape[:-2]) == 1 or x.shape[:-2] == shape[:-2]:
        return x
    return np.broadcast_to(x, (*shape[:-2], *x.shape[-2:]))


def _operand(x: Array) -> tuple[Array, Triple]:
    """x (..., R, C) flat, and the distances between its matrices (0 if one serves all), rows and
    columns. A transposed matrix is taken as it lies in memory.
    """
    transposed = False
    if not x.flags.c_contiguous:
        swapped = x.swapaxes(-1, -2)
        transposed = swapped.flags.c_contiguous
        x = swapped if transposed else x
    x = plain(x)
    rows, columns = x.shape[-2:]
    matrix = rows * columns if x.size > rows * columns else 0
    return x.reshape(-1), (matrix, 1, columns) if transposed else (matrix, columns, 1)


def _product(a: Array, b: Array, bias: Array | None, y: Array, relu: bool = False) -> None:
    """y = a @ b + bias; y is plain, with the batch axes of a and b in front or two axes."""
    rows, columns = a.shape[-2], y.shape[-1]
    stack = y.reshape(-1, rows, columns)
    (first, first_strides), (second, second_strides) = _operand(a), _operand(b)
    read = b.nbytes if second_strides[2] == 1 else 0
    tile, tiles = tile_size(stack.shape[0], rows, columns, read, y.itemsize)
    none = NOTHING[y.dtype]
    products(
        tiles, first, first_strides, second, second_strides, none if bias is None else plain(bias),
        stack, a.shape[-1], tile, relu, none,
    )  # fmt: skip
