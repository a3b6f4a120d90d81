"""Equalised layers compute the same and share their range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import equalize, fold, trace
from minidl.compress.equalize import pairs
from minidl.compress.matched import by_input, host
from minidl.errors import ArgumentError, DTypeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, network_bound

from .models import mlp, state, vectors
from .networks import KINDS, cnn, images, options

blocks = st.text(KINDS, max_size=4)


def assert_unchanged(found: nn.Module, model: nn.Module, x) -> None:
    with minidl.no_grad():
        expected = model.eval()(x).numpy()
        assert_close(found.eval()(x).numpy(), expected, network_bound(expected))


def ranges(first, second) -> tuple[np.ndarray, np.ndarray]:
    """The largest weight of each channel, as it is made and as it is read."""
    own = np.abs(host(first.weight)).reshape(len(first.weight), -1).max(1)
    read = np.abs(by_input(second, host(second.weight))).max((2, 3))
    return own, read.reshape(len(own), -1).max(1)


@given(kinds=blocks, flat=st.booleans(), seed=seeds)
def test_the_result_stays(backend, kinds, flat, seed):
    x = images(backend, count=2, seed=seed).astype("float64")
    model = fold(cnn(kinds, flat, backend, seed).double(), x)
    before = state(model)
    equal = equalize(model, x)
    assert state(model) == before
    assert_unchanged(equal, model, x)


@given(seed=seeds)
def test_ranges_meet(backend, seed):
    model, x = mlp(backend, seed, (7, 6, 5, 4)).double(), vectors(backend).astype("float64")
    with minidl.no_grad():
        model[2].weight.copy_(model[2].weight * 1000)
    equal = equalize(model, x, iterations=1000)
    for first, second in pairs(trace(equal, x)):
        own, read = ranges(first, second)
        assert (np.abs(np.log(own / read)) < 0.01).all()
    assert len(pairs(trace(equal, x))) == 2


def test_pairs_through_pooling_and_flattening(backend):
    o = options(backend)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, **o), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1, groups=4, **o),
        nn.LeakyReLU(0.1), nn.Flatten(), nn.LinearReLU(16, 5, **o), nn.Linear(5, 5, **o),
        nn.Sigmoid(), nn.Linear(5, 2, **o),
    ).double()  # fmt: skip
    x = images(backend).astype("float64")
    found = pairs(trace(model, x))
    chain = [(model[0], model[3]), (model[3], model[6][0]), (model[6][0], model[7])]
    assert found == chain  # a sigmoid does not commute with a scale
    equal = equalize(model, x)
    assert_unchanged(equal, model, x)
    assert not np.array_equal(equal[0].weight.numpy(), model[0].weight.numpy())
    averaged = nn.Sequential(model[0], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2, **o))
    assert len(pairs(trace(averaged.double(), x))) == 1


def test_channels_without_weights_stay(backend):
    model, x = mlp(backend).double(), vectors(backend).astype("float64")
    with minidl.no_grad():
        model[0].weight[:1].copy_(model[0].weight[:1] * 0)
        model[2].weight[:, 1:2].copy_(model[2].weight[:, 1:2] * 0)
    equal = equalize(model, x, inplace=False)
    assert_unchanged(equal, model, x)
    assert np.isfinite(equal[0].weight.numpy()).all()
    assert equal[0].bias.numpy()[0] == model[0].bias.numpy()[0]


def test_residual_sums_are_no_pairs(backend):
    model, x = cnn("r", True, backend), images(backend)
    inside = [(a, b) for a, b in pairs(trace(model, x)) if a is model[0].conv]
    assert not inside


def test_in_place_and_wrong_arguments(backend):
    model, x = mlp(backend), vectors(backend)
    assert equalize(model, x, inplace=True) is model
    for iterations in (0, 1.5):
        with pytest.raises(ArgumentError, match="iterations must be an integer >= 1"):
            equalize(model, x, iterations)
    with pytest.raises(DTypeError, match="must be a Module"):
        equalize(3, x)


class Mixed(nn.Module):
    """What does not let a scale through: channels that a weight mixes, results that are shown."""

    def __init__(self, backend, shown):
        super().__init__()
        self.conv, self.head = (
            nn.Conv2d(3, 4, 1, **options(backend)),
            nn.Linear(4, 4, **options(backend)),
        )
        self.last, self.shown = nn.Linear(4, 2, **options(backend)), shown
        self.mix = nn.Parameter(minidl.randn(4, 4, backend=backend))

    def forward(self, x):
        y = minidl.ops.einsum("nchw,cd->nd", self.conv(x), self.mix)
        hidden = self.head(y).relu()
        return (hidden, self.last(hidden)) if self.shown else self.last(hidden)


def test_scales_stop_where_something_else_would_see_them(backend):
    x = images(backend)
    model = Mixed(backend, False)
    assert pairs(trace(model, x)) == [(model.head, model.last)]
    assert pairs(trace(Mixed(backend, True), x)) == []
