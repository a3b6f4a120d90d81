"""Linear layers with sparse weights: stored blocks or single numbers times transposed inputs.

Two forms, by the height of the blocks (`sparse_micro.py`): blocks of about a vector or more are
multiplied as vectors of outputs; smaller ones become single numbers, with vectors of samples.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, SparseWeight
from ..numpy_backend import NumpyBackend
from .jit import helper
from .layout import flat, optional, plain
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
TURN_FROM = 1 << 15  # elements of x
BANDS = 4  # of inputs, into which turning a tile is split
PARTS = 16  # tasks of about as many stored numbers
OVERHEAD = 8  # blocks that take as long as finishing a group of outputs
FEW = 3  # samples up to which rows are multiplied one sample at a time
REACH = 1 << 18  # bytes of transposed x that a task passes over for each group: a part of a cache


@tasks(calls=[transpose_block])
def turn(x: Array, inputs: int, size: int, turned: Array, part: int) -> None:
    """turned[t, d, s] = x[t * size + s, d], and 0 where there is no such sample.

    A task is a tile t and one of BANDS bands of inputs d.
    """
    side = VECTOR // x.itemsize
    t, band = part // BANDS, part % BANDS
    samples, base = x.size // inputs, t * size
    count = min(size, samples - base)
    wide = (inputs // side + BANDS - 1) // BANDS * side
    begin = min(band * wide, inputs)
    end = inputs if band == BANDS - 1 else min(begin + wide, inputs)
    squares, blocks = count // side * side, begin + (end - begin) // side * side
    to = t * inputs * size
    for s in range(0, squares, side):
        for d in range(begin, blocks, side):
            transpose_block(x, (base + s) * inputs + d, inputs, turned, to + d * size + s, size)
    for d in range(begin, end):
        line = turned[to + d * size : to + (d + 1) * size]
        for s in range(squares if d < blocks else 0, count):
            line[s] = x[(base + s) * inputs + d]
        for s in range(count, size):
            line[s] = 0


@tasks(calls=[block_tile, panel_tile, row_tile, transpose_block])
def products(values: Array, indices: Array, starts: Array, cuts: Array, bias: Array, relu: bool,
             x: Array, inputs: int, size: int, tiles: int, height: int, y: Array,
             part: int) -> None:  # fmt: skip
    """y = x @ weight^T + bias for some groups of outputs and `tiles` tiles of `size` samples.

    height: outputs of a group, which is one row of blocks; or, if blocks have one output, a vector.
    """
    samples, outputs = y.shape
    parts = cuts.size - 1
    tall = values.shape[1]
    side = VECTOR // y.itemsize
    width = tall if tall > 1 else side
    tile = np.empty(size * width, y.dtype)
    lines = np.empty(size * width if size > SAMPLES or tall == 1 else 0, y.dtype)
    first = part // parts * tiles
    last = min(first + tiles, (samples + size - 1) // size)
    for group in range(cuts[part % parts], cuts[part % parts + 1]):
        begin = group * height
        count = min(height, outputs - begin)
        for t in range(first, last):
            some, at = min(size, samples - t * size), t * inputs * size
            if tall > 1 and size > SAMPLES:
                panels(values, indices, starts, group, x, at, size, lines, tile)
            elif tall > 1:
                blocks(values, indices, starts, group, x, at, size, some, tile)
            else:
                rows(values, indices, starts, begin, count, x, at, size, lines, tile)
            finish(tile, width, some, bias, relu, begin, count,
                   y.reshape(-1), t * size * outputs, outputs)  # fmt: skip


@helper
def blocks(values: Array, indices: Array, starts: Array, group: int, x: Array, at: int, size: int,
           some: int, tile: Array) -> None:  # fmt: skip
    """tile[s, :] = the sums of a row of blocks for `some` samples."""
    tall, start = values.shape[1], starts[group]
    depth = starts[group + 1] - start
    stored, side = values.reshape(-1), VECTOR // values.itemsize
    for c in range(0, tall, side):
        block_tile(some, tile, c, tall, stored, start * tall + c, tall,
                   indices, start, depth, x, at, size)  # fmt: skip


@helper
def panels(values: Array, indices: Array, starts: Array, group: int, x: Array, at: int, size: int,
           lines: Array, tile: Array) -> None:  # fmt: skip
    """The same for all samples of a tile, which are whole vectors."""
    tall, start = values.shape[1], starts[group]
    depth = starts[group + 1] - start
    stored, side = values.reshape(-1), VECTOR // values.itemsize
    for r in range(0, tall, OUTPUTS):
        panel_tile(size // side, lines, r * size, size, stored, start * tall + r, tall,
                   indices, start, depth, x, at, size)  # fmt: skip
    upright(lines, tall, size, tile)


@helper
def upright(lines: Array, width: int, size: int, tile: Array) -> None:
    """tile (size, width) = lines (width, size) transposed."""
    side = VECTOR // tile.itemsize
    for r in range(0, width, side):
        for s in range(0, size, side):
            transpose_block(lines, r * size + s, size, tile, s * width + r, width)


@helper
def rows(values: Array, indices: Array, starts: Array, begin: int, count: int, x: Array, at: int,
         size: int, lines: Array, tile: Array) -> None:  # fmt: skip
    """tile[s, :] = the sums of a vector of outputs for all samples of a tile."""
    side, stored = VECTOR // values.itemsize, values.reshape(-1)
    vectors = size // side
    target = lines if size > 1 else tile
    for r in range(count):
        start = starts[begin + r]
        depth = starts[begin + r + 1] - start
        row_tile(vectors, target, r * size, 0, stored, start, 1,
                 indices, start, depth, x, at, size)  # fmt: skip
    if size > 1:
        upright(lines, side, size, tile)


@helper
def finish(tile: Array, width: int, some: int, bias: Array, relu: bool, begin: int, count: int,
           y: Array, y_at: int, y_row: int) -> None:  # fmt: skip
    """The rows of a tile into y, with bias and relu."""
    for s in range(some):
        line, out = tile[s * width :], y[y_at + s * y_row + begin :]
        if bias.size:
            more = bias[begin:]
            for n in range(count):
                line[n] += more[n]
        if relu:
            for n in range(count):
                out[n] = 0 if line[n] <= 0 else line[n]
        else:
            for n in range(count):
                out[n] = line[n]


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
        starts = starts.astype(np.int64)
        group = 1 if values.shape[1] > 1 else side
        return (
            np.array(values, order="C"), indices.astype(np.int32), starts, cut(starts[::group])
            if (starts.size - 1) % group == 0
            else cut(np.append(starts[::group], starts[-1])),
        )  # fmt: skip

    def sparse_linear(
        self, x: Array, weight: SparseWeight, packed: Array, bias: Array | None, relu: bool
    ) -> Array:
        samples, inputs = x.shape
        outputs, dtype = weight.shape[0], x.dtype
        if not x.size or not outputs:
            return super().sparse_linear(x, weight, super().sparse_pack(weight), bias, relu)
        values, indices, starts, cuts = packed
        side = VECTOR // dtype.itemsize
        of_blocks = values.shape[1] > 1
        size = tile_of(samples, of_blocks, side)
        count = -(-samples // size)
        turned = flat(plain(x))
        work = samples * values.size
        if size > 1:
            source, turned = turned, empty((count * inputs * size,), dtype)
            turn.sized(x.size, TURN_FROM)(count * BANDS, source, inputs, size, turned)
        tiles = max(REACH // (inputs * size * dtype.itemsize), 1)
        y = empty((samples, outputs), dtype)
        products.sized(work, PARALLEL_FROM)(
            (cuts.size - 1) * -(-count // tiles),
            values, indices, starts, cuts, optional(bias, dtype), relu, turned, inputs, size, tiles,
            weight.values.shape[1] if of_blocks else side, y,
        )  # fmt: skip
        return y


def tile_of(samples: int, of_blocks: bool, side: int) -> int:
    """How many samples make a tile: tiles as equal as possible.

    >>> tile_of(5, True, 16), tile_of(100, True, 16), tile_of(100, False, 16), tile_of(2, False, 16)
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

    >>> cut(np.array([0, 100, 200, 300, 400]))[[0, 8, 16]]
    array([0, 2, 4])
    """
    done = ends - ends[0] + OVERHEAD * np.arange(ends.size)
    wanted = done[-1] * np.arange(PARTS + 1) / PARTS
    return np.searchsorted(done, wanted).astype(np.int64)
