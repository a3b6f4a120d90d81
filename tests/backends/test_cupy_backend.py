"""The backend around the kernels: no hidden synchronisation, and clear words where no GPU is."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest

import backends
from backends import BackendUnavailable
from backends.cupy_backend import CupyBackend, libraries
from tests import cupy_standin
from tests.cupy_standin import counted_syncs


@pytest.fixture(scope="module")
def standin():
    try:
        return cupy_standin.backend()
    except BackendUnavailable as error:
        pytest.skip(str(error))


def training_step(b, state):
    """Convolution to optimizer, with every fused kernel on the way; returns the loss."""
    x, label, weight, gamma, beta, head, velocity = state
    window = (1, 1), (1, 1), (1, 1), 1
    h = b.conv2d(x, weight, None, *window)
    flat = b.reshape(h, (4, 8, 64))
    normal, mean, var = b.batch_norm(flat, gamma, beta, 1e-5)
    active = b.relu(b.reshape(normal, h.shape))
    pooled, index = b.max_pool2d(active, (2, 2), (2, 2), (0, 0))
    averaged = b.avg_pool2d(pooled, (2, 2), (2, 2), (0, 0), True)
    kept, _ = b.dropout(b.reshape(averaged, (4, 32)), 0.25, 1, 0)
    loss, log_probs = b.cross_entropy(b.linear(kept, head, None), label, None, -100, 0.1)
    grad = b.full((4,), 0.25, np.dtype(np.float32))
    grad = b.cross_entropy_grad(grad, log_probs, label, None, -100, 0.1)
    head_grad = b.matmul(b.transpose(grad, (1, 0)), kept)
    grad = b.reshape(b.matmul(grad, head), averaged.shape)
    grad = b.avg_pool2d_grad(grad, pooled.shape, (2, 2), (2, 2), (0, 0), True)
    grad = b.relu_grad(b.max_pool2d_grad(grad, index, active.shape), active)
    grad, *_ = b.batch_norm_grad(b.reshape(grad, flat.shape), flat, gamma, mean, var, 1e-5)
    grad = b.reshape(grad, h.shape)
    weight_grad = b.conv2d_weight_grad(grad, x, weight.shape, *window)
    b.conv2d_input_grad(grad, weight, x.shape, *window)
    for param, g in ((head, head_grad), (weight, weight_grad)):
        flat_param, flat_grad = b.reshape(param, (-1,)), b.reshape(g, (-1,))
        b.sgd_step(flat_param, flat_grad, None, 0.1, 0.0, 0.0, 0.0, False, True)
    mean, square = velocity
    b.adam_step(gamma, gamma, mean, square, 1, 0.1, 0.9, 0.999, 1e-8, 0.0, True)
    return b.mean(loss)


def other_operations(b, x, index):
    """What a step of another model would call."""
    rows = b.embedding(x, index)
    b.embedding_grad(rows, index, x.shape[0])
    b.index_add(x, 0, index, rows)
    b.getitem_grad(rows, index, x.shape)
    column = b.reshape(index, (-1, 1))
    b.gather_grad(b.gather(rows, 1, column), 1, column, rows.shape)
    y, mean, inv_std = b.layer_norm(x, x[0], x[1], 1e-5)
    b.layer_norm_grad(y, x, x[0], mean, inv_std)
    b.gelu(b.erf(b.softmax(x, 1)), "none")
    b.normal(1, 2, (5, 3), np.dtype(np.float32))
    one, zero = b.full((), 0.5, np.dtype(np.float32)), b.full((), 3, np.dtype(np.int32))
    q = b.quantize(x, one, zero, -128, 127, np.dtype(np.int8))
    b.dequantize(b.int8_matmul(q, q), one, zero)


def initial(b):
    rng = np.random.default_rng(0)
    shapes = [(4, 3, 8, 8), (8, 3, 3, 3), (8,), (8,), (10, 32), (8,), (8,)]
    x, weight, gamma, beta, head, mean, square = (
        b.asarray(rng.standard_normal(s).astype(np.float32)) for s in shapes
    )
    label = b.asarray(rng.integers(0, 10, 4))
    return x, label, weight, gamma, beta, head, (mean, b.multiply(square, square))


def test_a_training_step_never_waits_for_the_gpu(standin):
    state, index = initial(standin), standin.asarray(np.array([3, 0, 3, 1]))
    with counted_syncs() as syncs:
        loss = training_step(standin, state)
        other_operations(standin, standin.reshape(state[5], (10, 32)), index)
        standin.synchronize()
    assert syncs == []
    assert standin.all_finite(loss)


def test_only_these_methods_wait(standin):
    x = standin.asarray(np.array([1.0, -2.0], np.float32))
    for ask, answer in ((standin.bounds, (-2, 1)), (standin.all_finite, True)):
        with counted_syncs() as syncs:
            assert ask(x) == answer
        assert len(syncs) == 1
    with counted_syncs() as syncs:
        assert standin.to_numpy(x).tolist() == [1, -2]
    assert len(syncs) == 1


def test_two_runs_give_the_same_bits(standin):
    def trained():
        state = initial(standin)
        loss = [standin.to_numpy(training_step(standin, state)).tobytes() for _ in range(3)]
        return loss, standin.to_numpy(state[2]).tobytes()

    assert trained() == trained()


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_of_several_nan_the_first_is_reported(standin, name):
    x = np.array([[1, np.nan, 3, np.nan], [4, 1, 4, 1]], np.float32)
    for axis in (None, 0, 1):
        found = getattr(standin, name)(standin.asarray(x), axis)
        expected = getattr(backends.get("numpy"), name)(x, axis)
        np.testing.assert_array_equal(standin.to_numpy(found), expected)


def test_asarray_checks_and_converts_on_the_host(standin):
    x = standin.asarray([[1, 2], [3, 4]], np.dtype(np.float32))
    assert x.dtype == np.float32
    assert standin.asarray(x) is x
    assert standin.asarray(x, np.dtype(np.float64)).dtype == np.float64
    swapped = np.arange(3, dtype=">f4")
    assert standin.to_numpy(standin.asarray(swapped)).tolist() == [0, 1, 2]
    with pytest.raises(TypeError):
        standin.asarray(["a"])


def test_describe_names_the_device_in_text(standin):
    described = standin.describe()
    assert {"device", "compute capability", "cuda driver", "cupy"} <= described.keys()
    assert all(isinstance(value, str) for value in described.values())


def fake_cupy(available):
    """A module with what `libraries.load` asks of CuPy."""

    def count():
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    cuda = types.SimpleNamespace(
        is_available=lambda: available, runtime=types.SimpleNamespace(getDeviceCount=count)
    )
    module = types.ModuleType("cupy")
    module.__dict__.update(__version__="14.2.0", cuda=cuda)
    special = types.ModuleType("cupyx.scipy.special")
    special.__dict__["erf"] = object()
    return {
        "cupy": module,
        "cupyx": types.ModuleType("cupyx"),
        "cupyx.scipy": types.ModuleType("cupyx.scipy"),
        "cupyx.scipy.special": special,
    }


def test_without_cupy_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailable, match=r"minidl\[cuda12\]"):
        CupyBackend()


def test_without_a_gpu_the_message_says_what_the_runtime_said(monkeypatch):
    for name, module in fake_cupy(available=False).items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(BackendUnavailable, match="finds no usable GPU: cudaErrorNoDevice"):
        CupyBackend()


def test_without_cublas_the_backend_still_loads(monkeypatch):
    modules = {**fake_cupy(available=True), "cupy_backends": None}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = libraries.load()
    assert found.cublas is None
    assert found.cupy is modules["cupy"]


def test_importing_backends_does_not_import_cupy():
    code = (
        "import sys, backends.cupy_backend; "
        "sys.exit(any(m.partition('.')[0] in ('cupy', 'cupyx', 'numba') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
