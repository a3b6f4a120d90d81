"""One run of `Trainer.fit`: epochs of steps, and what happens between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import DataLoader
from ..data.loader import Batch
from ..errors import NonFiniteError
from .callbacks import Callback
from .history import History, Row
from .interrupt import Interrupt
from .metrics import Mean
from .progress import Mode, Progress
from .state import save_training

if TYPE_CHECKING:
    from .trainer import Trainer

# How often the loss is looked at, for which a GPU is waited for: whichever comes first.
READ_STEPS = 50
READ_SECONDS = 0.5


class Run:
    """The state of one call of `fit`, as far as it is not the trainer's."""

    def __init__(
        self, trainer: Trainer, loader: DataLoader, validation: DataLoader | None, epochs: int,
        callbacks: Sequence[Callback], checkpoint: Path | None, progress: Mode,
    ) -> None:  # fmt: skip
        self.trainer, self.loader, self.validation, self.epochs = (
            trainer,
            loader,
            validation,
            epochs,
        )
        self.callbacks, self.checkpoint, self.progress = callbacks, checkpoint, progress
        self.stepping = [c for c in callbacks if type(c).on_step_end is not Callback.on_step_end]
        self.history = History()
        self.means = self._no_means()
        self.elapsed = (
            0.0  # seconds that the epoch under way has taken, without the current stretch
        )
        self.stopped = False  # by a callback
        self._saved_epoch = 0

    def _no_means(self) -> dict[str, Mean]:
        return {name: Mean() for name in ("loss", *self.trainer.metrics)}

    # -- what a checkpoint remembers ------------------------------------------------------------
    def save(self, path: Path) -> None:
        """Write everything that decides how training goes on."""
        progress = {
            "loader": self.loader.state_dict(),
            "history": list(self.history),
            "means": {name: mean.state for name, mean in self.means.items()},
            "elapsed": self.elapsed,
            "stopped": self.stopped,
        }
        save_training(path, self.trainer, progress)
        self._saved_epoch = len(self.history)

    def restore(self, progress: dict[str, Any]) -> Callable[[], None]:
        """Go on where `save` was called; returns what brings the loader there. Raises:
        CheckpointError, or some other error if progress is none.
        """
        self.loader.check_state(progress["loader"])
        self.history.extend({**row, "epoch": int(row["epoch"])} for row in progress["history"])
        for name in self.means.keys() & progress["means"].keys():
            total, count = progress["means"][name]
            self.means[name] = Mean(float(total), int(count))
        self.elapsed, self.stopped = float(progress["elapsed"]), bool(progress["stopped"])
        self._saved_epoch = len(self.history)
        return partial(self.loader.load_state_dict, progress["loader"])

    # -- the loop -------------------------------------------------------------------------------
    def train(self, interrupt: Interrupt) -> None:
        """Epochs until all are done, a callback stops, or somebody interrupts."""
        while len(self.history) < self.epochs and not self.stopped:
            row = None if interrupt.requested else self._epoch(interrupt)
            if row is None:
                self.history.interrupted = True
                return
            if self.trainer.scheduler is not None and self.trainer.scheduler_step == "epoch":
                self.trainer.scheduler.step()
            stops = [callback.on_epoch_end(self.trainer.model, row) for callback in self.callbacks]
            self.stopped = any(stops)
            self.history.append(row)
            if self.checkpoint is not None:
                self.save(self.checkpoint)

    def _epoch(self, interrupt: Interrupt) -> Row | None:
        """The rest of an epoch and its validation; None if interrupted before its last step."""
        start = time.perf_counter()
        batches = iter(self.loader)
        place = self.loader.state_dict()
        size = self.loader.batch_size
        samples = min(len(self.loader) * size, len(self.loader.dataset))
        title = f"epoch {len(self.history) + 1}/{self.epochs}"
        with Progress(self.progress, title, samples, place["batch"] * size) as bar:
            whole = self._steps(batches, place, bar, interrupt)
            self.elapsed += time.perf_counter() - start
            if not whole:
                return None
            row = self._row(samples)
            bar.finish(row)
        self.means, self.elapsed = self._no_means(), 0.0
        return row

    def _steps(
        self, batches: Iterator[Batch], place: dict[str, Any], bar: Progress, interrupt: Interrupt
    ) -> bool:
        """Train on batches, the first of which has its place in the epoch; whether all were."""
        read = time.perf_counter()
        for step, given in enumerate(batches, place["batch"] + 1):
            batch = self.trainer.here(given)
            self._count(batch, *self.trainer.step(batch))
            for callback in self.stepping:
                epochs = len(self.history) + step / len(self.loader)
                callback.on_step_end(self.trainer.model, epochs)
            bar.advance(len(batch[-1]))
            now, last = time.perf_counter(), step == len(self.loader)
            due = step % READ_STEPS == 0 or now - read > READ_SECONDS
            stop = interrupt.requested and not last  # looked at once: it may change at any time
            if due or last or stop:
                self._read(place["epoch"], step)
                bar.show({name: mean.compute() for name, mean in self.means.items()})
                read = now
            if stop:
                return False
        return True

    def _count(self, batch: Any, loss: Any, output: Any) -> None:
        samples = len(batch[-1])
        self.means["loss"].update(loss, samples)
        for name, metric in self.trainer.metrics.items():
            self.means[name].update(metric(output, batch[-1]), samples)

    def _row(self, samples: int) -> Row:
        row: Row = {"epoch": len(self.history) + 1}
        row |= {name: mean.compute() for name, mean in self.means.items()}
        if self.validation is not None:
            found = self.trainer.evaluate(self.validation)
            row |= {f"val_{name}": value for name, value in found.items()}
        return row | {
            "lr": self.trainer.lr,
            "seconds": self.elapsed,
            "samples_per_s": samples / self.elapsed,
        }

    # -- a loss that is no number ---------------------------------------------------------------
    def _read(self, loader_epoch: int, step: int) -> None:
        """Look at the losses up to this step. Raises: NonFiniteError."""
        losses = self.means["loss"].drain()
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise self._not_finite(loss, loader_epoch, step - len(losses) + i + 1)

    def _not_finite(self, loss: float, loader_epoch: int, step: int) -> NonFiniteError:
        batch = self.loader.load(loader_epoch, step - 1)
        bad = any(not np.isfinite(x.numpy()).all() for x in batch)
        cause = (
            "That batch itself contains NaN or infinity: clean the data."
            if bad
            else f"The batch is finite, so most likely training diverged: lower the learning rate "
            f"(now {self.trainer.lr:g}), warm it up, or set clip_norm."
        )
        saved = (
            f"The last good checkpoint is {self.checkpoint}, after epoch {self._saved_epoch}."
            if self.checkpoint is not None and self._saved_epoch
            else "No checkpoint was written yet; fit(checkpoint=path) writes one after each epoch."
        )
        return NonFiniteError(
            f"the loss became {loss} in epoch {len(self.history) + 1}, step {step} of "
            f"{len(self.loader)}. {cause} The weights are spoilt. {saved}"
        )
