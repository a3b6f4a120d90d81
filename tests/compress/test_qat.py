"""Training through the rounding: what is trained, what is learned, and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, ops, optim
from minidl.compress import clone, convert, prepare_qat, quantize_model
from minidl.compress.qat import QATModel
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, DTypeError
from minidl.training import Trainer
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import cnn, images, learn, mlp, state, vectors
from .test_integer import networks


@given(network=networks(), seed=seeds, per=st.sampled_from(("per_channel", "per_tensor")))
def test_converted_it_is_the_program_that_it_simulated(backend, network, seed, per):
    """Before training it is what `quantize_model` makes; its outputs are the program's but for
    steps of codes that lie between two.
    """
    make, shape = network
    model = make(backend)
    x = minidl.randn(4, *shape, backend=backend, generator=Generator(seed))
    qat = prepare_qat(model, [x], per)
    program = convert(qat)
    assert state(program) == state(quantize_model(model, [x], per))
    simulated, found = qat.eval()(x).numpy(), program(x).numpy()
    assert np.abs(simulated - found).max() <= 0.1 * np.abs(simulated).max()


def test_the_weights_are_trained_and_the_model_stays_as_it_was(backend):
    model, x = cnn(backend), images(backend)
    before = state(model)
    qat = prepare_qat(model, [x], weight_bits=4)
    names = [name for name, _ in model.named_parameters()]
    assert [name for name, _ in qat.named_parameters()] == [f"model.{name}" for name in names]
    first = state(qat.model)
    learn(qat, optim.Adam(qat.parameters(), 0.01), x, 2)
    assert all(state(qat.model)[name] != first[name] for name in names)
    assert state(model) == before


def test_batch_norm_keeps_its_statistics_and_learns_its_weight(backend):
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, backend=backend), nn.BatchNorm2d(4, backend=backend), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3, backend=backend),
    )  # fmt: skip
    x = images(backend)
    qat = prepare_qat(model, [x])
    assert [step.kind for step in qat.plan.steps] == ["quantize", "layer", "move", "layer"]
    before = state(qat.model[1])
    learn(qat.train(), optim.SGD(qat.parameters(), lr=0.1), x, 2)
    changed = {name for name, value in state(qat.model[1]).items() if value != before[name]}
    assert changed == {"weight", "bias"}


def test_ranges_follow_in_training_until_they_are_frozen(backend):
    qat, x = prepare_qat(mlp(backend), [vectors(backend)]), vectors(backend) * 10
    before = qat.grids()
    qat.eval()(x)
    assert qat.grids() == before
    qat.train()(x)
    assert qat.grids() != before
    before = qat.freeze().grids()
    qat(x)
    assert qat.grids() == before


def test_a_clone_trains_alone(backend):
    qat, x = prepare_qat(mlp(backend), [vectors(backend)]), vectors(backend)
    twin = clone(qat)
    assert isinstance(twin, QATModel)
    assert_same(twin.eval()(x).numpy(), qat.eval()(x).numpy())
    before = qat(x).numpy()
    learn(twin, optim.SGD(twin.parameters(), lr=0.5), x, 1)
    assert_same(qat(x).numpy(), before)
    assert (twin(x).numpy() != before).any()


def test_training_recovers_what_two_bits_lose(backend):
    """Eight noisy classes: the float model is right; its 2-bit weights are not, until trained."""
    rng = np.random.Generator(np.random.PCG64(3))
    labels = np.arange(256) % 8
    centres = rng.standard_normal((8, 16))
    x = (centres[labels] + rng.standard_normal((256, 16))).astype(np.float32)
    x, y = minidl.tensor(x, backend=backend), minidl.tensor(labels, backend=backend)
    model = mlp(backend, sizes=(16, 24, 24, 8))

    def fit(model, lr, epochs):
        trainer = Trainer(model, optim.Adam(model.parameters(), lr=lr), ops.cross_entropy)
        trainer.fit((x, y), epochs, progress=False)

    def accuracy(model):
        return (model.eval()(x).numpy().argmax(1) == labels).mean()

    fit(model, 0.01, 60)
    lost = quantize_model(model, [x], "per_tensor", weight_bits=2)
    qat = prepare_qat(model, [x], "per_tensor", weight_bits=2)
    fit(qat, 0.003, 60)
    assert accuracy(lost) < accuracy(model) - 0.05
    assert accuracy(convert(qat)) > accuracy(lost) + 0.05


def test_wrong_arguments_are_refused(backend):
    model, x = mlp(backend), vectors(backend)
    for call in (
        lambda: prepare_qat(3, [x]),
        lambda: prepare_qat(model, x),
        lambda: prepare_qat(model, 3),
        lambda: convert(model),
    ):
        with pytest.raises(DTypeError, match=r"must be|wrap it"):
            call()
    with pytest.raises(ArgumentError, match="weights must be one of"):
        prepare_qat(model, [x], "per_row")
    with pytest.raises(ArgumentError, match="no batches"):
        prepare_qat(model, [])
    with pytest.raises(ArgumentError, match="no module '7'"):
        prepare_qat(model, [x], modules=["7"])
