"""A folded model computes what the unfolded one does, with fewer operations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import clone, fold, trace
from minidl.errors import DTypeError, GraphError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, assert_same, network_bound

from .models import mlp, state, vectors
from .networks import KINDS, cnn, images, options, settled

blocks = st.text(KINDS, max_size=4)


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in model.modules())


def assert_unchanged(folded: nn.Module, model: nn.Module, x) -> None:
    with minidl.no_grad():
        expected = model.eval()(x).numpy()
        assert_close(folded(x).numpy(), expected, network_bound(expected))


@given(kinds=blocks, flat=st.booleans(), seed=seeds)
def test_folded_is_unfolded(backend, kinds, flat, seed):
    model = cnn(kinds, flat, backend, seed).double()
    x = images(backend, count=3, seed=seed).astype("float64")
    before = state(model)
    folded = fold(model, x)
    assert state(model) == before
    assert_unchanged(folded, model, x)
    # A layer that is used twice keeps its norm; so do norms whose input others read, too.
    assert norms(folded) == kinds.count("t")
    assert not any(module.training for module in folded.modules())


def norm(channels: int, backend, one: bool = False) -> nn.Module:
    return (nn.BatchNorm1d if one else nn.BatchNorm2d)(channels, backend=backend)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_without_a_layer_before_goes_into_the_next(backend, padding, groups):
    o = options(backend)
    model = nn.Sequential(
        nn.ReLU(), norm(4, backend), nn.Conv2d(4, 6, 3, padding=padding, groups=groups, **o)
    )
    model, x = settled(model).double(), images(backend, 4).astype("float64")
    folded = fold(model, x)
    assert norms(folded) == padding  # the frame of zeros would have to be one of shifts
    assert_unchanged(folded, model, x)


def test_norms_of_vectors_go_into_either_layer(backend):
    o = options(backend)
    layers = [norm(7, backend, True), nn.LinearReLU(7, 5, **o), norm(5, backend, True)]
    model = settled(
        nn.Sequential(*layers, nn.Linear(5, 3, bias=False, **o), norm(3, backend, True))
    )
    model, x = model.double(), vectors(backend).astype("float64")
    folded = fold(model, x)
    assert norms(folded) == 0  # one into the columns of the last layer, one into its rows
    assert_unchanged(folded, model, x)


def test_two_norms_in_a_row(backend):
    layers = [nn.Linear(7, 4, **options(backend)), norm(4, backend, True), norm(4, backend, True)]
    model, x = settled(nn.Sequential(*layers)).double(), vectors(backend).astype("float64")
    folded = fold(model, x)
    assert norms(folded) == 0
    assert [node.op for node in trace(folded, x).nodes] == ["Linear"]
    assert_unchanged(folded, model, x)


class Read(nn.Module):
    """The convolution's result is needed without the norm, too."""

    def __init__(self, backend):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, **options(backend))
        self.bn = norm(3, backend)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


def test_what_others_read_stays(backend):
    model, x = settled(Read(backend)), images(backend)
    folded = fold(model, x)
    assert norms(folded) == 1
    assert_same(folded(x).numpy(), model.eval()(x).numpy())


def test_norms_without_running_statistics_and_without_weights(backend):
    o = options(backend)
    batch = nn.BatchNorm2d(4, track_running_stats=False, backend=backend)
    plain = nn.BatchNorm2d(4, affine=False, backend=backend)
    model = nn.Sequential(nn.Conv2d(3, 4, 1, **o), batch, nn.Conv2d(4, 4, 1, **o), plain)
    with minidl.no_grad():
        plain.running_mean.copy_(minidl.tensor([1.0, 2.0, 3.0, 4.0], backend=backend))
    model, x = model.double(), images(backend).astype("float64")
    folded = fold(model, x)
    assert [type(m).__name__ for m in folded] == ["Conv2d", "BatchNorm2d", "Conv2d", "Identity"]
    assert_unchanged(folded, model, x)


def test_in_place_and_gradients(backend):
    model = settled(
        nn.Sequential(nn.Linear(7, 4, bias=False, **options(backend)), norm(4, backend, True))
    )
    assert fold(model, vectors(backend), inplace=True) is model
    assert norms(model) == 0
    assert model[0].bias.requires_grad
    frozen = clone(mlp(backend)).requires_grad_(False)
    both = settled(nn.Sequential(frozen[0], norm(9, backend, True)))
    both[0].bias = None
    assert not fold(both, vectors(backend))[0].bias.requires_grad


def test_nothing_to_fold_and_wrong_models(backend):
    model = mlp(backend)
    assert state(fold(model, vectors(backend))) == state(model)
    with pytest.raises(DTypeError, match="must be a Module"):
        fold(None, vectors(backend))
    draw = nn.Dropout(0.5)
    draw.forward = minidl.ops.dropout
    with pytest.raises(GraphError, match="draws random numbers"):
        fold(draw, vectors(backend))


class Shared(nn.Module):
    """One layer before two norms, or a result that is returned as well."""

    def __init__(self, backend, twice):
        super().__init__()
        self.conv, self.twice = nn.Conv2d(3, 3, 1, **options(backend)), twice
        self.one, self.two = norm(3, backend), norm(3, backend)

    def forward(self, x):
        y = self.conv(x)
        return (self.one(y), self.two(self.conv(y * 2)) if self.twice else y)


@pytest.mark.parametrize("twice", [False, True])
def test_layers_and_results_that_are_used_elsewhere_stay(backend, twice):
    model, x = settled(Shared(backend, twice)), images(backend)
    folded = fold(model, x)
    assert norms(folded) == 2
    for a, b in zip(folded(x), model.eval()(x), strict=True):
        assert_same(a.numpy(), b.numpy())
