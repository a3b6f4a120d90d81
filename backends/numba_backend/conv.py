"""Convolution and its two gradients, straight from images to register tiles.

Tiles have pixels as rows and channels as columns (`conv_micro`): the weights are brought into that
order first, and what comes out is turned into lines of pixels, square by square, while it is in the
first cache.

Work is split by what it writes (samples, groups, bands of lines). Only the weight gradient sums
over samples: it does so in a number of parts that depends on the shapes alone, added in order, so
that no result depends on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, DType, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .conv_micro import (
    ALONE,
    NARROW_ROWS,
    across,
    across_alone,
    half,
    single,
    wide,
)
from .conv_plan import Geometry, Plan, backward, forward, scratch_size
from .frames import Frame, fill_frame
from .jit import get_num_threads, helper, kernel
from .layout import flat, plain, suits
from .lines import copy_lines, fill_run, weave_lines
from .memory import empty
from .microkernel import PANEL, ROWS, VECTORS, transpose_block
from .outline import tasks

PARALLEL_FROM = 1 << 18  # multiply-adds; below, a launch costs more than it saves
CHUNK = 128  # pixels whose sums are kept until they are written: in the first cache, 16 KB
WEIGHT_PARTS = 8  # into how many tasks a weight gradient is split, if its shape allows
PARTIAL_SUMS = 1 << 18  # elements that the parts of a weight gradient may take together: 1 MB


@helper
def tile_rows(
    c: Array, c_at: int, start: Array, s_at: int, s_row: int, x: Array, x_at: int, row: Array,
    r_at: int, rows: int, col: Array, k_at: int, b: Array, b_at: int, depth: int, width: int,
) -> None:  # fmt: skip
    """`conv_micro` for any number of rows, in register tiles as equal as possible."""
    panel = PANEL // c.itemsize
    most = ROWS if width == panel else NARROW_ROWS
    tiles = (rows + most - 1) // most
    done = 0
    for t in range(tiles):
        count = (rows - done) // (tiles - t)
        to, begin = c_at + done * width, s_at + done * s_row
        if width == panel:
            wide(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                 depth)  # fmt: skip
        elif width * VECTORS == panel:
            single(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                   depth)  # fmt: skip
        else:
            half(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                 depth)  # fmt: skip
        done += count


@kernel()
def pack_weights(weight: Array, bias: Array, plan: Plan, packed: Array) -> None:
    """packed (G * panels, 1 + K, width): the bias of some channels, then their weights, by taps.

    Channels that are missing in the last panel of a group have zeros.
    """
    group, channels = weight.size // plan.groups, bias.size // plan.groups
    for panel in prange(packed.shape[0]):
        g, first = panel // plan.panels, panel % plan.panels * plan.width
        count = min(plan.width, channels - first)
        start = g * group + first * plan.weight_row
        for lane in range(plan.width):
            packed[panel, 0, lane] = bias[g * channels + first + lane] if lane < count else 0
        for k in range(plan.source.size):
            line, at = packed[panel, k + 1], start + plan.source[k]
            for lane in range(count):
                line[lane] = weight[at + lane * plan.weight_row]
            for lane in range(count, plan.width):
                line[lane] = 0


@tasks(calls=[wide, single, half, across, across_alone, transpose_block])
def convolve(x: Array, packed: Array, y: Array, frame: Frame, plan: Plan, scratch: Array,
             part: int) -> None:  # fmt: skip
    """y = bias + the windows of x times weights, for each sample, group, band of lines and phase.

    This is one part of these tasks. Their frames stay in the cache of one core.
    """
    parts, space = scratch.shape[0], scratch[part]
    groups, bands = plan.groups, plan.bands
    channels, tasks = x.shape[1] // groups, x.shape[0] * groups * bands
    first = part * tasks // parts
    for task in range(first, (part + 1) * tasks // parts):
        n, g, line = task // (groups * bands), task // bands % groups, task % bands * plan.band
        planes, at = x.reshape(-1), (n * x.shape[1] + g * channels) * x.shape[2] * x.shape[3]
        if frame.copied:
            fill_frame(x, n, g * channels, channels, line, frame, task == first or bands > 1, space)
            planes, at = space, 0
        else:
            at += line * x.shape[3]
        for row in range(plan.row_step):
            for panel in range(plan.panels):
                make_rows(planes, at, packed, plan, row, panel, space, y, n, g, line)


@helper
def make_rows(planes: Array, at: int, packed: Array, plan: Plan, phase: int, panel: int,
              space: Array, y: Array, n: int, g: int, line: int) -> None:  # fmt: skip
    """The lines of one phase of rows, from `line` on, of the channels of one panel of a group."""
    width, length, out, flat_packed = plan.width, plan.length, y.reshape(-1), packed.reshape(-1)
    outs, lanes = y.shape[1] // plan.groups, PANEL // VECTORS // y.itemsize
    count = min(width, outs - panel * width)
    weights = (g * plan.panels + panel) * packed.shape[1] * width
    _, _, row, _, rows, _ = plan.phases[phase * plan.column_step]
    lines = min(plan.band, rows - line)
    channel = n * y.shape[1] + g * outs + panel * width
    start = (channel * y.shape[2] + row + line * plan.row_step) * y.shape[3]
    y_row = plan.row_step * y.shape[3]
    across_lines = plan.spots.shape[0] // plan.band
    whole = plan.row_step == 1 and plan.column_step == 1 and length == y.shape[3]
    step = max(CHUNK // length, 1)
    if whole and across_lines * lines >= 2:
        step = lines  # nothing need be kept
    chunks, done = (lines + step - 1) // step, 0
    room = (min(step, lines) * length + lanes - 1) // lanes * lanes
    tiles = space.size - (room + lanes) * width - lanes
    turned = tiles - 2 * room * max(width, lanes)
    for chunk in range(chunks):
        some = (lines - done) // (chunks - chunk)
        to = start + done * y_row
        for j in range(plan.column_step):
            first, depth, _, column, _, columns = plan.phases[phase * plan.column_step + j]
            apart = turned + (room * max(width, lanes) if plan.column_step == 2 and column else 0)
            if depth == 0:
                fill_run(space, apart, count * room, 0)
            elif across_lines * some >= 2:
                target, place, far = out, to - done * length, y.shape[2] * y.shape[3]
                if not whole:
                    target, place, far = space, apart - done * length, room
                make_lines(target, place, far, planes, at, plan, done * across_lines, first,
                           flat_packed, weights, depth, count, across_lines * some)  # fmt: skip
            else:
                tile_rows(space, tiles, flat_packed, weights, 0, planes, at, plan.row,
                          done * length, some * length, plan.col, first, flat_packed,
                          weights + (1 + first) * width, depth, width)  # fmt: skip
                turn_back(space, tiles, width, count, some * length, apart, room, out, to,
                          y.shape[2] * y.shape[3], whole)  # fmt: skip
            if plan.column_step != 2 and not whole:
                for m in range(count):
                    put_lines(space, apart + m * room, length, out,
                              to + m * y.shape[2] * y.shape[3] + column, y_row, plan.column_step,
                              some, columns)  # fmt: skip
        if plan.column_step == 2:
            weave(space, turned, room, max(width, lanes), length, out, to, y_row, count,
                  y.shape[2] * y.shape[3], some, y.shape[3])  # fmt: skip
        done += some


@helper
def make_lines(y: Array, y_at: int, y_row: int, planes: Array, at: int, plan: Plan, begin: int,
               first: int, packed: Array, w_at: int, depth: int, channels: int,
               vectors: int) -> None:  # fmt: skip
    """Some channels of some lines, in tiles with vectors along the pixels."""
    width = plan.width
    taps = w_at + (1 + first) * width
    alone = channels == 1 and vectors >= ALONE
    some = ALONE if alone else 2
    tiles = (channels + ROWS - 1) // ROWS
    for v in range(0, vectors, some):
        spot, done = begin + min(v, vectors - some), 0
        for t in range(tiles):
            count = (channels - done) // (tiles - t)
            to = y_at + done * y_row
            if alone:
                across_alone(count, y, to, y_row, planes, at, plan.spots, spot, plan.col, first,
                             packed, w_at, taps, width, depth)  # fmt: skip
            else:
                across(count, y, to, y_row, planes, at, plan.spots, spot, plan.col, first,
                       packed, w_at + done, taps + done, width, depth)  # fmt: skip
            done += count


@helper
def turn_back(space: Array, tiles: int, width: int, channels: int, pixels: int, turned: int,
              room: int, out: Array, start: int, image: int, whole: bool) -> None:  # fmt: skip
    """Pixels of some channels, a line of `width` numbers for each, as lines of pixels.

    They are put into `out` if they make `whole` lines there, else kept at `turned`, `room` apart.
    """
    lanes = PANEL // VECTORS // out.itemsize
    for c in range(0, channels, lanes):
        count = min(lanes, channels - c)
        if whole and pixels >= lanes and count == lanes:
            for p in range(0, pixels, lanes):
                to = min(p, pixels - lanes)  # the last square may overlap another
                transpose_block(space, tiles + to * width + c, width, out,
                                start + c * image + to, image)  # fmt: skip
            continue
        for p in range(0, pixels, lanes):
            transpose_block(space, tiles + p * width + c, width, space, turned + c * room + p,
                            room)  # fmt: skip
        if whole:
            copy_lines(out, start + c * image, image, space, turned + c * room, room, count, pixels)


@helper
def put_lines(source: Array, start: int, step: int, y: Array, at: int, y_step: int, spacing: int,
              lines: int, count: int) -> None:  # fmt: skip
    """Lines that are `step` apart, to lines of y that are `y_step`, elements `spacing` apart."""
    if spacing == 1:
        copy_lines(y, at, y_step, source, start, step, lines, count)
        return
    for i in range(lines):
        for w in range(count):
            y[at + i * y_step + w * spacing] = source[start + i * step + w]


@helper
def weave(space: Array, turned: int, room: int, second: int, length: int, out: Array, start: int,
          y_row: int, channels: int, image: int, lines: int, columns: int) -> None:  # fmt: skip
    """Lines of even and of odd pixels, those `second` rooms further on, as lines of both."""
    for m in range(channels):
        at, to = turned + m * room, start + m * image
        weave_lines(out, to, y_row, space, at, second * room, length, lines, columns // 2)
        if columns % 2:
            for i in range(lines):
                out[to + i * y_row + columns - 1] = space[at + i * length + columns // 2]


@tasks(calls=[wide, single, half, transpose_block])
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
    fill_run(space, start, space.size - start, 0)
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
                copy_lines(space, edge, lanes, grads, start + c * image + p, image, count,
                           min(lanes, pixels - p))  # fmt: skip
                transpose_block(space, edge, lanes, space, to + p * width + c, width)


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


def _weight_parts(how: Geometry) -> Pair:
    """Parts of the samples and blocks of the channels that make the tasks of a weight gradient."""
    parts = 1
    while 2 * parts <= min(how.x[0], WEIGHT_PARTS, PARTIAL_SUMS // math.prod(how.weight)):
        parts *= 2
    return parts, min(how.weight[1], -(-WEIGHT_PARTS // (parts * how.groups)))


def _scratch(size: int, work: int, dtype: DType) -> Array:
    """Room for each thread."""
    return empty((get_num_threads() if work >= PARALLEL_FROM else 1, size), dtype)


def _run(x: Array, weight: Array, bias: Array, y: Array, frame: Frame, plan: Plan,
         work: int) -> None:  # fmt: skip
    dtype, panels = x.dtype, plan.groups * plan.panels
    packed = empty((panels, 1 + plan.source.size, plan.width), dtype)
    pack_weights.sized(packed.size, PARALLEL_FROM)(flat(plain(weight)), bias, plan, packed)
    pixels = max(CHUNK, plan.length)
    channels = x.shape[1] // plan.groups
    scratch = _scratch(scratch_size(frame, plan, channels, pixels, dtype), work, dtype)
    convolve.sized(work, PARALLEL_FROM)(len(scratch), plain(x), packed, y, frame, plan, scratch)


class Conv(NumpyBackend):
    """Results do not depend on tiles beyond the rounding of sums."""

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        size = out_size(framed(x.shape[2:], padding), weight.shape[2:], stride, dilation)
        y = empty((x.shape[0], weight.shape[0], *size), x.dtype)
        if not suits(x, weight, bias, y):
            return super().conv2d(x, weight, bias, stride, padding, dilation, groups)
        how = Geometry(x.shape, weight.shape, stride, padding, dilation, groups, x.itemsize)
        bias = np.zeros(len(weight), x.dtype) if bias is None else plain(bias)
        _run(x, weight, bias, y, *forward(how), y.size * math.prod(weight.shape[1:]))
        return y

    def conv2d_input_grad(
        self, grad: Array, weight: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        x_grad = empty(shape, grad.dtype)
        if not suits(grad, weight, x_grad) or not np.isfinite(weight).all():
            return super().conv2d_input_grad(grad, weight, shape, stride, padding, dilation, groups)
        how = Geometry(shape, weight.shape, stride, padding, dilation, groups, grad.itemsize)
        frame, plan = backward(how)
        if not plan.phases[:, 1].all():  # a phase that no tap reaches
            x_grad.fill(0)
        no_bias = np.zeros(shape[1], grad.dtype)
        _run(grad, weight, no_bias, x_grad, frame, plan, grad.size * math.prod(weight.shape[1:]))
        return x_grad

    def conv2d_weight_grad(
        self, grad: Array, x: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        if not suits(grad, x) or not math.prod(shape):
            return super().conv2d_weight_grad(grad, x, shape, stride, padding, dilation, groups)
        how = Geometry(x.shape, shape, stride, padding, dilation, groups, grad.itemsize)
        parts, blocks = _weight_parts(how)
        channels = -(-shape[1] // blocks)
        frame, plan = forward(how, channels)
        depth = math.prod(shape[1:])
        partial = empty((parts, groups, plan.panels, depth, plan.width), grad.dtype)
        work = grad.size * depth
        size = scratch_size(frame, plan, channels, plan.band * plan.length, grad.dtype)
        scratch = _scratch(size, work, grad.dtype)
        correlate.sized(work, PARALLEL_FROM)(
            len(scratch), plain(grad), plain(x), partial.reshape(parts, -1, depth, plan.width),
            blocks, frame, plan, scratch,
        )  # fmt: skip
        total = empty(shape, grad.dtype)
        add_up.sized(partial.size, 1 << 16)(partial, total.reshape(groups, -1, depth))
        return total
