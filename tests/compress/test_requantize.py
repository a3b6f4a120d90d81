"""Real factors as a multiplier and a shift: how near they come, and what they make of sums."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.compress.qtensor import AFFINE, AFFINE_INT8, SYMMETRIC
from minidl.compress.requantize import (
    ROOM,
    Grid,
    fixed_point,
    for_addition,
    narrow,
    offsets,
    quantized_weight,
    requantizer,
)
from minidl.errors import ArgumentError, NonFiniteError
from minidl.verify.strategies import fill, seeds

schemes = st.sampled_from((SYMMETRIC, AFFINE, AFFINE_INT8))
scales = st.floats(1e-6, 1e3)


@given(m=st.floats(2.0**-32, 2.0**30, exclude_max=True))
def test_a_factor_has_31_bits(m):
    multiplier, shift = fixed_point([m])
    assert 2**30 <= multiplier[0] < 2**31
    assert 1 <= shift[0] <= 62
    found = Fraction(int(multiplier[0]), 2 ** int(shift[0]))
    assert abs(found - Fraction(m)) <= Fraction(m) / 2**31


@given(m=st.floats(0, 2.0**-32, exclude_max=True))
def test_a_tiny_factor_takes_every_sum_to_zero(m):
    multiplier, shift = fixed_point([m])
    found = Fraction(int(multiplier[0]), 2 ** int(shift[0]))
    assert found * ROOM <= Fraction(1, 2)
    assert abs(found - Fraction(m)) <= Fraction(1, 2**63)


@given(total=st.integers(-ROOM, ROOM), m=st.floats(1e-12, 2.0), scheme=schemes, data=st.data())
def test_a_sum_becomes_the_code_of_the_real_formula_or_its_neighbour(
    backend, total, m, scheme, data
):
    """Neighbours only where the real number lies within 2^-31 of itself of the middle."""
    zero = 0 if scheme.symmetric else data.draw(st.integers(scheme.low, scheme.high))
    relu = data.draw(st.booleans())
    grid = Grid(1.0, zero, scheme)
    finish = requantizer(backend, np.zeros(1, np.int32), np.array([m]), grid, relu)
    multiplier, shift = fixed_point([m])
    exact = round(Fraction(total) * int(multiplier[0]) / 2 ** int(shift[0])) + zero
    want = min(max(exact, finish.low), finish.high)
    real = min(max(round(Fraction(total) * Fraction(m)) + zero, finish.low), finish.high)
    assert abs(want - real) <= 1
    assert finish.low == (max(zero, scheme.low) if relu else scheme.low)
    codes = np.array([[1]], np.int8)
    weight = np.array([[1]], np.int8)
    finish = finish._replace(offset=backend.asarray(np.array([total - 1], np.int32)))
    packed = backend.int8_pack(backend.asarray(weight), 1)
    x = backend.asarray(codes)
    found = backend.to_numpy(backend.int8_linear(x, backend.asarray(weight), packed, finish))
    assert found.item() == want


@given(left=scales, right=scales, result=st.floats(1e-3, 1e3), minus=st.booleans())
def test_addition_has_21_bits_and_room(left, right, result, minus):
    grid = Grid(result, 0, SYMMETRIC)
    right = -right if minus else right
    if max(left, abs(right)) / result >= 2.0**20:
        with pytest.raises(ArgumentError, match="do not fit the scale"):
            for_addition(left, right, grid)
        return
    factors, shift = for_addition(left, right, grid)
    assert max(map(abs, factors)) <= 2**21
    assert 1 <= shift <= 30
    assert shift == 30 or max(map(abs, factors)) >= 2**20
    for found, real in zip(factors, (left, right), strict=True):
        assert abs(found - real / result * 2**shift) <= 0.5


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9)), per_channel=st.booleans(),
    scale=st.floats(1e-4, 10), size=st.sampled_from((1e-30, 1e-9, 1.0, 1e6)), seed=seeds,
)  # fmt: skip
def test_weights_and_biases_leave_room_for_their_sums(sizes, per_channel, scale, size, seed):
    weight = fill(sizes, np.float32, "normal", seed) * np.float32(size)
    bias = fill(sizes[:1], np.float32, "normal", seed + 1)
    codes, scales, counted = quantized_weight(weight, bias, scale, SYMMETRIC, per_channel)
    assert scales.shape == (sizes[:1] if per_channel else ())
    sums = 255 * np.abs(codes.astype(np.int64)).sum(axis=1) + np.abs(counted.astype(np.int64))
    assert sums.max() <= ROOM
    steps = np.broadcast_to(scales.astype(np.float64), sizes[:1])
    if size == 1.0:
        assert (np.abs(codes * steps[:, None] - weight) <= steps[:, None] * 0.5001).all()
    assert (np.abs(counted * steps * scale - bias) <= steps * scale * 0.5001 + 1e-6).all()


@given(seed=seeds, zero=st.integers(-128, 255))
def test_the_offset_is_what_the_zero_point_adds(seed, zero):
    rng = np.random.Generator(np.random.PCG64(seed))
    x, weight = rng.integers(0, 256, (3, 6)), rng.integers(-127, 128, (4, 6)).astype(np.int8)
    bias = rng.integers(-999, 999, 4).astype(np.int32)
    total = (x - zero) @ weight.astype(np.int64).T + bias
    assert (x @ weight.astype(np.int64).T + offsets(bias, weight, zero) == total).all()


@given(scheme=schemes, scale=scales, data=st.data())
def test_grids_know_their_codes(scheme, scale, data):
    zero = 0 if scheme.symmetric else data.draw(st.integers(scheme.low, scheme.high))
    grid = Grid(scale, zero, scheme)
    numbers = grid.numbers()
    used = numbers[
        (numbers >= (scheme.low - zero) * scale) & (numbers <= (scheme.high - zero) * scale)
    ]
    codes = grid.codes(used)
    assert ((codes.astype(int) - zero) * scale == used).all()
    assert narrow(grid, 3, relu=True).low == max(zero, scheme.low)


def test_what_cannot_be_a_factor_or_a_weight_is_refused():
    for bad in (-1.0, 2.0**30, np.nan, np.inf):
        with pytest.raises(ArgumentError, match="fixed_point: a factor must be"):
            fixed_point([1.0, bad])
    wide = np.zeros((1, 2**31 // (255 * 127) + 1), np.float32)
    with pytest.raises(ArgumentError, match="may not fit 32 bits; at most 66311"):
        quantized_weight(wide, None, 1.0, SYMMETRIC, True)
    with pytest.raises(NonFiniteError, match="not finite"):
        quantized_weight(np.full((1, 2), np.nan, np.float32), None, 1.0, SYMMETRIC, True)
