"""Fake quantization: values and gradients to the bit, and the scale's gradient to a bound."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import FLOATS, Laid, arrays, fill, float_dtypes, seeds
from ..tolerances import assert_close, assert_same, sum_bound

RANGES = ((-128, 127), (-127, 127), (0, 255), (-8, 7), (-7, 7))

# grad and x, both (N, C, L), scale (C,), zero point (C,), and the ends of the range.
Grids = tuple[Laid, Laid, np.ndarray, np.ndarray, int, int]


@st.composite
def grids(draw: st.DrawFn, kinds: tuple[str, ...]) -> Grids:
    low, high = draw(st.sampled_from(RANGES))
    shape = tuple(draw(st.integers(0, n)) for n in (3, 4, 6))
    dtype = draw(float_dtypes)
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    ties = draw(st.booleans())  # powers of two make ties, where half goes to even
    scale = 2.0 ** rng.integers(-4, 1, shape[1]) if ties else 0.01 + rng.random(shape[1])
    zero = rng.integers(low, high, shape[1], np.int32, endpoint=True)
    grad, x = draw(arrays(shape, dtype)), draw(arrays(shape, dtype, kinds=kinds))
    return grad, x, scale.astype(dtype), zero, low, high


ANY = ("eighths", "normal", "special", "wide", "bits")


@covers("fake_quantize")
@drawn(case=grids(ANY))
def values_are_exact(backend: Backend, case: Grids) -> None:
    x, rest = case[1], case[2:]
    assert_same(call(backend, "fake_quantize", x, *rest), oracle.fake_quantize(x.values, *rest))


@covers("fake_quantize")
def halves_go_to_even_codes(backend: Backend) -> None:
    for dtype in FLOATS:
        x = np.asarray((2 * np.arange(-6, 7) + 1) / 2, dtype).reshape(1, 1, -1)
        rest = np.ones(1, dtype), np.zeros(1, np.int32), -128, 127
        assert_same(call(backend, "fake_quantize", x, *rest), np.round(x), signed_zero=False)


@covers("fake_quantize_grad")
@drawn(case=grids(ANY))
def the_gradient_passes_exactly_where_there_is_a_code(backend: Backend, case: Grids) -> None:
    grad, x, rest = case[0], case[1], case[2:]
    expected = np.where(oracle.has_code(x.values, *rest), grad.values, grad.dtype.type(0))
    assert_same(call(backend, "fake_quantize_grad", grad, x, *rest), expected)


def check_scale_grad(backend: Backend, case: Grids) -> None:
    """A term is a quotient, less rounding, times grad; the sum rounds once for each of them."""
    grad, x, rest = case[0], case[1], case[2:]
    slopes = oracle.fake_quantize_slopes(x.values, *rest)
    terms = np.abs(grad.values) * (np.abs(slopes) + np.abs(x.values / rest[0][:, None]))
    expected = (grad.values * slopes).sum(axis=(0, 2), dtype=np.float64)
    bound = sum_bound(terms.sum(axis=(0, 2)), 4 + x.values.size, x.dtype)
    actual = call(backend, "fake_quantize_scale_grad", grad, x, *rest)
    assert_close(actual, expected, bound, x.dtype)


@covers("fake_quantize_scale_grad")
@drawn(case=grids(("eighths", "normal", "constant")))
def the_scales_gradient_agrees_with_oracle(backend: Backend, case: Grids) -> None:
    check_scale_grad(backend, case)


@covers("fake_quantize_scale_grad")
def the_scales_gradient_of_nan_is_nan_and_of_infinity_an_end(backend: Backend) -> None:
    for dtype in FLOATS:
        x = np.array([[[np.nan], [np.inf], [-np.inf]]], dtype)
        zero = np.array([1, 2, 3], np.int32)
        args = (np.ones_like(x), x, np.ones(3, dtype), zero, -128, 127)
        expected = np.array([np.nan, 125, -131], dtype)
        assert_same(call(backend, "fake_quantize_scale_grad", *args), expected)


METHODS = ("fake_quantize", "fake_quantize_grad", "fake_quantize_scale_grad")


@covers(*METHODS)
@each("shape", ((1, 1, 70_001), (3, 130, 257), (5000, 7, 1), (2, 3, 12_289)))
def shapes_as_networks_have_them(
    backend: Backend, method: str, shape: tuple[int, int, int]
) -> None:
    """Whole tensors, channels of images and of rows, groups; more than one task each."""
    x = 20 * fill(shape, np.float32, "normal", 1)
    grad = fill(shape, np.float32, "normal", 2)
    scale = np.linspace(0.05, 0.3, shape[1], dtype=np.float32)
    zero = (np.arange(shape[1]) % 9 - 4).astype(np.int32)
    args = (scale, zero, -128, 127)
    code = np.rint(x / scale[:, None]) + zero[:, None]
    nearest = np.clip(code, -128, 127)
    if method == "fake_quantize":
        expected = (nearest - zero[:, None]).astype(np.float32) * scale[:, None]
        assert_same(call(backend, method, x, *args), expected, signed_zero=False)
    elif method == "fake_quantize_grad":
        expected = np.where(code == nearest, grad, np.float32(0))
        assert_same(call(backend, method, grad, x, *args), expected)
    else:
        slopes = nearest - zero[:, None] - np.where(code == nearest, x / scale[:, None], 0)
        expected = (grad.astype(np.float64) * slopes).sum(axis=(0, 2))
        terms = np.abs(grad) * (np.abs(slopes) + np.abs(x / scale[:, None]))
        bound = sum_bound(terms.sum(axis=(0, 2), dtype=np.float64), x.size, np.float32)
        assert_close(call(backend, method, grad, x, *args), expected, bound, np.float32)
