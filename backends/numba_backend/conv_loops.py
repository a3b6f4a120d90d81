"""Between images and columns: the loops that convolution kernels share.

A "row" is a line of the output: row r of a batch is line r % OH of sample r // OH. Kernels work on
a tile of rows at a time, so that its columns stay in the cache whatever the image size.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, Pair
from .jit import helper
from .runs import add_run, copy_run


@helper
def reach(shift: int, step: int, size: int, count: int) -> Pair:
    """The range of w in 0..count for which w * step + shift lies within 0..size."""
    low = 0 if shift >= 0 else (step - 1 - shift) // step
    high = 0 if shift >= size else (size - 1 - shift) // step + 1
    low = min(low, count)
    return low, max(low, min(high, count))


@helper
def reaches(taps: int, step: int, dilation: int, padding: int, size: int, count: int) -> Array:
    """`reach` for every tap of a line, (taps, 2)."""
    ranges = np.empty((taps, 2), np.int64)
    for j in range(taps):
        ranges[j] = reach(j * dilation - padding, step, size, count)
    return ranges


@helper
def fill_columns(x: Array, channel: int, channels: int, kernel: Pair, stride: Pair, padding: Pair,
                 dilation: Pair, out_size: Pair, row: int, cols: Array,
                 value: float) -> None:  # fmt: skip
    """Take the windows of x (N, C, H, W) that make a tile of output rows, as columns.

    cols[(c, i, j), (r, w)] = x[n, channel + c, line * sh + i * dh - ph, w * sw + j * dw - pw],
    where output row `row` + r is line `line` of sample n; outside the image it is `value`.
    """
    height, width = x.shape[2], x.shape[3]
    lines, length = out_size
    size = cols.shape[1]
    ranges = reaches(kernel[1], stride[1], dilation[1], padding[1], width, length)
    elements = x.reshape(-1)
    for c in range(channels):
        for i in range(kernel[0]):
            tap = (c * kernel[0] + i) * kernel[1]
            n, line = row // lines, row % lines
            for at in range(0, size, length):
                h = line * stride[0] + i * dilation[0] - padding[0]
                if h < 0 or h >= height:
                    cols[tap : tap + kernel[1], at : at + length] = value
                else:
                    start = ((n * x.shape[1] + channel + c) * height + h) * width - padding[1]
                    for j in range(kernel[1]):
                        low, high = ranges[j]
                        first = start + j * dilation[1] + low * stride[1]
                        if low > 0:
                            cols[tap + j, at : at + low] = value
                        if high < length:
                            cols[tap + j, at + high : at + length] = value
                        if stride[1] == 1:
                            copy_run(cols, (tap + j) * size + at + low, x, first, high - low)
                        else:
                            out = cols[tap + j, at + low : at + high]
                            source = elements[first:]
                            for w in range(out.size):
                                out[w] = source[w * stride[1]]
                line += 1
                if line == lines:
                    n, line = n + 1, 0


@helper
def add_columns(cols: Array, x: Array, channel: int, channels: int, kernel: Pair, stride: Pair,
                padding: Pair, dilation: Pair, out_size: Pair, row: int) -> None:  # fmt: skip
    """Add columns to the places of x that `fill_columns` takes them from."""
    height, width = x.shape[2], x.shape[3]
    lines, length = out_size
    size = cols.shape[1]
    elements = x.reshape(-1)
    for c in range(channels):
        for i in range(kernel[0]):
            for j in range(kernel[1]):  # outside the rows: a run should not meet the one before it
                tap = (c * kernel[0] + i) * kernel[1] + j
                shift = j * dilation[1] - padding[1]
                low, high = reach(shift, stride[1], width, length)
                n, line = row // lines, row % lines
                for at in range(0, size, length):
                    h = line * stride[0] + i * dilation[0] - padding[0]
                    if 0 <= h < height:
                        first = ((n * x.shape[1] + channel + c) * height + h) * width
                        first += low * stride[1] + shift
                        if stride[1] == 1:
                            add_run(x, first, cols, tap * size + at + low, high - low)
                        else:
                            source = cols[tap, at + low : at + high]
                            out = elements[first:]
                            for w in range(source.size):
                                out[w * stride[1]] += source[w]
                    line += 1
                    if line == lines:
                        n, line = n + 1, 0


@helper
def take_rows(y: Array, channel: int, row: int, tile: Array) -> None:
    """tile[o, (r, w)] = y[n, channel + o, line, w] for the output rows from `row` on."""
    channels, lines, length = y.shape[1:]
    size = tile.shape[1]
    for o in range(tile.shape[0]):
        n, line, at = row // lines, row % lines, 0
        while at < size:  # the lines of one sample lie side by side
            count = min((lines - line) * length, size - at)
            start = ((n * channels + channel + o) * lines + line) * length
            copy_run(tile, o * size + at, y, start, count)
            n, line, at = n + 1, 0, at + count


@helper
def put_rows(tile: Array, y: Array, channel: int, row: int, bias: Array) -> None:
    """The reverse of `take_rows`, adding bias (O,) unless it is empty."""
    channels, lines, length = y.shape[1:]
    size = tile.shape[1]
    elements = y.reshape(-1)
    for o in range(tile.shape[0]):
        n, line, at = row // lines, row % lines, 0
        while at < size:
            count = min((lines - line) * length, size - at)
            start = ((n * channels + channel + o) * lines + line) * length
            source, target = tile[o, at : at + count], elements[start : start + count]
            b = bias[channel + o] if bias.size else 0
            for w in range(count):
                target[w] = source[w] + b
            n, line, at = n + 1, 0, at + count
