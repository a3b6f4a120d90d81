"""Masks: how many, which, and that they last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.compress import clone, prune, quantize_model
from minidl.errors import ArgumentError, DTypeError
from minidl.training.checkpoint import load_model, save_model
from minidl.verify.strategies import fill, seeds

from .models import cnn, images, learn, mlp, state, vectors

amounts = st.integers(0, 99).map(lambda percent: percent / 100)
scopes = st.sampled_from(("global", "layer"))


def masks(model: nn.Module) -> dict[str, np.ndarray]:
    return {t.path: t.mask.numpy() for t in prune.masked(model)}


def weights(model: nn.Module) -> np.ndarray:
    return np.concatenate([t.parameter.numpy().ravel() for t in prune.targets(model)])


def kept_by(target: prune.Target) -> np.ndarray:
    if target.mask is None:
        return np.ones(target.parameter.size, bool)
    return target.mask.numpy().ravel()


def filled(backend, kind: str, seed: int) -> nn.Module:
    """A model whose weights are of a kind; "integers" are full of ties."""
    model = cnn(backend)
    for target in prune.targets(model):
        values = minidl.tensor(
            fill(target.parameter.shape, np.float32, kind, seed), backend=backend
        )
        with minidl.no_grad():
            target.parameter.copy_(values)
    return model


@given(kind=st.sampled_from(("integers", "normal")), seed=seeds)
def test_amount_zero_is_the_identity(backend, kind, seed):
    model = filled(backend, kind, seed)
    before = state(model)
    assert prune.magnitude(model, 0) is model
    assert state(model) == before


@given(amount=amounts, kind=st.sampled_from(("integers", "normal")), seed=seeds)
def test_the_smallest_weights_go_and_exactly_so_many(backend, amount, kind, seed):
    model = filled(backend, kind, seed)
    before = np.abs(weights(model))
    prune.magnitude(model, amount)
    kept = np.concatenate([kept_by(target) for target in prune.targets(model)])
    assert (~kept).sum() == round(amount * before.size)
    if not kept.all():
        limit = before[~kept].max()
        assert limit <= before[kept].min()
        ties = kept[before == limit]  # of equal weights the earlier ones go
        assert (np.diff(ties.astype(int)) >= 0).all()
    assert (weights(model)[~kept] == 0).all()
    assert not np.signbit(weights(model)[~kept]).any()


@given(amount=amounts, seed=seeds)
def test_scope_layer_prunes_each_tensor_alike(backend, amount, seed):
    model = prune.magnitude(filled(backend, "normal", seed), amount, scope="layer")
    for target in prune.targets(model):
        removed = 0 if target.mask is None else int((~target.mask.numpy()).sum())
        assert removed == round(amount * target.parameter.size)


@given(amount=amounts, scope=scopes, kind=st.sampled_from(("integers", "normal")), seed=seeds)
def test_masks_are_the_same_bits_everywhere(backend, reference, amount, scope, kind, seed):
    here = prune.magnitude(filled(backend, kind, seed), amount, scope)
    there = prune.magnitude(filled(reference, kind, seed), amount, scope)
    assert state(here) == state(there)


@given(first=amounts, second=amounts, scope=scopes)
def test_pruning_again_only_adds(backend, first, second, scope):
    model = prune.magnitude(mlp(backend), first, scope)
    before, fraction = masks(model), prune.sparsity(model)
    learn(model, optim.SGD(model.parameters(), 0.1), vectors(backend), 2)
    prune.magnitude(model, second, scope)
    after = masks(model)
    assert all(not (after[path] & ~mask).any() for path, mask in before.items())
    assert prune.sparsity(model) >= fraction


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, 0.1),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        lambda p: optim.RMSprop(p, 0.01, momentum=0.9, weight_decay=0.1),
        lambda p: optim.Adagrad(p, 0.1),
        lambda p: optim.Adam(p, 0.01, weight_decay=0.1),
        lambda p: optim.AdamW(p, 0.01),
    ],
    ids=["sgd", "nesterov", "rmsprop", "adagrad", "adam", "adamw"],
)
def test_masks_survive_every_optimizer(backend, make):
    """The optimizer is older than the masks, so its momentum remembers weights that are gone."""
    model, x = cnn(backend), images(backend)
    optimizer = make(model.parameters())
    learn(model, optimizer, x, 2)
    prune.magnitude(model, 0.7)
    before, start = masks(model), weights(model)
    learn(model, optimizer, x, 3)
    assert (weights(model) != start).any()
    for target in prune.masked(model):
        pruned = ~before[target.path]
        assert not target.parameter.numpy()[pruned].any()
        assert target.parameter.numpy()[~pruned].all()


def test_a_mask_writes_zero_over_anything(backend):
    layer = nn.Linear(3, 1, backend=backend)
    prune.attach(layer, "weight", np.array([[True, False, False]]))
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor([[np.nan, np.nan, -np.inf]], backend=backend))
    layer.weight.constraint(layer.weight)
    found = layer.weight.numpy()
    assert np.isnan(found[0, 0])
    assert found[0, 1:].tolist() == [0.0, 0.0]


def test_masks_survive_saving_and_loading(backend, tmp_path):
    model = prune.magnitude(mlp(backend), 0.6)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    other = prune.magnitude(mlp(backend, seed=5), 0.6)
    load_model(other, path)
    assert state(other) == state(model)
    learn(other, optim.SGD(other.parameters(), 0.1), vectors(backend), 1)
    assert masks(other).keys() == masks(model).keys()
    for target in prune.masked(other):
        assert not target.parameter.numpy()[~masks(model)[target.path]].any()


def test_masks_follow_the_model_to_another_backend(backend, reference):
    model = prune.magnitude(mlp(reference), 0.6).to(backend)
    before = masks(model)
    learn(model, optim.SGD(model.parameters(), 0.1), vectors(backend), 2)
    for target in prune.masked(model):
        assert not target.parameter.numpy()[~before[target.path]].any()


def test_a_clone_has_masks_of_its_own(backend):
    model = prune.magnitude(mlp(backend), 0.5)
    before, twin = state(model), clone(model)
    assert state(twin) == before
    prune.magnitude(twin, 0.9)
    learn(twin, optim.SGD(twin.parameters(), 0.1), vectors(backend), 1)
    assert state(model) == before
    for target in prune.masked(twin):
        assert target.parameter.constraint.module is target.module
        assert not target.parameter.numpy()[~target.mask.numpy()].any()


def test_a_clone_is_no_part_of_the_graph_or_the_hooks_of_the_first(backend):
    model, x = mlp(backend), vectors(backend)
    (model(x) ** 2).mean().backward()
    twin = clone(model)
    assert [p.grad for p in twin.parameters()] == [None] * 4
    assert all(p.backend is backend and p.requires_grad for p in twin.parameters())
    assert np.array_equal(twin(x).numpy(), model(x).numpy())


def test_a_clone_shares_the_backend_and_copies_tensors_wherever_they_are(backend):
    model = mlp(backend)
    model.home, model.kept = backend, [minidl.ones(2, backend=backend)]
    twin = clone(model)
    assert twin.home is twin.kept[0].backend is backend
    twin.kept[0].fill_(5)
    assert model.kept[0].tolist() == [1.0, 1.0]


def test_a_shared_weight_is_counted_once(backend):
    layer = nn.Linear(4, 4, backend=backend)
    tied = nn.Linear(4, 4, backend=backend)
    tied.weight = layer.weight
    model = prune.magnitude(nn.Sequential(layer, tied), 0.5)
    assert [t.path for t in prune.masked(model)] == ["0"]
    assert (layer.weight.numpy() == 0).sum() == 8


def test_modules_and_names_can_be_chosen(backend):
    model = prune.magnitude(mlp(backend), 0.5, modules=["2"], names=("weight", "bias"))
    assert [(t.path, t.name) for t in prune.masked(model)] == [("2", "weight"), ("2", "bias")]
    found = np.concatenate([model[2].weight.numpy().ravel(), model[2].bias.numpy()])
    assert (found == 0).sum() == round(found.size / 2)
    assert prune.sparsity(nn.Sequential(model[0])) == 0


def test_remove_leaves_zeros_but_no_trace(backend):
    model = mlp(backend)
    names = list(model.state_dict())
    prune.remove(prune.magnitude(model, 0.5))
    assert list(model.state_dict()) == names
    assert prune.sparsity(model) == 54 / 108
    learn(model, optim.SGD(model.parameters(), 0.1), vectors(backend), 1)
    assert prune.sparsity(model) < 54 / 108
    prune.magnitude(model, 0.25)  # and can be pruned anew
    assert list(prune.masked(model))


@pytest.mark.parametrize("amount", [1, 1.5, -0.1, 80, float("nan")])
def test_an_amount_that_is_no_fraction_is_refused(amount):
    with pytest.raises(ArgumentError, match="from 0 to below 1") as error:
        prune.magnitude(nn.Linear(2, 2), amount)
    assert ("mean 0.8?" in str(error.value)) == (amount == 80)


def test_amounts_that_are_no_numbers_and_what_is_no_model_or_list():
    for amount in ("a", None):
        with pytest.raises(ArgumentError, match="amount must be a number"):
            prune.magnitude(nn.Linear(2, 2), amount)
    assert prune.sparsity(prune.magnitude(nn.Linear(2, 2), np.float32(0.5))) == 0.5
    for call in (
        lambda: prune.magnitude(None, 0.5),
        lambda: prune.sparsity(minidl.ones(2)),
        lambda: prune.magnitude(nn.Linear(2, 2), 0.5, modules="fc"),
        lambda: prune.magnitude(nn.Linear(2, 2), 0.5, names="weight"),
    ):
        with pytest.raises(DTypeError, match=r"must be a (Module|list), got"):
            call()


def test_wrong_models_and_names_are_refused(backend):
    with pytest.raises(ArgumentError, match="no Linear or Conv2d"):
        prune.magnitude(nn.Sequential(nn.ReLU()), 0.5)
    with pytest.raises(ArgumentError, match="no Linear or Conv2d"):
        prune.sparsity(nn.ReLU())
    with pytest.raises(ArgumentError, match="no module '9'"):
        prune.magnitude(mlp(backend), 0.5, modules=["9"])
    with pytest.raises(ArgumentError, match="has no parameter 'gain'"):
        prune.magnitude(mlp(backend), 0.5, names=["gain"])
    with pytest.raises(ArgumentError, match="scope must be one of global, layer"):
        prune.magnitude(mlp(backend), 0.5, scope="everything")
    with pytest.raises(ArgumentError, match="Prune the float model first"):
        prune.magnitude(quantize_model(mlp(backend)), 0.5)
