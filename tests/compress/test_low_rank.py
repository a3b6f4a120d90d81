"""Low rank: the best approximation there is, chosen by energy or by the clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import clone, prune, quantize_model
from minidl.compress.low_rank import (
    LowRankConv2d,
    LowRankLinear,
    Rank,
    factorize,
    ranks_by_energy,
    ranks_by_latency,
)
from minidl.engine.random import Generator
from minidl.errors import ArgumentError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, composed_bound

from .models import cnn, images, learn, mlp, state, vectors


def at(model: nn.Module, path: str) -> nn.Module:
    return dict(model.named_modules())[path]


def matrix(layer: nn.Module) -> np.ndarray:
    weight = layer.weight.numpy().astype(np.float64)
    return weight.reshape(weight.shape[0], -1)


def product(layer: nn.Sequential) -> np.ndarray:
    first, second = (matrix(child) for child in layer)
    return second @ first


def made(kind: type, backend, seed: int) -> tuple[nn.Module, type, minidl.Tensor]:
    g = Generator(seed)
    if kind is nn.Linear:
        layer = nn.Linear(9, 6, backend=backend, generator=g)
        return layer, LowRankLinear, minidl.randn(4, 9, generator=g, backend=backend)
    layer = nn.Conv2d(2, 6, (3, 2), 2, 1, generator=g, backend=backend)
    return layer, LowRankConv2d, minidl.randn(4, 2, 7, 6, generator=g, backend=backend)


kinds = st.sampled_from((nn.Linear, nn.Conv2d))


@given(kind=kinds, seed=seeds)
def test_full_rank_computes_the_same(backend, kind, seed):
    layer, low_rank, x = made(kind, backend, seed)
    y, twin = layer(x).numpy(), low_rank(layer, 6)(x).numpy()
    magnitude = np.abs(x.numpy()).max() * np.abs(matrix(layer)).sum(1).max()
    assert_close(twin, y, composed_bound(np.float32, y, np.float32(magnitude)))


@given(kind=kinds, rank=st.integers(1, 6), seed=seeds)
def test_the_error_is_that_of_the_best_approximation(backend, kind, rank, seed):
    """Eckart & Young: the squared error is the sum of the squares of the dropped values."""
    layer, low_rank, _ = made(kind, backend, seed)
    weight = matrix(layer)
    dropped = np.sum(np.linalg.svd(weight, compute_uv=False)[rank:] ** 2)
    error = np.sum((weight - product(low_rank(layer, rank))) ** 2)
    assert_close(error, dropped, composed_bound(np.float32, np.sum(weight**2)))


@given(energy=st.floats(0.05, 1.0), seed=seeds)
def test_energy_chooses_the_smallest_rank_that_keeps_it(backend, energy, seed):
    model = mlp(backend, seed, (40, 40, 5))
    for path, choice in ranks_by_energy(model, energy).items():
        squares = np.linalg.svd(matrix(at(model, path)), compute_uv=False) ** 2
        shares = np.cumsum(squares) / squares.sum()
        needed = int(np.sum(shares < energy)) + 1
        outputs, inputs = at(model, path).weight.shape
        if needed * (outputs + inputs) < outputs * inputs:
            assert choice.rank == needed
            assert_close(choice.energy, shares[needed - 1], composed_bound(np.float64))
        else:
            assert choice.rank is None
            assert choice.energy == 1


def test_a_layer_that_would_not_get_smaller_stays(backend):
    model = mlp(backend)
    twin = factorize(model, 4)  # 9x7 and 5x9: 4 (9 + 7) > 63, 4 (5 + 9) > 45
    assert state(twin) == state(model)
    assert type(at(twin, "0")) is nn.Linear


def test_factorize_copies_or_changes(backend):
    model = mlp(backend, sizes=(16, 16, 4))
    before = state(model)
    twin = factorize(model, {"0": 3})
    assert isinstance(at(twin, "0"), LowRankLinear)
    assert state(model) == before
    assert factorize(model, {"0": Rank(3, 16, 0.5)}, inplace=True) is model
    assert state(model) == state(twin)


def test_factors_have_less_to_do(backend):
    model = nn.Sequential(nn.Linear(32, 32, backend=backend))
    x = minidl.ones((1, 32), backend=backend)
    dense, thin = (nn.summary(m, x).multiply_adds for m in (model, factorize(model, 4)))
    assert (dense, thin) == (32 * 32, 4 * 64)


def test_factors_learn_are_pruned_and_quantized(backend):
    model = factorize(mlp(backend, sizes=(7, 16, 16)), {"2": 4})
    before = state(model)
    learn(model, minidl.optim.SGD(model.parameters(), lr=0.1), vectors(backend), 2)
    assert state(model) != before
    prune.magnitude(model, 0.5)
    assert prune.sparsity(model) == 0.5
    quantized = quantize_model(clone(model), [vectors(backend)])
    assert quantized(vectors(backend)).shape == (5, 16)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_every_backend_gets_the_same_factors(backend, name):
    here, there = (factorize(mlp(b, sizes=(16, 16, 4)), 3) for b in (backend, minidl.get_backend()))
    assert state(here) == state(there)


def test_latency_keeps_the_dense_layer_where_nothing_is_fast_enough(backend):
    found = ranks_by_latency(cnn(backend), images(backend), 1e9, ["0", "5"], rounds=2)
    assert [choice.rank for choice in found.values()] == [None, None]
    assert all(choice.dense_us > 0 for choice in found.values())
    assert "dense" in str(found)


def test_latency_takes_the_largest_rank_that_is_fast_enough(backend):
    model = nn.Sequential(nn.Linear(64, 64, backend=backend))
    found = ranks_by_latency(model, minidl.ones((2, 64), backend=backend), 1e-9, rounds=2)
    assert found["0"].rank == 24  # the largest multiple of 8 below 64 * 64 / 128 = 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ranks_by_energy(m, 0), "energy"),
        (lambda m: ranks_by_energy(m, 1.5), "energy"),
        (lambda m: ranks_by_energy(m, 0.5, ["9"]), "no module '9'"),
        (lambda m: ranks_by_energy(m, 0.5, ["1"]), "ReLU"),
        (lambda m: ranks_by_energy(m, 0.5, ["2"]), "Conv2d"),
        (lambda m: ranks_by_energy(nn.ReLU(), 0.5), "no Linear"),
        (lambda m: factorize(m, 0), "ranks"),
        (lambda m: factorize(m, {"5": 4}), "at most rank 3"),
        (lambda m: factorize(m, {"7": 4}), "no module '7'"),
        (lambda m: LowRankConv2d(at(m, "2"), 1), "groups"),
        (lambda m: ranks_by_latency(m, images(minidl.get_backend()), 0), "speedup"),
        (lambda m: ranks_by_latency(m, images(minidl.get_backend()), 1, rounds=0), "rounds"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(cnn(minidl.get_backend()))


def test_weights_that_are_not_finite(backend):
    layer = nn.Linear(3, 3, backend=backend)
    with minidl.no_grad():
        layer.weight.copy_(minidl.full((3, 3), float("nan"), backend=backend))
    with pytest.raises(ArgumentError, match="NaN"):
        factorize(layer, {"": 1})


def test_a_layer_that_the_example_does_not_reach(backend):
    model = mlp(backend, sizes=(7, 16, 16))
    model[1].spare = nn.Linear(16, 16, backend=backend)
    with pytest.raises(ArgumentError, match=r"spare.*not reached"):
        ranks_by_latency(model, vectors(backend), 1.0, rounds=1)
