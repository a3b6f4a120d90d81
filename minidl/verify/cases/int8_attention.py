"""Attention on codes: every bit is pinned."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend, Narrow

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import Laid, seeds
from ..tolerances import assert_same
from .int8_between import BYTES, codes, narrows, zero_of


@st.composite
def attended(draw: st.DrawFn) -> tuple[Any, ...]:
    """The arguments of int8_attention, in which weights of all sizes occur."""
    n, h, t, s, d, e = (draw(st.integers(1, most)) for most in (2, 2, 4, 7, 6, 4))
    t = draw(st.sampled_from((t, 0)))
    parts = [draw(codes((n, h, *sides))) for sides in ((t, d), (s, d), (s, e))]
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    shape = draw(st.sampled_from(((n, h, t, s), (n, 1, 1, s), (s,), (t, s))))
    mask = draw(st.sampled_from((None, rng.random(shape) < 0.6, np.zeros(shape, bool))))
    zeros = tuple(zero_of(part, draw(seeds)) for part in parts)
    multiplier = 2 ** draw(st.integers(0, 29)) - draw(st.integers(0, 1))
    narrow = draw(narrows(50))
    factor = int(rng.integers(0, min(2**31, 2 ** max(narrow.shift - 14, 1))))
    return *parts, mask, draw(st.booleans()), zeros, max(multiplier, 1), factor, narrow


@covers("int8_attention")
@drawn(case=attended())
def int8_attention_is_exact(backend: Backend, case: tuple[Any, ...]) -> None:
    host: list[Any] = [x.values if isinstance(x, Laid) else x for x in case]
    assert_same(call(backend, "int8_attention", *case), oracle.int8_attention(*host))


# N, H, T, S, D, E: around the sides of tiles, whole quads and parts of them.
SIZES = (
    (2, 3, 70, 150, 16, 32),
    (1, 2, 131, 65, 33, 7),
    (1, 1, 260, 257, 8, 130),
    (3, 2, 1, 90, 64, 64),
)


@covers("int8_attention")
@each("sizes", SIZES)
def int8_attention_over_many_tokens(
    backend: Backend, reference: Backend, sizes: tuple[int, ...]
) -> None:
    """Queries, keys and values of both kinds, as views of one projection where they may be."""
    n, h, t, s, d, e = sizes
    rng = np.random.Generator(np.random.PCG64(11))
    padding = np.arange(s) < rng.integers(1, s, (n, 1, 1, 1))
    own = rng.random((h, t, s)) < 0.5
    for dtype in BYTES:
        info = np.iinfo(dtype)
        query, key, value = (
            rng.integers(info.min, info.max, shape, dtype, endpoint=True)
            for shape in ((n, h, t, d), (n, h, s, d), (n, h, s, e))
        )
        zeros = (int(info.min) + 120, int(info.min) + 140, int(info.min) + 99)
        narrow = Narrow(46, 7, 0, 255, np.dtype(np.uint8))
        for mask, causal in ((None, False), (None, True), (padding, False), (own, True)):
            args = mask, causal, zeros, round(2**27 / 1e4 / d**0.5), 2**30 + 12345, narrow
            expected = call(reference, "int8_attention", query, key, value, *args)
            actual = call(
                backend, "int8_attention", Laid(query, "strided"), Laid(key, "fortran"), value,
                *args,
            )  # fmt: skip
            assert_same(actual, expected)


@covers("int8_attention")
def attention_of_codes_at_the_ends_of_32_bits(backend: Backend, reference: Backend) -> None:
    """The largest and the smallest score that there is, and as many equal weights as may be."""
    query = np.full((1, 1, 2, 2**14), 255, np.uint8)
    key = np.zeros((1, 1, 3, 2**14), np.int8)
    key[0, 0, 0], key[0, 0, 1] = 127, -128
    value = np.array([-128, 127, 5], np.int8).reshape(1, 1, 3, 1)
    narrow = Narrow(46, 0, -128, 127, np.dtype(np.int8))
    for zeros in ((0, -128, -128), (0, 127, 127)):
        for multiplier in (1, 2**29):
            args = query, key, value, None, False, zeros, multiplier, 2**30, narrow
            assert_same(call(backend, "int8_attention", *args),
                        call(reference, "int8_attention", *args))  # fmt: skip
    many = np.zeros((1, 1, 2**15, 1), np.int8)
    args = query[..., :1], many, many + np.int8(127), None, False, (0, 0, -128), 9, 2**30, narrow
    expected = np.full((1, 1, 2, 1), 127, np.int8)
    assert_same(call(backend, "int8_attention", *args), expected)


@covers("int8_attention")
def weights_of_codes_are_those_of_softmax(backend: Backend) -> None:
    """To a hundredth, from one weight that is all to many that are alike."""
    rng = np.random.Generator(np.random.PCG64(12))
    query, key, value = (rng.integers(-128, 128, (1, 2, 50, 16)).astype(np.int8) for _ in range(3))
    for scale in (1e-5, 1e-4, 1e-2):
        scores = scale * (query.astype(float) - 3) @ (key.astype(float) + 4).swapaxes(2, 3)
        weights = np.exp(scores - scores.max(axis=3, keepdims=True))
        expected = weights / weights.sum(axis=3, keepdims=True) @ (value.astype(float) - 5)
        multiplier = round(scale * 2**27 / np.log(2))
        args = (
            None,
            False,
            (3, -4, 5),
            multiplier,
            2**30,
            Narrow(46, 0, -128, 127, np.dtype(np.int8)),
        )
        actual = call(backend, "int8_attention", query, key, value, *args)
        assert np.abs(actual - expected.clip(-128, 127)).max() < 2.5
