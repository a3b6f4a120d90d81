"""Linear layers with sparse weights: stored blocks or single numbers times transposed inputs.

Two forms, by the height of the blocks (`sparse_micro.py`): blocks of about a vector or more are
multiplied as vectors of outputs; smaller ones become single numbers, with vectors of samples.
"""

from __future__ import annotations

import math

import numpy as np

from ..interface import Array, SparseWeight
from ..numpy_backend import NumpyBackend
from .jit import get_num_threads, helper
from .layout import flat, plain
from .memory import empty
from .microkernel import isa, transpose_block
from .outline import tasks
from .sparse_micro import (
    OUTPUTS,
    ROW_VECTORS,
    SAMPLES,
    VECTORS,
    block_tile,
    panel_tile,
    row_tile,
)

VECTOR = isa().vector  # bytes
PARALLEL_FROM = 1 << 15  # multiply-adds
PARTS = 64  # of about as many stored numbers, which tasks share
OVERHEAD = 8  # blocks that take as long as finishing a group of outputs
FEW = 1  # sample of rows, which is multiplied number by number


@tasks(calls=[block_tile, panel_tile, row_tile, transpose_block])
def products(values: Array, indices: Array, starts: Array, cuts: Array, bias: Array, relu: bool,
             x: Array, inputs: int, size: int, pieces: int, height: int, y: Array,
             part: int) -> None:  # fmt: skip
    """y = x @ weight^T + bias for a tile of `size` samples and one of so many pieces of the groups.

    A group of outputs is a row of blocks, `height` outputs; or a vector, if blocks have one output.
    x is transposed by each task for itself: reading what another core has just written takes
    longer.
    """
    samples, outputs = y.shape
    t, piece, parts = part // pieces, part % pieces, cuts.size - 1
    some, tall, side = min(size, samples - t * size), values.shape[1], VECTOR // y.itemsize
    width = tall if tall > 1 else side
    tile = np.empty(size * width, y.dtype)
    lines = np.empty(size * width if size > SAMPLES or tall == 1 else 0, y.dtype)
    memory = np.empty(inputs * size + side if size > 1 else 0, y.dtype)
    source, at, result = x, t * inputs, y.reshape(-1)
    if size > 1:
        source, at = memory, (-memory.ctypes.data & (VECTOR - 1)) // y.itemsize
        turn(x, t * size * inputs, inputs, some, size, memory, at)
    for group in range(cuts[piece * parts // pieces], cuts[(piece + 1) * parts // pieces]):
        begin = group * height
        count, to = min(height, outputs - begin), t * size * outputs + begin
        whole = count == width and some == size
        into, start, step = (result, to, outputs) if whole else (tile, 0, width)
        if tall == 1:
            rows(values, indices, starts, begin, count, bias, relu,
                 source, at, size, lines, into, start, step)  # fmt: skip
        elif size > SAMPLES:
            panels(values, indices, starts, group, begin, bias, relu,
                   source, at, size, lines, into, start, step)  # fmt: skip
        else:
            blocks(values, indices, starts, group, begin, bias, relu,
                   source, at, size, some, into, start, step)  # fmt: skip
        if not whole:
            for s in range(some):
                for n in range(count):
                    result[to + s * outputs + n] = tile[s * width + n]


@helper
def turn(x: Array, start: int, inputs: int, some: int, size: int, turned: Array, at: int) -> None:
    """turned[at + d * size + s] = x[start + s * inputs + d], and 0 for s from some to size."""
    side = VECTOR // x.itemsize
    squares, blocks = some // side * side, inputs // side * side
    for s in range(0, squares, side):
        for d in range(0, blocks, side):
            transpose_block(x, start + s * inputs + d, inputs, turned, at + d * size + s, size)
    for d in range(inputs):
        line = turned[at + d * size : at + (d + 1) * size]
        for s in range(squares if d < blocks else 0, some):
            line[s] = x[start + s * inputs + d]
        for s in range(some, size):
            line[s] = 0


@helper
def blocks(values: Array, indices: Array, starts: Array, group: int, begin: int, bias: Array,
           relu: bool, x: Array, at: int, size: int, some: int, y: Array, y_at: int,
           y_row: int) -> None:  # fmt: skip
    """y[s, :] = the sums of a row of blocks for `some` samples."""
    tall, start = values.shape[1], starts[group]
    depth = starts[group + 1] - start
    stored = values.reshape(-1)
    for c in range(0, tall, VECTOR // values.itemsize):
        block_tile(some, y, y_at + c, y_row, bias, begin + c, relu, stored, start * tall + c, tall,
                   indices, start, depth, x, at, size)  # fmt: skip


@helper
def panels(values: Array, indices: Array, starts: Array, group: int, begin: int, bias: Array,
           relu: bool, x: Array, at: int, size: int, lines: Array, y: Array, y_at: int,
           y_row: int) -> None:  # fmt: skip
    """The same for all samples of a tile, which are whole vectors."""
    tall, start = values.shape[1], starts[group]
    depth = starts[group + 1] - start
    stored, side = values.reshape(-1), VECTOR // values.itemsize
    for r in range(0, tall, OUTPUTS):
        panel_tile(size // side, lines, r * size, size, bias, begin + r, relu,
                   stored, start * tall + r, tall, indices, start, depth, x, at, size)  # fmt: skip
    upright(lines, tall, size, y, y_at, y_row)


@helper
def rows(values: Array, indices: Array, starts: Array, begin: int, count: int, bias: Array,
         relu: bool, x: Array, at: int, size: int, lines: Array, y: Array, y_at: int,
         y_row: int) -> None:  # fmt: skip
    """y[s, :] = the sums of a vector of outputs for all samples of a tile."""
    side, stored = VECTOR // values.itemsize, values.reshape(-1)
    for r in range(count):
        start = starts[begin + r]
        depth = starts[begin + r + 1] - start
        if size > 1:
            row_tile(size // side, lines, r * size, 0, bias, begin + r, relu, stored, start, 1,
                     indices, start, depth, x, at, size)  # fmt: skip
        else:
            row_tile(0, y, y_at + r, 0, bias, begin + r, relu, stored, start, 1,
                     indices, start, depth, x, at, size)  # fmt: skip
    if size > 1:
        upright(lines, side, size, y, y_at, y_row)


@helper
def upright(lines: Array, width: int, size: int, y: Array, y_at: int, y_row: int) -> None:
    """y (size, width) = lines (width, size) transposed."""
    side = VECTOR // lines.itemsize
    for r in range(0, width, side):
        for s in range(0, size, side):
            transpose_block(lines, r * size + s, size, y, y_at + s * y_row + r, y_row)


class Sparse(NumpyBackend):
    """What is empty is left to the NumPy backend."""

    def sparse_pack(self, weight: SparseWeight) -> Array:
        values, indices, starts = (np.asarray(a) for a in weight[:3])
        tall, side = values.shape[1], VECTOR // values.itemsize
        unit = max(side, OUTPUTS)
        if tall > 1 and tall * 2 <= side:
            values, indices, starts = by_rows(values, indices, starts, weight.shape[0])
        elif tall > 1 and tall % unit:
            values = np.pad(values, ((0, 0), (0, -tall % unit)))
        group = 1 if values.shape[1] > 1 else side
        ends = np.append(starts[:-1:group], starts[-1]).astype(np.int64)
        return (
            np.array(values, order="C"), indices.astype(np.int32), starts.astype(np.int64),
            cut(ends), np.zeros(reach(weight, values), values.dtype),
        )  # fmt: skip

    def sparse_linear(
        self, x: Array, weight: SparseWeight, packed: Array, bias: Array | None, relu: bool
    ) -> Array:
        samples, inputs = x.shape
        outputs, dtype = weight.shape[0], x.dtype
        if not x.size or not outputs:
            return super().sparse_linear(x, weight, super().sparse_pack(weight), bias, relu)
        values, indices, starts, cuts, none = packed
        side = VECTOR // dtype.itemsize
        of_blocks = values.shape[1] > 1
        side = VECTOR // dtype.itemsize
        size = tile_of(samples, of_blocks, side)
        tiles, threads = -(-samples // size), get_num_threads()
        # However many: each output is summed by one task. With these, threads get equal shares.
        pieces = min(threads // math.gcd(tiles, threads), PARTS)
        start = none if bias is None else plain(bias)
        if start.size < none.size:
            start = np.append(start, none[outputs:])
        y = empty((samples, outputs), dtype)
        products.sized(samples * values.size, PARALLEL_FROM)(
            tiles * pieces, values, indices, starts, cuts, start, relu,
            flat(plain(x)), inputs, size, pieces, weight.values.shape[1] if of_blocks else side, y,
        )  # fmt: skip
        return y


def reach(weight: SparseWeight, values: Array) -> int:
    """How many outputs kernels read the bias of, who take whole blocks."""
    last = (weight.starts.shape[0] - 2) * weight.values.shape[1]
    return max(weight.shape[0], last + values.shape[1] if values.shape[1] > 1 else 0)


def tile_of(samples: int, of_blocks: bool, side: int) -> int:
    """How many samples make a tile: tiles as equal as possible.

    >>> tile_of(5, True, 16), tile_of(100, True, 16), tile_of(100, False, 16), tile_of(1, False, 16)
    (5, 48, 64, 1)
    """
    if samples <= (SAMPLES if of_blocks else FEW):
        return samples if of_blocks else 1
    widest = (VECTORS if of_blocks else ROW_VECTORS) * side
    size = -(-samples // -(-samples // widest))
    return -(-size // side) * side


def by_rows(
    values: Array, indices: Array, starts: Array, outputs: int
) -> tuple[Array, Array, Array]:
    """The numbers of blocks one by one, those of each output together."""
    tall, counts = values.shape[1], np.diff(starts)
    row = np.repeat(np.arange(counts.size) * tall, counts)[:, None] + np.arange(tall)
    order = np.argsort(row.ravel(), kind="stable")
    order = order[row.ravel()[order] < outputs]
    lengths = np.repeat(counts, tall)[:outputs]
    return (
        values.reshape(-1, 1)[order], np.repeat(indices, tall)[order],
        np.concatenate([[0], np.cumsum(lengths)]),
    )  # fmt: skip


def cut(ends: Array) -> Array:
    """Where to cut groups of outputs, so that every part has about as much to do.

    >>> cut(np.array([0, 100, 200, 300, 400]))[[0, 32, 64]]
    array([0, 2, 4])
    """
    done = ends - ends[0] + OVERHEAD * np.arange(ends.size)
    wanted = done[-1] * np.arange(PARTS + 1) / PARTS
    return np.searchsorted(done, wanted).astype(np.int64)
