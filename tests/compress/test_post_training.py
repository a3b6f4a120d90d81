"""quantize_model: what is replaced, which ranges are used, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import MinMax, QuantConv2d, QuantLinear, clone, prune, quantize_model
from minidl.data import ArrayDataset, DataLoader
from minidl.errors import ArgumentError, DTypeError, NonFiniteError

from .models import cnn, images, mlp, state, vectors

weights = st.sampled_from(("per_channel", "per_tensor"))
activations = st.sampled_from(("affine", "symmetric"))


def kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.children()]


def test_a_copy_is_quantized_and_the_model_left_as_it_was(backend):
    model = cnn(backend)
    before, text = state(model), repr(model)
    result = quantize_model(model)
    assert kinds(result) == [
        "QuantConv2d",
        "ReLU",
        "QuantConv2d",
        "Flatten",
        "Dropout",
        "QuantLinear",
    ]
    assert (state(model), repr(model), model.training) == (before, text, True)
    assert not any(module._pre_hooks for module in model.modules())
    assert not any(module.training for module in result.modules())


def test_in_place_the_model_itself_changes(backend):
    model = mlp(backend)
    assert quantize_model(model, inplace=True) is model
    assert kinds(model) == ["QuantLinear", "ReLU", "QuantLinear"]


def test_a_single_layer_is_a_model_too(backend):
    assert type(quantize_model(nn.Linear(2, 3, backend=backend))) is QuantLinear
    assert type(quantize_model(nn.Conv2d(2, 3, 1, backend=backend))) is QuantConv2d


def test_a_layer_used_twice_is_one_quantized_layer(backend):
    layer = nn.Linear(3, 3, backend=backend)
    result = quantize_model(nn.Sequential(layer, nn.ReLU(), layer))
    assert result[0] is result[2]
    assert type(result[0]) is QuantLinear


def test_static_models_are_programs_and_the_model_stays_as_it_was(backend):
    model, x = cnn(backend), images(backend)
    before, text = state(model), repr(model)
    result = quantize_model(model, [x])
    assert [step.kind for step in result.steps] == ["quantize", "layer", "layer", "move", "layer"]
    assert (state(model), repr(model), model.training) == (before, text, True)
    assert not any(module._pre_hooks or module._hooks for module in model.modules())
    assert not any(module.training for module in result.modules())


@given(weights=weights, activations=activations)
def test_ranges_codes_and_scales_are_the_same_bits_everywhere(
    backend, reference, weights, activations
):
    """Of the first layer: what comes later depends on rounding in the float layers before it."""
    here, there = (
        quantize_model(cnn(b), [images(b)], weights, activations) for b in (backend, reference)
    )
    assert state(here.steps[1]) == state(there.steps[1])
    assert here.scale.tolist()[0] == there.scale.tolist()[0]


def test_calibration_takes_in_all_batches_of_any_kind(backend):
    model = nn.Linear(7, 5, backend=backend)
    batches = [vectors(backend, seed=seed) for seed in (1, 2, 3)]
    together = np.concatenate([x.numpy() for x in batches])
    whole = quantize_model(model, [minidl.tensor(together, backend=backend)])
    labels = minidl.zeros(5, backend=backend)
    loader = DataLoader(ArrayDataset(together, np.arange(15)), batch_size=4)
    for data in (
        batches,
        iter(batches),
        [(x, labels) for x in batches],
        [[x] for x in batches],
        loader,
    ):
        assert state(quantize_model(model, data)) == state(whole)


def test_calibration_runs_in_eval_mode(backend):
    """Dropout would double half of the inputs."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(7, 5, backend=backend))
    result = quantize_model(model, [vectors(backend)])
    assert state(result) == state(quantize_model(model[1], [vectors(backend)]))


def test_another_observer_is_another_class(backend):
    class Fixed(MinMax):
        def bounds(self):
            return -2.0, 2.0

    result = quantize_model(mlp(backend), [vectors(backend)], observer=Fixed)
    assert result.scale.tolist() == [np.float32(4 / 255)] * 2


def test_chosen_modules_alone_are_quantized(backend):
    result = quantize_model(cnn(backend), modules=["2", "5"])
    assert kinds(result)[0] == "Conv2d"
    assert kinds(result)[2] == "QuantConv2d"
    result = quantize_model(cnn(backend), [images(backend)], modules=["2", "5"])
    assert [layer.path for layer in result.layers()] == ["2", "5"]
    assert result.steps[0].describe() == "Conv2d"
    whole = quantize_model(nn.Sequential(cnn(backend)), [images(backend)], modules=["0"])
    assert [layer.path for layer in whole.layers()] == ["0.0", "0.2", "0.5"]


