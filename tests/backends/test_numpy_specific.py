"""What only the reference promises: its own series, exact sums in float32 BLAS, and silence."""

from __future__ import annotations

import math
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from backends.numpy_backend.arrays import _processor
from minidl.verify.tolerances import ULPS, assert_close, spacing, ulps

BACKEND = NumpyBackend()
EDGES = [0.0, -0.0, 5e-324, -1e-310, 0.5, 1.0, -1.0, 1 + 2**-52, 5.9, 6.0, 27.0, 1e300]
SPECIAL = [math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, -3.0]
UNARY = [
    *("exp", "log", "sqrt", "sin", "cos", "tanh", "erf", "sigmoid", "softplus", "relu", "silu"),
    *("negative", "abs", "sign", "sum", "mean", "var", "max", "min", "argmax", "argmin"),
    *("logsumexp", "all_finite", "bounds"),
]
BINARY = ["add", "subtract", "multiply", "divide", "pow", "maximum", "minimum"]
BINARY += ["relu_grad", "silu_grad"]


# Known answers that the authors of Philox publish with their Random123 library.
def test_philox_counts_on_across_chunks_and_wraps_at_the_end():
    last = 2**128 - 2
    words = BACKEND.philox(2**64 - 1, last, 13)
    assert np.array_equal(words[8:], BACKEND.philox(2**64 - 1, 0, 5))
    long = BACKEND.philox(7, 3, 40_003)  # more than one chunk of blocks
    for block in (0, 8191, 8192, 10_000):
        words = long[4 * block : 4 * block + 4]
        assert np.array_equal(words, BACKEND.philox(7, 3 + block, 4)[: len(words)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_agrees_with_the_math_library(dtype):
    with np.errstate(over="ignore", under="ignore"):
        x = np.concatenate(
            [np.linspace(-6.5, 6.5, 50_001), np.geomspace(1e-300, 10, 5_000), EDGES, SPECIAL]
        ).astype(dtype)
    expected = np.array([math.erf(v) for v in x.tolist()])
    # In float32 the result is one of the two neighbours of the true value.
    bound = spacing(expected, dtype) if dtype == np.float32 else ulps("erf", expected, dtype)
    assert_close(BACKEND.erf(x), expected, bound, dtype)
    assert np.array_equal(np.signbit(BACKEND.erf(x[x == 0])), np.signbit(x[x == 0]))


def test_logarithm_of_normal_agrees_with_the_math_library():
    words = np.concatenate([np.arange(100), 2 ** np.arange(33) - 1, np.arange(0, 2**32, 99_991)])
    u = (words + 0.5) * 2.0**-32
    expected = np.array([math.log(v) for v in u.tolist()])
    assert_close(BACKEND._log(u), expected, ULPS["log"] * spacing(expected, u.dtype), np.float64)


def test_angle_of_normal_agrees_with_the_math_library():
    eighths = np.arange(9) << 29  # where the nearest quarter turn and the signs change
    words = np.concatenate([eighths[:-1], eighths[1:] - 1, np.arange(0, 2**32, 99_991)])
    angle = [2 * math.pi * w / 2**32 for w in words.tolist()]
    cos, sin = BACKEND._cos_sin(words.astype(np.uint32))
    one = spacing(np.ones(1), np.float64)  # the angle itself is rounded, so the bound is absolute
    assert_close(cos, np.cos(angle), ULPS["cos"] * one, np.float64)
    assert_close(sin, np.sin(angle), ULPS["sin"] * one, np.float64)


@pytest.mark.parametrize("columns", [1, 513, 514, 515, 518, 519, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("unsigned", [False, True])
def test_int8_products_are_exact_at_the_edges_of_a_stretch(columns, unsigned):
    """Extreme values with one odd product among them: float32 would lose it beyond 2^24."""
    a = np.full((3, columns), 255 if unsigned else -128, np.uint8 if unsigned else np.int8)
    b = np.full((4, columns), -128, np.int8)
    a[1, columns // 2], b[1:3, columns // 2] = 1, 1
    b[3] = 127
    assert np.array_equal(BACKEND.int8_matmul(a, b), a.astype(np.int64) @ b.T.astype(np.int64))


def test_int8_sums_wrap_as_int32_does():
    columns = 2**17 + 5  # 2^17 products of 2^14 are 2^31
    a = np.full((1, columns), -128, np.int8)
    assert BACKEND.int8_matmul(a, a).item() == -(2**31) + 5 * 2**14


@pytest.mark.parametrize("unsigned", [False, True])
def test_int8_convolution_is_exact_over_many_channels(unsigned):
    rng = np.random.default_rng(0)
    x = rng.integers(200, 256, (1, 300, 3, 3)).astype(np.uint8)
    x = x if unsigned else x.view(np.int8)
    weight = rng.integers(-128, -100, (2, 300, 3, 3)).astype(np.int8)
    y = BACKEND.int8_conv2d(x, weight, weight, 3, (1, 1), (0, 0), (1, 1), 1, None)
    expected = np.einsum("nchw,ochw->no", x.astype(np.int64), weight.astype(np.int64))
    assert np.array_equal(y[:, :, 0, 0], expected)


def _calls(x: np.ndarray) -> dict[str, tuple]:
    """Arguments that divide by zero, overflow and meet infinities, by method."""
    big = np.finfo(x.dtype).max * np.ones_like(x)
    scale, zero_point = np.zeros((), x.dtype), np.zeros((), np.int32)
    convolution = ((1, 1), (0, 0), (1, 1), 1)
    image, kernel = np.stack([x, big]).reshape(1, 2, 1, -1), ((1, 3), (1, 2), (0, 1))
    return {
        **dict.fromkeys(UNARY, (x,)),
        **dict.fromkeys(BINARY, (big, x)),
        "leaky_relu": (x, 0.1),
        "gelu": (x, "none"),
        "gelu_grad": (big, x, "tanh"),
        "softmax": (x, 0),
        "log_softmax": (x, 0),
        "softmax_grad": (big, x, 0),
        "log_softmax_grad": (big, x, 0),
        "cumsum": (big, 0),
        "astype": (x, np.dtype(np.int8)),
        "matmul": (big, big),
        "einsum": ("i,i->", big, big),
        "linear": (image[0, :, 0], image[0, :, 0], None),
        "layer_norm": (image[0, :, 0], x, big, 0.0),
        "batch_norm": (image[:, :, 0], big[:2], x[:2], 0.0),
        "conv2d": (image, image, None, *convolution),
        "conv2d_input_grad": (image[:, :1, :, :1], image, image.shape, *convolution),
        "conv2d_weight_grad": (image[:, :1, :, :1], image, image.shape, *convolution),
        "avg_pool2d": (image, *kernel, False),
        "max_pool2d": (image, *kernel),
        "cross_entropy": (image[0, :, 0], np.array([0, 1]), None, -100, 0.1),
        "dropout": (big, 0.5, 0, 0),
        "dequantize": (np.array([127], np.int8), big[0], zero_point),
        "getitem_grad": (big, np.zeros(len(big), int), x.shape),
        "gather_grad": (big, 0, np.zeros(len(big), int), x.shape),
        "index_add": (big, 0, np.zeros(len(big), int), big),
        "embedding_grad": (image[0].reshape(-1, 1), np.zeros(image.size, int), 1),
        "setitem": (np.zeros(x.shape, np.int8), slice(None), x),
        "copyto": (np.zeros(x.shape, np.int8), x),
        "quantize": (x, scale, zero_point, -128, 127, np.dtype(np.int8)),
        "sgd_step": (big.copy(), x, x.copy(), -1e3, 2.0, 0.0, 1.0, True, False),
        "adam_step": (big.copy(), x, x.copy(), big, 1, 1.0, 0.9, 0.99, 0.0, 1.0, False),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(_calls(np.ones(3))))
def test_infinity_and_nan_are_values_and_not_warnings(name, dtype):
    arguments = _calls(np.array(SPECIAL, dtype))[name]
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        before = np.geterr()
        getattr(BACKEND, name)(*arguments)
        assert np.geterr() == before


VANISHING = np.array([-1000.0, -740.7, -720.3, -50.0, 1e-200, 5e-324, 0.0])
VANISH = {
    **dict.fromkeys(("exp", "sigmoid", "softplus", "silu"), (VANISHING,)),
    "leaky_relu": (-VANISHING[::-1], 0.3),
    "erf": (VANISHING[::-1],),
    "silu_grad": (VANISHING, VANISHING),
    "gelu": (VANISHING, "none"),
    "gelu_grad": (VANISHING, VANISHING, "none"),
    "softmax": (VANISHING, 0),
}


@pytest.mark.parametrize("name", VANISH)
def test_what_vanishes_is_zero_and_not_a_warning(name):
    with np.errstate(all="raise"):
        assert getattr(BACKEND, name)(*VANISH[name])[0] == 0


def test_every_thread_is_quiet_even_where_warnings_are_errors():
    big = np.full(3, 3e38, np.float32)

    def overflow(_: int) -> bool:
        with np.errstate(all="raise"):
            return bool(np.isinf(BACKEND.add(big, big)).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(overflow, range(64)))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        np.add(big, big)  # ours is not the caller's


@pytest.mark.parametrize("kernel", [256, 257, 300])
def test_a_window_may_have_more_than_256_elements(kernel):
    """Where a byte no longer counts them."""
    x = np.arange(600.0).reshape(1, 1, 1, 600)
    y, index = BACKEND.max_pool2d(x, (1, kernel), (1, kernel), (0, 0))
    assert index[0, 0, 0].tolist() == [(i + 1) * kernel - 1 for i in range(600 // kernel)]
    assert np.array_equal(y, index)


def test_variance_of_fewer_elements_than_its_correction_is_no_number():
    """Not a negative one: the divisor stops at 0."""
    assert np.isnan(BACKEND.var(np.array([3.0]), correction=2))
    assert BACKEND.var(np.array([1.0, 3.0]), correction=4) == math.inf


def test_asarray_copies_only_if_it_must_and_takes_numbers_only():
    x = np.arange(3.0)
    assert BACKEND.asarray(x) is x
    assert BACKEND.asarray(np.arange(3, dtype=">i4")).dtype.isnative
    for value in (["a"], [None], 1j):
        with pytest.raises(TypeError, match="numbers"):
            BACKEND.asarray(value)


def test_describe_names_processor_library_and_blas():
    description = BACKEND.describe()
    assert description["numpy"] == np.__version__
    assert all(description[key] for key in ("device", "blas"))


def test_describe_says_what_linux_calls_the_processor(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    text = "flags: fpu\nmodel name\t: A Processor 9 \nmodel name\t: Another\n"
    monkeypatch.setattr(Path, "read_text", lambda self, errors: text)
    assert _processor.__wrapped__() == "A Processor 9"
    monkeypatch.setattr(Path, "read_text", lambda self, errors: "flags: fpu\n")
    assert _processor.__wrapped__() == (platform.processor() or platform.machine())
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert _processor.__wrapped__() == (platform.processor() or platform.machine())


def test_describe_names_the_blas_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    assert BACKEND.describe()["blas"] == f"{blas['name']} {blas['version']}"
