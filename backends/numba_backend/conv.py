"""Convolution and its two gradients, straight from planes of lines to register tiles.

The gradient with respect to the input is a convolution too: with stride 1, of the output's gradient
with the kernel turned by half a turn. With a larger stride the rows and columns of the input fall
into phases, stride[0] * stride[1] of them; each phase is a convolution with those taps that reach
it. `_forward` and `_backward` write both down as one kind of plan, which one kernel carries out.
Source: Dumoulin & Visin (2016), arXiv:1603.07285, section 4.

Work is split by what it writes (samples, groups, bands of lines). Only the weight gradient sums
over samples: it does so in a number of parts that depends on the shapes alone, added in order, so
that no result depends on the number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from ..interface import Array, Pair, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.windows import framed, out_size
from .conv_micro import DOT_ROWS, TAPS, dots, weighted
from .frames import Frame, fill_frame
from .jit import get_num_threads, helper, kernel
from .layout import flat, plain, suits
from .lines import copy_lines, fill_run
from .memory import empty
from .microkernel import PANEL, ROWS
from .outline import tasks

PARALLEL_FROM = 1 << 18  # multiply-adds; below, a launch costs more than it saves
CACHE = 400_000  # bytes of a frame: less than half of a second cache
PARTS = 16  # into how many tasks work is split, if its shape allows
FEW = 512  # pixels that a sum in a weight gradient goes over before it is added up
PARTIAL_SUMS = 1 << 20  # elements that the parts of a weight gradient may take together


class Plan(NamedTuple):
    """What a convolution reads and writes; the same for all groups and samples.

    taps: (K, 2) int32, where a tap's weight lies, and its plane, line included; a line per tap.
    phases: (P, 6), each of them a convolution: first tap, taps, and what it writes: first row,
    first column, rows, columns. Rows written are row_step apart, columns column_step.
    """

    band: int  # output lines of a task
    bands: int
    taps: Array
    phases: Array
    row_step: int
    column_step: int
    weight_row: int  # elements between the weights of two output channels
    groups: int


@tasks(calls=[weighted])
def convolve(x: Array, weight: Array, bias: Array, y: Array, frame: Frame, plan: Plan,
             scratch: Array, part: int) -> None:  # fmt: skip
    """y = bias + the weighted planes of x, for each sample, group, band of lines and phase.

    This is one part of these tasks. Its planes stay in the cache of one core.
    """
    parts, planes = scratch.shape[0], scratch[part]
    groups, bands = plan.groups, plan.bands
    channels, outs = x.shape[1] // groups, y.shape[1] // groups
    tasks = (x.shape[0] + frame.samples - 1) // frame.samples * groups * bands
    for task in range(part * tasks // parts, (part + 1) * tasks // parts):
        n = task // (groups * bands) * frame.samples
        g, line = task // bands % groups, task % bands * plan.band
        fill_frame(x, n, g * channels, channels, line, frame, 0, planes)
        for phase in range(plan.phases.shape[0]):
            run_phase(frame, plan, phase, planes, weight, g * (weight.size // groups), bias,
                      g * outs, outs, y, n, line)  # fmt: skip


@helper
def run_phase(frame: Frame, plan: Plan, phase: int, planes: Array, weight: Array, w_at: int,
              bias: Array, channel: int, channels: int, y: Array, n: int,
              line: int) -> None:  # fmt: skip
    """The lines of one phase, from `line` on, in `channels` channels of y from `channel` on."""
    first, depth, row, column, rows, columns = plan.phases[phase]
    samples, length = frame.samples, frame.length
    lines = min(plan.band, rows - line)
    if lines <= 0 or depth == 0:
        return
    pixels = lines * samples * length
    panel = PANEL // y.itemsize
    out, image = y.reshape(-1), y.shape[2] * y.shape[3]
    # Whole lines of one sample lie side by side in y, too; others are computed apart and copied.
    direct = samples == 1 and plan.row_step == 1 and plan.column_step == 1 and pixels >= panel
    space = (pixels + panel - 1) // panel * panel
    apart = planes[planes.size - ROWS * space :]
    tiles = (channels + ROWS - 1) // ROWS
    done = 0
    for t in range(tiles):
        count = (channels - done) // (tiles - t)
        into, to, step = apart, 0, space
        if direct:
            into, to, step = out, (n * y.shape[1] + channel + done) * image + line * length, image
        for p in range(0, pixels, panel):
            at = min(p, pixels - panel) if direct else p  # the last tile may overlap another
            weighted(count, into, to + at, step,
                     weight, w_at + done * plan.weight_row, plan.weight_row,
                     planes, at, plan.taps, first, depth, bias, channel + done)  # fmt: skip
        if not direct:
            for m in range(count):
                for s in range(min(samples, y.shape[0] - n)):
                    start = (n + s) * y.shape[1] + channel + done + m
                    start = (start * y.shape[2] + row + line * plan.row_step) * y.shape[3]
                    put_lines(
                        apart,
                        m * space + s * length,
                        samples * length,
                        out,
                        start + column,
                        plan.row_step * y.shape[3],
                        plan.column_step,
                        lines,
                        columns,
                    )
        done += count


@helper
def put_lines(source: Array, start: int, step: int, y: Array, at: int, y_step: int, spacing: int,
              lines: int, count: int) -> None:  # fmt: skip
    """Lines that are `step` apart, to lines of y that are `y_step`, elements `spacing` apart."""
    if spacing == 1:
        copy_lines(y, at, y_step, source, start, step, lines, count)
        return
    for i in range(lines):
        line, out = source[start + i * step :], y[at + i * y_step :]
        for w in range(count):
            out[w * spacing] = line[w]


@tasks(calls=[dots])
def correlate(grad: Array, x: Array, partial: Array, blocks: int, frame: Frame, plan: Plan,
              scratch: Array, part: int) -> None:  # fmt: skip
    """partial[p] = sum over part p of the samples of grad times planes of x, by channel blocks."""
    parts, planes = scratch.shape[0], scratch[part]
    sums, outs, channels = partial.shape[0], partial.shape[1] // plan.groups, partial.shape[2]
    taps, samples = partial.shape[3] * partial.shape[4], frame.samples
    chunks = (x.shape[0] + samples - 1) // samples
    tasks = sums * plan.groups * blocks
    for task in range(part * tasks // parts, (part + 1) * tasks // parts):
        p, g, block = task // (plan.groups * blocks), task // blocks % plan.groups, task % blocks
        first, last = block * channels // blocks, (block + 1) * channels // blocks
        partial[p, g * outs : (g + 1) * outs, first:last] = 0
        at = ((p * partial.shape[1] + g * outs) * channels + first) * taps
        for n in range(p * chunks // sums * samples, (p + 1) * chunks // sums * samples, samples):
            for band in range(plan.bands):
                fill_frame(x, n, g * channels + first, last - first, band * plan.band, frame, 0,
                           planes)  # fmt: skip
                add_dots(grad, n, g * outs, outs, band * plan.band, frame, plan, planes, partial,
                         at, channels * taps, (last - first) * taps)  # fmt: skip


@helper
def add_dots(grad: Array, n: int, channel: int, outs: int, line: int, frame: Frame, plan: Plan,
             planes: Array, partial: Array, at: int, row: int, depth: int) -> None:  # fmt: skip
    """partial[o, tap] += the products of some lines of grad, from `channel` on, with planes."""
    pixels = min(plan.band, grad.shape[2] - line) * frame.samples * frame.length
    image = grad.shape[2] * grad.shape[3]
    grads, start, step = grad.reshape(-1), (n * grad.shape[1] + channel) * image, image
    start += line * frame.length
    if frame.samples > 1:
        count = min(frame.samples, grad.shape[0] - n)
        gathered = planes.size - outs * pixels
        gather(grads, start, image, grad.shape[1] * image, outs, count, frame, pixels, planes,
               gathered)  # fmt: skip
        grads, start, step = planes, gathered, pixels
    total = partial.reshape(-1)
    edge = np.zeros(DOT_ROWS * TAPS, grad.dtype)
    tiles = (outs + DOT_ROWS - 1) // DOT_ROWS
    for tap in range(0, depth, TAPS):
        done = 0
        for t in range(tiles):
            count = (outs - done) // (tiles - t)
            to = at + done * row + tap
            if tap + TAPS <= depth:
                dots(count, total, to, row, grads, start + done * step, step, planes, 0, plan.taps,
                     tap, pixels)  # fmt: skip
            else:
                edge[:] = 0
                dots(count, edge, 0, TAPS, grads, start + done * step, step, planes, 0, plan.taps,
                     tap, pixels)  # fmt: skip
                for m in range(count):
                    for i in range(depth - tap):
                        total[to + m * row + i] += edge[m * TAPS + i]
            done += count


@helper
def gather(grads: Array, start: int, image: int, sample: int, outs: int, count: int, frame: Frame,
           pixels: int, rows: Array, at: int) -> None:  # fmt: skip
    """The lines of several samples side by side, as in frames; 0 for samples that are not there."""
    length, line = frame.length, frame.samples * frame.length
    if count < frame.samples:
        fill_run(rows, at, outs * pixels, 0)
    for o in range(outs):
        for s in range(count):
            copy_lines(
                rows,
                at + o * pixels + s * length,
                line,
                grads,
                start + o * image + s * sample,
                length,
                pixels // line,
                length,
            )


@kernel()
def add_up(partial: Array, total: Array) -> None:
    """total = the sum of partial's rows, in order."""
    for i in prange(total.size):
        value = partial[0, i]
        for part in range(1, partial.shape[0]):
            value += partial[part, i]
        total[i] = value


