"""Ctrl-C, checkpoints of a training, and that a resumed run ends with the very same bits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from backends import Backend
from minidl import nn, optim
from minidl.data import DataLoader
from minidl.data.transforms import ToFloat
from minidl.errors import CheckpointError
from minidl.training import EarlyStopping, Trainer, load, load_model, save
from minidl.verify.tolerances import assert_same

from . import runs

TIMES = ("seconds", "samples_per_s")


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Whatever a test does, the handler of Ctrl-C must be the old one afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def fit(trainer: Trainer, **settings: Any) -> Any:
    """The training that all tests here are about."""
    return trainer.fit(runs.dataset(), runs.EPOCHS, 0.25, progress=False, **settings)


def numbers(history: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in history]


def per_step(optimizer: Any) -> Any:
    return optim.CosineAnnealingLR(optimizer, T_max=12)


STEPS = 5  # 33 of the 44 samples in batches of 8


@pytest.mark.parametrize("scheduler_step", ["epoch", "step"])
@pytest.mark.parametrize("interrupted_at", [1, 2, STEPS, STEPS + 3, 3 * STEPS - 1])
def test_resumed_run_is_bit_identical(
    backend: Backend, tmp_path: Path, interrupted_at: int, scheduler_step: str
) -> None:
    def build(*interrupts: int) -> Trainer:
        made = runs.trainer(
            backend, runs.InterruptedLoss(*interrupts), (EarlyStopping(patience=2),)
        )
        made.scheduler, made.scheduler_step = per_step(made.optimizer), scheduler_step
        return made

    whole = build()
    expected = fit(whole)
    assert not expected.interrupted

    first = build(interrupted_at)
    assert fit(first, checkpoint=tmp_path / "run").interrupted
    minidl.manual_seed(99)  # nothing that is drawn in between may matter
    minidl.rand(5)
    second = build()
    minidl.manual_seed(98)
    history = fit(second, resume=tmp_path / "run")

    assert numbers(history) == numbers(expected)
    for name, value in runs.state(whole).items():
        assert_same(runs.state(second)[name], value)


def test_interrupting_twice_in_one_epoch(tmp_path: Path) -> None:
    numpy = minidl.get_backend("numpy")
    whole = runs.trainer(numpy)
    expected = fit(whole)
    for at in (2, 1):
        part = runs.trainer(numpy, runs.InterruptedLoss(at))
        resume = tmp_path / "run" if (tmp_path / "run").exists() else None
        assert fit(part, resume=resume, checkpoint=tmp_path / "run").interrupted
    last = runs.trainer(numpy)
    assert numbers(fit(last, resume=tmp_path / "run")) == numbers(expected)
    for name, value in runs.state(whole).items():
        assert_same(runs.state(last)[name], value)


def test_resuming_a_finished_run_with_more_epochs(tmp_path: Path) -> None:
    numpy = minidl.get_backend("numpy")
    whole, first, second = (runs.trainer(numpy) for _ in range(3))
    minidl.manual_seed(5)
    expected = whole.fit(runs.dataset(), 4, progress=False)
    minidl.manual_seed(5)
    first.fit(runs.dataset(), 2, progress=False, checkpoint=tmp_path / "run")
    history = second.fit(runs.dataset(), 4, progress=False, resume=tmp_path / "run")
    assert numbers(history) == numbers(expected)
    for name, value in runs.state(whole).items():
        assert_same(runs.state(second)[name], value)


def test_interrupt_finishes_the_step_and_says_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = runs.trainer(minidl.get_backend("numpy"), runs.InterruptedLoss(STEPS + 2))
    history = fit(trainer, checkpoint=tmp_path / "run")
    assert history.interrupted
    assert len(history) == 1
    assert trainer.loss.calls == STEPS + 2
    said = capsys.readouterr().out
    assert f"in epoch 2 after step 2 of {STEPS}" in said
    path = tmp_path / "run"
    assert f'trainer.fit(train, 3, 0.25, resume="{path}", checkpoint="{path}")' in said
    assert trainer.optimizer.state_dict()["settings"][0]["steps"][0] == STEPS + 2


def test_interrupt_in_the_last_step_of_an_epoch_finishes_the_epoch(tmp_path: Path) -> None:
    trainer = runs.trainer(minidl.get_backend("numpy"), runs.InterruptedLoss(STEPS))
    history = fit(trainer, checkpoint=tmp_path / "run")
    assert history.interrupted
    assert "val_loss" in history[0]


def test_without_a_path_the_checkpoint_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        fit(runs.trainer(minidl.get_backend("numpy"), runs.InterruptedLoss(1)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "minidl-interrupted-2.safetensors",
        "minidl-interrupted.safetensors",
    ]


def test_second_interrupt_raises_at_once(tmp_path: Path) -> None:
    def twice(output: minidl.Tensor, target: minidl.Tensor) -> minidl.Tensor:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second Ctrl-C did not raise")

    with pytest.raises(KeyboardInterrupt):
        fit(runs.trainer(minidl.get_backend("numpy"), twice), checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_fit_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    found = []

    def work() -> None:
        found.append(fit(runs.trainer(minidl.get_backend("numpy"))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found[0]) == runs.EPOCHS


def test_checkpoint_moves_between_backends(backend: Backend, tmp_path: Path) -> None:
    first = runs.trainer(minidl.get_backend("numpy"), runs.InterruptedLoss(2))
    fit(first, checkpoint=tmp_path / "run")
    second = runs.trainer(backend, runs.InterruptedLoss(1))
    interrupted = fit(second, resume=tmp_path / "run", checkpoint=tmp_path / "run")
    assert interrupted.interrupted
    assert second.backend is backend
    other = runs.trainer(backend)
    load_model(other.model, tmp_path / "run")  # the weights of a training's checkpoint
    for name, value in other.model.state_dict().items():
        assert_same(value.numpy(), second.model.state_dict()[name].numpy())


# -- refusals --------------------------------------------------------------------------------------
@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    fit(runs.trainer(minidl.get_backend("numpy"), runs.InterruptedLoss(2)), checkpoint=path)
    return path


def test_other_optimizer_is_refused(checkpoint: Path) -> None:
    other = runs.trainer(minidl.get_backend("numpy"), optimizer=optim.SGD)
    before = runs.state(other)
    with pytest.raises(CheckpointError, match="optimizer Adam, this trainer has SGD"):
        fit(other, resume=checkpoint)
    for name, value in runs.state(other).items():
        assert_same(value, before[name])


def test_other_callbacks_scheduler_and_generators_are_refused(checkpoint: Path) -> None:
    numpy = minidl.get_backend("numpy")
    with pytest.raises(CheckpointError, match=r"callbacks \[\], this trainer has \['Early"):
        fit(runs.trainer(numpy, callbacks=(EarlyStopping(),)), resume=checkpoint)
    scheduled = runs.trainer(numpy)
    scheduled.scheduler = per_step(scheduled.optimizer)
    with pytest.raises(CheckpointError, match="scheduler False"):
        fit(scheduled, resume=checkpoint)
    shared = runs.trainer(numpy)
    shared.model[6].generator = None
    with pytest.raises(CheckpointError, match="generators"):
        fit(shared, resume=checkpoint)


def test_other_model_is_refused(checkpoint: Path) -> None:
    other = runs.trainer(minidl.get_backend("numpy"))
    other.model[5] = nn.Linear(12, 7)
    with pytest.raises(CheckpointError, match="run: load_state_dict"):
        fit(other, resume=checkpoint)


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"seed": 4}])
def test_other_batches_are_refused(checkpoint: Path, change: dict[str, int]) -> None:
    other = runs.trainer(minidl.get_backend("numpy"))
    vars(other).update(change)
    with pytest.raises(CheckpointError, match=f"saved with {next(iter(change))}"):
        fit(other, resume=checkpoint)


def everything(trainer: Trainer, loader: DataLoader) -> tuple[Any, ...]:
    """All that a checkpoint holds of a trainer and its data, in a form that can be compared."""
    arrays = {name: value.tobytes() for name, value in runs.state(trainer).items()}
    settings = trainer.optimizer.state_dict()["settings"]
    streams = (minidl.engine.random.default_generator.state, trainer.model[6].generator.state)
    rate = None if trainer.scheduler is None else trainer.scheduler.state_dict()
    return arrays, settings, streams, rate, loader.state_dict(), loader.epoch


DAMAGES = {
    "other samples": lambda m: m["progress"]["loader"].update(samples=45),
    "no progress": lambda m: m.pop("progress"),
    "no loader": lambda m: m["progress"].pop("loader"),
    "a batch that is none": lambda m: m["progress"]["loader"].update(batch="a"),
    "a batch beyond the last": lambda m: m["progress"]["loader"].update(batch=99),
    "a history of numbers": lambda m: m["progress"].update(history=[1, 2]),
    "means of texts": lambda m: m["progress"].update(means={"loss": "ab"}),
    "no time": lambda m: m["progress"].update(elapsed=None),
    "no optimizer": lambda m: m.pop("optimizer"),
    "settings that are none": lambda m: m["optimizer"].update(settings=5),
    "groups that are none": lambda m: m["optimizer"].update(settings=[3]),
    "other groups": lambda m: m["optimizer"]["settings"][0]["steps"].pop(),
    "a rate that is none": lambda m: m["optimizer"]["settings"][0].update(lr="a"),
    "steps that are none": lambda m: m["optimizer"]["settings"][0].update(steps=["a"] * 10),
    "a scheduler of other groups": lambda m: m["scheduler"].update(base_lrs=[0.1, 0.1]),
    "a scheduler that is none": lambda m: m.update(scheduler=[]),
    "steps of the scheduler": lambda m: m["scheduler"].update(last_epoch=None),
    "no generators": lambda m: m.update(generators=None),
    "a seed that is none": lambda m: m["generators"].update(default=["a", 0]),
    "a counter that is none": lambda m: m["generators"].update(default=[1, -1]),
    "half a generator": lambda m: m["generators"].update(default=[1]),
    "callbacks without a name": lambda m: m.update(callbacks=[{}]),
    "callbacks that are none": lambda m: m.update(callbacks=3),
    "no settings of a callback": lambda m: m["callbacks"][0].update(settings={}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_refused_resume_changes_nothing(tmp_path: Path, damage: Any) -> None:
    def build(loss: Any = minidl.ops.cross_entropy) -> Trainer:
        made = runs.trainer(minidl.get_backend("numpy"), loss, (EarlyStopping(),))
        made.scheduler = per_step(made.optimizer)
        return made

    def loader() -> DataLoader:
        return DataLoader(runs.dataset(), 8, shuffle=True, transform=ToFloat())

    path = tmp_path / "run"
    with_validation = {"validation": runs.dataset(1), "progress": False}
    build(runs.InterruptedLoss(8)).fit(loader(), 3, checkpoint=path, **with_validation)
    tensors, metadata = load(path)
    damage(metadata)
    save(path, tensors, metadata)
    trainer, data = build(), loader()
    before = everything(trainer, data)
    with pytest.raises(CheckpointError, match=f"^{path}: "):
        trainer.fit(data, 3, resume=path, **with_validation)
    assert everything(trainer, data) == before


def test_weights_alone_are_no_training(tmp_path: Path) -> None:
    trainer = runs.trainer(minidl.get_backend("numpy"))
    minidl.training.save_model(trainer.model, tmp_path / "weights")
    with pytest.raises(CheckpointError, match="no training to resume"):
        fit(trainer, resume=tmp_path / "weights")


def test_weights_and_buffers_change_while_training() -> None:
    """The comparisons above would be empty if nothing moved."""
    trainer = runs.trainer(minidl.get_backend("numpy"))
    before = {k: np.array(v.numpy()) for k, v in trainer.model.state_dict().items()}
    fit(trainer)
    after = trainer.model.state_dict()
    assert all((after[name].numpy() != value).any() for name, value in before.items())
