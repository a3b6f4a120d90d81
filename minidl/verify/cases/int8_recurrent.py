"""An LSTM on codes: every bit is pinned."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend, Narrow, Requantize

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import Laid, lay, layouts, seeds
from ..tolerances import assert_same
from .int8_between import BYTES

INT16 = np.dtype(np.int16)
STEPS = (np.arange(4096) + 0.5) / 256 - 8  # the middle of what shares an entry
SIGMOID = np.minimum(np.rint(2**15 / (1 + np.exp(-STEPS))), 2**15 - 1).astype(np.int16)
TANH = np.clip(np.rint(2**15 * np.tanh(STEPS)), -(2**15), 2**15 - 1).astype(np.int16)


def finish(outputs: int, rng: np.random.Generator) -> Requantize:
    """Factors from which gates between -8 and 8 come, and some beyond."""
    return Requantize(
        rng.integers(-1000, 1000, outputs, np.int32),
        rng.choice([2**30, 2**30 + 12345, 2**31 - 1], outputs).astype(np.int32),
        rng.integers(29, 33, outputs, np.int32), 0, -(2**15), 2**15 - 1, INT16,
    )  # fmt: skip


def sequences(
    steps: int, samples: int, units: int, dtype: type, seed: int, ragged: bool, reverse: bool
) -> list[Any]:
    """x, weight, h, c, lengths, reverse and what else int8_lstm takes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    info = np.iinfo(dtype)
    x = rng.integers(-20_000, 20_000, (steps, samples, 4 * units), np.int32)
    weight = rng.integers(-128, 127, (4 * units, units), np.int8, endpoint=True)
    h = rng.integers(info.min, info.max, (samples, units), dtype, endpoint=True)
    c = rng.integers(-(2**15), 2**15, (samples, units), np.int16)
    lengths = rng.integers(1, steps, samples, np.int64, endpoint=True) if ragged else None
    zero = 0 if dtype == np.int8 else 128
    narrow = Narrow(int(rng.integers(21, 25)), zero, info.min, info.max, np.dtype(dtype))
    finishes = finish(4 * units, rng), finish(4 * units, rng)
    return [x, weight, h, c, lengths, reverse, *finishes, SIGMOID, TANH, narrow]


@covers("int8_lstm")
@drawn(data=st.data(), seed=seeds)
def int8_lstm_is_exact(backend: Backend, data: st.DataObject, seed: int) -> None:
    steps, samples, units = (data.draw(st.integers(1, most)) for most in (4, 3, 6))
    dtype, ragged, reverse = (
        data.draw(st.sampled_from(BYTES)),
        *data.draw(st.tuples(st.booleans(), st.booleans())),
    )
    x, weight, h, c, *rest = sequences(steps, samples, units, dtype, seed, ragged, reverse)
    laid = [lay(a, data.draw(layouts(a.ndim))) for a in (x, h, c)]
    expected = oracle.int8_lstm(laid[0].values, weight, laid[1].values, laid[2].values, *rest)
    packed = call(backend, "int8_pack", weight, 1)
    actual = call(backend, "int8_lstm", laid[0], Laid(weight), packed, *laid[1:], *rest)
    for a, e in zip(actual, expected, strict=True):
        assert_same(a, e)


# T, N, D: around the sides of tiles, whole quads and parts of them.
SIZES = ((5, 13, 33), (3, 70, 16), (7, 2, 65), (2, 25, 128))


@covers("int8_lstm")
@each("sizes", SIZES)
def int8_lstm_of_many_units(
    backend: Backend, reference: Backend, sizes: tuple[int, int, int]
) -> None:
    for dtype, ragged, reverse in itertools.product(BYTES, (False, True), (False, True)):
        x, weight, *rest = sequences(*sizes, dtype, 21, ragged, reverse)
        packed = call(backend, "int8_pack", weight, 1)
        actual = call(backend, "int8_lstm", x, weight, packed, *rest)
        expected = call(reference, "int8_lstm", x, weight, weight, *rest)
        for a, e in zip(actual, expected, strict=True):
            assert_same(a, e)


@covers("int8_lstm")
def a_quantized_lstm_follows_the_one_in_float(backend: Backend, reference: Backend) -> None:
    """States within 1/20 after thirty steps, of grids that a network would have."""
    rng = np.random.Generator(np.random.PCG64(22))
    steps, samples, units = 30, 4, 24
    values = rng.integers(-127, 128, (4 * units, units)).astype(np.int8)
    x = rng.integers(-9000, 9000, (steps, samples, 4 * units), np.int32)
    h, c = np.zeros((samples, units), np.int8), np.zeros((samples, units), np.int16)
    scales = {"inputs": 2**-12, "hidden": 2**-8 / 128}  # of x, of weight times h

    def numbers(scale: float) -> Requantize:
        shift = np.full(4 * units, 31, np.int32)
        factor = np.full(4 * units, round(scale * 2**12 * 2**31 - 1), np.int32)
        return Requantize(
            np.zeros(4 * units, np.int32), factor, shift, 0, -(2**15), 2**15 - 1, INT16
        )

    narrow = Narrow(23, 0, -128, 127, np.dtype(np.int8))
    packed = call(backend, "int8_pack", values, 1)
    rest = h, c, None, False, *(numbers(s) for s in scales.values()), SIGMOID, TANH, narrow
    states, cells = call(backend, "int8_lstm", x, values, packed, *rest)
    weight, nothing = values * 2.0**-8, np.zeros((samples, units))
    args = x * 2.0**-12, weight, None, nothing, nothing, None, False
    expected, _, exact = call(reference, "lstm", *args)
    assert np.abs(states / 128 - expected[:-1]).max() < 0.05
    assert np.abs(cells / 2**11 - exact[-1]).max() < 0.1
