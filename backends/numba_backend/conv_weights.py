"""The gradient of a convolution's weights: what its windows show, times the output's gradient.

It is a sum over samples, made in a number of parts that depends on the shapes alone and added in
order, so that no result depends on the number of threads. Channels are columns of a tile, as in the
other passes, and the output's gradient is turned for that (`correlate`); where they are too few to
fill vectors, vectors run along the pixels of both operands (`correlate_few`).
"""

from __future__ import annotations

import math

from numba import prange

from ..interface import Array, Pair
from .conv_micro import DOT_ROWS, TAPS, dots, half, single, tile_rows, wide
from .conv_plan import PARALLEL_FROM, Geometry, Plan, forward, runs, scratch_for, scratch_size
from .frames import LINES, Frame, fill_frame
from .jit import helper, kernel
from .lines import clear_run, copy_numbers
from .memory import empty
from .microkernel import PANEL, VECTORS, transpose_block
from .outline import tasks

PARTS = 8  # into how many tasks the work is split, if its shape allows
FEW = 8  # outputs of a group; with 16, vectors of channels took 0.79 ms where pixels took 0.93
PARTIAL_SUMS = 1 << 18  # elements that the parts may take together: 1 MB


@tasks(calls=[wide, single, half, transpose_block, *LINES])
def correlate(grad: Array, x: Array, partial: Array, blocks: int, frame: Frame, plan: Plan,
              scratch: Array, part: int) -> None:  # fmt: skip
    """partial[p] = sum over part p of the samples of windows of x times grad, by channel blocks.

    partial is (P, G * panels, taps of all channels, width); its rows are taps, its columns outputs.
    """
    parts, space = scratch.shape[0], scratch[part]
    sums, depth, width = partial.shape[1], partial.shape[2], plan.width
    channels, outs = x.shape[1] // plan.groups, grad.shape[1] // plan.groups
    taps = depth // channels
    tasks = partial.shape[0] * plan.groups * blocks
    lanes = PANEL // VECTORS // x.itemsize
    edge = space.size - lanes * lanes
    start = edge - PANEL // x.itemsize
    turned = start - (plan.band * plan.length + 2 * lanes) * width
    clear_run(space, start, space.size - start)
    total = partial.reshape(-1)
    for task in range(part * tasks // parts, (part + 1) * tasks // parts):
        p, g, block = task // (plan.groups * blocks), task // blocks % plan.groups, task % blocks
        first, last = block * channels // blocks, (block + 1) * channels // blocks
        begin = p * x.shape[0] // partial.shape[0]
        for n in range(begin, (p + 1) * x.shape[0] // partial.shape[0]):
            for band in range(plan.bands):
                line = band * plan.band
                planes, at = x.reshape(-1), (n * x.shape[1] + g * channels + first)
                at = (at * x.shape[2] + line) * x.shape[3]
                if frame.copied:
                    fill_frame(x, n, g * channels + first, last - first, line, frame,
                               n == begin or plan.bands > 1, space)  # fmt: skip
                    planes, at = space, 0
                pixels = min(plan.band, grad.shape[2] - line) * plan.length
                for panel in range(plan.panels):
                    channel = n * grad.shape[1] + g * outs + panel * width
                    turn(grad, channel, min(width, outs - panel * width), line, pixels, space,
                         turned, width, edge)  # fmt: skip
                    to = ((p * sums + g * plan.panels + panel) * depth + first * taps) * width
                    if n == begin and band == 0:
                        tile_rows(total, to, space, start, 0, planes, at, plan.col, 0,
                                  (last - first) * taps, plan.row, 0, space, turned, pixels,
                                  width)  # fmt: skip
                    else:
                        tile_rows(total, to, total, to, width, planes, at, plan.col, 0,
                                  (last - first) * taps, plan.row, 0, space, turned, pixels,
                                  width)  # fmt: skip


@helper
def turn(grad: Array, channel: int, channels: int, line: int, pixels: int, space: Array, to: int,
         width: int, edge: int) -> None:  # fmt: skip
    """Some pixels of some channels (of all samples) as a line of `width` numbers for each pixel.

    Numbers of channels that are missing are undefined, as are some behind the last pixel.
    """
    lanes = PANEL // VECTORS // grad.itemsize
    grads, image = grad.reshape(-1), grad.shape[2] * grad.shape[3]
    start = channel * image + line * grad.shape[3]
    for c in range(0, channels, lanes):
        count = min(lanes, channels - c)
        for p in range(0, pixels, lanes):
            if count == lanes and pixels >= lanes:
                at = min(p, pixels - lanes)
                transpose_block(grads, start + c * image + at, image, space, to + at * width + c,
                                width)  # fmt: skip
            else:
                copy_numbers(space, edge, lanes, grads, start + c * image + p, image, count,
                           min(lanes, pixels - p))  # fmt: skip
                transpose_block(space, edge, lanes, space, to + p * width + c, width)


@tasks(calls=[dots, *LINES])
def correlate_few(grad: Array, x: Array, partial: Array, col: Array, spots: Array, frame: Frame,
                  plan: Plan, scratch: Array, part: int) -> None:  # fmt: skip
    """As `correlate`, with partial (P, O, K), K filled up to whole tiles, and one task a group."""
    parts, space = scratch.shape[0], scratch[part]
    groups, padded, total = plan.groups, partial.shape[2], partial.reshape(-1)
    channels, outs = x.shape[1] // groups, grad.shape[1] // groups
    grads, image, lanes = grad.reshape(-1), grad.shape[2] * grad.shape[3], PANEL // VECTORS
    whole, rest = plan.length // (lanes // x.itemsize), plan.length % (lanes // x.itemsize)
    tiles = (outs + DOT_ROWS - 1) // DOT_ROWS
    tasks = partial.shape[0] * groups
    for task in range(part * tasks // parts, (part + 1) * tasks // parts):
        p, g = task // groups, task % groups
        into = (p * partial.shape[1] + g * outs) * padded
        clear_run(total, into, outs * padded)
        begin = p * x.shape[0] // partial.shape[0]
        for n in range(begin, (p + 1) * x.shape[0] // partial.shape[0]):
            for band in range(plan.bands):
                line = band * plan.band
                planes, at = x.reshape(-1), (n * x.shape[1] + g * channels) * x.shape[2] + line
                at *= x.shape[3]
                if frame.copied:
                    fill_frame(x, n, g * channels, channels, line, frame,
                               n == begin or plan.bands > 1, space)  # fmt: skip
                    planes, at = space, 0
                lines = min(plan.band, grad.shape[2] - line)
                start = (n * grad.shape[1] + g * outs) * image + line * plan.length
                for tap in range(0, padded, TAPS):
                    done = 0
                    for t in range(tiles):
                        count = (outs - done) // (tiles - t)
                        dots(count, total, into + done * padded + tap, padded, grads,
                             start + done * image, image, planes, at, spots, lines * whole,
                             plan.band * whole, lines if rest else 0, rest, col, tap)  # fmt: skip
                        done += count


@kernel()
def add_up(partial: Array, total: Array) -> None:
    """total (G, O, K) = the sums of partial (P, G, panels, K, width) over P, in order."""
    parts, groups, panels, depth, width = partial.shape
    outs = total.shape[1]
    for task in prange(groups * panels):
        g, panel = task // panels, task % panels
        count = min(width, outs - panel * width)
        for k in range(depth):
            for lane in range(count):
                value = partial[0, g, panel, k, lane]
                for part in range(1, parts):
                    value += partial[part, g, panel, k, lane]
                total[g, panel * width + lane, k] = value


@kernel()
def add_few(partial: Array, total: Array) -> None:
    """total (O, K) = the sums of partial (P, O, at least K) over P, in order."""
    for o in prange(total.shape[0]):
        for k in range(total.shape[1]):
            value = partial[0, o, k]
            for part in range(1, partial.shape[0]):
                value += partial[part, o, k]
            total[o, k] = value


def _parts(how: Geometry) -> Pair:
    """Parts of the samples and blocks of the channels that make the tasks of a weight gradient."""
    parts = 1
    while 2 * parts <= min(how.x[0], PARTS, PARTIAL_SUMS // math.prod(how.weight)):
        parts *= 2
    return parts, min(how.weight[1], -(-PARTS // (parts * how.groups)))


def weight_grad(grad: Array, x: Array, total: Array, how: Geometry) -> None:
    """total (O, C / G, kh, kw) = the gradient; all arrays are plain."""
    outs, depth = how.weight[0] // how.groups, math.prod(how.weight[1:])
    lanes = PANEL // VECTORS // how.itemsize
    work = grad.size * depth
    parts, blocks = _parts(how)
    if outs <= FEW and grad.shape[3] >= lanes // 2:
        frame, plan = forward(how, how.weight[1])
        col, spots = runs(frame, plan, TAPS, how.itemsize)
        few = empty((parts, how.weight[0], col.size), x.dtype)
        scratch = scratch_for(scratch_size(frame, plan, how.weight[1], 0, x.dtype), work, x.dtype)
        correlate_few.sized(work, PARALLEL_FROM)(
            len(scratch), grad, x, few, col, spots, frame, plan, scratch
        )
        add_few.sized(few.size, 1 << 16)(few, total.reshape(-1, depth))
        return
    channels = -(-how.weight[1] // blocks)
    frame, plan = forward(how, channels)
    partial = empty((parts, how.groups, plan.panels, depth, plan.width), x.dtype)
    size = scratch_size(frame, plan, channels, plan.band * plan.length, x.dtype)
    scratch = scratch_for(size, work, x.dtype)
    correlate.sized(work, PARALLEL_FROM)(
        len(scratch), grad, x, partial.reshape(parts, -1, depth, plan.width), blocks, frame, plan,
        scratch,
    )  # fmt: skip
    add_up.sized(partial.size, 1 << 16)(partial, total.reshape(how.groups, -1, depth))
