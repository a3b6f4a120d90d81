"""What stands between quantized layers: every bit is pinned, as in `int8.py`."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from backends import Backend, Narrow

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import LAYOUTS, Laid, Pair, Pooling, Shape, integers_like, lay, poolings, seeds
from ..tolerances import assert_same

BYTES = (np.int8, np.uint8)
RANGES = ((0, 255, np.uint8), (-128, 127, np.int8), (3, 200, np.uint8), (-127, 90, np.int8))


@st.composite
def codes(draw: st.DrawFn, shape: Shape) -> Laid:
    """An array of codes in any layout."""
    values = draw(integers_like(shape, draw(st.sampled_from(BYTES))))
    layouts = LAYOUTS if shape and 0 not in shape else ("contiguous",)
    return lay(values, draw(st.sampled_from(layouts)))


@st.composite
def narrows(draw: st.DrawFn, most: int) -> Narrow:
    """Ties are common where the shift is small."""
    low, high, dtype = draw(st.sampled_from(RANGES))
    shift, zero = draw(st.integers(1, most)), draw(st.integers(low, high))
    return Narrow(shift, zero, low, high, np.dtype(dtype))


def zero_of(x: Laid, seed: int) -> int:
    """A zero point among the codes of x."""
    info = np.iinfo(x.dtype)
    return int(info.min) + seed % 256


Sum = tuple[Laid, Laid, Pair, Pair, Narrow]


@st.composite
def sums(draw: st.DrawFn) -> Sum:
    """Equal shapes, or a second operand (or a first) that is repeated, along any axes."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    other = tuple(n if draw(st.booleans()) else 1 for n in shape)
    other = draw(st.sampled_from((shape, other, shape[1:], other[1:])))
    a, b = draw(codes(shape)), draw(codes(other))
    if draw(st.booleans()):
        a, b = b, a
    narrow = draw(narrows(30))
    bound = min(2**21, 2 ** (narrow.shift + 1))  # so that not all results are the ends
    multipliers = draw(st.integers(-bound, bound)), draw(st.integers(0, bound))
    return a, b, (zero_of(a, draw(seeds)), zero_of(b, draw(seeds))), multipliers, narrow


@covers("int8_add")
@drawn(case=sums())
def int8_add_is_exact(backend: Backend, case: Sum) -> None:
    a, b, zeros, multipliers, narrow = case
    expected = oracle.int8_add(a.values, b.values, zeros, multipliers, narrow)
    assert_same(call(backend, "int8_add", *case), expected)


@covers("int8_add")
def int8_add_at_the_ends_of_32_bits(backend: Backend) -> None:
    a = np.array([0, 255, 0, 255], np.uint8)
    b = np.array([-128, 127, 127, -128], np.int8)
    for zeros in ((255, -128), (0, 127), (0, -128), (255, 127)):
        for shift, m in itertools.product((1, 29, 30), (2**21, -(2**21), 1)):
            narrow = Narrow(shift, 0, -128, 127, np.dtype(np.int8))
            expected = oracle.int8_add(a, b, zeros, (2**21, m), narrow)
            assert_same(call(backend, "int8_add", a, b, zeros, (2**21, m), narrow), expected)


@covers("int8_add")
@each("second", ((3, 70, 50), (70, 50), (1, 50), (3, 1, 50)))
def sums_of_many_codes(backend: Backend, reference: Backend, second: Shape) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    a = rng.integers(0, 255, (30, 3, 70, 50), np.uint8, endpoint=True)
    b = rng.integers(-128, 127, second, np.int8, endpoint=True)
    args = (3, -4), (700_001, 500_000), Narrow(20, -5, -100, 127, np.dtype(np.int8))
    expected = call(reference, "int8_add", a, b, *args)
    assert_same(call(backend, "int8_add", a, b, *args), expected)
    assert_same(call(backend, "int8_add", b, a, *(pair[::-1] for pair in args[:2]), args[2]),
                expected)  # fmt: skip


