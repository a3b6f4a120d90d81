"""Criteria by chance and by gradient, gradual schedules, lottery tickets, sensitivity."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.compress import (
    GradualPruning,
    clone,
    cubic,
    lottery_ticket,
    prune,
    sensitivity,
)
from minidl.errors import ArgumentError, DTypeError
from minidl.training import Trainer
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import cnn, images, learn, mlp, state, vectors

amounts = st.integers(0, 99).map(lambda percent: percent / 100)
patterns = st.sampled_from(("unstructured", "2x1", "2:4"))


def with_gradients(backend, seed: int = 0) -> nn.Module:
    model = cnn(backend, seed)
    (model(images(backend)) ** 2).mean().backward()
    return model


def masks(model: nn.Module) -> dict[str, np.ndarray]:
    return {t.path: t.mask.numpy() for t in prune.masked(model)}


CRITERIA = (prune.magnitude, prune.random, prune.taylor)


@pytest.mark.parametrize("criterion", CRITERIA)
@given(amount=amounts, scope=st.sampled_from(("global", "layer")), seed=seeds)
def test_counts_are_exact_and_masks_only_grow(backend, criterion, amount, scope, seed):
    model = with_gradients(backend, seed)
    total = sum(t.parameter.size for t in prune.targets(model))
    criterion(model, amount / 2, scope)
    before = masks(model)
    criterion(model, amount, scope)
    after = masks(model)
    if scope == "global":
        assert round(prune.sparsity(model) * total) == round(amount * total)
    assert all(not (after[path] & ~mask).any() for path, mask in before.items())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_amount_zero_is_the_identity(backend, criterion):
    model = with_gradients(backend)
    before = state(model)
    assert criterion(model, 0) is model
    assert state(model) == before


@given(seed=seeds)
def test_lots_are_the_same_on_every_backend(backend, reference, seed):
    ours, theirs = (prune.random(cnn(b), 0.5, seed=seed) for b in (backend, reference))
    assert all(np.array_equal(masks(ours)[p], mask) for p, mask in masks(theirs).items())
    assert state(prune.random(cnn(backend), 0.5, seed=seed + 1)) != state(ours)


def test_taylor_keeps_what_the_loss_depends_on(backend):
    """A large weight whose input is always 0 has no worth: its gradient is 0."""
    model = nn.Linear(3, 1, bias=False, backend=backend)
    with minidl.no_grad():
        model.weight.copy_(minidl.tensor([[100.0, 1.0, 2.0]], backend=backend))
    model(minidl.tensor([[0.0, 5.0, 1.0]], backend=backend)).sum().backward()
    assert prune.taylor(clone_with_grad(model), 1 / 3).weight.tolist() == [[0.0, 1.0, 2.0]]
    assert prune.taylor(clone_with_grad(model), 2 / 3).weight.tolist() == [[0.0, 1.0, 0.0]]


def clone_with_grad(model: nn.Module) -> nn.Module:
    twin = clone(model)
    for old, new in zip(model.parameters(), twin.parameters(), strict=True):
        new.grad = old.grad
    return twin


@given(pattern=patterns)
def test_every_criterion_takes_every_pattern(backend, pattern):
    for criterion in CRITERIA:
        amount = None if ":" in pattern else 0.5
        found = masks(criterion(with_gradients(backend), amount, "layer", pattern=pattern))
        weight = found["5"]
        if pattern == "2:4":
            assert (weight.reshape(3, 6, 4).sum(2) == 2).all()
        elif pattern == "2x1":
            assert np.array_equal(weight[0], weight[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.1),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9),
    ],
)
def test_masks_last_under_every_optimizer(backend, make):
    model = mlp(backend, 0, (7, 20, 5))
    optimizer = make(model.parameters())
    learn(model, optimizer, vectors(backend), 2)  # momentum that points at pruned weights
    prune.random(model, 0.6)
    learn(model, optimizer, vectors(backend), 3)
    assert all(not t.parameter.numpy()[~t.mask.numpy()].any() for t in prune.masked(model))


def test_without_gradients_taylor_says_so(backend):
    with pytest.raises(ArgumentError, match="backward"):
        prune.taylor(mlp(backend), 0.5)


# -- gradually ------------------------------------------------------------------------------------
@given(
    begin=st.integers(0, 5), length=st.integers(1, 9), final=amounts, initial=amounts,
    t=st.integers(-3, 20),
)  # fmt: skip
def test_the_schedule_is_cubic(begin, length, final, initial, t):
    end, found = begin + length, cubic(t, begin, begin + length, final, initial)
    if t <= begin:
        assert found == initial
    elif t >= end:
        assert found == final
    else:
        assert found == final + (initial - final) * (1 - (t - begin) / length) ** 3
        assert min(initial, final) <= found <= max(initial, final)


def trainer_of(backend, **options) -> Trainer:
    model = mlp(backend, 0, (7, 30, 5))
    pruning = GradualPruning(model, 0.8, begin=0.5, end=2, every=0.25, **options)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return Trainer(model, optimizer, callbacks=[pruning], batch_size=8)


DATA = np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32), np.zeros(64, np.int64)


def test_pruning_follows_the_schedule(backend):
    trainer, seen = trainer_of(backend), []
    pruning = trainer.callbacks[0]
    step = pruning.on_step_end

    def watched(model, epochs):
        step(model, epochs)
        seen.append((epochs, prune.sparsity(model)))

    pruning.on_step_end = watched
    trainer.fit(DATA, 3, progress=False)
    total = sum(t.parameter.size for t in prune.targets(trainer.model))
    for epochs, found in seen:
        due = max((epochs - 0.5) // 0.25 * 0.25 + 0.5, 0.5)
        amount = cubic(due, 0.5, 2, 0.8) if epochs >= 0.5 else 0
        assert round(found * total) == round(amount * total), epochs
    assert prune.sparsity(trainer.model) == 0.8


def test_a_resumed_training_prunes_on(backend, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    first = trainer_of(backend)
    first.fit(DATA, 3, checkpoint=whole, progress=False)
    trainer_of(backend).fit(DATA, 1, checkpoint=half, progress=False)
    second = trainer_of(backend)
    second.fit(DATA, 3, resume=half, progress=False)
    assert state(second.model) == state(first.model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final": 1.0}, "final"), ({"begin": 3}, "begin"), ({"every": 0}, "every"),
        ({"criterion": 3}, "criterion"), ({"initial": 2}, "initial"),
    ],
)  # fmt: skip
def test_wrong_schedules(options, message):
    with pytest.raises((ArgumentError, DTypeError), match=message):
        GradualPruning(mlp(minidl.get_backend()), **{"final": 0.5, "begin": 0, "end": 2, **options})


# -- lottery tickets ------------------------------------------------------------------------------
def test_a_ticket_starts_from_the_first_weights(backend):
    model = mlp(backend, 0, (7, 30, 5))
    first = [t.parameter.numpy().copy() for t in prune.targets(model)]
    begun = []

    def train(model):
        begun.append([t.parameter.numpy().copy() for t in prune.targets(model)])
        learn(model, optim.SGD(model.parameters(), lr=0.1), vectors(backend), 3)
        return len(begun)

    ticket = lottery_ticket(model, train, rounds=3, amount=0.5)
    assert [r.result for r in ticket.history] == [1, 2, 3, 4]
    total = sum(w.size for w in first)
    wanted = [0, 0.5, 0.75, 0.875]
    assert [round(r.sparsity * total) for r in ticket.history] == [round(s * total) for s in wanted]
    for weights in begun[1:]:
        for weight, own in zip(weights, first, strict=True):
            assert_same(weight, np.where(weight != 0, own, np.float32(0)))
    control = ticket.impose(mlp(backend, 9, (7, 30, 5)))
    assert all(np.array_equal(masks(control)[p], m) for p, m in masks(ticket.model).items())
    with pytest.raises(ArgumentError, match=r"no '0.weight' of shape"):
        ticket.impose(mlp(backend))


def test_rewinding_to_later_weights(backend):
    model = mlp(backend)
    later = {k: x.clone() for k, x in mlp(backend, 5).state_dict().items()}
    ticket = lottery_ticket(model, lambda m: None, 1, rewind_to=later)
    weight, mask = model[0].weight.numpy(), ticket.masks["0.weight"]
    assert_same(weight, np.where(mask, later["0.weight"].numpy(), np.float32(0)))


@pytest.mark.parametrize("options", [{"rounds": 0}, {"amount": 0}, {"amount": 1}])
def test_wrong_searches(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        lottery_ticket(mlp(minidl.get_backend()), lambda m: None, **{"rounds": 1, **options})


# -- sensitivity ----------------------------------------------------------------------------------
def test_each_layer_is_pruned_by_itself(backend, tmp_path):
    model, x = mlp(backend, 0, (7, 30, 5)), vectors(backend, 40)
    before, batches = state(model), [(x, model(x).argmax(1))]
    found = sensitivity(model, batches, (0.0, 0.9))
    assert state(model) == before
    assert found.whole == 1
    assert sorted(found) == ["0", "2"]
    twin = prune.magnitude(clone(model), 0.9, modules=["2"])
    right = twin(x).numpy().argmax(1) == batches[0][1].numpy()
    assert found["2"] == {0.0: 1.0, 0.9: float(right.mean())}
    assert json.loads(json.dumps(found.to_dict()))["layers"]["0"]["0.0"] == 1
    assert "90%" in str(found).splitlines()[0]
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib")
    found.plot(tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_sensitivity_by_another_metric_and_criterion(backend):
    seen = []

    def metric(model, batches):
        seen.append(prune.sparsity(model))
        return seen[-1]

    found = sensitivity(mlp(backend, 0, (8, 4, 4)), [], (0.5,), metric, prune.random, seed=3)
    assert found["0"][0.5] == 16 / 48
    with pytest.raises(ArgumentError, match="an amount"):
        sensitivity(mlp(backend), [], (1.0,), metric)
