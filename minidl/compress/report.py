"""What each stage of compression costs and gives: accuracy, bytes, milliseconds, decibels."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.function import Function
from ..engine.modes import observe
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import Module, summary
from ..ops import check
from .files import save
from .integer import IntegerModel
from .integer_steps import LayerStep
from .layers import Coded
from .models import backend_of, compressible, in_use, inputs
from .qtensor import sqnr
from .timing import calling, latency


@dataclass(frozen=True)
class Stage:
    """One row: a model, and what was measured of it."""

    name: str
    backend: str
    accuracy: float  # from 0 to 1, top-1 on the given data
    bytes: int  # of the file that `compress.save` writes
    parameters: int  # weights and biases; masks and scales are not learned and not counted
    nonzeros: int  # of those
    multiply_adds: int  # for one sample, zeros included: dense kernels do not skip them
    p50_ms: float  # median time of a forward pass
    p95_ms: float
    batch: int  # samples in such a pass
    sqnr_db: dict[str, float] = field(default_factory=dict)  # see `layer_sqnr`

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON; decibels that are infinite (no noise at all) become None."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.sqnr_db.items()}
        return {**asdict(self), "sqnr_db": finite}


@dataclass(frozen=True)
class Report:
    """Stages in the order in which they were given; `print` shows a table."""

    stages: tuple[Stage, ...]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __getitem__(self, name: str) -> Stage:
        return {stage.name: stage for stage in self.stages}[name]

    def to_dict(self) -> dict[str, Any]:
        """{"stages": [...]}, fit for JSON."""
        return {"stages": [stage.to_dict() for stage in self.stages]}

    def __str__(self) -> str:
        rows = [_HEADINGS, *(_row(stage, self.stages[0]) for stage in self.stages)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


_HEADINGS = (
    "stage", "backend", "accuracy", "bytes", "of first", "non-zero", "multiply-adds",
    "p50 ms", "p95 ms", "worst layer",
)  # fmt: skip


def _row(stage: Stage, first: Stage) -> tuple[str, ...]:
    worst = min(stage.sqnr_db.values(), default=math.inf)
    return (
        stage.name,
        stage.backend,
        f"{stage.accuracy:.2%}",
        f"{stage.bytes:,}",
        f"{stage.bytes / first.bytes:.3f}",
        f"{stage.nonzeros / max(stage.parameters, 1):.1%}",
        f"{stage.multiply_adds:,}",
        f"{stage.p50_ms:.3f}",
        f"{stage.p95_ms:.3f}",
        f"{worst:.1f} dB" if math.isfinite(worst) else "-",
    )


def report(
    stages: Module | Mapping[str, Module],
    data: Iterable[Any],
    rounds: int = 200,
    batch: int = 1,
    reference: Mapping[str, str] | None = None,
) -> Report:
    """Measure models side by side on batches (x, y) of classified samples.

    stages: name -> model, or one model (called "model"). rounds: timed forward passes of `batch`
    samples for each stage, in turn, after a warm-up. reference: for a quantized stage the name of
    the stage that `layer_sqnr` compares it with; by default the float one with the nearest weights.
    Units: seconds appear as milliseconds, sizes as bytes of a file that is really written.
    Raises: ArgumentError for no stages, no data, or rounds or batch below 1.

    >>> import minidl
    >>> from minidl.compress import quantize_model
    >>> model, x = minidl.nn.Linear(4, 2), minidl.randn(8, 4)
    >>> stages = {"float32": model, "int8": quantize_model(model, [x])}
    >>> found = report(stages, [(x, model(x).argmax(1))], rounds=3)
    >>> found["float32"].accuracy, found["int8"].multiply_adds, found["int8"].bytes > 0
    (1.0, 8, True)
    """
    models: Any = {"model": stages} if isinstance(stages, Module) else stages
    check.instance("report", "stages", models, Mapping, " of names to models, or a model")
    for model in models.values():
        check.instance("report", "a stage", model, Module)
    check.instance("report", "data", data, Iterable)
    rounds = check.integer("report", "rounds", rounds, 1)
    batch = check.integer("report", "batch", batch, 1)
    batches = list(data)
    if not models or not batches:
        raise ArgumentError(
            f"report: needs a stage and a batch of data, got {len(models)} and {len(batches)}"
        )
    names = {**_nearest(models), **(reference or {})}
    with in_use(*models.values()):
        times = latency(
            {
                name: calling(model, inputs(batches[0], model)[:batch])
                for name, model in models.items()
            },
            rounds,
        )
        return Report(
            tuple(
                _measure(name, model, batches, times[name], batch, models.get(names.get(name, "")))
                for name, model in models.items()
            )
        )


def _measure(
    name: str, model: Module, batches: list[Any], times: np.ndarray, batch: int,
    reference: Module | None,
) -> Stage:  # fmt: skip
    x = inputs(batches[0], model)
    learned = parameters(model)
    return Stage(
        name=name,
        backend=backend_of(model).name,
        accuracy=accuracy(model, batches),
        bytes=file_size(model),
        parameters=sum(p.size for p in learned),
        nonzeros=sum(int(np.count_nonzero(p.numpy())) for p in learned),
        multiply_adds=summary(model, x[:1]).multiply_adds,
        p50_ms=float(np.percentile(times, 50)) * 1e3,
        p95_ms=float(np.percentile(times, 95)) * 1e3,
        batch=batch,
        sqnr_db={} if reference is None else layer_sqnr(reference, model, x),
    )


def accuracy(model: Module, data: Iterable[Any]) -> float:
    """The fraction of samples whose largest output is that of their label.

    Shapes: batches (x, y) with y (N,), outputs (N, classes).
    """
    right = total = 0
    with in_use(model):
        for batch in data:
            if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                raise ArgumentError("accuracy: data must be pairs (x, y), got x alone")
            found = model(inputs(batch, model)).numpy().argmax(1)
            labels = np.asarray(batch[1])
            if labels.shape != found.shape:
                raise ShapeError(f"accuracy: {len(found)} outputs for labels of {labels.shape}")
            right += int((found == labels).sum())
            total += labels.size
    return right / max(total, 1)


def file_size(model: Module) -> int:
    """Bytes on disk, by saving the model to a temporary file and weighing it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(model, path)
        return path.stat().st_size


