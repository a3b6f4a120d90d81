"""The `.cu` files: they compile for GPUs, give the reference's results in any order, and ship."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import backends
from backends import BackendUnavailable
from backends.cupy_backend import integers, kernels
from minidl.verify import oracle
from minidl.verify.strategies import fill
from minidl.verify.tolerances import ULPS, assert_close, assert_same, gamma, unit_roundoff
from tests import cupy_standin
from tests.conftest import STAND_IN, start_or_skip
from tests.cuda_on_cpu import thread_order

FLOATS = (np.float32, np.float64)
ORDERS = range(5)
ARCHITECTURES = ("75", "80", "90", "120")
CUPY_OPTIONS = ("-ftz=true",)  # what CuPy adds to the options of a RawModule


@pytest.fixture(scope="module")
def standin():
    try:
        return cupy_standin.backend()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=[STAND_IN, "cupy"])
def device(request):
    """The backend on the stand-in and, where there is a GPU, on it."""
    return start_or_skip(request.param)


def orders(backend):
    """A GPU has an order of its own."""
    return ORDERS if backend is cupy_standin.backend() else (0,)


# -- compilation for GPUs ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def nvrtc():
    """CUDA's run-time compiler through CuPy; it needs no driver."""
    pytest.importorskip("cupy", reason="NVRTC is reached through CuPy, which is not installed")
    from cupy_backends.cuda.libs import nvrtc

    try:
        nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    return nvrtc


def compiled(nvrtc: Any, file: str, options: tuple[str, ...], architecture: str) -> str:
    """The compiler's log of a file, after it has made machine code."""
    program = nvrtc.createProgram(kernels.source(file), file, [], [])
    flags = (*options, *CUPY_OPTIONS, "--ptxas-options=-v", f"-arch=sm_{architecture}")
    try:
        nvrtc.compileProgram(program, list(flags))
    except nvrtc.NVRTCError:
        pytest.fail(f"{file} with {flags}:\n{nvrtc.getProgramLog(program)}")
    assert nvrtc.getCUBIN(program)
    log: str = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    return log


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", kernels.FILES)
def test_every_file_compiles_for_gpus_without_spilling(nvrtc, file, architecture, record_property):
    codes = kernels.CODES if file == "integers.cu" else (None,)
    ends = architecture in (ARCHITECTURES[0], ARCHITECTURES[-1])
    for real in kernels.FILES[file] if ends else kernels.FLOATS:
        for code in codes:
            log = compiled(nvrtc, file, kernels.options(real, code), architecture)
            registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
            spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", log)]
            record_property(f"registers {real}", registers)
            names = re.findall(r"__global__ void (\w+)", kernels.source(file))
            assert len(registers) == len(names), log
            assert not any(spills), log
            assert "warning" not in log, log


def test_the_table_of_files_is_complete():
    found = {path.name for path in kernels.FOLDER.glob("*.cu")} - {"common.cu"}
    assert found == set(kernels.FILES)


def test_what_is_compiled_is_the_text_of_the_files(standin, monkeypatch):
    seen = []
    original = standin.xp.RawModule

    def spy(code, options):
        seen.append((code, options))
        return original(code=code, options=options)

    loader = kernels.Kernels(spy)
    words = standin.xp.empty(4, np.uint32)
    start = (np.uint64(0), np.uint64(0), np.uint64(0), np.int64(4))
    loader.launch("random.cu", "philox", kernels.ANY_FLOAT, kernels.over_items(1), [words, *start])
    ((code, options),) = seen
    common, own = (
        (kernels.FOLDER / name).read_text(encoding="utf-8") for name in ("common.cu", "random.cu")
    )
    assert code.startswith(common)
    assert code.endswith(own)
    assert code.replace(common, "").replace(own, "") == '#line 1 "random.cu"\n'
    assert "--fmad=false" in options


