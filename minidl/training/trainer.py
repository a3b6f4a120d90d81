"""The Trainer: a model, an optimizer, a loss and data, put together to fit, evaluate and
predict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend

from .. import ops
from ..data.transforms import Transform
from ..engine import arguments
from ..engine.modes import get_backend, no_grad
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError
from ..nn import Module
from ..optim import Optimizer, Scheduler, clip_grad_norm_
from .callbacks import Callback, JsonLines
from .feed import Data, evaluation_loader, fixed_batches, held_out, training_loader
from .history import History
from .interrupt import Interrupt
from .loop import Run
from .metrics import Mean, accuracy
from .progress import Mode
from .state import load_training

Loss = Callable[[Any, Tensor], Tensor]
Metric = Callable[[Any, Tensor], Tensor | float]
INTERRUPTED = "minidl-interrupted.safetensors"


class Trainer:
    """Trains a model with an optimizer on batches (x, target); see `fit`.

    loss(output, target) is the mean over a batch; so is each of metrics, which are averaged over
    the batches. scheduler.step() is called after each "epoch" or each "step" (scheduler_step).
    clip_norm limits the norm of all gradients together. batch_size, seed and transform are for data
    that come without a DataLoader: training shuffles by seed, evaluation leaves out what is random
    in transform.

    Raises: ArgumentError, DTypeError.

    >>> import minidl, numpy as np
    >>> from minidl import nn, ops, optim
    >>> model = nn.Linear(1, 1)
    >>> sgd = optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = Trainer(model, sgd, ops.mse_loss, metrics={}, batch_size=8)
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> history = trainer.fit((x, 3 * x), epochs=20, progress=False)
    >>> round(model.weight.item(), 2)
    3.0
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Loss = ops.cross_entropy,
        metrics: Mapping[str, Metric] | None = None, *, scheduler: Any = None,
        scheduler_step: str = "epoch", callbacks: Sequence[Callback] = (),
        clip_norm: float | None = None, batch_size: int = 64, seed: int = 0,
        transform: Transform | None = None,
    ) -> None:  # fmt: skip
        check = ops.check
        check.choice("Trainer", "scheduler_step", scheduler_step, ("epoch", "step"))
        check.instance("Trainer", "model", model, Module)
        check.instance("Trainer", "optimizer", optimizer, Optimizer)
        if scheduler is not None:
            check.instance("Trainer", "scheduler", scheduler, Scheduler)
        check.instance("Trainer", "callbacks", callbacks, Iterable, "; wrap it: [callback]")
        for callback in callbacks:
            check.instance("Trainer", "a callback", callback, Callback)
        check.instance("Trainer", "metrics", {} if metrics is None else metrics, Mapping)
        for name, called in {"loss": loss, **(metrics or {})}.items():
            arguments.function("Trainer", name, called, "output", "target")
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics = {"accuracy": accuracy} if metrics is None else dict(metrics)
        self.scheduler, self.scheduler_step = scheduler, scheduler_step
        self.callbacks, self.clip_norm = list(callbacks), clip_norm
        if clip_norm is not None:
            self.clip_norm = check.number("Trainer", "clip_norm", clip_norm, 0)
        self.batch_size = check.integer("Trainer", "batch_size", batch_size, 1)
        self.seed, self.transform = Generator(seed).seed, transform

    @property
    def backend(self) -> Backend:
        """Where the model lives; batches are moved there."""
        first = next(self.model.parameters(), None)
        return get_backend() if first is None else first.backend

    @property
    def lr(self) -> float:
        """The learning rate of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def fit(
        self, train: Data, epochs: int, validation: Data | float | None = None, *,
        resume: str | Path | None = None, checkpoint: str | Path | None = None,
        log: str | Path | None = None, progress: Mode = True,
    ) -> History:  # fmt: skip
        """Train until `epochs` epochs are done; returns their numbers.

        train and validation are a DataLoader, a Dataset or a tuple of arrays; validation may also
        be the fraction of train to hold out. checkpoint is written after each epoch; log gets one
        line of JSON per epoch. progress: see `minidl.training.progress`.

        Ctrl-C finishes the step under way, writes the checkpoint (without a path:
        minidl-interrupted.safetensors here), says how to resume and returns; a second Ctrl-C
        raises KeyboardInterrupt. With resume=path, the same trainer and the same data, training
        goes on to the same weights, bit for bit, as without the interruption.

        The loss stays on the device and is read every 50 steps, or twice a second.
        Raises: NonFiniteError if the loss becomes NaN or infinite; CheckpointError, ArgumentError,
        DataError.
        """
        epochs = ops.check.integer("fit", "epochs", epochs, 1)
        path = None if checkpoint is None else arguments.path("fit", "checkpoint", checkpoint)
        if path is not None and not path.resolve().parent.is_dir():
            raise CheckpointError(f"fit: {path} cannot be written, for its folder does not exist")
        log = None if log is None else arguments.path("fit", "log", log)
        if isinstance(validation, (int, float, np.number)):
            validation = float(validation)
        loader = training_loader(train, self.batch_size, self.seed, self.transform)
        again = _call(epochs, validation, log)
        if isinstance(validation, float):
            loader, validation = held_out(loader, validation)
        elif validation is not None:
            validation = evaluation_loader(validation, self.transform)
        callbacks = [*self.callbacks, *([] if log is None else [JsonLines(log)])]
        run = Run(self, loader, validation, epochs, callbacks, path, progress)
        if resume is not None:
            load_training(resume, self, run)
        self._run(run, again)
        return run.history

    def _run(self, run: Run, again: str) -> None:
        for callback in run.callbacks:
            callback.on_fit_start(self.model, run.history)
        self.model.train()
        with Interrupt() as interrupt:
            run.train(interrupt)
            if run.history.interrupted:
                path = run.checkpoint or _free(Path(INTERRUPTED))
                run.save(path)
                _say_how_to_resume(run, path, again)
                return
        for callback in run.callbacks:
            callback.on_fit_end(self.model)

    def step(self, batch: Sequence[Tensor]) -> tuple[Tensor, Any]:
        """One update by a batch (inputs ..., target); returns loss and output without their
        history.
        """
        *inputs, target = self._pair("fit", batch)
        loss, output = self.objective(inputs, target)
        ops.check.tensors("fit", **{"what loss returns": loss})
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        if self.scheduler is not None and self.scheduler_step == "step":
            self.scheduler.step()
        return loss.detach(), output.detach() if isinstance(output, Tensor) else output

    def objective(self, inputs: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Any]:
        """What training minimises on a batch, and the model's output; a subclass may add to it."""
        output = self.model(*inputs)
        return self.loss(output, target), output

    @no_grad()
    def evaluate(self, data: Data) -> dict[str, float]:
        """Loss and metrics over data, with the model in evaluation mode.

        Raises: ArgumentError if data have no target.

        >>> import numpy as np
        >>> from minidl import nn, ops, optim
        >>> model = nn.Linear(1, 2)
        >>> trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1))
        >>> sorted(trainer.evaluate((np.ones((3, 1), np.float32), np.zeros(3, np.int64))))
        ['accuracy', 'loss']
        """
        means = {name: Mean() for name in ("loss", *self.metrics)}
        with _evaluating(self.model):
            for batch in fixed_batches(evaluation_loader(data, self.transform)):
                *inputs, target = self._pair("evaluate", batch)
                output = self.model(*inputs)
                means["loss"].update(self.loss(output, target), len(target))
                for name, metric in self.metrics.items():
                    means[name].update(metric(output, target), len(target))
        return {name: mean.compute() for name, mean in means.items()}

    @no_grad()
    def predict(self, data: Data) -> Tensor:
        """The model's output for data, an array of x alone or as in `evaluate` (targets are
        ignored).

        Shapes: x (N, ...) -> (N, ...), whatever the model makes of it.
        """
        outputs = []
        with _evaluating(self.model):
            for batch in fixed_batches(evaluation_loader(data, self.transform)):
                here = self.here(batch)
                outputs.append(self.model(*(here[:-1] or here)))
        return ops.concatenate(outputs, 0)

    def _pair(self, operation: str, batch: Sequence[Tensor]) -> list[Tensor]:
        if len(batch) < 2:
            raise ArgumentError(f"{operation}: data must be pairs (x, target), got x alone")
        return self.here(batch)

    def here(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """The tensors of a batch on the model's backend."""
        backend = self.backend
        return [x.to(backend) for x in batch]


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode, and then each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _free(path: Path) -> Path:
    """path, or with a number if there is such a file already."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def _call(epochs: int, validation: Any, log: str | Path | None) -> str:
    """The arguments of fit as a person writes them; data are called by the parameter's name."""
    parts = ["train", str(epochs)]
    if validation is not None:
        parts.append(str(validation) if isinstance(validation, float) else "validation")
    return ", ".join([*parts, *([] if log is None else [f"log={json.dumps(str(log))}"])])


def _say_how_to_resume(run: Run, path: Path, again: str) -> None:
    place = run.loader.state_dict()
    where = f"after epoch {len(run.history)}"
    if place["batch"]:
        where = f"in epoch {len(run.history) + 1} after step {place['batch']} of {len(run.loader)}"
    name = json.dumps(str(path))
    print(
        f"Interrupted {where}. To go on, build the same trainer and call, with the same data,\n"
        f"    trainer.fit({again}, resume={name}, checkpoint={name})",
        flush=True,
    )
