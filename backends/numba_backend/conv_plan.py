"""What a convolution reads and writes, worked out from shapes alone and kept.

The gradient with respect to the input is a convolution too: with stride 1, of the output's gradient
with the kernel turned by half a turn. With a larger stride the rows and columns of the input fall
into phases, stride[0] * stride[1] of them; each phase is a convolution with those taps that reach
it. `forward` and `backward` write both down as one kind of plan, which one kernel carries out.
Source: Dumoulin & Visin (2016), arXiv:1603.07285, section 4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..interface import Array, DType, Pair, Shape
from ..numpy_backend.windows import framed, out_size
from .frames import Frame
from .jit import get_num_threads
from .memory import empty
from .microkernel import PANEL, VECTORS

PARALLEL_FROM = 1 << 18  # multiply-adds; below, a launch costs more than it saves
CACHE = 400_000  # bytes of a frame: less than half of a second cache
PARTS = 16  # into how many tasks work is split, if its shape allows


class Geometry(NamedTuple):
    """Shapes of x and weight (O, C / G, kh, kw), and how the kernel moves."""

    x: Shape
    weight: Shape
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    itemsize: int


class Plan(NamedTuple):
    """The same for all groups and samples.

    row (pixels of a band,) and col (K,) int32: where in a frame a window begins, and where a tap
    lies in a window. source (K,): where a tap's weight lies, relative to that of the channel that
    it makes; channels are weight_row apart.
    phases: (P, 6), each of them a convolution: first tap, taps, and what it writes: first row,
    first column, rows, columns. Rows written are row_step apart, columns column_step.
    """

    band: int  # output lines of a task
    bands: int
    length: int  # pixels of an output line, and maybe some that are thrown away
    row: Array
    col: Array
    source: Array
    phases: Array
    row_step: int
    column_step: int
    weight_row: int
    groups: int
    width: int  # channels of a register tile
    panels: int  # how many of these make a group
    spots: (
        Array  # where vectors of pixels of a band begin in a frame and in y, (S, 2) int32, if any
    )


@lru_cache(maxsize=512)
def forward(how: Geometry, channels: int = 0) -> tuple[Frame, Plan]:
    """y[i] = sum over taps u of weight[u] x[i * stride + u * dilation - padding], along rows.

    With u * dilation = shift * stride + phase, output line i meets line i + shift of that phase.
    The same holds along columns.
    """
    size, outs = _size(how), how.weight[0] // how.groups
    length = size[1] if channels else _line(size[1], outs, how.itemsize)
    channels = channels or how.weight[1]
    shifts, phases = [], []
    for taps, stride, dilation in zip(how.weight[2:], how.stride, how.dilation, strict=True):
        turns, rest = np.divmod(np.arange(taps) * dilation, stride)
        shifts.append(turns)
        phases.append(rest)
    (rows, i), (columns, j) = (np.unique(p, return_inverse=True) for p in phases)
    far = shifts[0].max(), shifts[1].max()
    frame, band, bands = _frame(rows - how.padding[0], columns - how.padding[1], how.stride,
                                (size[0], length), far, channels, how)  # fmt: skip
    c = np.arange(channels)[:, None, None]
    planes = (c * len(columns) + j) * len(rows) + i[:, None]
    col = _place(frame, planes, shifts[0][:, None], shifts[1]).ravel()
    plan = Plan(band, bands, length, _windows(frame, band, length), col,
                _table(np.arange(col.size)), np.array([[0, col.size, 0, 0, *size]]), 1, 1, col.size,
                how.groups, *_panels(outs, how.itemsize),
                _spots(outs, frame, band, length, how.itemsize))  # fmt: skip
    return frame, plan


@lru_cache(maxsize=512)
def backward(how: Geometry) -> tuple[Frame, Plan]:
    """x_grad[h] = sum of weight[u] grad[i] over taps u and lines i that meet in h.

    h + padding = i * stride + u * dilation. Rows h of one phase h = start + stride * line meet the
    taps with u * dilation in the same phase modulo stride, in grad's line `line + shift`.
    """
    outs, (channels, kh, kw) = how.weight[0] // how.groups, how.weight[1:]
    rows, columns = (
        [_phase(p, *axis) for p in range(axis[1])]
        for axis in zip(how.x[2:], how.stride, how.padding, how.dilation, (kh, kw), strict=True)
    )
    (top, height, down), (left, width, across) = (_extent(axis) for axis in (rows, columns))
    width = _line(width, channels, how.itemsize)
    grads = how._replace(x=(how.x[0], how.weight[0], *_size(how)))
    frame, band, bands = _frame(np.array([top]), np.array([left]), (1, 1), (height, width),
                                (down, across), outs, grads)  # fmt: skip
    o = np.arange(outs)[:, None]
    col, source, phases, done = [], [], [], 0
    for row, lines, by_row in rows:
        for column, length, by_column in columns:
            pairs = [(i, r, j, s) for i, r in by_row for j, s in by_column]
            i, r, j, s = np.array(pairs, int).reshape(-1, 4).T
            col.append(_place(frame, o, r - top, s - left).ravel())
            source.append(((o * channels * kh + i) * kw + j).ravel())
            phases.append([done, col[-1].size, row, column, lines, length])
            done += col[-1].size
    plan = Plan(band, bands, width, _windows(frame, band, width), np.concatenate(col),
                _table(np.concatenate(source)), np.array(phases), *how.stride, kh * kw, how.groups,
                *_panels(channels, how.itemsize),
                _spots(channels, frame, band, width, how.itemsize))  # fmt: skip
    return frame, plan


def _size(how: Geometry) -> Pair:
    (height, width), (kh, kw) = how.x[2:], how.weight[2:]
    return out_size(framed((height, width), how.padding), (kh, kw), how.stride, how.dilation)


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


def _extent(phases: list[tuple[int, int, list[Pair]]]) -> tuple[int, int, int]:
    """The least shift along an axis, the places of its largest phase, and how far shifts range.

    >>> _extent([(1, 4, [(0, 1), (2, 0)]), (0, 4, [(1, 0)])])
    (0, 4, 1)
    """
    shifts = [shift for _, _, taps in phases for _, shift in taps]
    return min(shifts), max(count for _, count, _ in phases), max(shifts) - min(shifts)


def _frame(
    rows: Array, columns: Array, step: Pair, size: Pair, reach: Pair, channels: int, how: Geometry
) -> tuple[Frame, int, int]:
    """A frame for results of `size`, how many lines of them a task makes, and how many tasks."""
    (lines, length), (height, width) = size, how.x[2:]
    panel = PANEL // how.itemsize
    line = channels * len(rows) * len(columns) * (length + reach[1]) * how.itemsize
    band = max(CACHE // line - reach[0], 2 * panel // length, 1)
    wanted = min(-(-PARTS // (how.x[0] * how.groups)), lines * length // (4 * panel), lines)
    bands = max(-(-lines // band), wanted, 1)
    band = -(-lines // bands)
    bands = -(-lines // band)
    inside = lines + reach[0] <= height and length + reach[1] <= width
    if inside and step == (1, 1) and not rows.any() and not columns.any():
        return Frame(rows, 1, columns, 1, height, width, False), band, bands
    frame = Frame(rows, step[0], columns, step[1], band + reach[0], length + reach[1], True)
    return frame, band, bands


def _place(frame: Frame, planes: Array, down: Array, across: Array) -> Array:
    """Where in a frame the given elements of the given planes are."""
    return _table((planes * frame.lines + down) * frame.length + across)


def _windows(frame: Frame, lines: int, length: int) -> Array:
    """Where the windows of a band begin in a frame, line by line."""
    return _place(frame, np.zeros((), int), np.arange(lines)[:, None], np.arange(length)).ravel()


def _table(places: Array) -> Array:
    return places.astype(np.int32)


def _panels(channels: int, itemsize: int) -> Pair:
    """How wide the tiles are that make so many channels, and how many of them do.

    A tile of one vector makes its pixels at three quarters of the speed of one of two, and one of
    half a vector takes as long.

    >>> wide = PANEL // 4
    >>> [_panels(n * wide // 8, 4)[0] * 8 // wide for n in (16, 12, 8, 4, 3, 2)]
    [8, 8, 8, 4, 4, 2]
    """
    wide = PANEL // itemsize
    if channels <= wide // 4:
        return wide // 4, 1
    cost = {width: -(-channels // width) * by for width, by in ((wide, 3), (wide // 2, 2))}
    width = min(cost, key=lambda width: cost[width])
    return width, -(-channels // width)


def _line(length: int, channels: int, itemsize: int) -> int:
    """How long to make output lines: a little longer if they nearly fill a vector.

    Half a vector of channels, or less, would take as long for two thirds of the pixels.
    """
    lanes = PANEL // VECTORS // itemsize
    enough = lanes // 2 if channels <= lanes // 2 else lanes * 3 // 4
    return lanes if channels <= lanes and enough < length < lanes else length


def _spots(channels: int, frame: Frame, lines: int, length: int, itemsize: int) -> Array:
    """Where vectors are, if they are laid along pixels: the `spots` of a plan.

    They are where channels are too few to fill vectors, if lines are long enough, and where lines
    are made of whole vectors: nothing need be turned then, 5 to 10 percent of the time. The last
    vector of a line ends where the line ends, and may make some pixels again.
    """
    lanes = PANEL // VECTORS // itemsize
    if length < lanes or (channels > lanes and length % lanes):
        return np.zeros((0, 2), np.int32)
    starts = np.minimum(np.arange(0, length, lanes), length - lanes)
    line = np.arange(lines)[:, None]
    places = [line * step + starts for step in (frame.length, length)]
    return _table(np.stack(places, -1).reshape(-1, 2))


def scratch_size(frame: Frame, plan: Plan, channels: int, pixels: int, dtype: DType) -> int:
    """Elements that a thread needs: planes of so many channels, and three panels of pixels."""
    panel = PANEL // np.dtype(dtype).itemsize
    planes = channels * len(frame.rows) * len(frame.columns) * frame.lines * frame.length
    across = max(plan.width, panel // VECTORS)
    return (planes if frame.copied else 0) + (pixels + panel) * 3 * across + panel


def scratch_for(size: int, work: int, dtype: DType) -> Array:
    """Room for each thread that so many multiply-adds are worth."""
    return empty((get_num_threads() if work >= PARALLEL_FROM else 1, size), dtype)


@lru_cache(maxsize=512)
def _runs(how: tuple[int, ...]) -> Array:
    """Where vectors of lines begin in a frame and in the gradient: whole ones, then rests."""
    lines, step, length, lanes = how
    line, whole = np.arange(lines)[:, None], length // lanes
    starts = np.arange(whole) * lanes, np.array([whole * lanes])
    places = [[line * by + start for by in (step, length)] for start in starts]
    return _table(np.concatenate([np.stack(p, -1).reshape(-1, 2) for p in places]))


def runs(frame: Frame, plan: Plan, taps: int, itemsize: int) -> tuple[Array, Array]:
    """The taps of a plan, filled up to tiles of so many, and the vectors of its bands' lines."""
    col = np.concatenate([plan.col, np.zeros(-plan.col.size % taps, np.int32)])
    return col, _runs((plan.band, frame.length, plan.length, PANEL // VECTORS // itemsize))
