"""An LSTM on codes: each thread runs all steps of some samples, as many as a tile has rows.

What a step costs is its gates, not its products: five look-ups a unit, and two roundings to another
grid for each gate. Loops that only load are apart from loops that compute, which then vectorise: 5
in place of 8 ns a unit. 64 steps of one sample and of 64, 64 -> 128 units, with the product of the
input, two threads with AVX-512 VNNI: 88 and 1581 us; `lstm` in float32 takes 195 and 2276 us.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, Narrow, Requantize
from ..numpy_backend import NumpyBackend
from .dots import NATIVE, ROWS, WIDTH, linear_tile
from .finish import rule
from .int8_between import as_bytes, narrowed, numbers
from .jit import helper
from .layout import flat, plain
from .memory import empty
from .outline import tasks
from .recurrent import ends

PARALLEL_FROM = 1 << 19  # multiply-adds


@tasks(calls=[linear_tile], exact=True)
def lstm(x: Array, packed: Array, h: Array, flip: int, c: Array, lengths: Array, reverse: bool,
         x_offset: Array, x_factor: Array, x_shift: Array, h_offset: Array, h_factor: Array,
         h_shift: Array, sigmoid: Array, tanh: Array, numbers: tuple[int, int, int, int],
         shares: int, states: Array, part: int) -> None:  # fmt: skip
    """states (T + 1, N, D) from x (T, N, 4D) and h, as bytes; c becomes the last c.

    What int8_pack made of the weight is panels of sums' columns. Gates are held as the places in
    the tables where they stand, and then as what stands there.
    """
    steps, samples, wide = x.shape
    units, quads = wide // 4, packed.shape[1] - 1
    weight, turn = packed.reshape(-1), np.uint8(flip)
    first = part * samples // shares
    count = (part + 1) * samples // shares - first
    codes = np.zeros(ROWS * quads * 4, np.uint8)
    gates, tile = np.empty(ROWS * wide, np.int32), np.empty(ROWS * WIDTH, np.int32)
    level = np.empty(units, np.int32)
    for m in range(count):
        before = h[first + m]
        for d in range(units):
            codes[m * quads * 4 + d] = before[d] ^ turn
    for step in range(steps):
        t = steps - 1 - step if reverse else step
        for p in range(packed.shape[0]):
            linear_tile(count, tile, 0, WIDTH, codes, 0, quads, weight, p * (quads + 1) * WIDTH,
                        WIDTH, quads)  # fmt: skip
            begin = p * WIDTH
            for m in range(count):
                row, to = x[t, first + m], gates[m * wide :]
                sums = tile[m * WIDTH :]
                for i in range(min(WIDTH, wide - begin)):
                    j = np.uintp(begin + i)
                    a = fixed(np.int32(row[j] + x_offset[j]), x_factor[j], x_shift[j])
                    b = fixed(np.int32(sums[i] + h_offset[j]), h_factor[j], h_shift[j])
                    to[j] = place(np.int32(a + b), np.int32(4))
        for m in range(count):
            n = first + m
            out = states[t, n]
            if t < lengths[n]:
                own = gates[m * wide : (m + 1) * wide]
                look_up(own[: 2 * units], sigmoid)
                look_up(own[2 * units : 3 * units], tanh)
                look_up(own[3 * units :], sigmoid)
                advance(own, c[n], level)
                look_up(level, tanh)
                show(own[3 * units :], level, numbers, out)
                for d in range(units):
                    codes[m * quads * 4 + d] = out[d] ^ turn
            else:
                for d in range(units):
                    out[d] = np.uint8(numbers[1])
    for m in range(count):
        line = states[steps, first + m]
        for d in range(units):
            line[d] = codes[m * quads * 4 + d] ^ turn


@helper
def fixed(total: np.int32, multiplier: np.int32, shift: np.int32) -> np.int64:
    """round_half_even(total * multiplier / 2^shift), limited to int16."""
    product, by = np.int64(total) * np.int64(multiplier), np.int64(shift)
    half = (np.int64(1) << (by - np.int64(1))) - np.int64(1)
    q = (product + half + ((product >> by) & np.int64(1))) >> by
    return min(max(q, np.int64(-32768)), np.int64(32767))


@helper
def place(value: np.int32, shift: np.int32) -> np.int32:
    """Where a table has value / 2^shift, or its nearer end."""
    at = value >> shift
    return np.int32(min(max(at, np.int32(-2048)), np.int32(2047)) + np.int32(2048))


@helper
def look_up(places: Array, table: Array) -> None:
    """What stands there, in place. Loads are all that it does, so that nothing else waits."""
    for d in range(places.size):
        places[d] = table[np.uintp(places[d])]


@helper
def advance(gates: Array, c: Array, level: Array) -> None:
    """The next cells, in place, and where the table of tanh has them."""
    units = c.size
    i, f, g = gates[:units], gates[units : 2 * units], gates[2 * units :]
    for d in range(units):
        kept = np.int64(f[d]) * np.int64(np.int32(c[d]) * np.int32(16))
        n = kept + np.int64(np.int32(i[d] * g[d]))
        n = (n + np.int64((1 << 18) - 1) + ((n >> np.int64(19)) & np.int64(1))) >> np.int64(19)
        cell = np.int32(min(max(n, np.int64(-32768)), np.int64(32767)))
        c[d] = np.int16(cell)
        level[d] = place(cell, np.int32(3))


@helper
def show(o: Array, level: Array, numbers: tuple[int, int, int, int], h: Array) -> None:
    """The codes of o * tanh(c). A product of two numbers out of tables has 31 bits."""
    shift, zero, low, high = numbers
    by, half, base = np.int32(shift), np.int32((1 << (shift - 1)) - 1), np.int32(zero)
    least, most = np.int32(low), np.int32(high)
    for d in range(h.size):
        code = np.int32(narrowed(np.int32(o[d] * level[d]), by, half) + base)
        h[d] = np.uint8(least if code < least else most if code > most else code)


class Int8Recurrent(NumpyBackend):
    """Arrays without elements are left to the NumPy backend."""

    def int8_lstm(
        self, x: Array, weight: Array, packed: Array, h: Array, c: Array, lengths: Array | None,
        reverse: bool, inputs: Requantize, hidden: Requantize, sigmoid: Array, tanh: Array,
        narrow: Narrow,
    ) -> tuple[Array, Array]:  # fmt: skip
        if not h.size:
            settings = reverse, inputs, hidden, sigmoid, tanh, narrow
            return super().int8_lstm(x, weight, packed, h, c, lengths, *settings)
        quads = packed.shape[1] - 1
        native = h.dtype == NATIVE
        sums = None if native else flat(packed[:, quads])[: len(weight)]
        from_x, from_h = rule(inputs, len(weight), None), rule(hidden, len(weight), sums)
        states, cells = empty((len(x) + 1, *h.shape), narrow.dtype), np.array(c, order="C")
        shares = -(-len(h) // ROWS)
        shares = min(shares + shares % 2, len(h))  # two threads then have as much to do
        lstm.sized(x.size * h.shape[1], PARALLEL_FROM)(
            shares,
            plain(x), packed, as_bytes(h), 0 if native else 128, cells, ends(lengths, x), reverse,
            from_x.offset, from_x.factor.view(np.int32), from_x.last.view(np.int32),
            from_h.offset, from_h.factor.view(np.int32), from_h.last.view(np.int32),
            plain(sigmoid), plain(tanh), numbers(narrow), shares, as_bytes(states),
        )  # fmt: skip
        return states, cells
