"""Convolution and its two gradients, straight from images to register tiles.

Tiles have pixels as rows and channels as columns (`conv_micro`): the weights are brought into that
order first, and what comes out is turned into lines of pixels, square by square, while it is in the
first cache.

Work is split by what it writes (samples, groups, bands of lines), so that no result depends on the
number of threads. The gradient of the weights, which is a sum over samples, is in `conv_weights`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .conv_micro import ALONE, across, across_alone, half, single, tile_rows, wide
from .conv_plan import (
    PARALLEL_FROM,
    Geometry,
    Plan,
    backward,
    forward,
    scratch_for,
    scratch_size,
)
from .conv_weights import weight_grad
from .frames import LINES, Frame, fill_frame
from .jit import helper, kernel
from .layout import flat, plain, suits
from .lines import clear_run, copy_numbers, weave_lines
from .memory import empty
from .microkernel import PANEL, ROWS, VECTORS, transpose_block
from .outline import tasks

CHUNK = 128  # pixels whose sums are kept until they are written: in the first cache, 16 KB


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


@tasks(calls=[wide, single, half, across, across_alone, transpose_block, weave_lines, *LINES])
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
                clear_run(space, apart, count * room)
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
            copy_numbers(
                out, start + c * image, image, space, turned + c * room, room, count, pixels
            )


@helper
def put_lines(source: Array, start: int, step: int, y: Array, at: int, y_step: int, spacing: int,
              lines: int, count: int) -> None:  # fmt: skip
    """Lines that are `step` apart, to lines of y that are `y_step`, elements `spacing` apart."""
    if spacing == 1:
        copy_numbers(y, at, y_step, source, start, step, lines, count)
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


def _run(x: Array, weight: Array, bias: Array, y: Array, frame: Frame, plan: Plan,
         work: int) -> None:  # fmt: skip
    dtype, panels = x.dtype, plan.groups * plan.panels
    packed = empty((panels, 1 + plan.source.size, plan.width), dtype)
    pack_weights.sized(packed.size, PARALLEL_FROM)(flat(plain(weight)), bias, plan, packed)
    pixels = max(CHUNK, plan.length)
    channels = x.shape[1] // plan.groups
    scratch = scratch_for(scratch_size(frame, plan, channels, pixels, dtype), work, dtype)
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
        total = empty(shape, grad.dtype)
        weight_grad(plain(grad), plain(x), total, how)
        return total
