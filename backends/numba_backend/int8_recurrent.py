"""An LSTM on codes: each thread runs all steps of some samples, as many as a tile has rows."""

from __future__ import annotations

import numpy as np

from ..interface import Array, Narrow, Requantize
from ..numpy_backend import NumpyBackend
from .dots import NATIVE, ROWS, WIDTH, linear_tile
from .finish import rule
from .int8_between import as_bytes, numbers
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
         some: int, states: Array, part: int) -> None:  # fmt: skip
    """states (T + 1, N, D) from x (T, N, 4D) and h, as bytes; c becomes the last c.

    A task has `some` samples; what int8_pack made of the weight is panels of sums' columns.
    """
    steps, samples, wide = x.shape
    units, quads = wide // 4, packed.shape[1] - 1
    weight, turn = packed.reshape(-1), np.uint8(flip)
    first = part * some
    count = min(some, samples - first)
    codes = np.zeros(ROWS * quads * 4, np.uint8)
    gates, tile = np.empty(ROWS * wide, np.int32), np.empty(ROWS * WIDTH, np.int32)
    for m in range(count):
        before = h[first + m]
        for d in range(units):
            codes[m * quads * 4 + d] = before[d] ^ turn
    for step in range(steps):
        t = steps - 1 - step if reverse else step
        for p in range(packed.shape[0]):
            linear_tile(count, tile, codes, 0, quads, weight, p * (quads + 1) * WIDTH, WIDTH, quads)
            begin = p * WIDTH
            for m in range(count):
                row, to = x[t, first + m], gates[m * wide :]
                sums = tile[m * WIDTH :]
                for i in range(min(WIDTH, wide - begin)):
                    j = np.uintp(begin + i)
                    a = fixed(np.int32(row[j] + x_offset[j]), x_factor[j], x_shift[j])
                    b = fixed(np.int32(sums[i] + h_offset[j]), h_factor[j], h_shift[j])
                    to[j] = np.int32(min(max(a + b, np.int64(-32768)), np.int64(32767)))
        for m in range(count):
            n = first + m
            out = states[t, n]
            if t < lengths[n]:
                advance(gates[m * wide : (m + 1) * wide], c[n], sigmoid, tanh, numbers, out)
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
def advance(gates: Array, c: Array, sigmoid: Array, tanh: Array,
            numbers: tuple[int, int, int, int], h: Array) -> None:  # fmt: skip
    """One step of a sample: c in place, and the codes of h."""
    shift, zero, low, high = numbers
    units, by = c.size, np.int64(shift)
    half, least, most = (np.int64(1) << (by - 1)) - np.int64(1), np.int64(low), np.int64(high)
    for d in range(units):
        i = np.int64(sigmoid[(gates[d] >> 4) + 2048])
        f = np.int64(sigmoid[(gates[units + d] >> 4) + 2048])
        g = np.int64(tanh[(gates[2 * units + d] >> 4) + 2048])
        o = np.int64(sigmoid[(gates[3 * units + d] >> 4) + 2048])
        n = f * np.int64(c[d]) * np.int64(16) + i * g
        n = (n + np.int64((1 << 18) - 1) + ((n >> np.int64(19)) & np.int64(1))) >> np.int64(19)
        cell = min(max(n, np.int64(-32768)), np.int64(32767))
        c[d] = np.int16(cell)
        at = min(max(cell >> np.int64(3), np.int64(-2048)), np.int64(2047)) + np.int64(2048)
        n = o * np.int64(tanh[at])
        q = ((n + half + ((n >> by) & np.int64(1))) >> by) + zero
        h[d] = np.uint8(least if q < least else most if q > most else q)


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
        samples = len(h)
        some = min(ROWS, max(1, -(-samples // 2)))
        lstm.sized(x.size * h.shape[1], PARALLEL_FROM)(
            -(-samples // some),
            plain(x), packed, as_bytes(h), 0 if native else 128, cells, ends(lengths, x), reverse,
            from_x.offset, from_x.factor.view(np.int32), from_x.last.view(np.int32),
            from_h.offset, from_h.factor.view(np.int32), from_h.last.view(np.int32),
            plain(sigmoid), plain(tanh), numbers(narrow), some, as_bytes(states),
        )  # fmt: skip
        return states, cells
