"""Matrix products in tiles, each computed by the micro-kernel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..interface import Array, DType, Pair, Shape
from ..numpy_backend import NumpyBackend
from .jit import helper
from .layout import F32, F64, NOTHING, laid, plain, suits
from .memory import empty
from .microkernel import DEPTH, PANEL, ROWS, micro, product, transpose_block
from .outline import tasks

# rows * columns * depth from which on a tile is worth a launch; also where OpenBLAS starts threads
# of its own, which would spin beside ours for a tenth of a second. Smaller products are NumPy's.
LARGE = 1 << 19
HEIGHT = 256  # rows of a tile: with DEPTH numbers each, what stays in the second cache
NO_ROWS = {dtype: np.empty((0, 0), dtype) for dtype in (F32, F64)}
WHOLE = 1 << 18  # bytes of b that all tiles may read again: they stay in the second cache
FEW = 4  # tiles; with fewer, rows are split as well
Triple = tuple[int, int, int]


@tasks(calls=[micro, transpose_block])
def products(a: Array, a_strides: Triple, b: Array, b_strides: Triple, bias: Array, y: Array,
             depth: int, tile: Pair, relu: bool, part: int) -> None:  # fmt: skip
    """A tile of y[n] = a[n] @ b[n] + bias, and relu of it if asked for, while it is in the cache.

    a and b are flat; their strides are (matrix, row, column).
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


@helper
def passed(grad: Array, y: Array, row: int, column: int, rows: int, columns: int,
           block: Array) -> None:  # fmt: skip
    """block (rows * columns,) = a block of grad, and 0 where the result y of a relu is."""
    for r in range(rows):
        into = block[r * columns : (r + 1) * columns]
        line, gate = grad[row + r, column:], y[row + r, column:]
        for c in range(columns):
            into[c] = 0 if gate[c] <= 0 else line[c]


@helper
def add_rows(x: Array, at: int, step: int, rows: int, total: Array, add: bool) -> None:
    """total (C,) (+)= the sum of rows of a flat array, the first of which begins at `at`."""
    columns = total.size
    part = np.zeros(columns, x.dtype)
    for r in range(rows):
        line = x[at + r * step : at + r * step + columns]
        for c in range(columns):
            part[c] += line[c]
    for c in range(columns):
        total[c] = total[c] + part[c] if add else part[c]


@tasks(calls=[micro, transpose_block])
def gradients(
    grad: Array, y: Array, x: Array, weight: Array, x_grad: Array, weight_grad: Array,
    bias_grad: Array, x_tiles: Triple, weight_tiles: Triple, part: int,
) -> None:  # fmt: skip
    """A tile of grad @ weight, or one of grad^T @ x with its part of the bias's gradient.

    y is the result of a relu through which grad has to go first, or empty. `tiles` are height,
    width, and how many. Those of both kinds are spread evenly, so that equal stretches of parts are
    equal work.
    """
    both = x_tiles[2] + weight_tiles[2]
    before = part * x_tiles[2] // both
    for_x = (part + 1) * x_tiles[2] // both > before
    tile, (tall, wide, _) = (before, x_tiles) if for_x else (part - before, weight_tiles)
    rows, depth = grad.shape if for_x else (grad.shape[1], grad.shape[0])
    factor, into = (weight, x_grad) if for_x else (x, weight_grad)
    columns = into.shape[1]
    across = (columns + wide - 1) // wide
    r, c = tile // across * tall, tile % across * wide
    height, width = min(tall, rows - r), min(wide, columns - c)
    block = np.empty(height * min(DEPTH, depth) if y.size else 0, grad.dtype)
    for k in range(0, depth, DEPTH):
        inner = min(DEPTH, depth - k)
        row, column = (r, k) if for_x else (k, r)
        source, at, step = grad.reshape(-1), row * grad.shape[1] + column, grad.shape[1]
        if y.size:
            size = (height, inner) if for_x else (inner, height)
            passed(grad, y, row, column, size[0], size[1], block)
            source, at, step = block, 0, size[1]
        if not for_x and c == 0 and bias_grad.size:
            add_rows(source, at, step, inner, bias_grad[r : r + height], k > 0)
        product(
            source, at, step if for_x else 1, 1 if for_x else step,
            factor.reshape(-1), k * columns + c, columns, 1,
            into.reshape(-1), r * columns + c, columns, height, width, inner, k > 0,
        )  # fmt: skip


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


