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
from .dots import CHANNELS, LANES, PIXELS, conv_tile
from .finish import CODES, RELU, SUMS, code, codes_in_floats, real
from .int8_planes import AHEAD, frame, join, join_bytes, phase_lines, turn_of
from .jit import helper
from .lines import copy_lines, largest_of_four
from .outline import tasks

PARTS = 16  # into how many tasks a convolution is split, if its shape allows
TASKS = 32  # beyond which one takes several samples, so that what it prepares serves them all
CACHE = 1 << 16  # quads of the planes of one task: a quarter of a megabyte
AT_ONCE = 6 << 10  # sums that are finished at once, in all rows of a tile: 24 kB
RUN = 256  # of these, as many as are requantized before looking whether one was too close


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


def band(samples: int, lines: int, quads: int, step: int) -> int:
    """Output lines of a task, from shapes alone; `quads` is what one of them needs of planes.

    >>> band(64, 28, 900, 1), band(1, 28, 900, 2), band(64, 224, 2000, 1)
    (28, 2, 32)
    """
    parts = -(-PARTS // samples)
    return max(1, min(-(-lines // parts), CACHE // quads) // step) * step


@tasks(calls=[conv_tile], exact=True)
def convolve(x: Array, flip: int, pad: int, packed: Array, offset: Array, factor: Array,
             last: Array, how: int, ends: tuple[int, int, int], lined: bool, kernel_size: Pair,
             stride: Pair, padding: Pair, dilation: Pair, groups: int, pool: Pair, size: Pair,
             samples: int, lines: int, table: Array, y: Array, part: int) -> None:  # fmt: skip
    """y (N, O, OH, OW), as bytes, = x (N, C, H, W), as bytes, convolved and finished (`finish.py`).

    A task is a band of output lines of some samples. Bytes are multiplied after an exclusive or
    with flip; pad is what frames the image before that. size is (OH, OW) before pooling in windows
    of `pool`, whose height divides OH and lines; for table see `places`.
    """
    bands = (size[0] + lines - 1) // lines
    blocks, depth, block = packed.shape[0] // groups, packed.shape[1] - 1, packed.shape[2]
    channels, outs = x.shape[1] // groups, offset.size // groups
    planes = channels if lined else (channels + 3) // 4
    width = (x.shape[3] + 2 * padding[1] + stride[1] - 1) // stride[1]
    weight = packed.reshape(-1)
    top = part % bands * lines
    bottom = min(top + lines, size[0])
    seen = (bottom - top - 1) * stride[0] + (kernel_size[0] - 1) * dilation[0] + 1
    high = phase_lines(lines, kernel_size[0], stride[0], dilation[0])
    plane_size = stride[0] * stride[1] * high * width
    # Behind the last pixel a tile is filled up, and taps look further to the right.
    quads = np.empty(planes * plane_size + PIXELS + kernel_size[1] * dilation[1], np.int32)
    reach = width * stride[1]
    size_of_all = (1 if lined else 4) * high * stride[0] * reach
    frames = np.full(size_of_all + 3 * dilation[1] + AHEAD, pad, np.uint8)
    bare = stride[0] * stride[1] == 1 and padding[0] + padding[1] == 0  # an image is its own frame
    elements, size_of_one = x.reshape(-1), x.shape[2] * x.shape[3]
    few = max(1, AT_ONCE // (block * width * pool[0])) * pool[0]
    # Rows begin a line of the cache apart from where a power of two would put them.
    pitch = (min(few, lines) * width + PIXELS - 1) // PIXELS * PIXELS + LANES
    rows = np.empty(block * pitch + 2 * LANES, np.int32)
    done = np.empty(block * pitch + 2 * LANES, np.int32)
    # Views are made here, not in the loops: counting references is an atomic operation.
    rules = offset, factor.view(np.int32), last.view(np.int32)
    row_codes, done_codes, turned = rows.view(np.uint8), done.view(np.uint8), turn_of(flip)
    for n in range(part // bands * samples, min((part // bands + 1) * samples, x.shape[0])):
        for g in range(groups):
            for p in range(planes):
                first, count = (p, 1) if lined else (4 * p, min(4, channels - 4 * p))
                image = n * x.shape[1] + g * channels + first
                begin = image * size_of_one + top * reach
                shift = dilation[1] if lined else size_of_one
                if bare and begin + 3 * shift + seen * reach + AHEAD <= elements.size:
                    join_bytes(quads, p * plane_size, elements, begin, shift, seen * reach, turned)
                    continue
                frame(x, image, count, top * stride[0] - padding[0], seen, padding[1], stride[0],
                      high, reach, frames)  # fmt: skip
                join(frames, lined, high, reach, kernel_size, stride, dilation, turned,
                     quads, p * plane_size)  # fmt: skip
            for start in range(top, bottom, few):
                count = min(few, bottom - start)
                for b in range(blocks):
                    o = g * outs + b * block
                    used = min(block, (g + 1) * outs - o)
                    height = used + used % 2 if used > 1 else used  # one that `conv_tile` has
                    conv_tile(height, rows, 0, pitch, weight,
                              (g * blocks + b) * (depth + 1) * block, block, quads,
                              (start - top) * width, table, depth,
                              (count * width + PIXELS - 1) // PIXELS)  # fmt: skip
                    to = n * offset.size + o
                    if how != CODES:
                        put_numbers(rows, pitch, used, width, count, size, offset, factor, last, o,
                                    how, done, y, (to * size[0] + start) * size[1])  # fmt: skip
                    elif pool[0] * pool[1] == 1:
                        every = (count * width + PIXELS - 1) // PIXELS * PIXELS
                        requantize(rows, pitch, used, every, rules, o, ends, done_codes, pitch)
                        for m in range(used):
                            copy_lines(y, ((to + m) * size[0] + start) * size[1], size[1],
                                       done_codes, m * pitch, width, count, size[1])  # fmt: skip
                    else:
                        some, wide = count // pool[0], size[1] // pool[1]
                        left = (some * wide + PIXELS - 1) // PIXELS * PIXELS
                        largest(rows, pitch, used, width, some, wide, pool, done, left)
                        requantize(done, left, used, left, rules, o, ends, row_codes, left)
                        copy_lines(y, (to * size[0] + start) // pool[0] * wide,
                                   size[0] // pool[0] * wide, row_codes, 0, left, used,
                                   some * wide)  # fmt: skip


@helper
def requantize(sums: Array, pitch: int, rows: int, count: int, rules: tuple[Array, Array, Array],
               o: int, ends: tuple[int, int, int], codes: Array, step: int) -> None:  # fmt: skip
    """The first `count` sums, full vectors, of each row, those of outputs o, o + 1, ..., as codes;
    those of row m from m * step on.
    """
    offset, multipliers, shifts = rules
    zero, low, high = ends
    for m in range(rows):
        for start in range(0, count, RUN):
            some = min(RUN, count - start)
            begin, put = m * pitch + start, m * step + start
            if codes_in_floats(codes, put, sums, begin, some // LANES, offset, multipliers, shifts,
                               o + m, zero, low, high):  # fmt: skip
                move, multiplier, shift = offset[o + m], multipliers[o + m], shifts[o + m]
                for i in range(np.uintp(some)):  # unsigned: not counted from the end
                    total = np.int32(sums[np.uintp(begin) + i] + move)
                    codes[np.uintp(put) + i] = code(total, multiplier, shift, zero, low, high)


@helper
def put_numbers(sums: Array, pitch: int, rows: int, width: int, lines: int, size: Pair,
                offset: Array, factor: Array, last: Array, o: int, how: int, done: Array, y: Array,
                to: int) -> None:  # fmt: skip
    """Sums of outputs o, o + 1, ..., `lines` lines each, as they are or as float32, into y, bytes,
    from number `to` on.
    """
    numbers, relu = done.view(np.float32), how == RELU
    for m in range(rows):
        begin, move = np.uintp(m * pitch), offset[o + m]
        if how == SUMS:
            for i in range(np.uintp(lines * width)):
                done[begin + i] = sums[begin + i] + move
        else:
            scale, bias = factor[o + m], last[o + m]
            for i in range(np.uintp(lines * width)):
                numbers[begin + i] = real(np.int32(sums[begin + i] + move), scale, bias, relu)
        copy_lines(y.view(np.int32), to + m * size[0] * size[1], size[1], done, m * pitch, width,
                   lines, size[1])  # fmt: skip


@helper
def largest(rows: Array, pitch: int, count: int, width: int, lines: int, columns: int, pool: Pair,
            y: Array, step: int) -> None:  # fmt: skip
    """The largest sum of each window of `pool`: lines x columns of them from y[m * step] on.

    Requantizing does not change which is the largest, so it may come after.
    """
    if pool[0] == 2 and pool[1] == 2:  # full vectors: each line covers what the last wrote too much
        full = (columns + LANES - 1) // LANES * LANES
        for m in range(count):
            largest_of_four(y, m * step, columns, rows, m * pitch, 2 * width, width,
                            lines, full)  # fmt: skip
        return
    for m in range(count):
        for h in range(lines):
            for w in range(columns):
                start = m * pitch + h * pool[0] * width + w * pool[1]
                best = rows[start]
                for i in range(pool[0]):
                    for j in range(pool[1]):
                        best = max(best, rows[start + i * width + j])
                y[m * step + h * columns + w] = best