def test_zeros_of_a_pruned_model_stay_zeros(backend):
    model = prune.magnitude(cnn(backend), 0.8)
    result = quantize_model(model, [images(backend)])
    layers = {layer.path: layer for layer in result.layers()}
    for target in prune.masked(model):
        found = layers[target.path].weight.numpy()
        assert not found[~target.mask.numpy()].any()
    assert prune.sparsity(result) >= prune.sparsity(model)
    assert prune.sparsity(clone(result)) == prune.sparsity(result)


def test_a_model_can_be_quantized_only_once(backend):
    for result in (quantize_model(mlp(backend)), quantize_model(mlp(backend), [vectors(backend)])):
        with pytest.raises(ArgumentError, match="quantized already"):
            quantize_model(result)


def test_nothing_to_quantize_is_refused(backend):
    with pytest.raises(ArgumentError, match="no Linear or Conv2d"):
        quantize_model(nn.Sequential(nn.ReLU()))
    with pytest.raises(ArgumentError, match="no module '7'"):
        quantize_model(mlp(backend), modules=["7"])


@pytest.mark.parametrize("empty", [[], iter(())])
def test_empty_calibration_is_refused(backend, empty):
    with pytest.raises(ArgumentError, match="calibration has no batches"):
        quantize_model(mlp(backend), empty)


def test_a_layer_that_the_model_does_not_use_is_left_out(backend):
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = mlp(backend), nn.Linear(7, 5, backend=backend)

        def forward(self, x):
            return self.used(x)

    result = quantize_model(Skips(), [vectors(backend)])
    assert [layer.path for layer in result.layers()] == ["used.0", "used.2"]
    with pytest.raises(ArgumentError, match="no layer among them is used"):
        quantize_model(Skips(), [vectors(backend)], modules=["idle"])


def test_data_or_weights_that_are_not_finite_are_refused(backend):
    x = minidl.full((2, 7), float("nan"), backend=backend)
    with pytest.raises(NonFiniteError, match="input of the model ranges from nan"):
        quantize_model(mlp(backend), [x])
    model = mlp(backend)
    with minidl.no_grad():
        model[2].weight.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="not finite"):
        quantize_model(model)
    with pytest.raises(NonFiniteError, match=r"ranges from|not finite"):
        quantize_model(model, [vectors(backend)])


def test_wrong_types_and_settings_are_refused(backend):
    with pytest.raises(DTypeError, match=r"0 is float64; .* model.float\(\)"):
        quantize_model(mlp(backend).double())
    with pytest.raises(DTypeError, match="a batch must be a Tensor or begin with one"):
        quantize_model(mlp(backend), [np.ones((2, 7), np.float32)])
    with pytest.raises(ArgumentError, match="weights must be one of per_channel, per_tensor"):
        quantize_model(mlp(backend), weights="per_row")
    with pytest.raises(ArgumentError, match="scheme must be one of"):
        quantize_model(mlp(backend), activations="float")
    with pytest.raises(ArgumentError, match="leave out inplace"):
        quantize_model(mlp(backend), [vectors(backend)], inplace=True)
    for bits in (9, 1):
        with pytest.raises(ArgumentError, match="weight_bits must be"):
            quantize_model(mlp(backend), [vectors(backend)], weight_bits=bits)
    with pytest.raises(ArgumentError, match="dynamic layers have 8-bit weights"):
        quantize_model(mlp(backend), weight_bits=4)
    for arguments in ({"model": 3}, {"calibration": 3}, {"observer": 3}):
        with pytest.raises(DTypeError, match=r"(model|calibration|observer) must be"):
            quantize_model(**{"model": mlp(backend), **arguments})
    with pytest.raises(DTypeError, match=r"a list of batches; wrap it: \[x\]"):
        quantize_model(mlp(backend), minidl.ones((2, 7), backend=backend))
    with pytest.raises(DTypeError, match="QuantLinear: x must be a Tensor, got ndarray"):
        quantize_model(mlp(backend))(np.ones((2, 7), np.float32))
    with pytest.raises(DTypeError, match="clone: model must be a Module"):
        clone(3)