class Geometry(NamedTuple):
    """Shapes of x and weight (O, C / G, kh, kw), and how the kernel moves."""

    x: Shape
    weight: Shape
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    itemsize: int


@lru_cache(maxsize=512)
def _forward(how: Geometry, channels: int = 0, samples: int = 0) -> tuple[Frame, Plan]:
    """y[i] = sum over taps u of weight[u] x[i * stride + u * dilation - padding], along rows.

    With u * dilation = shift * stride + phase, output line i meets line i + shift of that phase.
    """
    kh, kw = how.weight[2:]
    channels = channels or how.weight[1]
    height, width = how.x[2:]
    size = out_size(framed((height, width), how.padding), (kh, kw), how.stride, how.dilation)
    shifts, starts = zip(
        *(divmod(u * how.dilation[0], how.stride[0]) for u in range(kh)), strict=True
    )
    rows = sorted(set(starts))
    columns = [u * how.dilation[1] - how.padding[1] for u in range(kw)]
    frame, band, bands = _frame(
        [p - how.padding[0] for p in rows], how.stride[0], columns, how.stride[1],
        max(shifts), size, channels, samples, how,
    )  # fmt: skip
    c, i, j = np.ogrid[:channels, :kh, :kw]
    planes = (c * kw + j) * len(rows) + np.array([rows.index(p) for p in starts])[i]
    at = _place(frame, planes, np.array(shifts)[i])
    taps = _table(np.arange(at.size), at.ravel())
    phases = np.array([[0, at.size, 0, 0, *size]])
    return frame, Plan(band, bands, taps, phases, 1, 1, at.size, how.groups)


