"""The checkpoint of a training: everything that decides how it goes on.

Weights and buffers, the optimizer's and the scheduler's state, the random streams (the default
generator, and those that modules own), the place in the data, the epoch's running means, the
callbacks' state and the history.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.random import Generator, default_generator
from ..engine.tensor import Tensor
from ..errors import CheckpointError
from ..nn import Module
from .checkpoint import load, save, weights

VERSION = 1


def save_training(path: str | Path, trainer: Any, progress: dict[str, Any]) -> None:
    """Write the state of a trainer and of its loop (progress: what JSON can express). Raises:
    CheckpointError.
    """
    optimizer = trainer.optimizer.state_dict()
    tensors = _prefixed("model", trainer.model.state_dict())
    tensors |= _prefixed("optimizer", optimizer["tensors"])
    callbacks = []
    for i, callback in enumerate(trainer.callbacks):
        state = callback.state_dict()
        tensors |= _prefixed(f"callback{i}", state["tensors"])
        callbacks.append({"name": type(callback).__name__, "settings": state["settings"]})
    metadata = {
        "training": VERSION,
        "optimizer": {"name": type(trainer.optimizer).__name__, "settings": optimizer["settings"]},
        "scheduler": None if trainer.scheduler is None else trainer.scheduler.state_dict(),
        "generators": {name: g.state for name, g in _generators(trainer.model).items()},
        "callbacks": callbacks,
        "progress": progress,
    }
    save(path, tensors, metadata)


def load_training(path: str | Path, trainer: Any, run: Any) -> None:
    """Bring a trainer, and a run of it, to the state in path: all of it or nothing.

    Raises: CheckpointError if the file is no such checkpoint, or one of another model, optimizer,
    order of batches or set of callbacks.
    """
    tensors, metadata = load(path, trainer.backend)
    if metadata.get("training") != VERSION:
        raise CheckpointError(
            f"{path}: holds weights but no training to resume (version {metadata.get('training')}, "
            f"expected {VERSION}). Load it with load_model, then start a new fit."
        )
    try:
        commits = _checked(trainer, run, tensors, metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: what it says of the training is damaged, or of another program ({error!r})"
        ) from error
    for commit in commits:
        commit()


def _checked(
    trainer: Any, run: Any, tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> list[Callable[[], Any]]:
    """What is left to do when everything was found to fit: calls that cannot fail."""
    _check(trainer, metadata)
    model = weights(tensors, metadata)
    if _shapes(model) != _shapes(trainer.model.state_dict()):
        trainer.model.load_state_dict(model)  # says what does not fit, and loads nothing
    optimizer = {
        "settings": metadata["optimizer"]["settings"], "tensors": _part("optimizer", tensors),
    }  # fmt: skip
    trainer.optimizer.check_state(optimizer)
    commits = [
        partial(trainer.model.load_state_dict, model),
        partial(trainer.optimizer.load_state_dict, optimizer),
        run.restore(metadata["progress"]),
    ]
    if trainer.scheduler is not None:
        trainer.scheduler.check_state(metadata["scheduler"])
        commits.append(partial(trainer.scheduler.load_state_dict, metadata["scheduler"]))
    for name, generator in _generators(trainer.model).items():
        found = Generator()
        found.state = metadata["generators"][name]
        commits.append(partial(setattr, generator, "state", found.state))
    # Last, since only the callbacks themselves know what they take.
    for i, (callback, saved) in enumerate(
        zip(trainer.callbacks, metadata["callbacks"], strict=True)
    ):
        callback.load_state_dict(
            {"settings": saved["settings"], "tensors": _part(f"callback{i}", tensors)}
        )
    return commits


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in tensors.items()}


def _check(trainer: Any, metadata: dict[str, Any]) -> None:
    """What was saved and what is here must be of the same kinds."""
    callbacks = [type(c).__name__ for c in trainer.callbacks]
    for what, saved, here in (
        ("optimizer", metadata["optimizer"]["name"], type(trainer.optimizer).__name__),
        ("scheduler", metadata["scheduler"] is not None, trainer.scheduler is not None),
        ("callbacks", [c["name"] for c in metadata["callbacks"]], callbacks),
        ("generators", sorted(metadata["generators"]), sorted(_generators(trainer.model))),
    ):
        if saved != here:
            raise CheckpointError(
                f"the training was saved with {what} {saved}, this trainer has {here}. "
                "Build the trainer as it was."
            )


def _generators(model: Module) -> dict[str, Generator]:
    """The random streams that training draws from, by name."""
    own = {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Generator)
    }
    return {"default": default_generator, **own}


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}