def test_kernels_refuse_arguments_whose_type_would_be_a_guess(standin):
    grid = kernels.over_items(1)
    with pytest.raises(TypeError, match="NumPy scalar"):
        standin._kernels.launch("random.cu", "philox", kernels.ANY_FLOAT, grid, [1.0])
    with pytest.raises(OverflowError):
        standin._kernels.launch("random.cu", "philox", kernels.ANY_FLOAT, grid, [2**31])
    with pytest.raises(TypeError, match="not for elements of int8"):
        standin._kernels.launch("losses.cu", "cross_entropy", np.dtype(np.int8), grid, [])


@pytest.mark.parametrize("sizes", [(3, 2**31 - 1, 1), (3, 1, 2**31 - 1)])
def test_planes_too_large_for_the_counters_of_kernels_are_refused(sizes):
    step = kernels.MAX_GRID_Y * 128
    assert kernels.MAX_COUNT + step < 2**31, "a counter passes the end by a step at most"
    with pytest.raises(OverflowError, match="split the array"):
        kernels.over_planes(*sizes)


def test_rows_and_channels_too_large_for_the_counters_of_kernels_are_refused(standin):
    grid = kernels.over_items(1)
    with pytest.raises(OverflowError, match="split the array"):
        standin._kernels.launch("random.cu", "philox", kernels.ANY_FLOAT, grid, [2**31 - 1])


# -- results -----------------------------------------------------------------------------------
#
# `device` is the stand-in and, where there is one, a GPU. On these inputs every intermediate value
# is exact in float32, so the results must be the reference's bit for bit; and a race or a missing
# barrier would show in some order.

CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
POOL = ((3, 2), (2, 1), (1, 1))


def exact(shape, dtype, seed=0):
    return fill(shape, dtype, "integers", seed)