def parameters(model: Module) -> list[Tensor]:
    """Weights and biases, each once, whether they are Parameters or frozen in quantized layers."""
    frozen = [m for m in model.modules() if isinstance(m, Coded)]
    held = [t for m in frozen for t in (m.weight, m.bias) if t is not None]
    return [*model.parameters(), *held]


def layer_sqnr(reference: Module, model: Module, x: Tensor) -> dict[str, float]:
    """Path of each quantized layer -> decibels of its output against that of the float layer.

    Both models see x from the start, so the noise of a layer contains that of the layers before it.

    >>> import minidl
    >>> from minidl.compress import quantize_model
    >>> model, x = minidl.nn.Linear(64, 16), minidl.randn(32, 64)
    >>> 30 < layer_sqnr(model, quantize_model(model, [x]), x)[""] < 60
    True
    """
    if isinstance(model, IntegerModel):
        return _program_sqnr(reference, model, x.to(backend_of(model)))
    paths = [path for path, m in model.named_modules() if isinstance(m, Coded)]
    outputs = [_outputs(m, paths, x.to(backend_of(m))) for m in (reference, model)]
    return {path: sqnr(outputs[0][path], outputs[1][path]) for path in paths if path in outputs[0]}


def _program_sqnr(reference: Module, model: IntegerModel, x: Tensor) -> dict[str, float]:
    """`layer_sqnr` of a program, whose steps know which operation of the float model they are."""
    seen: list[Tensor] = []

    def see(phase: str, function: Function, inputs: Any, result: Any) -> None:
        seen.append(result)

    with in_use(reference), observe(see):
        reference(x.to(backend_of(reference)))
    pairs = zip(model.steps, model.outputs(x), strict=True)
    return {step.path: sqnr(seen[step.last], y) for step, y in pairs if isinstance(step, LayerStep)}


def _outputs(model: Module, paths: list[str], x: Tensor) -> dict[str, np.ndarray]:
    """What the modules at paths returned when the model was given x."""
    every = dict(model.named_modules())
    found: dict[str, np.ndarray] = {}

    def keep(path: str) -> Callable[[Any, Any, Tensor], None]:
        return lambda module, args, result: found.update({path: result.numpy().copy()})

    removes = [every[path].register_forward_hook(keep(path)) for path in paths if path in every]
    try:
        with in_use(model):
            model(x)
    finally:
        for remove in removes:
            remove()
    return found


def _nearest(models: Mapping[str, Module]) -> dict[str, str]:
    """For each quantized stage the float stage whose weights its own resemble most."""
    weights = {name: _weights(model) for name, model in models.items()}
    quantized = {n for n, m in models.items() if any(isinstance(x, Coded) for x in m.modules())}
    found = {}
    for name in quantized:
        likeness = {
            other: sqnr(np.concatenate(weights[other]), np.concatenate(weights[name]))
            for other in models
            if other not in quantized
            and [w.size for w in weights[other]] == [w.size for w in weights[name]]
        }
        if likeness:
            found[name] = max(likeness, key=lambda other: likeness[other])
    return found


def _weights(model: Module) -> list[np.ndarray]:
    """The weights of all layers that can be quantized, flat, as real numbers, in order of paths."""
    found = {
        m.path if isinstance(m, LayerStep) else path: m.qweight.dequantize()
        if isinstance(m, Coded) else m.weight
        for path, m in model.named_modules() if isinstance(m, Coded) or compressible(m)
    }  # fmt: skip
    return [np.ravel(found[path].numpy()) for path in sorted(found)]