@covers("int8_lookup")
@drawn(data=st.data())
def int8_lookup_is_exact(backend: Backend, data: st.DataObject) -> None:
    x = data.draw(codes(tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))))
    table = data.draw(integers_like((256,), data.draw(st.sampled_from((*BYTES, np.int32)))))
    assert_same(call(backend, "int8_lookup", x, table), oracle.int8_lookup(x.values, table))


@covers("int8_lookup")
def every_code_is_looked_up(backend: Backend) -> None:
    table = np.arange(256, dtype=np.uint8) ^ np.uint8(0b0101_1010)
    for dtype in BYTES:
        info = np.iinfo(dtype)
        every = np.arange(info.min, info.max + 1).astype(dtype)
        x = np.tile(every, 700).reshape(7, -1)
        expected = np.tile(oracle.int8_lookup(every, table), 700).reshape(7, -1)
        assert_same(call(backend, "int8_lookup", x, table), expected)


@st.composite
def pooled(draw: st.DrawFn) -> tuple[Laid, Pooling]:
    case = draw(poolings(("integers",)))
    return draw(codes(case.x.shape)), case


@covers("int8_max_pool2d")
@drawn(case=pooled())
def int8_max_pool_is_exact(backend: Backend, case: tuple[Laid, Pooling]) -> None:
    x, window = case[0], case[1].window
    expected = oracle.int8_max_pool2d(x.values, *window)
    assert_same(call(backend, "int8_max_pool2d", x, *window), expected)
    assert_same(call(backend, "max_pool2d", x, *window)[0], expected)


@covers("int8_avg_pool2d")
@drawn(case=pooled(), narrow=narrows(62), seed=seeds)
def int8_avg_pool_is_exact(
    backend: Backend, case: tuple[Laid, Pooling], narrow: Narrow, seed: int
) -> None:
    x, window = case[0], case[1].window
    size = window[0][0] * window[0][1]
    rng = np.random.Generator(np.random.PCG64(seed))
    bound = min(2**31 - 1, 2**narrow.shift)
    multiplier = rng.integers(0, bound, size, np.int32, endpoint=True)
    args = zero_of(x, seed), multiplier, *window, narrow
    expected = oracle.int8_avg_pool2d(x.values, *args)
    assert_same(call(backend, "int8_avg_pool2d", x, *args), expected)


@covers("int8_avg_pool2d")
def ties_of_average_pooling_go_to_the_even_code(backend: Backend) -> None:
    x = np.array([[1, 2], [2, 3], [0, -1], [-2, -1], [-2, -3]], np.int8).reshape(5, 1, 1, 2)
    narrow = Narrow(30, 0, -128, 127, np.dtype(np.int8))
    multiplier = np.full(2, 2**29, np.int32)
    args = 0, multiplier, (1, 2), (1, 1), (0, 0), narrow
    expected = np.array([2, 2, 0, -2, -2], np.int8).reshape(5, 1, 1, 1)
    assert_same(call(backend, "int8_avg_pool2d", x, *args), expected)


# kernel, stride, padding
WINDOWS = (
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 2), (1, 3), (1, 0)),
    ((37, 41), (37, 41), (0, 0)),
)


@covers("int8_max_pool2d")
@each("sides", ((2, 2), (3, 2), (2, 3), (7, 9), (28, 28), (10, 11), (11, 10), (130, 70)))
def int8_pooling_of_images_of_all_sides(backend: Backend, reference: Backend, sides: Pair) -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    for dtype in BYTES:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (7, 3, *sides), dtype, endpoint=True)
        args = x, (2, 2), (2, 2), (0, 0)
        assert_same(
            call(backend, "int8_max_pool2d", *args), call(reference, "int8_max_pool2d", *args)
        )


