"""The checkpoint of a training: everything that decides how it goes on.

Weights and buffers, the optimizer's and the scheduler's state, the random streams (the default
generator, and those that modules own), the place in the data, the epoch's running means, the
callbacks' state and the history.
"""

from __future__ import annotations

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


def load_training(path: str | Path, trainer: Any) -> dict[str, Any]:
    """Bring a trainer to the state in path; returns the progress that was saved with it.

    Raises: CheckpointError if the file is no such checkpoint, or one of another model, optimizer
    or set of callbacks.
    """
    tensors, metadata = load(path, trainer.backend)
    if metadata.get("training") != VERSION:
        raise CheckpointError(
            f"{path}: holds weights but no training to resume (version {metadata.get('training')}, "
            f"expected {VERSION}). Load it with load_model, then start a new fit."
        )
    try:
        _check(trainer, metadata)
        trainer.model.load_state_dict(weights(tensors, metadata))
        settings = metadata["optimizer"]["settings"]
        trainer.optimizer.load_state_dict(
            {"settings": settings, "tensors": _part("optimizer", tensors)}
        )
        if trainer.scheduler is not None:
            trainer.scheduler.load_state_dict(metadata["scheduler"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name, generator in _generators(trainer.model).items():
        generator.state = metadata["generators"][name]
    for i, callback in enumerate(trainer.callbacks):
        settings = metadata["callbacks"][i]["settings"]
        callback.load_state_dict({"settings": settings, "tensors": _part(f"callback{i}", tensors)})
    progress: dict[str, Any] = metadata["progress"]
    return progress


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
