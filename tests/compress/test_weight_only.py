"""Layers whose weights alone are codes: what they compute, what they weigh, and their files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import (
    QuantEmbedding,
    WeightOnlyLinear,
    clone,
    layer_sqnr,
    load,
    quantize,
    quantize_model,
    quantize_weights,
    report,
    save,
)
from minidl.errors import (
    ArgumentError,
    BackendMismatch,
    CheckpointError,
    DTypeError,
    GraphError,
    IndexRangeError,
    NonFiniteError,
    ShapeError,
)
from minidl.verify.strategies import fill, seeds
from minidl.verify.tolerances import assert_close, assert_same, sum_bound

from .models import mlp, state, vectors

HOW = st.fixed_dictionaries(
    {"bits": st.sampled_from((4, 8)), "group_size": st.none() | st.integers(1, 40)}
)


def linear(backend, seed: int, columns: int = 37, outputs: int = 6) -> nn.Linear:
    return nn.Linear(columns, outputs, backend=backend, generator=minidl.Generator(seed))


@given(how=HOW, rows=st.integers(0, 3), seed=seeds)
def test_it_is_the_float_layer_with_the_weight_of_its_codes(backend, how, rows, seed):
    layer = quantize_weights(linear(backend, seed), **how)
    x = fill((rows, 37), np.float32, "normal", seed)
    weight, bias = (a.numpy().astype(np.float64) for a in (layer.qweight.dequantize(), layer.bias))
    expected = x.astype(np.float64) @ weight.T + bias
    bound = sum_bound(np.abs(x) @ np.abs(weight.T) + np.abs(bias), 37 + 2, np.float32)
    assert_close(layer(minidl.tensor(x, backend=backend)).numpy(), expected, bound, np.float32)


@given(how=HOW, seed=seeds)
def test_codes_are_those_of_quantize(backend, how, seed):
    float_layer = linear(backend, seed)
    layer = quantize_weights(float_layer, **how)
    scheme = ("symmetric", "int8") if how["bits"] == 8 else ("affine", "int4")
    size = min(how["group_size"] or (37 if how["bits"] == 8 else 128), 37)
    q = quantize(float_layer.weight.detach(), *scheme, group_size=size)
    assert_same(layer.qweight.numpy(), q.numpy())
    assert_same(layer.qweight.dequantize().numpy(), q.dequantize().numpy())


@pytest.mark.parametrize("shape", [(37,), (2, 3, 37), (0, 37), (2, 0, 37)])
def test_any_leading_axes(backend, shape):
    layer = quantize_weights(linear(backend, 0), 4)
    assert layer(minidl.ones(shape, backend=backend)).shape == (*shape[:-1], 6)


def test_packed_codes_take_half_a_byte(backend):
    layer = quantize_weights(linear(backend, 0, 256, 10), 4)
    assert layer.codes.dtype == np.uint8
    assert layer.codes.shape == (10, 128)
    assert layer.weight_scale.shape == (10, 2)


def test_least_error_is_closer(backend):
    float_layer = linear(backend, 0, 512, 64)
    with minidl.no_grad():
        noise = minidl.randn(64, 512, generator=minidl.Generator(1), backend=backend)
        float_layer.weight.copy_(noise)
    x = minidl.randn(20, 512, generator=minidl.Generator(2), backend=backend)
    plain, best = (
        layer_sqnr(float_layer, quantize_weights(float_layer, 4, 512, least_error=e), x)[""]
        for e in (False, True)
    )
    assert best > plain + 1


def tokens(backend) -> tuple[nn.Sequential, minidl.Tensor]:
    model = nn.Sequential(
        nn.Embedding(50, 33, backend=backend, generator=minidl.Generator(0)),
        nn.Linear(33, 8, backend=backend, generator=minidl.Generator(1)),
    )
    return model, minidl.tensor([[0, 49, 7], [7, 7, 1]], backend=backend)


def test_an_embedding_looks_up_decoded_rows(backend):
    model, index = tokens(backend)
    layer = quantize_weights(model)[0]
    assert isinstance(layer, QuantEmbedding)
    expected = layer.qweight.dequantize().numpy()[index.numpy()]
    assert_same(layer(index).numpy(), expected)
    with pytest.raises(IndexRangeError, match="QuantEmbedding"):
        layer(index + 1)
    with pytest.raises(DTypeError, match="integers"):
        layer(index.astype("float32"))


@pytest.mark.parametrize(("bits", "size"), [(8, None), (8, 16), (4, None), (4, 7)])
def test_models_are_saved_and_loaded_down_to_the_bit(backend, tmp_path, bits, size):
    model, index = tokens(backend)
    compressed = quantize_weights(model, bits, size)
    path = tmp_path / "model.safetensors"
    save(compressed, path)
    twin = load(tokens(backend)[0], path)
    assert repr(twin) == repr(compressed)
    assert state(twin) == state(compressed)
    assert_same(twin(index).numpy(), compressed(index).numpy())
    with pytest.raises(CheckpointError, match="architecture"):
        load(nn.Sequential(nn.ReLU(), nn.ReLU()), path)


def test_files_are_smaller_by_the_bits(tmp_path):
    model, sizes = nn.Linear(512, 512, bias=False), {}
    for name, m in (
        ("32", model),
        ("8", quantize_weights(model)),
        ("4", quantize_weights(model, 4)),
    ):
        save(m, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["8"] < 0.26 * sizes["32"]
    assert sizes["4"] < 0.15 * sizes["32"]  # half a byte, and 8 bytes for 128 weights


def test_a_clone_and_a_model_that_moves_compute_the_same(backend, reference):
    model, index = tokens(backend)
    compressed = quantize_weights(model, 4)
    assert_same(clone(compressed)(index).numpy(), compressed(index).numpy())
    there = clone(compressed).to(reference)
    assert there[1].codes.backend is reference
    assert_same(there[1].qweight.numpy(), compressed[1].qweight.numpy())


def test_the_model_itself_changes_only_if_asked(backend):
    model = mlp(backend)
    before = state(model)
    quantize_weights(model, modules=["0"])
    assert state(model) == before
    same = quantize_weights(model, modules=["0"], inplace=True)
    assert same is model
    assert isinstance(model[0], WeightOnlyLinear)
    assert isinstance(model[2], nn.Linear)
    assert not model.training


def test_the_report_knows_such_layers(backend):
    model, x = mlp(backend), vectors(backend)
    stages = {"float32": model, "int4": quantize_weights(model, 4)}
    found = report(stages, [(x, model(x).argmax(1))], rounds=2)
    assert found["int4"].parameters == found["float32"].parameters
    assert found["int4"].multiply_adds == found["float32"].multiply_adds
    assert all(10 < db < 60 for db in found["int4"].sqnr_db.values())


def test_there_is_no_gradient(backend):
    layer = quantize_weights(linear(backend, 0))
    x = minidl.ones((2, 37), requires_grad=True, backend=backend)
    with pytest.raises(GraphError, match="no gradient"):
        layer(x).sum().backward()


def test_wrong_inputs_are_refused(backend, other):
    layer = quantize_weights(linear(backend, 0))
    with pytest.raises(ShapeError, match="37 features"):
        layer(minidl.ones((2, 36), backend=backend))
    with pytest.raises(ShapeError, match="37 features"):
        layer(minidl.ones((), backend=backend))
    with pytest.raises(DTypeError, match="float32"):
        layer(minidl.ones((2, 37), "float64", backend=backend))
    with pytest.raises(BackendMismatch):
        layer(minidl.ones((2, 37), backend=other))
    with pytest.raises(BackendMismatch):
        quantize_weights(tokens(backend)[0])[0](minidl.tensor([0], backend=other))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"bits": 3}, ArgumentError, "8 or 4"),
        ({"group_size": 0}, ArgumentError, "group_size"),
        ({"modules": ["9"]}, ArgumentError, "no module '9'"),
        ({"modules": ["1"]}, ArgumentError, "no Linear or Embedding"),
    ],
)
def test_wrong_settings_are_refused(backend, options, error, match):
    with pytest.raises(error, match=match):
        quantize_weights(mlp(backend), **options)


def test_wrong_models_are_refused(backend):
    with pytest.raises(DTypeError, match=r"model.float\(\)"):
        quantize_weights(nn.Linear(3, 2, dtype="float64", backend=backend))
    with pytest.raises(ArgumentError, match="no Linear"):
        quantize_weights(quantize_weights(mlp(backend)))
    with pytest.raises(ArgumentError, match="quantized already"):
        quantize_model(quantize_weights(mlp(backend)))
    broken = mlp(backend)
    with minidl.no_grad():
        broken[0].weight[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="quantize"):
        quantize_weights(broken)
