"""Recipes: steps in order, checkpoints between them, and a report at the end."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.compress import IntegerModel, clone, prune
from minidl.compress.recipe import (
    Distil,
    FineTune,
    Fold,
    Prune,
    Quantize,
    Share,
    Shrink,
    Sparsify,
    recipe,
)
from minidl.errors import ArgumentError, CheckpointError, DTypeError

from .models import mlp, state

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(64, 7)).astype(np.float32), RNG.integers(0, 5, 64)
QUIET = {"progress": False, "rounds": 2}


def run(plan, model, **options):
    return plan.run(model, DATA, DATA, **QUIET, **options)


def test_every_step_gives_a_stage(backend):
    model = mlp(backend, 0, (7, 32, 5))
    before = state(model)
    plan = recipe([Prune(0.5), FineTune(1), Distil(1), Share(3), Quantize()])
    cooked = run(plan, model)
    assert list(cooked.stages) == ["first", "prune", "finetune", "distil", "share", "quantize"]
    assert [stage.name for stage in cooked.report] == list(cooked.stages)
    assert cooked.model is cooked.stages["quantize"]
    assert isinstance(cooked.model, IntegerModel)
    assert state(model) == before
    for name in ("prune", "finetune", "distil", "share"):
        assert prune.sparsity(cooked.stages[name]) >= 0.5
    states = [state(m)["0.weight"] for m in list(cooked.stages.values())[:5]]
    assert len(set(states)) == 5


def test_channels_go_and_layers_become_sparse(backend):
    model = mlp(backend, 0, (7, 32, 5))
    cooked = run(recipe([Shrink(0.5), Prune(0.9), Sparsify("density")]), model)
    assert cooked.stages["shrink"][0].out_features == 16
    assert type(cooked.model[0]).__name__ == "SparseLinear"


def test_batch_norms_are_folded(backend):
    model = nn.Sequential(nn.Linear(7, 5, backend=backend), nn.BatchNorm1d(5, backend=backend))
    cooked = run(recipe([Fold()]), model)
    assert cooked.report["fold"].accuracy == cooked.report["first"].accuracy
    assert cooked.report["fold"].parameters < cooked.report["first"].parameters


def test_any_function_is_a_step(backend):
    seen = []

    def look(model, kitchen):
        seen.append((kitchen.first is first, len(kitchen.examples)))
        return model

    first = mlp(backend)
    plan = recipe([look, ("half", lambda model: prune.magnitude(clone(model), 0.5)), look])
    assert list(run(plan, first).stages) == ["first", "look", "half", "look2"]
    assert seen == [(True, 1)] * 2


def test_a_run_goes_on_after_its_last_step(backend, tmp_path):
    model, done = mlp(backend), []

    def breaks(model):
        if not done:
            done.append(1)
            raise KeyboardInterrupt
        return model

    plan = recipe([Prune(0.5), FineTune(1), breaks])
    with pytest.raises(KeyboardInterrupt):
        run(plan, model, checkpoint_dir=tmp_path / "r")
    files = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert files == ["1-prune.safetensors", "2-finetune.safetensors", "recipe.json"]
    whole = run(recipe([Prune(0.5), FineTune(1), lambda m: m]), model)
    resumed = run(plan, model, checkpoint_dir=tmp_path / "r")
    for name in ("prune", "finetune"):
        assert state(resumed.stages[name]) == state(whole.stages[name])
    with pytest.raises(CheckpointError, match="another recipe"):
        run(recipe([Prune(0.6)]), model, checkpoint_dir=tmp_path / "r")


@pytest.mark.parametrize(
    ("steps", "message"),
    [([], "at least one"), ([3], "callable"), ([("first", Prune(0.5))], "taken"),
     ([("a/b", Prune(0.5))], "no name of a file")],
)  # fmt: skip
def test_wrong_recipes(steps, message):
    with pytest.raises(ArgumentError, match=message):
        recipe(steps)


def test_a_step_must_return_a_model():
    with pytest.raises(DTypeError, match="what step 'nothing' returns"):
        run(recipe([("nothing", lambda model: None)]), mlp(minidl.get_backend()))
    assert "prune: Prune(amount=0.5" in repr(recipe([Prune(0.5)]))
