"""Attention on codes: two products of bytes, and between them weights from 0 to 255.

A task has some queries of one head. It packs the head's keys and values once, as the tiles of
`dots.py` want them, and then takes as many queries at a time as a tile has rows: their scores with
all keys, the weights, and the weighted sum of the values stay in the first cache.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, Narrow
from ..numpy_backend import NumpyBackend
from .dots import NATIVE, ROWS, SIGNED, WIDTH, linear_tile
from .int8_between import numbers
from .int8_planes import quad_of
from .jit import helper
from .layout import flat, in_memory
from .memory import empty
from .outline import tasks

PARALLEL_FROM = 1 << 19  # multiply-adds
PARTS, FEWEST = 16, 4 * ROWS  # tasks, if they have so many queries each: packing has to pay
_SHIFTED = 128 if SIGNED else 0  # what is taken from a weight before it is multiplied
Strides = tuple[int, int, int]


@tasks(calls=[linear_tile], exact=True)
def attend(query: Array, key: Array, value: Array, mask: Array, y: Array,
           query_step: Strides, key_step: Strides, value_step: Strides, mask_step: Strides,
           flips: tuple[int, int, int],
           zero_points: tuple[int, int, int], sizes: tuple[int, int, int, int, int], masked: bool,
           causal: bool, multiplier: int, factor: int, numbers: tuple[int, int, int, int],
           height: int, part: int) -> None:  # fmt: skip
    """y (N, T, H, E) = `height` queries of a head, all as bytes; zero points are after the flips.

    query, key, value and mask are memory, read with steps along N, H and T or S.
    """
    heads, queries, keys, depth, columns = sizes
    blocks = (queries + height - 1) // height
    n, h, first = part // blocks // heads, part // blocks % heads, part % blocks * height
    end = min(first + height, queries)
    quads, key_quads = (depth + 3) // 4, (keys + 3) // 4
    pitch, wide = (keys + WIDTH - 1) // WIDTH, (columns + WIDTH - 1) // WIDTH
    packed_key = np.zeros(pitch * quads * WIDTH, np.int32)
    packed_value = np.zeros(wide * key_quads * WIDTH, np.int32)
    key_sums, value_sums = np.zeros(pitch * WIDTH, np.int32), np.zeros(wide * WIDTH, np.int32)
    codes = np.zeros(ROWS * quads * 4, np.uint8)
    scores = np.empty(ROWS * pitch * WIDTH, np.int32)
    weights = np.empty(ROWS * key_quads * 4, np.uint8)
    totals, tile = np.empty(ROWS, np.int32), np.empty(ROWS * WIDTH, np.int32)
    pack_keys(key, n * key_step[0] + h * key_step[1], key_step[2], keys, depth, flips[1],
              zero_points[0], packed_key, key_sums)  # fmt: skip
    pack_values(value, n * value_step[0] + h * value_step[1], value_step[2], keys, columns,
                flips[2], packed_value, value_sums)  # fmt: skip
    row = first
    while row < end:
        count = min(ROWS, end - row)
        at = n * query_step[0] + h * query_step[1] + row * query_step[2]
        gather(query, at, query_step[2], count, depth, flips[0], codes)
        for p in range(pitch):
            linear_tile(count, tile, 0, WIDTH, codes, 0, quads, packed_key, p * quads * WIDTH,
                        WIDTH, quads)  # fmt: skip
            for m in range(count):
                to, at, sums = ((m * pitch + p) * WIDTH, m * WIDTH, p * WIDTH)
                for i in range(WIDTH):
                    scores[np.uintp(to + i)] = tile[np.uintp(at + i)] - key_sums[np.uintp(sums + i)]
        for m in range(count):
            at = n * mask_step[0] + h * mask_step[1] + (row + m) * mask_step[2]
            last = min(keys, row + m + 1) if causal else keys
            line = scores[m * pitch * WIDTH : m * pitch * WIDTH + last]
            into = weights[m * key_quads * 4 : (m + 1) * key_quads * 4]
            seen = mask[at : at + last] if masked else mask[:0]
            totals[m] = weigh(line, seen, masked, multiplier, into)
        for p in range(wide):
            linear_tile(count, tile, 0, WIDTH, weights, 0, key_quads, packed_value,
                        p * key_quads * WIDTH, WIDTH, key_quads)  # fmt: skip
            some = min(WIDTH, columns - p * WIDTH)
            for m in range(count):
                to = (((n * queries + row + m) * heads + h) * columns) + p * WIDTH
                put(tile, m * WIDTH, value_sums, p * WIDTH, some, totals[m], zero_points[2],
                    factor, numbers, y, to)  # fmt: skip
        row += count


@helper
def gather(source: Array, at: int, step: int, count: int, depth: int, flip: int,
           codes: Array) -> None:  # fmt: skip
    """`count` rows, `step` apart in memory, as rows of whole quads, whose ends stay as they are."""
    turn, width = np.uint8(flip), (depth + 3) // 4 * 4
    for m in range(count):
        to, start = np.uintp(m * width), np.uintp(at + m * step)
        for d in range(np.uintp(depth)):
            codes[to + d] = source[start + d] ^ turn


@helper
def pack_keys(key: Array, at: int, step: int, keys: int, depth: int, flip: int, zero: int,
              packed: Array, sums: Array) -> None:  # fmt: skip
    """Quads of each key's row, one key to a lane; and zero times the sum of each key's codes."""
    quads = (depth + 3) // 4
    line = np.zeros(4 * quads, np.uint8)
    codes, four = line.view(np.int8), line.view(np.int32)
    for s in range(keys):
        gather(key, at + s * step, step, 1, depth, flip, line)
        total = np.int32(0)
        for d in range(codes.size):
            total += np.int32(codes[d])
        sums[s] = total * np.int32(zero)
        to = s // WIDTH * quads * WIDTH + s % WIDTH
        for k in range(quads):
            packed[to + k * WIDTH] = four[k]


@helper
def pack_values(value: Array, at: int, step: int, keys: int, columns: int, flip: int,
                packed: Array, sums: Array) -> None:  # fmt: skip
    """Quads of four keys' values, one column to a lane; and the sum of each column."""
    quads, width = (keys + 3) // 4, (columns + 3) // 4 * 4
    lines = np.zeros(4 * width, np.uint8)
    one, two, three, four = (
        lines[:width], lines[width : 2 * width], lines[2 * width : 3 * width], lines[3 * width :]
    )  # fmt: skip
    for k in range(quads):
        if keys - 4 * k < 4:
            for i in range(lines.size):
                lines[i] = 0
        gather(value, at + 4 * k * step, step, min(4, keys - 4 * k), columns, flip, lines)
        for begin in range(0, columns, WIDTH):
            to, start = np.uintp((begin * quads) + k * WIDTH), np.uintp(begin)
            for e in range(np.uintp(min(WIDTH, columns - begin))):
                a, b, c, d = one[start + e], two[start + e], three[start + e], four[start + e]
                packed[to + e] = np.int32(quad_of(a, b, c, d))
                sums[start + e] += np.int32(
                    np.int32(np.int8(a)) + np.int32(np.int8(b))
                    + np.int32(np.int8(c)) + np.int32(np.int8(d))
                )  # fmt: skip


