"""tests/cuda_on_cpu runs right kernels right and refuses what a GPU would silently get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests import cuda_on_cpu
from tests.cuda_on_cpu import KernelError, thread_order

pytestmark = pytest.mark.skipif(
    cuda_on_cpu.unavailable() is not None, reason=str(cuda_on_cpu.unavailable())
)

ORDERS = range(5)

KERNELS = r"""
extern "C" __global__ void add(const float* x, float* y, float by, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        y[i] = x[i] + by;
}
extern "C" __global__ void one_too_many(float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = 1;
}
extern "C" __global__ void reverse(const float* x, float* y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void reverse_without_barrier(const float* x, float* y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void warps_apart(const float* x, float* y) {
    __shared__ float tile[64];
    float total = 0;
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = x[threadIdx.x] + round;
        __syncthreads();
        __syncwarp();
        total += tile[63 - threadIdx.x];
        __syncwarp();
    }
    y[threadIdx.x] = total;
}
extern "C" __global__ void lane_sums(const float* x, float* y) {
    float sum = x[threadIdx.x];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    y[threadIdx.x] = sum;
}
extern "C" __global__ void divergent_barrier(float* y) {
    if (threadIdx.x < 7) {
        y[threadIdx.x] = 1;
        __syncthreads();
    }
}
extern "C" __global__ void two_barriers(float* y) {
    if (threadIdx.x < 7)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void absent_lanes(float* y) {
    if (threadIdx.x < 7) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
extern "C" __global__ void dynamic(float* y, int past) {
    extern __shared__ float buffer[];
    buffer[threadIdx.x + past] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = buffer[threadIdx.x + past];
}
extern "C" __global__ void unwritten(float* y) {
    extern __shared__ float buffer[];
    y[threadIdx.x] = buffer[threadIdx.x];
}
extern "C" __global__ void dot(const int* a, const int* b, int* out) {
    out[threadIdx.x] = __dp4a(a[threadIdx.x], b[threadIdx.x], 1);
}
"""


@pytest.fixture(scope="module")
def module():
    return cuda_on_cpu.Module(KERNELS)


def launch(module, name, block, *args, grid=1, shared_mem=0):
    module.kernel(name)((grid,), (block,), args, shared_mem)


@pytest.mark.parametrize("order", ORDERS)
def test_right_kernels_give_right_results_in_every_order(module, order):
    x = np.arange(64, dtype=np.float32)
    y, z, sums = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    with thread_order(order):
        launch(module, "add", 16, x, y, np.float32(0.5), np.int32(64), grid=2)
        launch(module, "reverse", 64, x, z)
        launch(module, "lane_sums", 64, x, sums)
    np.testing.assert_array_equal(y, x + np.float32(0.5))
    np.testing.assert_array_equal(z, x[::-1])
    np.testing.assert_array_equal(sums, np.repeat([x[:32].sum(), x[32:].sum()], 32))


def test_a_missing_barrier_shows_in_some_order(module):
    x = np.arange(1, 65, dtype=np.float32)
    right = []
    for order in ORDERS:
        y = np.empty_like(x)
        with thread_order(order):
            launch(module, "reverse_without_barrier", 64, x, y)
        right.append(np.array_equal(y, x[::-1]))
    assert not all(right)


def test_a_warp_that_runs_ahead_of_the_others_shows_a_missing_barrier(module):
    """Here warps may meet again one round later, when what they should have read is overwritten."""
    x = np.arange(1, 65, dtype=np.float32)
    right = []
    for order in ORDERS:
        y = np.empty_like(x)
        with thread_order(order):
            launch(module, "warps_apart", 64, x, y)
        right.append(np.array_equal(y, 2 * x[::-1] + 1))
    assert right[0], "in lockstep the mistake hides"
    assert not all(right)


def test_a_byte_written_beside_an_array_is_noticed(module):
    with pytest.raises(KernelError, match="wrote beside an array"):
        launch(module, "one_too_many", 128, np.zeros(64, np.float32), np.int32(64))


@pytest.mark.parametrize(
    ("kernel", "complaint"),
    [
        ("divergent_barrier", "divergent barrier"),
        ("two_barriers", "different barriers"),
        ("absent_lanes", "deadlock"),
    ],
)
def test_synchronisation_that_would_hang_is_reported_with_its_line(module, kernel, complaint):
    with pytest.raises(KernelError, match=rf"{complaint}.*line \d+"):
        launch(module, kernel, 32, np.zeros(32, np.float32))


def test_a_failed_launch_leaves_the_next_one_unharmed(module):
    x, y = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    with pytest.raises(KernelError):
        launch(module, "divergent_barrier", 32, np.zeros(32, np.float32))
    launch(module, "reverse", 64, x, y)
    np.testing.assert_array_equal(y, x[::-1])


def test_dynamic_shared_memory_is_measured_and_starts_as_nan(module):
    y = np.empty(32, np.float32)
    launch(module, "dynamic", 32, y, np.int32(0), shared_mem=128)
    np.testing.assert_array_equal(y, np.arange(32))
    launch(module, "unwritten", 32, y, shared_mem=128)
    assert np.isnan(y).all()
    with pytest.raises(KernelError, match="shared memory written past its end"):
        launch(module, "dynamic", 32, y, np.int32(1), shared_mem=128)


@pytest.mark.parametrize(("grid", "block"), [((1,), (1025,)), ((1,), (0,)), ((0,), (1,))])
def test_impossible_launches_are_refused(module, grid, block):
    with pytest.raises(KernelError, match="invalid"):
        module.kernel("reverse")(grid, block, (np.zeros(64, np.float32),) * 2)


def test_arguments_must_have_the_types_of_the_parameters(module):
    x = np.zeros(64, np.float32)
    assert module.kernel("add").parameters == ("Pf4", "pf4", "f4", "i4")
    for args, complaint in [
        ((x, x.astype(np.float64), np.float32(1), np.int32(64)), "argument 1"),
        ((x, x, np.float64(1), np.int32(64)), "argument 2"),
        ((x, x, np.float32(1), np.int64(64)), "argument 3"),
        ((x, x, np.float32(1), 64), "argument 3"),
        ((x, x, np.float32(1)), "takes 4 arguments"),
        ((x[::2], x, np.float32(1), np.int32(32)), "not C-contiguous"),
        ((x[:40], x[8:], np.float32(1), np.int32(40)), "overlaps"),
    ]:
        with pytest.raises(KernelError, match=complaint):
            launch(module, "add", 64, *args)


def test_arrays_that_are_only_read_may_overlap(module):
    a, out = np.arange(40, dtype=np.int32), np.empty(32, np.int32)
    launch(module, "dot", 32, a[:32], a[8:], out)
    np.testing.assert_array_equal(out, [1 + int(i) * (int(i) + 8) for i in range(32)])


def test_dp4a_multiplies_signed_bytes(module):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (32, 4), np.int8) for _ in range(2))
    out = np.empty(32, np.int32)
    launch(module, "dot", 32, a.view(np.int32)[:, 0].copy(), b.view(np.int32)[:, 0].copy(), out)
    np.testing.assert_array_equal(out, (a.astype(np.int32) * b).sum(1) + 1)


def test_text_that_is_not_c_plus_plus_is_reported():
    with pytest.raises(KernelError, match="undefined_thing"):
        cuda_on_cpu.Module('extern "C" __global__ void f(float* x) { x[0] = undefined_thing; }')


def test_an_unknown_kernel_is_named(module):
    with pytest.raises(KernelError, match="no kernel 'missing'"):
        module.kernel("missing")