@lru_cache(1024)
def shares(
    shape: Pair, columns: int, for_x: bool, for_weight: bool, dtype: DType
) -> tuple[bool, Triple, Triple]:
    """Whether to share out the gradients that are wanted among threads, and the tiles of both.

    >>> shares((64, 256), 784, False, True, F32), shares((2, 3), 4, True, True, F32)
    ((True, (1, 1, 0), (64, 784, 4)), (False, (2, 4, 1), (3, 4, 1)))
    """
    rows, outputs = shape
    shared = rows * outputs * columns * (for_x + for_weight) >= LARGE
    none, cut = (1, 1, 0), bands if shared else lambda rows, columns, _: (rows, columns, 1)
    x_tiles = cut(rows, columns, dtype.itemsize) if for_x else none
    return shared, x_tiles, cut(outputs, columns, dtype.itemsize) if for_weight else none


def bands(rows: int, columns: int, itemsize: int) -> Triple:
    """Height and width of the tiles in which `gradients` computes a matrix, and how many they are.

    Whole rows, so that a relu is taken only once; where these are few, columns as for a product.
    With layers of 784 x 256 and 256 x 128 and 256 samples 250 and 92 us in bands, 346 and 122 in
    tiles.
    """
    if rows < FEW * ROWS:
        tile, tiles = tile_size(1, rows, columns, 0, itemsize)
        return (*tile, tiles)
    height = -(-rows // (FEW * max(1, min(rows // (16 * ROWS), FEW))))
    return height, columns, -(-rows // height)


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

    def linear_grad(
        self, grad: Array, x: Array | None, weight: Array | None, y: Array | None, bias: bool,
        out: tuple[Array | None, Array | None] = (None, None),
    ) -> tuple[Array, ...]:  # fmt: skip
        if not suits(grad, x, weight, y) or (bias and x is None):
            return super().linear_grad(grad, x, weight, y, bias, out)
        dtype, none, nothing = grad.dtype, NO_ROWS[grad.dtype], NOTHING[grad.dtype]
        (rows, outputs), columns = grad.shape, (grad if x is None else x).shape[1]
        x_grad, weight_grad, bias_grad = none, none, nothing
        if weight is not None:
            columns = weight.shape[1]
            x_grad = empty((rows, columns), dtype)
        if x is not None:
            weight_grad = empty((outputs, columns), dtype) if out[0] is None else out[0]
        if bias:
            bias_grad = empty((outputs,), dtype) if out[1] is None else out[1]
        shared, *tiles = shares(grad.shape, columns, weight is not None, x is not None, dtype)
        (gradients if shared else gradients.serial)(
            tiles[0][2] + tiles[1][2], *laid(none, grad, y, x, weight), x_grad, weight_grad,
            bias_grad, *tiles,
        )  # fmt: skip
        return tuple([g for g in (x_grad, weight_grad, bias_grad) if g.size])


def _rows(x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    (rows, depth), columns = x.shape, weight.shape[0]
    y = empty((rows, columns), x.dtype)
    if not (x.flags.carray and weight.flags.carray):
        _product(x, weight.T, bias, y, relu)
        return y
    tile, tiles = tile_size(1, rows, columns, 0, x.itemsize)
    start = NOTHING[x.dtype] if bias is None else plain(bias)
    products(
        tiles, x.reshape(-1), (0, depth, 1), weight.reshape(-1), (0, 1, depth), start,
        y.reshape(1, rows, columns), depth, tile, relu,
    )  # fmt: skip
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
    products(
        tiles, first, first_strides, second, second_strides,
        NOTHING[y.dtype] if bias is None else plain(bias), stack, a.shape[-1], tile, relu,
    )  # fmt: skip
