"""Philox and what is made of it: known answers, the oracle, and the same bits on every backend."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn
from ..strategies import FLOATS, Laid, Shape, arrays, float_dtypes, shapes
from ..tolerances import (
    FALSE_ALARM,
    assert_close,
    assert_same,
    normal_quantile,
    rounded_bound,
    ulps,
)

# Ends of the range and the carries from one 32-bit word into the next.
SEEDS = st.integers(0, 2**64 - 1) | st.sampled_from((0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1))
COUNTERS = st.integers(0, 2**63) | st.sampled_from((0, 2**32 - 2, 2**64 - 2, 2**96 - 1, 2**128 - 9))
# Counter, key, the four words: the known answers that Random123 ships for philox4x32-10
# (tests/kat_vectors in its repository), words from the lowest up.
PUBLISHED = (
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@covers("philox")
def philox_gives_the_published_answers(backend: Backend) -> None:
    for counter, key, words in PUBLISHED:
        start, seed = (sum(w << 32 * i for i, w in enumerate(ws)) for ws in (counter, key))
        assert_same(call(backend, "philox", seed, start, 4), np.array(words, np.uint32))


@covers("philox")
@drawn(seed=SEEDS, counter=COUNTERS, count=st.integers(0, 23))
def philox_agrees_with_python_integers(
    backend: Backend, seed: int, counter: int, count: int
) -> None:
    assert_same(call(backend, "philox", seed, counter, count), oracle.philox(seed, counter, count))


@covers("uniform")
@drawn(seed=SEEDS, counter=COUNTERS, shape=shapes(), dtype=float_dtypes)
def uniform_takes_the_upper_24_bits(
    backend: Backend, seed: int, counter: int, shape: Shape, dtype: type
) -> None:
    expected = oracle.uniform(seed, counter, shape, dtype)
    assert_same(call(backend, "uniform", seed, counter, shape, np.dtype(dtype)), expected)


@covers("normal")
@drawn(seed=SEEDS, counter=COUNTERS, shape=shapes(), dtype=float_dtypes)
def normal_agrees_with_the_math_library(
    backend: Backend, reference: Backend, seed: int, counter: int, shape: Shape, dtype: type
) -> None:
    expected = oracle.normal(seed, counter, shape)
    actual = call(backend, "normal", seed, counter, shape, np.dtype(dtype))
    # In float64 the angle is a multiple of 2 pi / 2^32, whose cosine near its zeros is as exact as
    # the angle is: one rounding of an angle of up to 2 pi, times a radius below 7.
    bound = ulps("normal", expected, np.float64) + rounded_bound(7 * 2 * math.pi, np.float64)
    if dtype == np.float32:
        bound = bound + ulps("normal", expected, np.float32)
    assert_close(actual, expected, bound, dtype)
    assert_same(actual, call(reference, "normal", seed, counter, shape, np.dtype(dtype)))


@covers("philox", "uniform", "normal")
def long_streams_are_the_same_everywhere(backend: Backend, reference: Backend, method: str) -> None:
    """Long enough for several threads; not a whole number of blocks."""
    for counter in (0, 2**32 - 100):
        for dtype in FLOATS:
            args = (100_003,) if method == "philox" else ((100_003,), np.dtype(dtype))
            expected = call(reference, method, 2**40 + 17, counter, *args)
            assert_same(call(backend, method, 2**40 + 17, counter, *args), expected)


@covers("philox")
def long_streams_continue_block_by_block(backend: Backend) -> None:
    """Block 25,000 of one stream is the first of the stream that starts there."""
    words = call(backend, "philox", 99, 2**32 - 12_500, 100_004)
    assert_same(words[100_000:], oracle.philox(99, 2**32 + 12_500, 4))


@covers("uniform", "normal")
def moments_are_those_of_the_distribution(backend: Backend, method: str) -> None:
    """The mean of n samples of variance v has a standard deviation of sqrt(v / n)."""
    n = 100_000
    x = call(backend, method, 7, 0, (n,), np.dtype(np.float64))
    centre, variance, fourth = {"uniform": (0.5, 1 / 12, 1 / 80), "normal": (0, 1, 3)}[method]
    z = normal_quantile(FALSE_ALARM)
    assert abs(x.mean() - centre) <= z * math.sqrt(variance / n)
    spread = ((x - centre) ** 2).mean()
    assert abs(spread - variance) <= z * math.sqrt((fourth - variance**2) / n)
    neighbours = ((x[1:] - centre) * (x[:-1] - centre)).mean()
    assert abs(neighbours) <= z * variance / math.sqrt(n - 1)


P = st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0, 2.0**-33)) | st.floats(0, 1)


@covers("dropout")
@drawn(x=arrays(kinds=("normal", "special", "bits")), p=P, seed=SEEDS, counter=COUNTERS)
def dropout_is_exact(backend: Backend, x: Laid, p: float, seed: int, counter: int) -> None:
    y, mask = oracle.dropout(x.values, p, seed, counter)
    actual, kept = call(backend, "dropout", x, p, seed, counter)
    assert_same(kept, mask)
    assert_same(actual, y, signed_zero=False)


@covers("dropout")
def the_threshold_of_dropout_is_rounded_up_and_kept(backend: Backend) -> None:
    """Word w is kept with p = w / 2^32 and dropped with the next p: ceil, and not less than."""
    word = int(oracle.philox(5, 9, 3)[2])
    x = np.ones(3, np.float32)
    for p, kept in ((word * 2.0**-32, True), ((word + 0.5) * 2.0**-32, False)):
        mask = oracle.dropout(x, p, 5, 9)[1]
        assert mask[2] == kept
        assert_same(call(backend, "dropout", x, p, 5, 9)[1], mask)


@covers("dropout")
def dropout_of_many_elements(backend: Backend, reference: Backend) -> None:
    for dtype in FLOATS:
        x = call(reference, "normal", 1, 0, (331, 307), np.dtype(dtype))
        for p in (0.1, 0.5):
            expected = call(reference, "dropout", x, p, 3, 10)
            for got, want in zip(call(backend, "dropout", x, p, 3, 10), expected, strict=True):
                assert_same(got, want, signed_zero=False)
            kept = expected[1].mean()
            deviation = math.sqrt(p * (1 - p) / x.size)
            assert abs(kept - (1 - p)) <= normal_quantile(FALSE_ALARM) * deviation