@helper
def weigh(scores: Array, seen: Array, masked: bool, multiplier: int, weights: Array) -> np.int32:
    """The weights of a query's keys as tiles take them, and their sum; 0 behind the last score."""
    best = np.int32(-(2**31))
    if masked:
        for s in range(scores.size):
            best = max(best, scores[s] if seen[s] else np.int32(-(2**31)))
    else:
        for s in range(scores.size):
            best = max(best, scores[s])
    limit, by = np.int32((2**31 - 1) // multiplier), np.int32(multiplier)
    total = np.int32(0)
    if masked:
        for s in range(scores.size):
            u = weight(best, scores[s], limit, by)
            u = u if seen[s] else np.int32(0)
            total = np.int32(total + u)
            weights[s] = np.uint8(u - _SHIFTED)
    else:
        for s in range(scores.size):
            u = weight(best, scores[s], limit, by)
            total = np.int32(total + u)
            weights[s] = np.uint8(u - _SHIFTED)
    for s in range(scores.size, weights.size):
        weights[s] = np.uint8(-_SHIFTED)
    return total


@helper
def weight(best: np.int32, score: np.int32, limit: np.int32, multiplier: np.int32) -> np.int32:
    """255 * 2^(-t / 256), in 32 bits: a difference beyond `limit` has a weight of 0 anyway."""
    d = max(min(np.int32(best - score), limit), np.int32(0))
    t = min(np.int32(np.int32(d * multiplier) >> np.int32(19)), np.int32(2560))
    i, f = np.int32(t >> np.int32(8)), np.int32(t & np.int32(255))
    slope = np.int32(np.int32(701440) - np.int32(f * np.int32(700)))
    p = np.int32(np.int32(255 << 20) - np.int32(f * slope))
    return np.int32(np.int32((p >> np.int32(i + np.int32(19))) + np.int32(1)) >> np.int32(1))


@helper
def put(tile: Array, at: int, sums: Array, first: int, count: int, total: int, zero_point: int,
        factor: int, numbers: tuple[int, int, int, int], y: Array, to: int) -> None:  # fmt: skip
    """A row of weighted sums, divided by the sum of the weights, into y."""
    shift, zero, low, high = numbers
    by, half = np.int64(shift), (np.int64(1) << np.int64(shift - 1)) - np.int64(1)
    least, most = np.int64(low), np.int64(high)
    share = (np.int64(factor) << np.int64(16)) // max(np.int64(total), np.int64(1))
    moved = np.int32(total * zero_point)
    for e in range(count):
        n = np.int32(tile[np.uintp(at + e)] - moved)
        n = np.int32(n + np.int32(_SHIFTED) * sums[np.uintp(first + e)])
        product = np.int64(n) * share
        q = ((product + half + ((product >> by) & np.int64(1))) >> by) + zero
        y[np.uintp(to + e)] = np.uint8(least if q < least else most if q > most else q)


class Int8Attention(NumpyBackend):
    """Arrays without elements are left to the NumPy backend."""

    def int8_attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        zero_points: tuple[int, int, int], multiplier: int, factor: int, narrow: Narrow,
    ) -> Array:  # fmt: skip
        n, heads, queries, depth = query.shape
        keys, columns = value.shape[2:]
        y = empty((n, queries, heads, columns), narrow.dtype)
        if not y.size or not query.size:
            options = mask, causal, zero_points, multiplier, factor, narrow
            return super().int8_attention(query, key, value, *options)
        memory, strides = zip(*(in_memory(x) for x in (query, key, value)), strict=True)
        seen, mask_step = in_memory(np.empty((1, 1, 1, 1), bool))
        if mask is not None:
            seen, mask_step = in_memory(np.broadcast_to(mask, (n, heads, queries, keys)))
        # Queries become what tiles spread, keys and values int8: those of the other kind move.
        moves = tuple(
            0 if x.dtype == kind else 128 for x, kind in
            zip((query, key, value), (NATIVE, np.int8, np.int8), strict=True)
        )  # fmt: skip
        signs = -1 if SIGNED else 1, -1, -1
        zeros = tuple(z + s * m for z, s, m in zip(zero_points, signs, moves, strict=True))
        height = min(queries, max(FEWEST, -(-queries * n * heads // PARTS)))
        attend.sized(n * heads * queries * keys * (depth + columns), PARALLEL_FROM)(
            n * heads * -(-queries // height),
            *(m.view(np.uint8) for m in memory), seen.view(np.uint8), flat(y).view(np.uint8),
            *strides, mask_step, moves, zeros, (heads, queries, keys, depth, columns),
            mask is not None, causal, multiplier, factor, numbers(narrow), height,
        )  # fmt: skip
        return y.transpose(0, 2, 1, 3)