@covers("int8_max_pool2d", "int8_avg_pool2d")
@each("window", WINDOWS)
def int8_pooling_of_large_images(
    backend: Backend, reference: Backend, method: str, window: tuple[Pair, Pair, Pair]
) -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    x = rng.integers(-128, 127, (8, 16, 37, 41), np.int8, endpoint=True)
    args: tuple[object, ...] = window
    if method == "int8_avg_pool2d":
        count = np.arange(1, window[0][0] * window[0][1] + 1)
        multiplier = (2**31 / (count + 1)).astype(np.int32)
        args = (-7, multiplier, *window, Narrow(30, 9, 0, 255, np.dtype(np.uint8)))
    expected = call(reference, method, x, *args)
    assert_same(call(backend, method, x, *args), expected)


@covers("concatenate", "pad", "transpose", "reshape", "getitem", "embedding", "flip", "copy")
@each("dtype", BYTES)
def codes_are_moved_as_any_number(backend: Backend, method: str, dtype: type) -> None:
    """The ends of the range among them, in which a detour over another dtype would show."""
    info = np.iinfo(dtype)
    x: np.ndarray = np.arange(info.min, info.max + 1).astype(dtype).reshape(4, 8, 8)
    index = np.array([[3, 0], [1, 3]])
    arguments, expected = {
        "concatenate": (([x, x[:1]], 0), np.concatenate([x, x[:1]])),
        "pad": ((x, ((0, 0), (1, 2), (3, 0)), int(info.min)),
                np.pad(x, ((0, 0), (1, 2), (3, 0)), constant_values=info.min)),
        "transpose": ((x, (2, 0, 1)), x.transpose(2, 0, 1)),
        "reshape": ((x, (32, 8)), x.reshape(32, 8)),
        "getitem": ((x, (slice(None), slice(1, 7, 2))), x[:, 1:7:2]),
        "embedding": ((x.reshape(32, 8), index), x.reshape(32, 8)[index]),
        "flip": ((x, (1,)), x[:, ::-1]),
        "copy": ((x,), x),
    }[method]  # fmt: skip
    assert_same(call(backend, method, *arguments), expected)


@covers("int8_layer_norm")
@drawn(data=st.data(), narrow=narrows(40), seed=seeds)
def int8_layer_norm_is_exact(
    backend: Backend, data: st.DataObject, narrow: Narrow, seed: int
) -> None:
    rows, columns = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 9))
    x = data.draw(codes((rows, columns)))
    rng = np.random.Generator(np.random.PCG64(seed))
    bound = min(2**31 - 1, 2 ** max(narrow.shift - 6, 1))
    weight = rng.integers(-bound, bound, columns, np.int32, endpoint=True)
    bias = rng.integers(-16, 16, columns, np.int64) << np.int64(narrow.shift)
    args = weight, bias, int(rng.choice([0, 1, 2**20])), narrow
    expected = oracle.int8_layer_norm(x.values, *args)
    assert_same(call(backend, "int8_layer_norm", x, *args), expected)


@covers("int8_layer_norm")
@each("columns", (1, 2, 768, 4096))
def int8_layer_norm_of_long_rows(backend: Backend, columns: int) -> None:
    """Constant rows, the widest spread that there is, one code that differs, and any codes."""
    rng = np.random.Generator(np.random.PCG64(columns))
    x = rng.integers(-128, 127, (30, columns), np.int8, endpoint=True)
    x[0], x[1, ::2], x[1, 1::2], x[2], x[3] = 7, -128, 127, -128, 127
    x[2, 0], x[3, -1] = 127, 126
    weight = rng.integers(2**14, 2**16, columns, np.int32)
    bias = rng.integers(-(2**25), 2**25, columns, np.int64)
    for eps in (0, columns**3 // 50):
        args = weight, bias, eps, Narrow(23, 3, -128, 127, np.dtype(np.int8))
        assert_same(call(backend, "int8_layer_norm", x, *args), oracle.int8_layer_norm(x, *args))
