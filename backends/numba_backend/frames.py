"""Images as planes from which a convolution reads, without a copy for every tap.

A frame is an image with its padding around it. With a stride its rows and columns are dealt out
into planes, one for each phase, so that the next window is always the next element:

          image, padded           plane of row 0, column 0      row 0, column 1      ...
       0  0  0  0  0  0                  0  0  0                    0  0  0
       0  a  b  c  d  0                  0  f  h                    e  g  0
       0  e  f  g  h  0                  0  0  0                    0  0  0
       0  i  j  k  l  0
       0  0  0  0  0  0

Every element is in one plane only, and phases that no tap meets are left out. Without stride and
padding the image is its own frame.
"""

from __future__ import annotations

from typing import NamedTuple

from ..interface import Array, Pair
from .jit import helper
from .lines import clear_run, copy_every_second, copy_numbers

LINES = copy_numbers, copy_every_second, clear_run  # what a kernel calls with `fill_frame`


class Frame(NamedTuple):
    """Planes for one channel after the other; for each column start, one for each row start.

    plane[line, w] = x[line * row_step + row, w * column_step + column], or 0 where that is outside
    of x. `lines` and `length` are a plane's; `copied` is False if the image serves as it is.
    """

    rows: Array
    row_step: int
    columns: Array
    column_step: int
    lines: int
    length: int
    copied: bool


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
               fresh: bool, planes: Array) -> None:  # fmt: skip
    """Lay out some channels of a sample, from line `first` of the planes on.

    x is (N, C, H, W), planes flat. Unless they are fresh, they have the zeros that belong there.
    """
    height, width = x.shape[2], x.shape[3]
    line, size = frame.row_step * width, frame.lines * frame.length
    between = frame.columns.size * frame.rows.size * size
    if fresh:
        clear_run(planes, 0, channels * between)
    elements = x.reshape(-1)
    plane = 0
    for column in frame.columns:
        low, high = reach(column, frame.column_step, width, frame.length)
        for row in frame.rows:
            row += first * frame.row_step
            top, bottom = reach(row, frame.row_step, height, frame.lines)
            start = (sample * x.shape[1] + channel) * height * width
            start += (row + top * frame.row_step) * width + column + low * frame.column_step
            at = plane + top * frame.length + low
            for c in range(channels):
                to, out_of = at + c * between, start + c * height * width
                if frame.column_step == 1:
                    copy_numbers(planes, to, frame.length, elements, out_of, line,
                               bottom - top, high - low)  # fmt: skip
                elif frame.column_step == 2:
                    copy_every_second(planes, to, frame.length, elements, out_of, line,
                                      bottom - top, high - low)  # fmt: skip
                else:
                    for i in range(bottom - top):
                        pick(planes, to + i * frame.length, elements, out_of + i * line,
                             frame.column_step, high - low)  # fmt: skip
            plane += size