@lru_cache(maxsize=512)
def _weights(how: Geometry, pixels: int) -> tuple[int, int, Frame, Plan]:
    """Parts of the samples and blocks of the channels for a weight gradient, and their frame.

    A sum over FEW pixels costs no less to finish than to make: small images are taken together.
    """
    batch, weight, channels = how.x[0], math.prod(how.weight), how.weight[1]
    parts = max(1, min(batch, batch * pixels // FEW, PARTS, PARTIAL_SUMS // weight))
    blocks = min(channels, -(-PARTS // (parts * how.groups)))
    samples = max(1, min(-(-batch // parts), FEW // pixels))
    frame, plan = _forward(how, -(-channels // blocks), samples)
    return min(parts, -(-batch // frame.samples)), blocks, frame, plan


@lru_cache(maxsize=512)
def _backward(how: Geometry) -> tuple[Frame, Plan]:
    """x_grad[h] = sum of weight[u] grad[i] over taps u and lines i that meet in h.

    h + padding = i * stride + u * dilation. Rows h of one phase h = start + stride * line meet the
    taps with u * dilation in the same phase modulo stride, in grad's line `line + shift`.
    """
    outs, (channels, kh, kw) = how.weight[0] // how.groups, how.weight[1:]
    rows, columns = (
        [_phase(p, *axis) for p in range(axis[1])]
        for axis in zip(how.x[2:], how.stride, how.padding, how.dilation, (kh, kw), strict=True)
    )
    top = min(shift for _, _, taps in rows for _, shift in taps)
    reach = max(shift for _, _, taps in rows for _, shift in taps) - top
    starts = sorted({shift for _, _, taps in columns for _, shift in taps})
    size = max(count for _, count, _ in rows), max(count for _, count, _ in columns)
    frame, band, bands = _frame([top], 1, starts, 1, reach, size, outs, 0, how)
    o = np.arange(outs)[:, None]
    table, phases, done = [], [], 0
    for row, height, down in rows:
        for column, width, across in columns:
            pairs = [(i, r, j, s) for i, r in down for j, s in across]
            i, r, j, s = np.array(pairs, int).reshape(-1, 4).T
            planes = o * len(starts) + np.searchsorted(starts, s)
            at = _place(frame, planes, r - top)
            weights = (o * channels * kh + i) * kw + j
            table.append(_table(weights.ravel(), at.ravel()))
            phases.append([done, at.size, row, column, height, width])
            done += len(table[-1])
    return frame, Plan(band, bands, np.concatenate(table), np.array(phases), *how.stride, kh * kw,
                       how.groups)  # fmt: skip


def _phase(
    phase: int, size: int, stride: int, padding: int, dilation: int, taps: int
) -> tuple[int, int, list[Pair]]:
    """Along one axis: the first place of a phase, how many there are, and (tap, shift) pairs.

    >>> _phase(0, 8, 1, 1, 1, 3)  # stride 1: one phase, all taps, the last of them shifted least
    (0, 8, [(0, 1), (1, 0), (2, -1)])
    >>> _phase(0, 8, 2, 1, 1, 3), _phase(1, 8, 2, 1, 1, 3)
    ((1, 4, [(0, 1), (2, 0)]), (0, 4, [(1, 0)]))
    """
    above = -((phase - padding) // stride)  # the first i with i * stride + phase >= padding
    first = above * stride + phase - padding
    reaching = [divmod(u * dilation, stride) for u in range(taps)]
    pairs = [(u, above - turns) for u, (turns, rest) in enumerate(reaching) if rest == phase]
    return first, max(0, -((first - size) // stride)), pairs


def _frame(
    rows: list[int], row_step: int, columns: list[int], column_step: int, reach: int, size: Pair,
    channels: int, samples: int, how: Geometry,
) -> tuple[Frame, int, int]:  # fmt: skip
    """A frame for results of `size`, how many lines of them a task makes, and how many tasks."""
    (lines, length), batch = size, how.x[0]
    panel = PANEL // how.itemsize
    if not samples:  # one, unless more than that many of the pixels in a tile would be wasted
        wasted = -(-lines * length // panel) * panel > 1.15 * lines * length
        samples = max(1, min(8, batch // 8)) if wasted else 1
    line = channels * len(rows) * len(columns) * samples * length * how.itemsize
    band = max(CACHE // line - reach, 2 * panel // (samples * length), 1)
    tasks = -(-batch // samples) * how.groups
    wanted = min(-(-PARTS // tasks), lines * samples * length // (4 * panel), lines)
    bands = max(-(-lines // band), wanted, 1)
    band = -(-lines // bands)
    frame = Frame(np.array(rows), row_step, np.array(columns), column_step,
                  band + reach, length, samples)  # fmt: skip
    return frame, band, -(-lines // band)


def _place(frame: Frame, planes: Array, shifts: Array) -> Array:
    """Where in a frame the given line of the given planes begins."""
    line = frame.samples * frame.length
    return planes * (frame.lines * line) + shifts * line


def _table(weights: Array, planes: Array) -> Array:
    """Both columns of a table, and lines of zeros behind them that fill up the last tile."""
    table = np.zeros((weights.size + TAPS - 1, 2), np.int32)
    table[: weights.size] = np.stack([weights, planes], 1)
    return table


def _scratch(frame: Frame, plan: Plan, channels: int, more: int, work: int, dtype: type) -> Array:
    """Room for a frame of so many channels and `more` for each pixel of a band; for each thread."""
    panel = PANEL // np.dtype(dtype).itemsize
    size = len(frame.rows) * len(frame.columns) * frame.lines * frame.samples * frame.length
    pixels = -(-plan.band * frame.samples * frame.length // panel) * panel
    threads = get_num_threads() if work >= PARALLEL_FROM else 1
    return empty((threads, channels * size + more * pixels + panel), dtype)


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
        frame, plan = _forward(
            Geometry(x.shape, weight.shape, stride, padding, dilation, groups, x.itemsize)
        )
        work = y.size * math.prod(weight.shape[1:])
        bias = np.zeros(len(weight), x.dtype) if bias is None else plain(bias)
        scratch = _scratch(frame, plan, weight.shape[1], ROWS, work, x.dtype)
        convolve.sized(work, PARALLEL_FROM)(
            scratch.shape[0], plain(x), flat(plain(weight)), bias, y, frame, plan, scratch
        )
        return y

    def conv2d_input_grad(
        self, grad: Array, weight: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        x_grad = empty(shape, grad.dtype)
        # A zero beside the gradient would meet weights that it does not meet there: 0 * inf is NaN.
        if not suits(grad, weight, x_grad) or not np.isfinite(weight).all():
            return super().conv2d_input_grad(grad, weight, shape, stride, padding, dilation, groups)
        frame, plan = _backward(
            Geometry(shape, weight.shape, stride, padding, dilation, groups, grad.itemsize)
        )
        if not plan.phases[:, 1].all():  # a phase that no tap reaches
            x_grad.fill(0)
        work = grad.size * math.prod(weight.shape[1:])
        scratch = _scratch(frame, plan, grad.shape[1] // groups, ROWS, work, grad.dtype)
        no_bias = np.zeros(shape[1], grad.dtype)
        convolve.sized(work, PARALLEL_FROM)(
            len(scratch), plain(grad), flat(plain(weight)), no_bias, x_grad, frame, plan, scratch
        )
        return x_grad

    def conv2d_weight_grad(
        self, grad: Array, x: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        weight = math.prod(shape)
        if not suits(grad, x) or not weight:
            return super().conv2d_weight_grad(grad, x, shape, stride, padding, dilation, groups)
        how = Geometry(x.shape, shape, stride, padding, dilation, groups, grad.itemsize)
        parts, blocks, frame, plan = _weights(how, math.prod(grad.shape[2:]))
        partial = empty((parts, *shape), grad.dtype)
        work = grad.size * math.prod(shape[1:])
        gathered = shape[0] // groups if frame.samples > 1 else 0
        scratch = _scratch(frame, plan, -(-shape[1] // blocks), gathered, work, grad.dtype)
        correlate.sized(work, PARALLEL_FROM)(
            scratch.shape[0], plain(grad), plain(x), partial, blocks, frame, plan, scratch
        )
        if parts == 1:
            return partial[0]
        total = empty(shape, grad.dtype)
        add_up.sized(partial.size, 1 << 16)(partial.reshape(parts, -1), total.reshape(-1))
        return total
