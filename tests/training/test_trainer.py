"""The Trainer: that it learns, what it returns and shows, and what it says when things go wrong."""

from __future__ import annotations

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm

import minidl
from backends import Backend
from minidl import nn, ops, optim
from minidl.data import ArrayDataset, DataLoader, digits, split
from minidl.data.transforms import RandomFlip, ToFloat
from minidl.errors import ArgumentError, CheckpointError, DataError, DTypeError, NonFiniteError
from minidl.training import (
    BestCheckpoint,
    Callback,
    EarlyStopping,
    History,
    JsonLines,
    Trainer,
    load_model,
)
from minidl.verify.tolerances import (
    LOSS_CURVE,
    assert_close,
    assert_same,
    composed_bound,
    sum_bound,
)

from . import runs

NUMPY = minidl.get_backend("numpy")


def line(**settings: Any) -> Trainer:
    """y = w x + b by least squares."""
    minidl.manual_seed(0)
    model = nn.Linear(1, 1)
    sgd = optim.SGD(model.parameters(), lr=settings.pop("lr", 0.1))
    return Trainer(model, sgd, ops.mse_loss, metrics={}, **settings)


def points(n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
    return x, 2 * x


# -- learning -------------------------------------------------------------------------------------
def test_learns_the_digits(backend: Backend) -> None:
    pytest.importorskip("sklearn")
    minidl.manual_seed(0)
    train, test = split(digits(), 0.2, stratify=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(backend)
    trainer = Trainer(model, optim.Adam(model.parameters(), lr=0.01), transform=ToFloat(16))
    history = trainer.fit(train, 4, test, progress=False)
    losses = history.column("loss")
    assert losses == sorted(losses, reverse=True)
    assert history[-1]["val_accuracy"] > 0.9
    assert trainer.evaluate(test)["accuracy"] == history[-1]["val_accuracy"]


def test_backends_agree_on_the_loss_curve(backend: Backend) -> None:
    """Same weights, batches and masks; the losses of 100 steps differ by rounding alone."""
    curves: dict[str, list[float]] = {}
    for name, where in {"here": backend, "reference": NUMPY}.items():
        losses = curves[name] = []

        def loss(
            output: minidl.Tensor, target: minidl.Tensor, losses: list[float] = losses
        ) -> minidl.Tensor:
            value = ops.cross_entropy(output, target)
            losses.append(value.item())
            return value

        runs.trainer(where, loss).fit(runs.dataset(), -(-100 // runs.STEPS), progress=False)
    here, reference = (np.array(curves[name][:100]) for name in ("here", "reference"))
    assert len(reference) == 100
    assert_close(here, reference, LOSS_CURVE * reference)


def test_evaluation_weights_batches_and_leaves_the_model_alone() -> None:
    trainer = runs.trainer(NUMPY)
    trainer.fit(runs.dataset(), 1, progress=False)
    trainer.model[3].eval()  # one frozen module must stay frozen
    before = runs.state(trainer)
    generators = [minidl.default_generator.state, trainer.model[6].generator.state]
    x, y = runs.dataset(1, 300).arrays  # more than a batch of evaluation, and not a multiple
    found = trainer.evaluate((x, y))
    output = trainer.predict(x)
    assert output.shape == (300, 2)
    assert_same(trainer.predict((x, y)).numpy(), output.numpy())
    share = np.mean(output.numpy().argmax(1) == y)
    assert_close(np.array(found["accuracy"]), share, composed_bound(np.float64))
    loss = ops.cross_entropy(output, minidl.tensor(y)).item()
    assert_close(np.array(found["loss"]), loss, sum_bound(loss, 2 * len(x), np.float32))
    assert [m.training for m in trainer.model.modules()] == [True] * 4 + [False] + [True] * 4
    assert generators == [minidl.default_generator.state, trainer.model[6].generator.state]
    for name, value in runs.state(trainer).items():
        assert_same(value, before[name])
    assert not output.requires_grad


def test_loader_is_used_as_it_is() -> None:
    loader = DataLoader(ArrayDataset(*points()), batch_size=5, drop_last=True)
    seen = []

    def loss(output: minidl.Tensor, target: minidl.Tensor) -> minidl.Tensor:
        seen.append(len(target))
        return ops.mse_loss(output, target)

    trainer = line()
    trainer.loss = loss
    trainer.fit(loader, 2, progress=False)
    assert seen == [5] * 12
    assert loader.epoch == 2


def test_held_out_fraction() -> None:
    history = line(batch_size=8).fit(points(40), 3, 0.25, progress=False)
    assert history[-1]["val_loss"] < history[0]["val_loss"]


def test_evaluation_is_of_the_same_batches_each_time() -> None:
    """Also with a loader that shuffles and draws: a resumed run must see what the first one saw."""
    trainer = runs.trainer(NUMPY)
    loader = DataLoader(runs.dataset(), 8, shuffle=True, transform=trainer.transform)
    first = trainer.evaluate(loader)
    assert trainer.evaluate(loader) == first
    assert loader.epoch == 0
    fresh = DataLoader(runs.dataset(), 8, shuffle=True, transform=trainer.transform)
    assert_same(trainer.predict(fresh).numpy(), trainer.predict(loader).numpy())


def test_evaluation_is_not_augmented() -> None:
    trainer = line(transform=RandomFlip(1.0))
    trainer.model = nn.Identity()
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert_same(trainer.predict(image).numpy(), image)


def test_scheduler_and_clipping() -> None:
    for scheduler_step, rate in (("epoch", 0.1 * 0.5**2), ("step", 0.1 * 0.5**8)):
        trainer = line(scheduler_step=scheduler_step, batch_size=8)
        trainer.scheduler = optim.StepLR(trainer.optimizer, 1, 0.5)
        trainer.fit(points(), 2, progress=False)
        assert trainer.lr == rate
    trainer = line(clip_norm=1e-3, lr=1.0, batch_size=32)
    before = np.concatenate([p.numpy().ravel() for p in trainer.model.parameters()])
    trainer.fit(points(), 1, progress=False)
    after = np.concatenate([p.numpy().ravel() for p in trainer.model.parameters()])
    assert_close(np.linalg.norm(after - before), 1e-3, composed_bound(np.float32, before))


# -- errors ---------------------------------------------------------------------------------------
def test_divergence_is_named(backend: Backend, tmp_path: Path) -> None:
    trainer = line(lr=1e6, batch_size=8)
    trainer.model.to(backend)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(points(), 50, progress=False, checkpoint=tmp_path / "run")
    said = str(caught.value)
    assert "of 4" in said
    assert "1e+06" in said
    if (tmp_path / "run").exists():
        assert f"{tmp_path / 'run'}, after epoch" in said
        load_model(trainer.model, tmp_path / "run")
        assert np.isfinite(trainer.model.weight.numpy()).all()


@pytest.mark.parametrize(("position", "step"), [(0, 1), (17, 3), (31, 4)])
def test_bad_data_is_named_with_its_step(position: int, step: int) -> None:
    x, y = points()
    x[position] = math.nan
    loader = DataLoader(ArrayDataset(x, y), batch_size=8)
    with pytest.raises(NonFiniteError, match=f"epoch 1, step {step} of 4. That batch itself"):
        line().fit(loader, 2, progress=False)


def test_no_checkpoint_of_spoilt_weights(tmp_path: Path) -> None:
    """A loss that is read late must still be read before anything is written."""
    x, y = points()
    loader = DataLoader(ArrayDataset(x, y), batch_size=8)
    trainer = line()
    trainer.fit(loader, 1, progress=False, checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    y[9] = math.inf
    with pytest.raises(NonFiniteError, match="inf in epoch 2, step 2 of 4"):
        trainer.fit(loader, 2, progress=False, checkpoint=tmp_path / "run", resume=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: t.fit(points(), 0), ArgumentError, "epochs must be an integer >= 1"),
        (lambda t: t.fit(points(), 1.5), ArgumentError, "epochs must be an integer >= 1"),
        (lambda t: t.fit(points(), "a"), ArgumentError, "epochs must be an integer >= 1"),
        (lambda t: t.fit(points()[0], 1), ArgumentError, "fit: data must be pairs .*x alone"),
        (lambda t: t.fit(points(), 1, checkpoint=3), DTypeError, "checkpoint must be a path"),
        (lambda t: t.fit(points(), 1, checkpoint="/no/such"), CheckpointError, "its folder"),
        (lambda t: t.fit(points(), 1, log=3), DTypeError, "log must be a path"),
        (lambda t: t.fit(points(), 1, resume=3), DTypeError, "path must be a path, got int"),
        (lambda t: t.fit([1, 2], 1), ArgumentError, "got list"),
        (lambda t: t.fit((np.zeros((0, 1)), np.zeros((0, 1))), 1), DataError, "0 samples"),
        (lambda t: t.fit(points(), 1, 1.5), ArgumentError, "fraction .* got 1.5"),
        (lambda t: t.fit(points(), 1, 2), ArgumentError, "fraction .* got 2"),
        (lambda t: t.evaluate(points()[0]), ArgumentError, "got x alone"),
        (lambda t: t.fit(points(), 1, resume="/no/such"), CheckpointError, "does not exist"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call(line())


def test_what_a_trainer_is_made_of() -> None:
    model = nn.Linear(1, 1)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    for make, error, said in (
        (lambda: Trainer(None, sgd), DTypeError, "model must be a Module, got NoneType"),
        (lambda: Trainer(sgd, model), DTypeError, "model must be a Module, got SGD"),
        (lambda: Trainer(model, optim.SGD), DTypeError, "an Optimizer, got the class SGD"),
        (lambda: Trainer(model, sgd, "mse"), DTypeError, r"callable as loss\(output, target\)"),
        (lambda: Trainer(model, sgd, metrics=3), DTypeError, "metrics must be a Mapping"),
        (lambda: Trainer(model, sgd, metrics={"a": 3}), DTypeError, "a must be callable"),
        (lambda: Trainer(model, sgd, callbacks=EarlyStopping()), DTypeError, r"wrap it: \["),
        (lambda: Trainer(model, sgd, callbacks=[3]), DTypeError, "a callback must be a Callback"),
        (lambda: Trainer(model, sgd, scheduler=3), DTypeError, "must be a Scheduler, got int"),
        (lambda: Trainer(model, sgd, clip_norm="a"), ArgumentError, "clip_norm"),
        (lambda: Trainer(model, sgd, batch_size=0), ArgumentError, "batch_size"),
        (lambda: Trainer(model, sgd, seed=0.5), ArgumentError, "seed"),
    ):
        with pytest.raises(error, match=said):
            make()


def test_a_loss_that_is_no_tensor() -> None:
    trainer = line()
    trainer.loss = lambda output, target: 3.0
    with pytest.raises(DTypeError, match="fit: what loss returns must be a Tensor, got float"):
        trainer.fit(points(), 1, progress=False)


def test_numpy_numbers_and_lists_of_arrays_are_taken() -> None:
    half = np.float32(0.5)
    history = line(clip_norm=half).fit(list(points()), np.int64(1), half, progress=False)
    assert "val_loss" in history[0]


def test_bad_settings_of_callbacks() -> None:
    for make in (
        lambda: EarlyStopping(patience=0),
        lambda: EarlyStopping(patience=1.5),
        lambda: EarlyStopping(mode="up"),
        lambda: EarlyStopping(min_delta="a"),
    ):
        with pytest.raises(ArgumentError, match="EarlyStopping: "):
            make()
    for make in (
        lambda: EarlyStopping(None),
        lambda: BestCheckpoint(None),
        lambda: JsonLines(3),
    ):
        with pytest.raises(DTypeError, match=r"must be a (str|path), got"):
            make()


def test_bad_scheduler_step() -> None:
    with pytest.raises(ArgumentError, match="scheduler_step"):
        line(scheduler_step="batch")


# -- what is shown --------------------------------------------------------------------------------
def test_log_files_get_one_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    history = line().fit(points(), 2, 0.25)
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert len(lines) == len(history) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    for part in ("val_loss", "lr 0.1000", "samples/s"):
        assert part in lines[1]
    line().fit(points(), 1, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    line(batch_size=8).fit(points(), 1)
    captured = capsys.readouterr()
    assert captured.out.startswith("epoch 1/1: loss ")
    for part in ("epoch 1/1:   0%|", "0.00/32.0"):
        assert part in captured.err
    assert captured.err.endswith("\r")  # the bar is gone again


def test_the_bar_has_numbers_and_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0))
    monkeypatch.setattr("minidl.training.loop.READ_STEPS", 1)
    line(batch_size=8).fit(points(), 1, progress="bar")
    bars = capsys.readouterr().err
    for part in ("24.0/32.0", "samples/s", "loss "):
        assert part in bars


def test_history_prints_as_a_table() -> None:
    history = History([{"epoch": 1, "loss": 0.5, "seconds": 1.0}, {"epoch": 2, "loss": 1e-5}])
    assert str(history).splitlines() == ["epoch    loss", "    1  0.5000", "    2   1e-05"]
    assert history.column("seconds") == [1.0, None]


# -- callbacks ------------------------------------------------------------------------------------
class Scripted(Callback):
    """Gives each epoch's row a value, and sets a weight that tells which epoch it is from."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_epoch_end(self, model: nn.Module, row: dict[str, Any]) -> bool:
        row["score"] = self.values[row["epoch"] - 1]
        with minidl.no_grad():
            model.weight.fill_(row["epoch"])
        return False


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ((1.0, 2.0, 1.0, 1.5, 9.0), {"patience": 2}, 4, 2),
        ((1.0, 2.0, 1.0, 1.5, 9.0), {"patience": 3}, 5, 5),
        ((3.0, 2.0, 1.0, 1.5, 9.0), {"patience": 2, "mode": "min"}, 5, 3),
        ((1.0, 1.5, 2.25, 2.5, 9.0), {"patience": 2, "min_delta": 1.0}, 5, 5),
        ((1.0, 1.5, 1.9, 2.5, 9.0), {"patience": 2, "min_delta": 1.0}, 3, 1),
        ((1.0, 1.0, 1.0, 1.0, 9.0), {"patience": 2}, 3, 1),
        ((1.0, math.nan, math.nan, 5.0, 9.0), {"patience": 2}, 3, 1),
        ((math.nan, 1.0, 0.0, 0.0, 9.0), {"patience": 2}, 4, 2),
    ],
)
def test_early_stopping(
    values: tuple[float, ...], settings: dict[str, Any], epochs: int, best: int
) -> None:
    trainer = line(callbacks=(Scripted(*values), EarlyStopping("score", **settings)))
    assert len(trainer.fit(points(), 5, progress=False)) == epochs
    assert trainer.model.weight.item() == best


def test_early_stopping_may_keep_the_last_weights() -> None:
    stopping = EarlyStopping("score", 1, restore_best=False)
    trainer = line(callbacks=(Scripted(2.0, 1.0), stopping))
    trainer.fit(points(), 2, progress=False)
    assert trainer.model.weight.item() == 2


def test_stopped_run_stays_stopped(tmp_path: Path) -> None:
    def build() -> Trainer:
        return line(callbacks=(Scripted(2.0, 1.0, 9.0), EarlyStopping("score", 1)))

    build().fit(points(), 3, progress=False, checkpoint=tmp_path / "run")
    again = build()
    assert len(again.fit(points(), 3, progress=False, resume=tmp_path / "run")) == 2
    assert again.model.weight.item() == 1


def test_best_checkpoint(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path / "best", "score")
    trainer = line(callbacks=(Scripted(1.0, 3.0, 2.0), best))
    trainer.fit(points(), 3, progress=False)
    assert load_model(trainer.model, tmp_path / "best") == {"epoch": 2, "score": 3.0}
    assert trainer.model.weight.item() == 2


def test_nothing_to_monitor() -> None:
    with pytest.raises(ArgumentError, match=r"no 'val_loss' to monitor, only loss, lr"):
        line(callbacks=(EarlyStopping(),)).fit(points(), 1, progress=False)
    with pytest.raises(ArgumentError, match="patience"):
        EarlyStopping(patience=0)
    with pytest.raises(ArgumentError, match="mode"):
        EarlyStopping(mode="best")


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for epochs in (3, 2):  # the second run replaces the first one's lines
        trainer = line(callbacks=(Scripted(1.0, math.nan, 3.0),))
        history = trainer.fit(
            points(), epochs, log=path, progress=False, checkpoint=tmp_path / "run"
        )
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0] == history[0]
    assert rows[1]["score"] is None
    path.write_text(path.read_text() + '{"epoch": 3}\n')  # logged after the checkpoint: repeated
    trainer = line(callbacks=(Scripted(1.0, math.nan, 3.0),))
    trainer.fit(points(), 3, log=path, progress=False, resume=tmp_path / "run")
    assert [json.loads(text)["epoch"] for text in path.read_text().splitlines()] == [1, 2, 3]


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="JsonLines"):
        line().fit(points(), 1, log=tmp_path / "no" / "log", progress=False)
    assert isinstance(JsonLines(tmp_path), Callback)