def unit_rows(rows, columns, dtype):
    """Rows of as many 2 as -2: mean 0, standard deviation 2, all exactly."""
    rng = np.random.default_rng(1)
    row = np.repeat(np.array([2, -2], dtype), columns // 2)
    return np.stack([rng.permutation(row) for _ in range(rows)])


def im2col(backend, dtype):
    x = backend.asarray(exact((2, 3, 7, 5), dtype))
    cols = backend.im2col(x, (3, 2), *CONV.values(), 9)
    return cols, backend.col2im(cols, x.shape, (3, 2), *CONV.values())


def max_pool(backend, dtype):
    x = exact((2, 3, 9, 8), dtype)
    x[0, 0, 4, 4] = np.nan
    x[1, 1] = -np.inf
    x = backend.asarray(x)
    y, index = backend.max_pool2d(x, *POOL)
    grad = backend.asarray(exact(y.shape, dtype, 1))
    return y, index, backend.max_pool2d_grad(grad, index, x.shape)


def avg_pool(backend, dtype):
    x = backend.asarray(exact((2, 3, 8, 8), dtype))
    parts = []
    for padded in (True, False):
        y = backend.avg_pool2d(x, (2, 2), (1, 2), (1, 1), padded)
        parts += [y, backend.avg_pool2d_grad(y, x.shape, (2, 2), (1, 2), (1, 1), padded)]
    return parts


def layer_norm(backend, dtype):
    x = backend.asarray(unit_rows(5, 256, dtype))
    weight, bias, grad = (backend.asarray(exact(s, dtype)) for s in ((256,), (256,), (5, 256)))
    y, mean, inv_std = backend.layer_norm(x, weight, bias, 0.0)
    return y, mean, inv_std, *backend.layer_norm_grad(grad, x, weight, mean, inv_std)


def batch_norm(backend, dtype):
    x = unit_rows(3, 128, dtype).reshape(3, 8, 16).transpose(1, 0, 2).copy()
    x = backend.asarray(x)
    weight, bias, grad = (backend.asarray(exact(s, dtype)) for s in ((3,), (3,), x.shape))
    y, mean, var = backend.batch_norm(x, weight, bias, 0.0)
    return y, mean, var, *backend.batch_norm_grad(grad, x, weight, mean, var, 0.0)


def scatter(backend, dtype):
    rng = np.random.default_rng(2)
    index, grad = backend.asarray(rng.integers(0, 4, (3, 40))), exact((3, 40, 12), dtype)
    grad = backend.asarray(grad)
    rows = backend.embedding_grad(grad, index, 5)
    x, source = backend.asarray(exact((2, 4, 3), dtype)), backend.asarray(exact((2, 9, 3), dtype))
    added = backend.index_add(x, 1, backend.asarray(rng.integers(-4, 4, 9)), source)
    pairs = tuple(backend.asarray(rng.integers(-2, 2, 40)) for _ in range(2))
    picked = backend.getitem_grad(grad[0], pairs, (2, 2, 12))
    return rows, added, picked, backend.gather_grad(grad[0, :3], 0, index[:, :12], (4, 12))


def random_words(backend, dtype):
    x = backend.asarray(exact((3, 111), dtype))
    start = 2**32 - 5  # the counter's upper word changes on the way
    return (
        backend.philox(2**40 + 7, start, 1001),
        backend.uniform(3, start, (7, 3), np.dtype(dtype)),
        backend.normal(3, start, (7, 3), np.dtype(dtype)),
        *backend.dropout(x, 0.3, 5, start),
    )


def quantized(backend, dtype):
    x = fill((6, 5, 4), dtype, "normal", 3)
    x[0, 0] = [np.nan, np.inf, -np.inf, 0.625]
    x, scale = backend.asarray(x), backend.asarray(np.linspace(0.1, 0.2, 6).astype(dtype))
    scale, zero = backend.reshape(scale, (6, 1, 1)), np.arange(5, 11, dtype=np.int32)
    zero = backend.asarray(zero.reshape(6, 1, 1))
    codes = backend.quantize(x, scale, zero, 0, 255, np.dtype(np.uint8))
    return codes, backend.dequantize(codes, scale, zero)


def products(backend, dtype):
    rng = np.random.default_rng(4)
    b = backend.asarray(rng.integers(-128, 128, (19, 37), np.int8))
    x = backend.asarray(rng.integers(0, 256, (2, 3, 6, 5), np.uint8))
    weight = backend.asarray(rng.integers(-128, 128, (4, 3, 3, 2), np.int8))
    long = backend.asarray(rng.integers(-128, 128, (20, 200), np.int8))  # several tiles
    return (
        backend.int8_matmul(backend.asarray(rng.integers(-128, 128, (21, 37), np.int8)), b),
        backend.int8_matmul(backend.asarray(rng.integers(0, 256, (5, 37), np.uint8)), b),
        backend.int8_matmul(long, long),
        backend.int8_conv2d(x, weight, weight, 7, *CONV.values(), 1, None),
    )


def optimizers(backend, dtype):
    """On any values: the kernels round each operation as the reference does."""

    def arrays(count):
        found = [fill((300,), dtype, "normal", seed) for seed in range(count)]
        return [backend.asarray(np.abs(a) if i > 1 else a) for i, a in enumerate(found)]

    done = []
    for first, nesterov in ((True, False), (False, True)):
        done.append(arrays(3))
        backend.sgd_step(*done[-1], 0.1, 0.9, 0.1, 0.01, nesterov, first)
    done.append(arrays(2))
    backend.sgd_step(*done[-1], None, 0.1, 0.0, 0.0, 0.0, False, True)
    done.append(arrays(4))
    backend.rmsprop_step(*done[-1], 0.1, 0.99, 1e-8, 0.01, 0.9)
    done.append(arrays(3))
    backend.rmsprop_step(*done[-1], None, 0.1, 0.99, 1e-8, 0.0, 0.0)
    done.append(arrays(3))
    backend.adagrad_step(*done[-1], 0.1, 1e-10, 0.01)
    for decoupled in (False, True):
        done.append(arrays(4))
        backend.adam_step(*done[-1], 3, 0.1, 0.9, 0.999, 1e-8, 0.01, decoupled)
    return [array for step in done for array in step]


EXACT = [
    im2col, max_pool, avg_pool, layer_norm, batch_norm, scatter, random_words, quantized, products,
    optimizers,
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", EXACT)
def test_kernels_give_the_bits_of_the_reference_in_every_order(device, case, dtype):
    reference = backends.get("numpy")
    expected = [reference.to_numpy(a) for a in case(reference, dtype)]
    for order in orders(device):
        with thread_order(order):
            actual = [device.to_numpy(a) for a in case(device, dtype)]
        for got, want in zip(actual, expected, strict=True):
            assert_same(got, want, signed_zero=False)


@pytest.mark.parametrize("case", EXACT)
def test_threads_that_take_several_items_give_the_same_bits(device, case, monkeypatch):
    """As they do where an array needs more blocks than a launch may have."""
    for module, name in (kernels, "MAX_BLOCKS"), (kernels, "MAX_GRID_Y"), (integers, "MAX_GRID_Y"):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(kernels, "BLOCK", kernels.WARP)
    monkeypatch.setattr(device, "_cublas_works", False)
    reference = backends.get("numpy")
    expected, actual = case(reference, np.float32), case(device, np.float32)
    for got, want in zip(actual, expected, strict=True):
        assert_same(device.to_numpy(got), reference.to_numpy(want), signed_zero=False)


CLASSES = (3, 32, 300)


def loss_arguments(classes, dtype):
    """Of cross_entropy, on the host: weighted, smoothed, and with a row that is ignored."""
    logits, weight = exact((7, classes), dtype), np.abs(exact((classes,), dtype, 1)) + 1
    target = np.random.default_rng(5).integers(0, classes, 7)
    target[3] = -100
    return logits, target, weight, -100, 0.1


def losses(backend, *host):
    """cross_entropy and the gradient of its sum."""
    args = [backend.asarray(a) if isinstance(a, np.ndarray) else a for a in host]
    loss, log_probs = backend.cross_entropy(*args)
    ones = backend.full(loss.shape, 1, loss.dtype)
    grad = backend.cross_entropy_grad(ones, log_probs, *args[1:])
    return [backend.to_numpy(a) for a in (loss, log_probs, grad)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", CLASSES)
def test_cross_entropy_is_the_same_in_every_order_and_close_to_the_oracle(device, classes, dtype):
    """|logits| <= 4; exp and log round by ULPS, their sum by gamma, two subtractions by 2 u."""
    host, results = loss_arguments(classes, dtype), []
    for order in orders(device):
        with thread_order(order):
            results.append(losses(device, *host))
        assert not results[-1][2][3].any(), "an ignored row has no gradient"
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert_same(got, want)
    expected = oracle.cross_entropy(*host)
    magnitude = 8 + np.log(classes)  # of any log-probability here
    roundings = 2 * (ULPS["exp"] + ULPS["log"] + 2)
    one = (roundings * unit_roundoff(dtype) + gamma(classes, dtype)) * magnitude
    assert_close(results[0][1], expected[1], one, dtype)
    total = np.abs(host[2]).max() * (one + gamma(classes + 4, dtype) * magnitude)
    assert_close(results[0][0], expected[0], total, dtype)


def test_int8_products_without_cublas_and_with_one_that_declines(standin):
    from backends.cupy_backend import CupyBackend
    from backends.cupy_backend.libraries import Libraries

    class Declining:
        calls = 0

        def gemmEx(self, *args):  # noqa: N802 (cuBLAS's name)
            self.calls += 1
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    expected = [backends.get("numpy").to_numpy(a) for a in products(backends.get("numpy"), None)]
    declining, erf = Declining(), cupy_standin.erf
    for cublas in (None, declining):
        backend = CupyBackend(Libraries(cupy_standin.cupy, erf, cublas))
        for order in ORDERS:
            with thread_order(order):
                for got, want in zip(products(backend, None), expected, strict=True):
                    assert_same(backend.to_numpy(got), want)
    assert declining.calls == 1, "a cuBLAS that declined is not asked again"


def test_int8_products_reach_cublas_where_it_is(standin):
    cublas = standin._libraries.cublas
    before = cublas.calls
    products(standin, None)
    assert cublas.calls == before + 4
