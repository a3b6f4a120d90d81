"""Rounding up or down: never worse than to the nearest, and what it found stays where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, ops
from minidl.compress import ada_round, quantize_model, sqnr
from minidl.compress.rounding import columns, settled
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, DTypeError, NonFiniteError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import cnn, images, mlp, state, vectors
from .test_integer_recurrent import Classifier, tokens

bits = st.integers(2, 8)
per = st.sampled_from(("per_channel", "per_tensor"))


def off(codes: np.ndarray, weight: np.ndarray, scale: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """e G e^T of each row."""
    error = codes * scale - weight
    return ((error @ gram) * error).sum(1)


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Weight, scales, x^T x of inputs that go together, and the largest code."""
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    outputs, depth, high = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 8)),
        2 ** draw(bits) // 2 - 1,
    )
    weight = rng.normal(size=(outputs, depth))
    x = rng.normal(size=(20, depth)) + draw(st.sampled_from((0, 1, 30))) * rng.normal(size=(20, 1))
    x[:, rng.random(depth) < 0.2] = 0  # inputs that never come
    return weight, np.abs(weight).max(1, keepdims=True) / high, x.T @ x, high


@given(problem=problems())
def test_no_weight_is_better_on_its_other_side(problem):
    weight, scale, _, high = problem
    codes = settled(*problem)
    nearest = np.rint(weight / scale)
    least = off(codes, *problem[:3])
    room = 1e-9 * (1 + least)
    assert (least <= off(nearest, *problem[:3]) + room).all()
    assert (np.abs(codes) <= high).all()
    assert (np.abs(codes - weight / scale) < 1).all()
    largest = np.abs(weight) == np.abs(weight).max(1, keepdims=True)
    assert (np.abs(codes)[largest] == high).all()  # so that the scale stays what it is
    for j in range(weight.shape[1]):
        other = codes.copy()
        other[:, j] += np.sign(weight[:, j] - codes[:, j] * scale[:, 0])
        assert (off(other, *problem[:3]) >= least - room).all()


def test_the_largest_weight_keeps_its_code_however_the_division_is_rounded():
    """Its neighbours all round up, and one input meets all of them: it would go down first."""
    largest = np.random.Generator(np.random.PCG64(0)).uniform(1, 2, (500, 1))
    scale = largest / 7
    assert (largest / scale < 7).any()
    weight = np.concatenate([largest, *[2.6 * scale] * 10], 1)
    codes = settled(weight, scale, np.ones((11, 11)), 7)
    assert (codes[:, 0] == 7).all()
    assert (codes[:, 1:] == 2).any(1).all()


@given(problem=problems())
def test_the_best_of_all_is_not_far(problem):
    """All of 2^D roundings of a row, for rows of up to eight weights."""
    weight, scale, gram, _ = problem
    sides = np.indices((2,) * weight.shape[1]).reshape(weight.shape[1], -1).T
    for row, step, found in zip(weight, scale, settled(*problem), strict=True):
        all_codes = np.floor(np.round(row / step, 9)) + sides
        best = off(all_codes, row, step, gram).min()
        nearest, ours = (off(c[None], row, step, gram)[0] for c in (np.rint(row / step), found))
        assert best <= ours + 1e-9 <= nearest + 2e-9


@given(
    seed=seeds, groups=st.sampled_from((1, 2)), kernel=st.integers(1, 3), stride=st.integers(1, 2),
    padding=st.integers(0, 2), dilation=st.integers(1, 2),
)  # fmt: skip
def test_columns_are_what_meets_the_weights(
    reference, seed, groups, kernel, stride, padding, dilation
):
    """Whole numbers, whose sums are exact."""
    rng = np.random.Generator(np.random.PCG64(seed))
    geometry = kernel, stride, padding, dilation, groups
    layer = nn.Conv2d(4, 6, *geometry, bias=False, backend=reference)
    layer.weight.data[...] = rng.integers(-9, 10, layer.weight.shape)
    x = minidl.tensor(rng.integers(-9, 10, (2, 4, 6, 7)).astype(np.float32), backend=reference)
    rows = np.split(layer.weight.numpy().reshape(6, -1).astype(np.float64), groups)
    parts = columns(layer, x.numpy())
    y = np.concatenate([a @ b.T for a, b in zip(parts, rows, strict=True)], 1)
    want = layer(x).numpy()
    found = y.reshape(2, *want.shape[2:], 6).transpose(0, 3, 1, 2)
    assert_same(found.astype(np.float32) + 0, want + 0)


@given(seed=seeds, weight_bits=bits, weights=per)
def test_integers_have_the_weights_that_were_found(backend, seed, weight_bits, weights):
    model, x = cnn(backend, seed), images(backend, seed=seed)
    before = state(model)
    rounded = ada_round(model, [x], weight_bits, weights)
    assert state(model) == before
    program = quantize_model(rounded, [x], weights, weight_bits=weight_bits)
    modules = dict(rounded.named_modules())
    for layer in program.layers():
        want = modules[layer.path].weight.numpy()
        size = np.abs(want).max()
        assert np.abs(layer.qweight.dequantize().numpy() - want).max() <= 1e-6 * size
    again = ada_round(rounded, [x], weight_bits, weights)
    for layer in program.layers():
        values = (m.weight.numpy() for m in (dict(again.named_modules())[layer.path],
                                             modules[layer.path]))  # fmt: skip
        assert np.ptp([np.rint(v / np.abs(v).max() * 127) for v in values], 0).max() == 0


@pytest.mark.parametrize("weight_bits", [2, 3, 4])
def test_outputs_are_nearer_than_with_rounding_to_the_nearest(backend, weight_bits):
    model = mlp(backend, sizes=(32, 32, 16)).eval()
    g = Generator(3)
    mixed = minidl.randn(8, 32, backend=backend, generator=g)
    x, new = (
        ops.relu(minidl.randn(256, 8, backend=backend, generator=g) @ mixed) for _ in range(2)
    )
    rounded = ada_round(model, [x], weight_bits)
    found = [sqnr(model(new), quantize_model(m, [x], weight_bits=weight_bits)(new))
             for m in (model, rounded)]  # fmt: skip
    assert found[1] > found[0] + 3  # decibels, on data that it did not see


def test_chosen_layers_alone_are_rounded_in_place_if_wanted(backend):
    model, x = mlp(backend), vectors(backend)
    before = state(model)
    assert ada_round(model, [x], modules=["2"], inplace=True) is model
    changed = [name for name, value in state(model).items() if value != before[name]]
    assert changed == ["2.weight"]


def test_inputs_of_many_axes_count_as_rows(backend):
    layer, x = nn.Linear(7, 5, backend=backend, generator=Generator(0)), vectors(backend, 12)
    flat, deep = (ada_round(layer, [given]) for given in (x, x.reshape(3, 4, 7)))
    assert_same(flat.weight.numpy(), deep.weight.numpy())


def test_wrong_input_is_refused(backend):
    model, x = mlp(backend), vectors(backend)
    with pytest.raises(ArgumentError, match="ada_round: calibration has no batches"):
        ada_round(model, [])
    with pytest.raises(DTypeError, match="wrap it"):
        ada_round(model, x)
    with pytest.raises(ArgumentError, match="weight_bits must be from 2 to 8"):
        ada_round(model, [x], 1)
    with pytest.raises(ArgumentError, match="no Linear or Conv2d"):
        ada_round(Classifier(backend), [tokens(backend)], modules=["lstm"])
    with pytest.raises(NonFiniteError, match="of layer '0' are not finite"):
        ada_round(model, [x * math.inf])
