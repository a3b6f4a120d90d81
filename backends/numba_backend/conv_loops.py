"""Between images and columns: the loops that convolution kernels share.

A "row" is a line of the output: row r of a batch is line r % OH of sample r // OH. Kernels work on
a tile of rows at a time, so that its columns stay in the cache whatever the image size.
"""

from __future__ import annotations

from ..interface import Array, Pair
from .jit import helper


@helper
def reach(shift: int, step: int, size: int, count: int) -> Pair:
    """The range of w in 0..count for which w * step + shift lies within 0..size."""
    low = 0 if shift >= 0 else (step - 1 - shift) // step
    high = 0 if shift >= size else (size - 1 - shift) // step + 1
    low = min(low, count)
    return low, max(low, min(high, count))


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
    rows = cols.shape[1] // length
    step = stride[1]
    for c in range(channels):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                tap = cols[(c * kernel[0] + i) * kernel[1] + j]
                shift = j * dilation[1] - padding[1]
                low, high = reach(shift, step, width, length)
                n, line = row // lines, row % lines
                for r in range(rows):
                    out = tap[r * length : (r + 1) * length]
                    h = line * stride[0] + i * dilation[0] - padding[0]
                    if h < 0 or h >= height:
                        out[:] = value
                    else:
                        out[:low] = value
                        out[high:] = value
                        inner = out[low:high]
                        source = x[n, channel + c, h, low * step + shift :]
                        if step == 1:  # apart, so that it becomes a vector copy
                            for w in range(inner.size):
                                inner[w] = source[w]
                        else:
                            for w in range(inner.size):
                                inner[w] = source[w * step]
                    line += 1
                    if line == lines:
                        n, line = n + 1, 0


@helper
def add_columns(cols: Array, x: Array, channel: int, channels: int, kernel: Pair, stride: Pair,
                padding: Pair, dilation: Pair, out_size: Pair, row: int) -> None:  # fmt: skip
    """Add columns to the places of x that `fill_columns` takes them from."""
    height, width = x.shape[2], x.shape[3]
    lines, length = out_size
    rows = cols.shape[1] // length
    step = stride[1]
    for c in range(channels):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                tap = cols[(c * kernel[0] + i) * kernel[1] + j]
                shift = j * dilation[1] - padding[1]
                low, high = reach(shift, step, width, length)
                n, line = row // lines, row % lines
                for r in range(rows):
                    h = line * stride[0] + i * dilation[0] - padding[0]
                    if 0 <= h < height:
                        inner = tap[r * length + low : r * length + high]
                        target = x[n, channel + c, h, low * step + shift :]
                        if step == 1:
                            for w in range(inner.size):
                                target[w] += inner[w]
                        else:
                            for w in range(inner.size):
                                target[w * step] += inner[w]
                    line += 1
                    if line == lines:
                        n, line = n + 1, 0


@helper
def take_rows(y: Array, channel: int, row: int, length: int, tile: Array) -> None:
    """tile[o, (r, w)] = y[n, channel + o, line, w] for the output rows from `row` on."""
    lines = y.shape[2]
    for o in range(tile.shape[0]):
        n, line = row // lines, row % lines
        out = tile[o]
        for r in range(tile.shape[1] // length):
            source = y[n, channel + o, line]
            target = out[r * length : (r + 1) * length]
            for w in range(length):
                target[w] = source[w]
            line += 1
            if line == lines:
                n, line = n + 1, 0


@helper
def put_rows(tile: Array, y: Array, channel: int, row: int, length: int, bias: Array) -> None:
    """The reverse of `take_rows`, adding bias (O,) unless it is empty."""
    lines = y.shape[2]
    for o in range(tile.shape[0]):
        n, line = row // lines, row % lines
        source = tile[o]
        for r in range(tile.shape[1] // length):
            inner = source[r * length : (r + 1) * length]
            target = y[n, channel + o, line]
            if bias.size:
                b = bias[channel + o]
                for w in range(length):
                    target[w] = inner[w] + b
            else:
                for w in range(length):
                    target[w] = inner[w]
            line += 1
            if line == lines:
                n, line = n + 1, 0
