"""Bias correction: means come out right, and coarse grids lose less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import correct_bias, quantize_model, quantize_weights, sqnr
from minidl.errors import ArgumentError, NonFiniteError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, composed_bound

from .models import cnn, images, mlp, state, vectors


def mean_error(model, reference, x, axes) -> np.ndarray:
    both = [m.eval()(x).numpy().astype(np.float64) for m in (model, reference)]
    return (both[0] - both[1]).mean(axes)


@given(seed=seeds, bits=st.sampled_from((4, 8)))
def test_the_mean_error_of_each_output_is_zero(backend, seed, bits):
    """To the roundings of the outputs, and of the new bias."""
    model, x = mlp(backend, seed), vectors(backend, 40, seed % 1000)
    rough = quantize_weights(model, bits)
    fixed = correct_bias(rough, model, [x[:25], x[25:]])
    error = mean_error(fixed, model, x, 0)
    bound = composed_bound(np.float32, model(x).numpy())
    assert_close(error, np.zeros_like(error), bound, np.float64)


@pytest.mark.parametrize("kind", ["dynamic", "rounded"])
def test_every_layer_of_a_convolutional_network(backend, kind):
    """One of which has no bias before; layers behind another see what it passes on."""
    model, x = cnn(backend).eval(), images(backend, 30)
    if kind == "dynamic":
        rough = quantize_model(model, weights="per_tensor")
    else:
        rough = cnn(backend).eval()
        with minidl.no_grad():
            for layer in (rough[0], rough[2], rough[5]):
                layer.weight.copy_((layer.weight * 4).astype("int32").astype("float32") / 4)
    fixed = correct_bias(rough, model, [x])
    assert fixed[2].bias is not None
    for depth in (1, 3, 6):
        parts = [nn.Sequential(*list(m.children())[:depth]) for m in (fixed, model)]
        error = mean_error(*parts, x, 0 if depth == 6 else (0, 2, 3))
        bound = composed_bound(np.float32, parts[1](x).numpy())
        assert_close(error, np.zeros_like(error), bound, np.float64)


@given(
    seed=seeds, bits=st.sampled_from((4, 8)), weights=st.sampled_from(("per_channel", "per_tensor"))
)
def test_mean_sums_of_an_integer_program_are_within_half_a_unit(backend, seed, bits, weights):
    """Of the last layer, which sees what all corrected ones before it make of its inputs."""
    for make, batch in ((mlp, vectors), (cnn, images)):
        model, x = make(backend, seed).eval(), batch(backend, 20, seed % 1000)
        rough = quantize_model(model, [x], weights, weight_bits=bits)
        before = state(rough)
        fixed = correct_bias(rough, model, [x[:12], x[12:]])
        assert state(rough) == before
        last = list(fixed.layers())[-1]
        unit = last.weight_scale.numpy().astype(np.float64) * fixed.grids[last.grid_in[0]].scale
        error = np.abs(mean_error(fixed, model, x, 0))
        bound = composed_bound(np.float32, model(x).numpy())
        assert (error <= unit / 2 + bound).all()


def test_a_program_of_few_bits_gains_by_it(backend):
    generator = minidl.Generator(3)
    model = nn.Sequential(
        nn.Linear(64, 48, backend=backend, generator=generator), nn.ReLU(),
        nn.Linear(48, 10, backend=backend, generator=generator),
    )  # fmt: skip
    x, fresh = (minidl.rand(400, 64, generator=generator, backend=backend) + 0.5 for _ in range(2))
    rough = quantize_model(model, [x], weight_bits=4)
    fixed = correct_bias(rough, model, [x])
    before, after = (sqnr(model(fresh), m(fresh)) for m in (rough, fixed))
    assert after > before + 2
    assert correct_bias(rough, model, [x], inplace=True) is rough
    assert state(rough) == state(fixed)


def test_it_helps_where_channels_share_a_grid_that_few_of_them_fill(backend):
    """Per tensor, with channels a hundred times as large as others."""
    generator = minidl.Generator(3)
    layers = [
        nn.Linear(n, m, backend=backend, generator=generator) for n, m in ((64, 48), (48, 10))
    ]
    with minidl.no_grad():
        spread = np.logspace(-2, 0, 48, dtype=np.float32)
        factor = minidl.tensor(spread, backend=backend)
        layers[0].weight.copy_(layers[0].weight * factor.reshape(-1, 1))
        layers[1].weight.copy_(layers[1].weight / factor)
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    x, fresh = (minidl.rand(400, 64, generator=generator, backend=backend) + 0.5 for _ in range(2))
    rough = quantize_model(model, weights="per_tensor")
    fixed = correct_bias(rough, model, [x])
    before, after = (sqnr(model(fresh), m(fresh)) for m in (rough, fixed))
    assert after > before + 2  # decibels, on other data than it was corrected with


def test_a_copy_unless_told_otherwise(backend):
    model, x = mlp(backend), vectors(backend)
    rough = quantize_weights(model)
    before = state(rough)
    fixed = correct_bias(rough, model, [x])
    assert state(rough) == before
    assert correct_bias(rough, model, [x], inplace=True) is rough
    assert state(rough) == state(fixed)


def test_what_cannot_be_corrected_is_refused(backend):
    model, x = mlp(backend), vectors(backend)
    with pytest.raises(ArgumentError, match="no batches"):
        correct_bias(quantize_weights(model), model, [])
    with pytest.raises(ArgumentError, match="the float model that it was made of"):
        correct_bias(
            quantize_model(model, [x]), nn.Sequential(nn.Linear(7, 5, backend=backend)), [x]
        )
    with pytest.raises(NonFiniteError, match="not finite"):
        correct_bias(clone_with_nan(model), model, [x])


def clone_with_nan(model):
    rough = quantize_weights(model)
    rough[0].bias[0] = np.nan
    return rough
