"""Images as planes that a convolution reads along, without a copy for every tap.

A window that moves over the columns of an image meets, for each column of the kernel, a line of the
image from which some elements are taken: with stride 2 every other one. A frame keeps these lines,
one plane for each column of the kernel, the padding included. Moving down by one window is then
moving by one line of the plane, whatever row of the kernel: the rows share a plane.

          image, padded           plane of column 0      plane of column 1      ...
       0  0  0  0  0  0              0  0  0  0             0  0  0  0
       0  a  b  c  d  0              0  a  b  c             a  b  c  d
       0  e  f  g  h  0              0  e  f  g             e  f  g  h
       0  0  0  0  0  0              0  0  0  0             0  0  0  0

Lines have the length that the output's have, so a plane from line i on is, number by number, what
row i of the kernel meets: the output is a sum of planes that are read from different places on, and
the loops along them know of no lines, strides or padding. With a vertical stride there is one plane
for each phase of the rows. Source: Cho & Brand (2017), "MEC: memory-efficient convolution for deep
neural network", arXiv:1706.06873, section 3.

Where images are small, the lines of several samples lie side by side, so that planes stay long.
"""

from __future__ import annotations

from typing import NamedTuple

from ..interface import Array, Pair
from .jit import helper
from .lines import copy_every_second, copy_lines, fill_run


class Frame(NamedTuple):
    """Planes for one channel after the other; for each column start, one for each row start.

    plane[line, sample, w] = x[sample, line * row_step + row, w * column_step + column], or a
    padding value where that is outside of x. `lines` and `length` are a plane's.
    """

    rows: Array
    row_step: int
    columns: Array
    column_step: int
    lines: int
    length: int
    samples: int


@helper
def plane_size(frame: Frame) -> int:
    return frame.lines * frame.samples * frame.length


@helper
def reach(shift: int, step: int, size: int, count: int) -> Pair:
    """The range of w in 0..count for which w * step + shift lies within 0..size."""
    low = 0 if shift >= 0 else (step - 1 - shift) // step
    high = 0 if shift >= size else (size - 1 - shift) // step + 1
    low = min(low, count)
    return low, max(low, min(high, count))


@helper
def pick(target: Array, at: int, source: Array, start: int, step: int, count: int) -> None:
    """Every step-th element, as one line."""
    for w in range(count):
        target[at + w] = source[start + w * step]


@helper
def fill_frame(x: Array, sample: int, channel: int, channels: int, first: int, frame: Frame,
               value: float, planes: Array) -> None:  # fmt: skip
    """Lay out some channels of the samples from `sample` on, from line `first` of the planes on.

    x is (N, C, H, W), planes flat. Samples beyond the last one are all `value`.
    """
    height, width = x.shape[2], x.shape[3]
    image, line = height * width, frame.row_step * width
    step, size = frame.samples * frame.length, plane_size(frame)
    between = frame.columns.size * frame.rows.size * size
    present = min(frame.samples, x.shape[0] - sample)
    elements = x.reshape(-1)
    plane = 0
    for column in frame.columns:
        low, high = reach(column, frame.column_step, width, frame.length)
        for row in frame.rows:
            row += first * frame.row_step
            top, bottom = reach(row, frame.row_step, height, frame.lines)
            whole = low == 0 and high == frame.length and top == 0 and bottom == frame.lines
            start = (sample * x.shape[1] + channel) * image + (row + top * frame.row_step) * width
            start += column + low * frame.column_step
            at = plane + top * step + low
            for c in range(channels):
                if not whole or present < frame.samples:
                    fill_run(planes, plane + c * between, size, value)
                for s in range(present):
                    to = at + c * between + s * frame.length
                    out_of = start + (s * x.shape[1] + c) * image
                    if frame.column_step == 1:
                        copy_lines(planes, to, step, elements, out_of, line,
                                   bottom - top, high - low)  # fmt: skip
                    elif frame.column_step == 2:
                        copy_every_second(planes, to, step, elements, out_of, line,
                                          bottom - top, high - low)  # fmt: skip
                    else:
                        for i in range(bottom - top):
                            pick(planes, to + i * step, elements, out_of + i * line,
                                 frame.column_step, high - low)  # fmt: skip
            plane += size
