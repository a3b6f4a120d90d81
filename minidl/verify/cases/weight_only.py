"""Products with weights that are held as codes, whole or two to a byte."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import EXACT, FLOATS, Laid, arrays, float_dtypes, lay, layouts, seeds
from ..tolerances import assert_close, assert_same, sum_bound

# x, weight, scale, zero point, bias or None, and the size of groups.
Product = tuple[Laid, Laid, np.ndarray, np.ndarray, Laid | None, int]


@st.composite
def coded(draw: st.DrawFn, kinds: tuple[str, ...], exact: bool) -> Product:
    """Up to 40 inputs: a whole vector of codes, groups across it, and what is left over."""
    rows, outputs = draw(st.integers(0, 3)), draw(st.integers(1, 5))
    columns, size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    dtype = draw(float_dtypes)
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    codes, low, high = (np.uint8, -8, 7) if draw(st.booleans()) else (np.int8, -128, 127)
    info, width = np.iinfo(codes), -(-columns // 2) if codes is np.uint8 else columns
    weight = rng.integers(info.min, info.max, (outputs, width), codes, endpoint=True)
    shape = (outputs, -(-columns // size))
    scale = 2.0 ** rng.integers(-3, 2, shape) if exact else 0.01 + rng.random(shape)
    zero = rng.integers(low, high, shape, np.int32, endpoint=True)
    x = draw(arrays((rows, columns), dtype, kinds))
    bias = draw(arrays((outputs,), dtype, kinds)) if draw(st.booleans()) else None
    return x, lay(weight, draw(layouts(2))), scale.astype(dtype), zero, bias, size


def expected(case: Product, magnitudes: bool = False) -> np.ndarray:
    x, weight, scale, zero, bias, size = case
    decoded = oracle.decoded(x.shape[1], weight.values, scale, zero, size)
    added = None if bias is None else bias.values
    if not magnitudes:
        return oracle.linear(x.values, decoded, added)
    return oracle.linear(np.abs(x.values), np.abs(decoded), None if added is None else abs(added))


@covers("weight_only_linear")
@drawn(case=coded(EXACT, exact=True))
def whole_numbers_are_exact(backend: Backend, case: Product) -> None:
    actual = call(backend, "weight_only_linear", *case)
    assert_same(actual, expected(case).astype(case[0].dtype), signed_zero=False)


@covers("weight_only_linear")
@drawn(case=coded(("normal", "constant"), exact=False))
def products_agree_with_oracle(backend: Backend, case: Product) -> None:
    """A weight rounds once when it is decoded; or a group's sum does when it is scaled."""
    bound = sum_bound(expected(case, magnitudes=True), case[0].shape[1] + 2, case[0].dtype)
    actual = call(backend, "weight_only_linear", *case)
    assert_close(actual, expected(case), bound, case[0].dtype)


@covers("weight_only_linear")
def nan_and_infinity_pass(backend: Backend) -> None:
    """In every place of a row, with an odd number of them; infinity times a weight of 0 is NaN."""
    for dtype in FLOATS:
        scale, zero = np.ones((1, 1), dtype), np.zeros((1, 1), np.int32)
        for codes in (np.array([[1, 1, 0]], np.int8), np.array([[0x99, 0x08]], np.uint8)):
            for place, value, result in ((0, np.nan, np.nan), (1, np.inf, np.inf),
                                         (2, -np.inf, np.nan)):  # fmt: skip
                x = np.ones((1, 3), dtype)
                x[0, place] = value
                actual = call(backend, "weight_only_linear", x, codes, scale, zero, None, 3)
                assert_same(actual, np.array([[result]], dtype))


# rows, inputs, outputs, size of groups
LAYERS = ((1, 1024, 300, 128), (1, 777, 130, 32), (3, 1025, 260, 64), (40, 400, 120, 1024))


@covers("weight_only_linear")
@each("numbers", LAYERS)
def layers_as_networks_have_them(backend: Backend, numbers: tuple[int, ...]) -> None:
    rows, inner, outputs, size = numbers
    rng = np.random.Generator(np.random.PCG64(8))
    x = rng.standard_normal((rows, inner)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    shape = (outputs, -(-inner // size))
    scale = (0.01 + rng.random(shape)).astype(np.float32)
    zero = rng.integers(-8, 8, shape, np.int32)
    group = np.arange(inner) // size
    for bits in (8, 4):
        codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inner), np.int8)
        weight = codes
        if bits == 4:
            raised = np.pad(codes + 8, ((0, 0), (0, inner % 2))).astype(np.uint8)
            weight = raised[:, 0::2] + 16 * raised[:, 1::2]
        decoded = (codes.astype(np.float64) - zero[:, group]) * scale[:, group]
        want = x.astype(np.float64) @ decoded.T + bias
        bound = sum_bound(np.abs(x) @ np.abs(decoded.T) + np.abs(bias), inner + 2, np.float32)
        actual = call(backend, "weight_only_linear", x, weight, scale, zero, bias, size)
        assert_close(actual, want, bound, np.float32)
