"""Callbacks: what happens between epochs besides training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..engine import arguments
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError
from ..nn import Module
from ..ops import check
from .atomic import write_bytes
from .checkpoint import save_model
from .history import History, Row


class Callback:
    """Base of all callbacks; override what you need.

    `state_dict` and `load_state_dict` let a callback take part in checkpoints: {"settings": what
    JSON can express, "tensors": name -> Tensor}.
    """

    def on_fit_start(self, model: Module, history: History) -> None:
        """Before the first epoch; history has the epochs before a resumed one."""

    def on_step_end(self, model: Module, epochs: float) -> None:
        """After a step; epochs are those done so far, with the fraction of this one."""

    def on_epoch_end(self, model: Module, row: Row) -> bool:
        """After an epoch and its validation; True ends the training."""
        return False

    def on_fit_end(self, model: Module) -> None:
        """After the last epoch, unless an error or Ctrl-C ended the training."""

    def state_dict(self) -> dict[str, Any]:
        """What it must remember when training is resumed."""
        return {"settings": {}, "tensors": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` returned."""


class Best:
    """Whether a number of the rows is the best so far; "min" for a name that ends in loss, else
    "max".
    """

    def __init__(self, owner: str, monitor: str, mode: str | None, min_delta: float = 0.0) -> None:
        if mode is not None:
            check.choice(owner, "mode", mode, ("min", "max"))
        check.instance(owner, "monitor", monitor, str)
        self.owner, self.monitor = owner, monitor
        self.min_delta = check.number(owner, "min_delta", min_delta, 0)
        self.sign = -1 if (mode or ("min" if monitor.endswith("loss") else "max")) == "min" else 1
        self.value: float | None = None

    def improved(self, row: Row) -> bool:
        """Whether the row's number exceeds the best by more than min_delta; NaN never does."""
        if self.monitor not in row:
            numbers = ", ".join(n for n, v in row.items() if isinstance(v, float))
            raise ArgumentError(
                f"{self.owner}: there is no {self.monitor!r} to monitor, only {numbers}; a name "
                "with val_ needs fit(validation=...)"
            )
        value = float(row[self.monitor])
        if math.isnan(value) or (
            self.value is not None and self.sign * (value - self.value) <= self.min_delta
        ):
            return False
        self.value = value
        return True


class EarlyStopping(Callback):
    """Stop once `monitor` has not improved by more than min_delta for patience epochs.

    With restore_best the model gets the weights of its best epoch back when training ends.
    Source: Prechelt (1998), "Early stopping - but when?", section 2.1. Raises: ArgumentError.

    >>> stopping = EarlyStopping("val_loss", patience=1)
    >>> [stopping.on_epoch_end(Module(), {"val_loss": v}) for v in (0.5, 0.4, 0.45)]
    [False, False, True]
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0,
        restore_best: bool = True, mode: str | None = None,
    ) -> None:  # fmt: skip
        self.best = Best("EarlyStopping", monitor, mode, min_delta)
        self.patience = check.integer("EarlyStopping", "patience", patience, 1)
        self.restore_best = restore_best
        self.waited = 0
        self.weights: dict[str, Tensor] = {}

    def on_fit_start(self, model: Module, history: History) -> None:
        if not history:  # a new run, not a resumed one
            self.best.value, self.waited, self.weights = None, 0, {}

    def on_epoch_end(self, model: Module, row: Row) -> bool:
        if self.best.improved(row):
            self.waited = 0
            if self.restore_best:
                self.weights = {name: x.clone() for name, x in model.state_dict().items()}
            return False
        self.waited += 1
        return self.waited >= self.patience

    def on_fit_end(self, model: Module) -> None:
        if self.weights:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        settings = {"best": self.best.value, "waited": self.waited}
        return {"settings": settings, "tensors": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value, self.waited = state["settings"]["best"], state["settings"]["waited"]
        self.weights = dict(state["tensors"])


class BestCheckpoint(Callback):
    """Save the model to path whenever `monitor` is the best so far; `load_model` reads it.

    Raises: ArgumentError; CheckpointError if the file cannot be written.
    """

    def __init__(
        self, path: str | Path, monitor: str = "val_loss", mode: str | None = None
    ) -> None:
        self.path = arguments.path("BestCheckpoint", "path", path)
        self.best = Best("BestCheckpoint", monitor, mode)

    def on_fit_start(self, model: Module, history: History) -> None:
        if not history:
            self.best.value = None

    def on_epoch_end(self, model: Module, row: Row) -> bool:
        if self.best.improved(row):
            save_model(
                model, self.path, {"epoch": row["epoch"], self.best.monitor: self.best.value}
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"settings": {"best": self.best.value}, "tensors": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value = state["settings"]["best"]


class JsonLines(Callback):
    """Write each epoch's row to path as one line of JSON (null for NaN), at once.

    A new run replaces the file; a resumed one continues it.
    Raises: CheckpointError if the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = arguments.path("JsonLines", "path", path)

    def on_fit_start(self, model: Module, history: History) -> None:
        # The rows so far come from the checkpoint: a line that was logged after it is not repeated.
        self._try(lambda: write_bytes(self.path, b"".join(map(_line, history))))

    def on_epoch_end(self, model: Module, row: Row) -> bool:
        self._try(lambda: _append(self.path, _line(row)))
        return False

    def _try(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise CheckpointError(
                f"JsonLines: {self.path} cannot be written ({error.strerror or error})"
            ) from error


def _line(row: Row) -> bytes:
    plain = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    return (json.dumps(plain, allow_nan=False) + "\n").encode()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
