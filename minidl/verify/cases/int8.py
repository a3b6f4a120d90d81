"""Quantization and integer products: no tolerance anywhere, every bit is pinned."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from backends import Backend, Finish, Requantize, Rescale

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import (
    FLOATS,
    LAYOUTS,
    Convolution,
    Laid,
    Pair,
    Shape,
    arrays,
    float_dtypes,
    int8_convolutions,
    integers_like,
    lay,
    layouts,
    pairs,
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


def finishes(outputs: int, seed: int) -> list[Finish]:
    """One of each kind, with numbers in which roundings, ties and both ends of the range occur."""
    rng = np.random.Generator(np.random.PCG64(seed))
    offset = rng.integers(-3000, 3000, outputs, np.int32)
    scale = rng.choice([1e-3, 0.3, 2.0**-7], outputs).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    multiplier = rng.choice([2**30, 2**30 + 12345, 2**31 - 1], outputs).astype(np.int32)
    shift = rng.integers(31, 42, outputs, np.int32)
    rescale = [Rescale(offset, scale, bias, relu) for relu in (False, True)]
    codes = [
        Requantize(offset, multiplier, shift, zero, low, high, np.dtype(dtype))
        for zero, low, high, dtype in (
            (5, 0, 255, np.uint8), (-3, -128, 127, np.int8), (9, 9, 200, np.uint8),
        )
    ]  # fmt: skip
    return [None, *rescale, *codes]


@covers("int8_linear", "int8_pack")
@drawn(case=integer_matrices(), seed=seeds)
def int8_linear_is_exact(backend: Backend, case: tuple[Laid, Laid], seed: int) -> None:
    x, weight = case
    packed = call(backend, "int8_pack", weight, 1)
    for finish in finishes(weight.shape[0], seed):
        expected = oracle.int8_linear(x.values, weight.values, finish)
        actual = call(backend, "int8_linear", x, weight, packed, finish)
        assert_same(actual, expected, signed_zero=False)


@covers("int8_linear", "int8_pack")
@each("sizes", SIZES)
def int8_linear_layers_as_networks_have_them(
    backend: Backend, reference: Backend, sizes: tuple[int, int, int]
) -> None:
    rows, inner, columns = sizes
    rng = np.random.Generator(np.random.PCG64(7))
    weight = rng.integers(-128, 127, (columns, inner), np.int8, endpoint=True)
    packed = call(backend, "int8_pack", weight, 1)
    for dtype, finish in itertools.product((np.int8, np.uint8), finishes(columns, 8)):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (rows, inner), dtype, endpoint=True)
        expected = call(reference, "int8_linear", x, weight, weight, finish)
        actual = call(backend, "int8_linear", x, weight, packed, finish)
        assert_same(actual, expected, signed_zero=False)


@covers("int8_linear")
def ties_of_requantize_go_to_the_even_code(backend: Backend) -> None:
    """Sums -5 .. 5, halved; and a product of nearly 62 bits, which 64 hold."""
    x, weight = np.arange(11, dtype=np.uint8)[:, None], np.ones((1, 1), np.int8)
    packed = call(backend, "int8_pack", weight, 1)

    def numbers(offset: int, multiplier: int, shift: int) -> Requantize:
        move, factor, by = (np.array([n], np.int32) for n in (offset, multiplier, shift))
        return Requantize(move, factor, by, 0, -128, 127, np.dtype(np.int8))

    expected = np.array([-2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2], np.int8)[:, None]
    assert_same(call(backend, "int8_linear", x, weight, packed, numbers(-5, 2**30, 31)), expected)
    large = numbers(-(2**31), 2**31 - 1, 62)
    expected = np.full((11, 1), -1, np.int8)
    assert_same(call(backend, "int8_linear", x, weight, packed, large), expected)


@covers("int8_linear", "int8_conv2d")
def requantize_decides_next_to_the_middle_of_two_codes(backend: Backend) -> None:
    """Sums beside a tie, which float32 could not tell from one, nor from what is across."""
    rng, outputs = np.random.Generator(np.random.PCG64(17)), 300
    multiplier = rng.integers(2**30, 2**31, outputs).astype(np.int32)
    shift = rng.integers(44, 51, outputs).astype(np.int32)
    whole = rng.integers(-150, 150, outputs)
    sums = [
        (2 * int(w) + 1) * 2 ** (int(s) - 1) // int(m) + int(up)
        for w, s, m, up in zip(whole, shift, multiplier, rng.integers(0, 2, outputs), strict=True)
    ]
    exact = [
        min(max(round(Fraction(n * int(m), 2 ** int(s))) + 100, 0), 255)
        for n, m, s in zip(sums, multiplier, shift, strict=True)
    ]
    codes = np.array(exact, np.uint8)
    finish = Requantize(
        np.array(sums, np.int32), multiplier, shift, 100, 0, 255, np.dtype(np.uint8)
    )
    x, weight = np.zeros((2, 4), np.uint8), np.zeros((outputs, 4), np.int8)
    packed = call(backend, "int8_pack", weight, 1)
    rows = call(backend, "int8_linear", x, weight, packed, finish)
    assert_same(rows, np.stack([codes, codes]))
    image, kernel = x.reshape(2, 4, 1, 1).repeat(40, 3), weight.reshape(outputs, 4, 1, 1)
    packed, options = call(backend, "int8_pack", kernel, 1), (0, (1, 1), (0, 0), (1, 1), 1)
    y = call(backend, "int8_conv2d", image, kernel, packed, *options, finish)
    assert_same(y, np.broadcast_to(codes[:, None, None], (2, outputs, 1, 40)))


@covers("int8_linear")
def relu_of_a_rescaled_sum_keeps_nan(backend: Backend) -> None:
    x, weight = np.full((2, 3), 7, np.uint8), np.ones((3, 3), np.int8)
    scale = np.array([np.nan, -1, np.inf], np.float32)
    finish = Rescale(np.zeros(3, np.int32), scale, np.zeros(3, np.float32), relu=True)
    packed = call(backend, "int8_pack", weight, 1)
    expected = np.array([[np.nan, 0, np.inf]] * 2, np.float32)
    actual = call(backend, "int8_linear", x, weight, packed, finish)
    assert_same(actual, expected, signed_zero=False)


@covers("int8_linear")
def rescaling_rounds_three_times(backend: Backend) -> None:
    """Where a fused multiply-add, or a sum that is not rounded first, gives other bits."""
    x = np.full((1, 1041), 255, np.uint8)
    x[0, ::2] = 254
    weight = np.full((64, 1041), 127, np.int8)
    weight[:, 0] = np.arange(64)
    scale = (1 + np.arange(64) / 97).astype(np.float32) / 3
    bias = -(scale * np.float32(3e7))
    finish = Rescale(np.zeros(64, np.int32), scale, bias, relu=False)
    sums = x.astype(np.int64) @ weight.astype(np.int64).T
    expected = sums.astype(np.float32) * scale + bias
    fused = (sums.astype(np.float32).astype(np.float64) * scale + bias).astype(np.float32)
    assert (fused != expected).any(), "the inputs no longer tell the two formulas apart"
    packed = call(backend, "int8_pack", weight, 1)
    assert_same(call(backend, "int8_linear", x, weight, packed, finish), expected)


@covers("int8_conv2d", "int8_pack")
@drawn(case=int8_convolutions(), seed=seeds)
def int8_conv_is_exact(backend: Backend, case: tuple[Convolution, int], seed: int) -> None:
    conv, value = case
    sums = oracle.int8_conv2d(conv.x.values, conv.weight.values, value, *conv.options)
    packed = call(backend, "int8_pack", conv.weight, conv.groups)
    for finish in finishes(conv.weight.shape[0], seed):
        args = conv.x, conv.weight, packed, value, *conv.options, finish
        actual = call(backend, "int8_conv2d", *args)
        assert_same(actual, oracle.finished(sums, finish), signed_zero=False)


# (batch, inputs, outputs, side, kernel, stride, padding, dilation, groups)
LAYERS = (
    (4, 1, 6, 28, 5, 1, 2, 1, 1),
    (2, 32, 33, 9, 3, 1, 1, 1, 1),
    (2, 130, 5, 7, 3, 2, 1, 1, 1),
    (2, 16, 16, 9, 3, 1, 1, 2, 16),
    (1, 2, 3, 33, 6, 3, 4, 2, 1),
    (20, 3, 26, 8, 2, 1, 0, 1, 1),
)


@covers("int8_conv2d", "int8_pack")
@each("numbers", LAYERS)
def int8_layers_as_networks_have_them(
    backend: Backend, reference: Backend, numbers: tuple[int, ...]
) -> None:
    n, c, o, side, k, s, p, d, groups = numbers
    rng = np.random.Generator(np.random.PCG64(6))
    weight = rng.integers(-128, 127, (o, c // groups, k, k), np.int8, endpoint=True)
    packed = call(backend, "int8_pack", weight, groups)
    out = oracle.output_size(side, k, s, p, d)
    for dtype, value in ((np.int8, -3), (np.uint8, 255)):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (n, c, side, side), dtype, endpoint=True)
        columns = oracle.im2col(x.astype(np.float64), (k, k), (s, s), (p, p), (d, d), value)
        columns = columns.reshape(n, groups, -1, out * out)  # whole numbers: exact in float64
        rows = weight.reshape(groups, o // groups, -1).astype(np.float64)
        sums = np.einsum("gok,ngkp->ngop", rows, columns).reshape(n, o, out, out)
        options = value, (s, s), (p, p), (d, d), groups
        actual = call(backend, "int8_conv2d", x, weight, packed, *options, None)
        assert_same(actual, sums.astype(np.int32))
        for finish in finishes(o, 9)[1:]:
            actual = call(backend, "int8_conv2d", x, weight, packed, *options, finish)
            expected = call(reference, "int8_conv2d", x, weight, weight, *options, finish)
            assert_same(actual, expected, signed_zero=False)


@covers("int8_conv2d_pool")
@drawn(case=int8_convolutions(), seed=seeds, pool=pairs(1, 3))
def int8_conv_with_pooling_is_both(
    backend: Backend, case: tuple[Convolution, int], seed: int, pool: Pair
) -> None:
    """Windows that do not fit any more are left out; of an image without one nothing is left."""
    conv, value = case
    sums = oracle.int8_conv2d(conv.x.values, conv.weight.values, value, *conv.options)
    pool = min(pool[0], sums.shape[2]), min(pool[1], sums.shape[3])
    packed = call(backend, "int8_pack", conv.weight, conv.groups)
    for finish in finishes(conv.weight.shape[0], seed)[3:]:
        args = conv.x, conv.weight, packed, value, *conv.options, finish, pool
        expected = oracle.int8_max_pool2d(oracle.finished(sums, finish), pool, pool, (0, 0))
        assert_same(call(backend, "int8_conv2d_pool", *args), expected)


@covers("int8_conv2d_pool")
@each("numbers", (*LAYERS, (1, 3, 5, 120, 3, 1, 1, 1, 1), (1, 1, 14, 67, 5, 1, 0, 1, 1)))
def int8_layers_with_pooling_as_networks_have_them(
    backend: Backend, reference: Backend, numbers: tuple[int, ...]
) -> None:
    """Images of several bands, whose lines are finished in several portions."""
    n, c, o, side, k, s, p, d, groups = numbers
    rng = np.random.Generator(np.random.PCG64(16))
    weight = rng.integers(-128, 127, (o, c // groups, k, k), np.int8, endpoint=True)
    packed = call(backend, "int8_pack", weight, groups)
    x = rng.integers(0, 255, (n, c, side, side), np.uint8, endpoint=True)
    options = 7, (s, s), (p, p), (d, d), groups
    for finish, pool in itertools.product(finishes(o, 9)[3:], ((2, 2), (3, 1), (1, 2))):
        actual = call(backend, "int8_conv2d_pool", x, weight, packed, *options, finish, pool)
        args = x, weight, weight, *options, finish, pool
        assert_same(actual, call(reference, "int8_conv2d_pool", *args))
