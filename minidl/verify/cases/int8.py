"""Quantization and integer products: no tolerance anywhere, every bit is pinned."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import (
    FLOATS,
    LAYOUTS,
    Convolution,
    Laid,
    Shape,
    arrays,
    float_dtypes,
    int8_convolutions,
    integers_like,
    lay,
    layouts,
    seeds,
    shapes,
)
from ..tolerances import assert_same

RANGES = ((-128, 127, np.int8), (-127, 127, np.int8), (0, 255, np.uint8), (-8, 7, np.int8))

# x, scale, zero point, the ends of the range and the integer dtype.
Quantization = tuple[Laid, np.ndarray, np.ndarray, int, int, np.dtype]


@st.composite
def scaled(
    draw: st.DrawFn, x_shape: Shape, dtype: type, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """scale and zero point: one for all, or one for each slice along an axis."""
    sides = [1] * len(x_shape)
    if len(x_shape) > 0 and draw(st.booleans()):
        axis = draw(st.integers(0, len(x_shape) - 1))
        sides[axis] = x_shape[axis]
    shape = tuple(sides) if draw(st.booleans()) or any(n != 1 for n in sides) else ()
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    powers = draw(st.booleans())  # powers of two make ties, where half goes to even
    scale = 2.0 ** rng.integers(-4, 1, shape) if powers else 0.01 + rng.random(shape)
    zero = rng.integers(low, high, shape, endpoint=True)
    return np.asarray(scale, dtype), np.asarray(zero, np.int32)


@st.composite
def quantizations(draw: st.DrawFn) -> Quantization:
    low, high, integer = draw(st.sampled_from(RANGES))
    dtype = draw(float_dtypes)
    x = draw(arrays(dtype=dtype, kinds=("eighths", "normal", "special", "wide", "bits")))
    return x, *draw(scaled(x.shape, dtype, low, high)), low, high, np.dtype(integer)


@covers("quantize")
@drawn(case=quantizations())
def quantize_is_exact(backend: Backend, case: Quantization) -> None:
    x, rest = case[0], case[1:]
    assert_same(call(backend, "quantize", x, *rest), oracle.quantize(x.values, *rest))


@covers("quantize")
def half_goes_to_even_and_nan_to_the_zero_point(backend: Backend) -> None:
    for dtype in FLOATS:
        x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, np.nan, np.inf, -np.inf, 1e30], dtype)
        expected = np.array([3, 5, 5, 3, 1, 3, 127, -128, 127], np.int8)
        one, zero = np.asarray(1, dtype), np.asarray(3, np.int32)
        actual = call(backend, "quantize", x, one, zero, -128, 127, np.dtype(np.int8))
        assert_same(actual, expected)


@covers("quantize")
def quantize_divides_and_does_not_multiply_by_the_inverse(backend: Backend) -> None:
    """x / 0.1 and x * (1 / 0.1) differ in the last bit for some x, and then in the result."""
    scale = np.float32(0.1)
    x = (np.arange(-1270, 1270, 10, dtype=np.float32) + 5) * np.float32(0.01)
    zero = np.asarray(0, np.int32)
    args = (np.asarray(scale), zero, -128, 127, np.dtype(np.int8))
    expected = oracle.quantize(x, *args)
    inverse = np.rint(x * (np.float32(1) / scale)).astype(np.int8)
    assert (inverse != expected).any(), "the inputs no longer tell the two formulas apart"
    assert_same(call(backend, "quantize", x, *args), expected)


@covers("quantize", "dequantize")
def quantization_of_many_elements(backend: Backend, reference: Backend, method: str) -> None:
    x = call(reference, "normal", 1, 0, (64, 3, 19, 23), np.dtype(np.float32))
    for shape in ((), (1, 3, 1, 1), (64, 1, 1, 1)):
        scale = np.asarray(0.01 + call(reference, "uniform", 2, 0, shape, np.dtype(np.float32)))
        zero = (np.arange(scale.size) % 5).reshape(shape).astype(np.int32)
        args = (scale, zero, -128, 127, np.dtype(np.int8))
        q = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
        if method == "quantize":
            assert_same(call(backend, method, x, *args), q)
        else:
            expected = (q.astype(np.int32) - zero).astype(np.float32) * scale
            assert_same(call(backend, method, q, scale, zero), expected)


@covers("dequantize")
@drawn(data=st.data())
def dequantize_is_exact(backend: Backend, data: st.DataObject) -> None:
    low, high, integer = data.draw(st.sampled_from(RANGES))
    shape = data.draw(shapes(max_dims=3))
    values = data.draw(integers_like(shape, integer))
    layout = "contiguous" if 0 in shape else data.draw(layouts(len(shape)))
    q = lay(values, layout)
    scale, zero = data.draw(scaled(shape, data.draw(float_dtypes), low, high))
    expected = oracle.dequantize(q.values, scale, zero)
    assert_same(call(backend, "dequantize", q, scale, zero), expected)


@st.composite
def integer_matrices(draw: st.DrawFn) -> tuple[Laid, Laid]:
    rows, inner, columns = (draw(st.integers(0, n)) for n in (5, 40, 5))
    a = draw(integers_like((rows, inner), draw(st.sampled_from((np.int8, np.uint8)))))
    b = draw(integers_like((columns, inner), np.int8))
    plain = 0 in (rows, inner, columns)
    first, second = ("contiguous" if plain else draw(layouts(2)) for _ in range(2))
    return lay(a, first), lay(b, second)


@covers("int8_matmul")
@drawn(case=integer_matrices())
def int8_matmul_is_exact(backend: Backend, case: tuple[Laid, Laid]) -> None:
    a, b = case
    expected = oracle.integer_matmul(a.values, b.values)
    assert_same(call(backend, "int8_matmul", a, b), expected)


# Where float32 or 16-bit sums of products stop being exact, and where 32 bits wrap around.
DEPTHS = (517, 518, 519, 1024, 1025, 1040, 1041, 4099, 70_001)


@covers("int8_matmul")
@each("depth", DEPTHS)
def deep_products_of_extreme_values(backend: Backend, depth: int) -> None:
    for first, dtype in ((255, np.uint8), (127, np.int8), (-128, np.int8)):
        a = np.full((3, depth), first, dtype)
        a[1, ::2], a[2, -1] = 1, 3  # an odd sum, so that no rounding is harmless
        for second in (127, -128):
            b = np.full((2, depth), second, np.int8)
            b[1, ::3] = 1
            expected = a.astype(np.int64) @ b.T.astype(np.int64)
            expected = ((expected + 2**31) % 2**32 - 2**31).astype(np.int32)
            assert_same(call(backend, "int8_matmul", a, b), expected)


# Around the blocks of packed kernels: 4 and 16 columns, 64 bytes of depth.
SIZES = ((1, 64, 16), (1, 65, 17), (5, 63, 33), (33, 100, 15), (70, 257, 130), (256, 784, 10))


@covers("int8_matmul")
@each("sizes", SIZES)
def int8_matrices_as_networks_have_them(backend: Backend, sizes: tuple[int, int, int]) -> None:
    rows, inner, columns = sizes
    rng = np.random.Generator(np.random.PCG64(5))
    for dtype, layout in itertools.product((np.int8, np.uint8), LAYOUTS[:5]):
        info = np.iinfo(dtype)
        a = rng.integers(info.min, info.max, (rows, inner), dtype, endpoint=True)
        b = rng.integers(-128, 127, (columns, inner), np.int8, endpoint=True)
        expected = (a.astype(np.int64) @ b.T.astype(np.int64)).astype(np.int32)
        assert_same(call(backend, "int8_matmul", Laid(a, layout), Laid(b, layout)), expected)


@covers("int8_conv2d")
@drawn(case=int8_convolutions())
def int8_conv_is_exact(backend: Backend, case: tuple[Convolution, int]) -> None:
    conv, value = case
    expected = oracle.int8_conv2d(conv.x.values, conv.weight.values, value, *conv.options)
    actual = call(backend, "int8_conv2d", conv.x, conv.weight, value, *conv.options)
    assert_same(actual, expected)


# (batch, inputs, outputs, side, kernel, stride, padding, dilation, groups)
LAYERS = (
    (4, 1, 6, 28, 5, 1, 2, 1, 1),
    (2, 32, 33, 9, 3, 1, 1, 1, 1),
    (2, 130, 5, 7, 3, 2, 1, 1, 1),
    (2, 16, 16, 9, 3, 1, 1, 2, 16),
)


@covers("int8_conv2d")
@each("numbers", LAYERS)
def int8_layers_as_networks_have_them(backend: Backend, numbers: tuple[int, ...]) -> None:
    n, c, o, side, k, s, p, d, groups = numbers
    rng = np.random.Generator(np.random.PCG64(6))
    weight = rng.integers(-128, 127, (o, c // groups, k, k), np.int8, endpoint=True)
    out = oracle.output_size(side, k, s, p, d)
    for dtype, value in ((np.int8, -3), (np.uint8, 255)):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (n, c, side, side), dtype, endpoint=True)
        columns = oracle.im2col(x.astype(np.float64), (k, k), (s, s), (p, p), (d, d), value)
        columns = columns.reshape(n, groups, -1, out * out)  # whole numbers: exact in float64
        rows = weight.reshape(groups, o // groups, -1).astype(np.float64)
        expected = np.einsum("gok,ngkp->ngop", rows, columns).reshape(n, o, out, out)
        options = ((s, s), (p, p), (d, d), groups)
        actual = call(backend, "int8_conv2d", x, weight, value, *options)
        assert_same(actual, expected.astype(np.int32))
