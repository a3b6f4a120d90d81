"""Recipes: prune, train on, distil and quantize in a row, with a checkpoint after each step.

A step is anything that makes a model of a model. What a step needs besides, the data and where to
say what happens, is in the Kitchen that it is called with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine import arguments
from ..errors import ArgumentError, CheckpointError
from ..nn import Module
from ..ops import check, cross_entropy
from ..optim import Adam, CosineAnnealingLR
from ..training import Trainer, write_bytes
from ..training.feed import Data, evaluation_loader, training_loader
from ..training.progress import Mode
from . import prune, structured
from .distill import Distiller
from .files import load, save
from .fold import fold
from .models import clone, in_use, inputs
from .post_training import quantize_model
from .report import Report, report
from .sharing import share
from .sparse import sparsify

Loss = Callable[[Any, Any], Any]


@dataclass
class Kitchen:
    """What steps find: training data, the model that all began with, and how loud to be."""

    train: Any  # a DataLoader
    first: Module
    loss: Loss
    progress: Mode
    examples: list[Any] = field(default_factory=list)  # a few batches of x

    def fit(self, trainer: Trainer, epochs: int) -> None:
        """Train with a rate that falls along a cosine."""
        trainer.scheduler = CosineAnnealingLR(trainer.optimizer, epochs)
        trainer.fit(self.train, epochs, progress=self.progress)


@dataclass(frozen=True)
class Prune:
    """Mask weights: amount, and the options of `prune.magnitude`; see there."""

    amount: float
    scope: str = "global"
    pattern: str = "unstructured"

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        return prune.magnitude(clone(model), self.amount, self.scope, pattern=self.pattern)


@dataclass(frozen=True)
class Shrink:
    """Remove channels for good; see `structured.prune_channels`."""

    amount: float
    criterion: str = "l1"

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        example = kitchen.examples[0]
        return structured.prune_channels(model, example, self.amount, criterion=self.criterion)


@dataclass(frozen=True)
class FineTune:
    """Train with Adam, so that the model makes up for what it lost; masks and sharing last."""

    epochs: int
    lr: float = 1e-3

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        twin = clone(model)
        kitchen.fit(Trainer(twin, Adam(twin.parameters(), lr=self.lr), kitchen.loss), self.epochs)
        return twin


@dataclass(frozen=True)
class Distil:
    """The same with a teacher: the model that the recipe began with, unless there is another."""

    epochs: int
    lr: float = 1e-3
    temperature: float = 4.0
    alpha: float = 0.9
    teacher: Module | None = None

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        twin, teacher = clone(model), self.teacher or kitchen.first
        distiller = Distiller(
            twin, teacher, Adam(twin.parameters(), lr=self.lr), kitchen.loss,
            temperature=self.temperature, alpha=self.alpha,
        )  # fmt: skip
        kitchen.fit(distiller, self.epochs)
        return twin


@dataclass(frozen=True)
class Fold:
    """Put batch norms into the layers before them; see `fold`."""

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        return fold(model, kitchen.examples[0])


@dataclass(frozen=True)
class Share:
    """Let weights share 2^bits values; see `share`."""

    bits: int = 5

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        return share(clone(model), self.bits)


@dataclass(frozen=True)
class Sparsify:
    """Use sparse layers where they are faster; see `sparsify`."""

    rule: str = "measured"

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        loud = bool(kitchen.progress)
        return sparsify(model, kitchen.examples[0], self.rule, verbose=loud)


@dataclass(frozen=True)
class Quantize:
    """An integer program, its ranges from some training batches; see `quantize_model`."""

    weights: str = "per_channel"
    activations: str = "affine"

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        return quantize_model(model, kitchen.examples, self.weights, self.activations)


@dataclass(frozen=True)
class Cooked:
    """What a recipe gave: the last model, the model after each step, and their report."""

    model: Module
    stages: dict[str, Module]
    report: Report


Step = Callable[[Module, Kitchen], Module]
EXAMPLES = 8  # batches from which ranges are taken
_PLAN = "recipe.json"


class Recipe:
    """Steps with names, ready to `run`; see `recipe`."""

    def __init__(self, steps: Sequence[tuple[str, Step]]) -> None:
        self.steps = list(steps)

    def __repr__(self) -> str:
        return "\n".join(["recipe", *(f"  {name}: {step}" for name, step in self.steps)])

    def run(
        self, model: Module, train: Data, test: Data, *, loss: Loss = cross_entropy,
        checkpoint_dir: str | Path | None = None, progress: Mode = True, rounds: int = 100,
        batch_size: int = 64, seed: int = 0, transform: Any = None,
    ) -> Cooked:  # fmt: skip
        """Apply all steps to a trained model, which stays as it is, and measure every stage.

        train and test are what `Trainer.fit` takes. checkpoint_dir: after each step its model is
        written there (`compress.save`), and a later run with the same steps goes on after the last
        one; Ctrl-C loses the step under way. Steps that change the architecture for good (`Shrink`)
        are done anew, since no float model of theirs is at hand to load into. rounds: of the
        report's times. Raises: ArgumentError, CheckpointError.
        """
        check.instance("run", "model", model, Module)
        loader = training_loader(train, batch_size, seed, transform)
        batches = zip(range(EXAMPLES), loader, strict=False)
        examples = [inputs(batch, model) for _, batch in batches]
        kitchen = Kitchen(loader, model, loss, progress, examples)
        folder = None if checkpoint_dir is None else _folder(checkpoint_dir, self)
        stages, current = {"first": model}, model
        architecture: Module | None = model  # of the same layers as the files
        for i, (name, step) in enumerate(self.steps):
            file = None if folder is None else folder / f"{i + 1}-{name}.safetensors"
            architecture = None if isinstance(step, (Shrink, Fold)) else architecture
            if file is not None and file.exists() and architecture is not None:
                current = load(architecture, file)
            else:
                _say(progress, f"{i + 1}/{len(self.steps)} {name}: {step}")
                current = step(current, kitchen)
                if file is not None:
                    save(current, file)
            check.instance("run", f"what step {name!r} returns", current, Module)
            stages[name] = current
        test_loader = evaluation_loader(test, transform)
        with in_use(*stages.values()):
            return Cooked(current, stages, report(stages, test_loader, rounds))


def recipe(steps: Sequence[Any]) -> Recipe:
    """Steps to compress a model, in order; `run` applies them.

    steps: objects of this file, or any function(model) or function(model, kitchen) that returns a
    model; a pair (name, step) gives a name of its own. Raises: ArgumentError for no steps, or two
    of one name.

    >>> import minidl, numpy as np
    >>> model = minidl.nn.Linear(8, 4)
    >>> x, y = np.ones((64, 8), np.float32), np.zeros(64, np.int64)
    >>> plan = recipe([Prune(0.5), FineTune(1), Quantize()])
    >>> cooked = plan.run(model, (x, y), (x, y), progress=False, rounds=3)
    >>> list(cooked.stages)
    ['first', 'prune', 'finetune', 'quantize']
    """
    check.instance("recipe", "steps", steps, Sequence)
    named: list[tuple[str, Step]] = []
    for given in steps:
        name, step = given if isinstance(given, tuple) else (None, given)
        if not callable(step):
            raise ArgumentError(f"recipe: a step must be callable, got {step!r}")
        if name is None:
            kind = step if hasattr(step, "__name__") else type(step)
            name = str(kind.__name__).lower()
            count = sum(n.rstrip("0123456789") == name for n, _ in named)
            name += str(count + 1) if count else ""
        if name in ("first", *(n for n, _ in named)) or "/" in name:
            raise ArgumentError(f"recipe: the name {name!r} is taken, or is no name of a file")
        named.append((name, _of_two(step)))
    if not named:
        raise ArgumentError("recipe: needs at least one step, such as Prune(0.8)")
    return Recipe(named)


def _of_two(step: Any) -> Step:
    """A step of this file as it is; a plain function of a model without the kitchen."""
    try:
        arguments.function("recipe", "step", step, "model", "kitchen")
    except (TypeError, ValueError):
        return _Plain(step)
    found: Step = step
    return found


@dataclass(frozen=True)
class _Plain:
    """A function of the model alone."""

    function: Callable[[Module], Module]

    def __call__(self, model: Module, kitchen: Kitchen) -> Module:
        return self.function(model)


def _folder(path: str | Path, plan: Recipe) -> Path:
    """The folder of checkpoints, which belongs to these steps alone. Raises: CheckpointError."""
    folder = arguments.path("run", "checkpoint_dir", path)
    steps = [[name, _described(step)] for name, step in plan.steps]
    file = folder / _PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and json.loads(file.read_text("utf-8")) != steps:
            raise CheckpointError(
                f"run: {folder} holds the steps of another recipe; name another checkpoint_dir"
            )
        write_bytes(file, json.dumps(steps).encode())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"run: {folder} cannot be used ({error})") from error
    return folder


def _described(step: Any) -> str:
    """A step's settings, the same text in every process: functions go by their names."""
    step = step.function if isinstance(step, _Plain) else step
    return str(getattr(step, "__qualname__", None) or repr(step))


def _say(progress: Mode, text: str) -> None:
    if progress:
        print(text)
