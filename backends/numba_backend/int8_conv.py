"""Quantized convolution, straight from an image whose bytes were put side by side in quads.

A quad is four bytes that one instruction multiplies by four weights (`dots.py`). At every pixel it
holds four channels; or, where there are few channels and the kernel is wide, four neighbours in a
line, which wastes less. An image so laid out is a pile of planes of quads:

    planes[p, h % sh, w % sw, h // sh, w // sw] = the quad of plane p at the framed pixel (h, w)

With strides (sh, sw) split off like this, what a tap of the kernel sees from one output pixel to
the next is the next quad in memory, at any stride and dilation, from one line to the next as well.
So a tile is some channels times a vector of pixels, and a table says where each quad of the sum
begins. Pixels past the end of an output line are computed and thrown away.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, Pair
from .dots import CHANNELS, PIXELS, conv_tile
from .finish import CODES, RELU, SUMS, code, real
from .jit import helper
from .lines import copy_lines
from .outline import tasks

PARTS = 16  # into how many tasks a convolution is split, if its shape allows
CACHE = 1 << 16  # quads of the planes of one task: a quarter of a megabyte


def in_lines(channels: int, width: int) -> bool:
    """Whether quads of neighbours in a line of the kernel are fewer than quads of channels.

    >>> in_lines(1, 5), in_lines(6, 5), in_lines(3, 3)
    (True, False, False)
    """
    return channels * -(-width // 4) < -(-channels // 4) * width


def quads_of(weight: Array, groups: int) -> Array:
    """weight (O, C, kh, kw) int8 as (blocks, quads + 1, outputs of a block) int32.

    Quads are in the order plane, line, column of the kernel; after them comes the sum of each
    output's codes. The blocks of a group are as equal as possible, the last filled up with zeros.
    """
    outputs, channels, height, width = weight.shape
    if in_lines(channels, width):
        quads = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -width % 4)))
    else:
        quads = np.pad(weight, ((0, 0), (0, -channels % 4), (0, 0), (0, 0)))
        quads = quads.reshape(outputs, -1, 4, height, width).transpose(0, 1, 3, 4, 2)
    quads = np.ascontiguousarray(quads).reshape(outputs, -1).view(np.int32)
    sums = weight.reshape(outputs, -1).sum(axis=1, dtype=np.int32)
    rows = np.concatenate([quads, sums[:, None]], axis=1).reshape(groups, outputs // groups, -1)
    count = -(-rows.shape[1] // CHANNELS)
    block = -(-rows.shape[1] // count)
    block += block % 2 if block > 1 else 0  # the heights that `conv_tile` has
    rows = np.pad(rows, ((0, 0), (0, block * count - rows.shape[1]), (0, 0)))
    return np.ascontiguousarray(rows.reshape(groups * count, -1, rows.shape[2]).transpose(0, 2, 1))


def sums_of(packed: Array, outputs: int, groups: int) -> Array:
    """The sum of each output's codes, out of what `quads_of` returns."""
    return packed[:, -1].reshape(groups, -1)[:, : outputs // groups].reshape(-1)


def band(samples: int, lines: int, quads: int) -> int:
    """Output lines of a task, from shapes alone; `quads` is what one of them needs of planes.

    >>> band(64, 28, 900), band(1, 28, 900), band(64, 224, 2000)
    (28, 2, 32)
    """
    parts = -(-PARTS // samples)
    return max(1, min(-(-lines // parts), CACHE // quads))


@tasks(calls=[conv_tile], exact=True)
def convolve(x: Array, flip: int, pad: int, packed: Array, offset: Array, factor: Array,
             last: Array, how: int, ends: tuple[int, int, int], lined: bool, kernel_size: Pair,
             stride: Pair, padding: Pair, dilation: Pair, groups: int, size: Pair, lines: int,
             y: Array, part: int) -> None:  # fmt: skip
    """y (N, O, OH, OW), as bytes, = x (N, C, H, W), as bytes, convolved and finished (`finish.py`).

    A task is one sample's band of output lines. Bytes are multiplied after an exclusive or with
    flip; pad is what frames the image before that.
    """
    bands = (size[0] + lines - 1) // lines
    blocks, depth, block = packed.shape[0] // groups, packed.shape[1] - 1, packed.shape[2]
    channels, outs = x.shape[1] // groups, offset.size // groups
    planes = channels if lined else (channels + 3) // 4
    width = (x.shape[3] + 2 * padding[1] + stride[1] - 1) // stride[1]
    weight = packed.reshape(-1)
    n, top = part // bands, part % bands * lines
    bottom = min(top + lines, size[0])
    seen = (bottom - top - 1) * stride[0] + (kernel_size[0] - 1) * dilation[0] + 1
    phase = (seen + stride[0] - 1) // stride[0] * width  # quads of a phase of a plane
    quads = np.empty(planes * stride[0] * stride[1] * phase + PIXELS, np.int32)
    table = places(planes, lined, kernel_size, stride, dilation, phase, width)
    reach = width * stride[1]
    frames = np.full((1 if lined else 4) * seen * reach + 3 * dilation[1], pad, np.uint8)
    tile, done = np.empty(CHANNELS * PIXELS, np.int32), np.empty(CHANNELS * PIXELS, np.int32)
    for g in range(groups):
        for p in range(planes):
            first, count = (p, 1) if lined else (4 * p, min(4, channels - 4 * p))
            frame(x[n, g * channels + first : g * channels + first + count],
                  top * stride[0] - padding[0], seen, padding[1], reach, frames)  # fmt: skip
            plane = quads[p * stride[0] * stride[1] * phase :]
            shift = dilation[1] if lined else seen * reach
            join(frames, shift, seen, reach, stride, phase, width, flip, plane)
        for at in range(0, (bottom - top) * width, PIXELS):
            for b in range(blocks):
                o = g * outs + b * block
                count = min(block, (g + 1) * outs - o)
                conv_tile(block, tile, weight, (g * blocks + b) * (depth + 1) * block, block,
                          quads, at, table, depth)  # fmt: skip
                finish_tile(tile, count, offset, factor, last, o, how, ends, done)
                to = (n * offset.size + o) * size[0] * size[1]
                if how == CODES:
                    put_lines(done.view(np.uint8), count, at, width, size, top, bottom, to, y)
                else:
                    put_lines(done, count, at, width, size, top, bottom, to, y.view(np.int32))


@helper
def places(planes: int, lined: bool, kernel_size: Pair, stride: Pair, dilation: Pair, phase: int,
           width: int) -> Array:  # fmt: skip
    """Where the quads of a window begin, in the order of `quads_of`."""
    step = 4 if lined else 1
    columns = (kernel_size[1] + step - 1) // step
    table = np.empty(planes * kernel_size[0] * columns, np.int64)
    for p in range(planes):
        for i in range(kernel_size[0]):
            for j in range(columns):
                h, w = i * dilation[0], j * step * dilation[1]
                which = (p * stride[0] + h % stride[0]) * stride[1] + w % stride[1]
                start = which * phase + h // stride[0] * width + w // stride[1]
                table[(p * kernel_size[0] + i) * columns + j] = start
    return table


@helper
def frame(x: Array, first: int, seen: int, left: int, reach: int, frames: Array) -> None:
    """Put `seen` lines of images x (C, H, W), from line `first` on, into their frames.

    A frame's lines are `reach` bytes long; what is left of them and beyond stays as it is. Lines
    outside the image are the same in every image, so that they stay as well.
    """
    channels, height, width = x.shape
    flat = x.reshape(-1)
    for c in range(channels):
        for h in range(max(0, -first), min(seen, height - first)):
            start = (c * height + first + h) * width
            copy_lines(frames, (c * seen + h) * reach + left, 0, flat, start, 0, 1, width)


@helper
def join(frames: Array, shift: int, seen: int, reach: int, stride: Pair, phase: int, width: int,
         flip: int, plane: Array) -> None:  # fmt: skip
    """The quads of a plane: a byte of the frames, and those shift, 2 and 3 shift further on."""
    turned = np.uint32(0x01010101 * flip)
    size = seen * reach
    one, two = frames[:size], frames[shift : shift + size]
    three, four = frames[2 * shift : 2 * shift + size], frames[3 * shift : 3 * shift + size]
    if stride[0] == 1 and stride[1] == 1:
        for w in range(size):
            plane[w] = np.int32(quad_of(one[w], two[w], three[w], four[w]) ^ turned)
        return
    for h in range(seen):
        for r in range(stride[1]):
            line = (h % stride[0] * stride[1] + r) * phase + h // stride[0] * width
            for q in range(width):
                w = h * reach + q * stride[1] + r
                plane[line + q] = np.int32(quad_of(one[w], two[w], three[w], four[w]) ^ turned)


@helper
def quad_of(one: int, two: int, three: int, four: int) -> np.uint32:
    low = np.uint32(np.uint32(one) | np.uint32(np.uint32(two) << np.uint32(8)))
    high = np.uint32(np.uint32(three) | np.uint32(np.uint32(four) << np.uint32(8)))
    return np.uint32(low | np.uint32(high << np.uint32(16)))


@helper
def finish_tile(tile: Array, rows: int, offset: Array, factor: Array, last: Array, first: int,
                how: int, ends: tuple[int, int, int], done: Array) -> None:  # fmt: skip
    """The rows of a tile, which are those of the outputs from `first` on, as `how` says."""
    multiplier, shift = factor.view(np.int32), last.view(np.int32)
    numbers, codes = done.view(np.float32), done.view(np.uint8)
    zero, low, high = ends
    for m in range(rows):
        o = first + m
        move, sums = offset[o], tile[m * PIXELS : (m + 1) * PIXELS]
        if how == SUMS:
            totals = done[m * PIXELS : (m + 1) * PIXELS]
            for i in range(PIXELS):
                totals[i] = sums[i] + move
        elif how == CODES:
            by, s, line = multiplier[o], shift[o], codes[m * PIXELS : (m + 1) * PIXELS]
            for i in range(PIXELS):
                line[i] = code(np.int32(sums[i] + move), by, s, zero, low, high)
        else:
            scale, bias, relu = factor[o], last[o], how == RELU
            values = numbers[m * PIXELS : (m + 1) * PIXELS]
            for i in range(PIXELS):
                values[i] = real(np.int32(sums[i] + move), scale, bias, relu)


@helper
def put_lines(done: Array, rows: int, at: int, width: int, size: Pair, top: int, bottom: int,
               to: int, y: Array) -> None:  # fmt: skip
    """The pixels at .. at + PIXELS of a band, lines of `width` of which size[1] count, into y.

    Row m belongs into the image that begins at element `to` + m * OH * OW.
    """
    begin, image = at, size[0] * size[1]
    flat, sums = y.reshape(-1), done.reshape(-1)
    while begin < at + PIXELS:
        row, column = begin // width, begin % width
        stop = min(at + PIXELS, (row + 1) * width)
        count = min(size[1] - column, stop - begin)
        if count > 0 and top + row < bottom:
            place = to + (top + row) * size[1] + column
            for m in range(rows):
                copy_lines(flat, place + m * image, 0, sums, m * PIXELS + begin - at, 0, 1, count)
        begin = stop
