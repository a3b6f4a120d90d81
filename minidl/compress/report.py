"""What each stage of compression costs and gives: accuracy, bytes, milliseconds, decibels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..nn import Module, summary
from ..ops import check, concatenate
from . import prune
from .integer_steps import LayerStep
from .layers import Coded
from .measure import (
    file_size,
    layer_sqnr,
    memory_size,
    parameters,
    predicted_size,
    right_of,
    wilson,
)
from .models import backend_of, compressible, in_use, inputs
from .picture import draw_frontier
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
    large_p50_ms: float = math.nan  # the same for `large` samples at once
    large_p95_ms: float = math.nan
    large: int = 0
    samples: int = 0  # from which the accuracy is known
    interval: tuple[float, float] = (0.0, 1.0)  # in which it lies, with 95 % confidence
    coded_bytes: int = 0  # of the file with Huffman codes
    memory_bytes: int = 0  # of parameters and buffers
    predicted_bytes: float = 0.0  # by number and bits of the weights, see `predicted_size`
    masked: bool = False  # zeros are there, and multiplied
    integer: bool = False  # layers compute with codes
    sqnr_db: dict[str, float] = field(default_factory=dict)  # see `layer_sqnr`

    @property
    def throughput(self) -> float:
        """Samples per second in large batches."""
        return 1e3 * self.large / self.large_p50_ms

    def predicted_speedup(self, first: Stage) -> float:
        """By multiply-adds alone, of which a register holds four times as many with 8 bits."""
        fewer = first.multiply_adds / max(self.multiply_adds, 1)
        return fewer * (4 if self.integer and not first.integer else 1)

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
        """{"stages": [...], "notes": [...]}, fit for JSON."""
        first, rows = self.stages[0], []
        for stage in self.stages:
            speed = {
                "speedup": first.large_p50_ms / stage.large_p50_ms,
                "predicted_speedup": stage.predicted_speedup(first),
            }
            rows.append(stage.to_dict() | speed)
        return {"stages": rows, "notes": self.notes()}

    def notes(self) -> list[str]:
        """A line for each stage that is not smaller, or not faster, than the first, and why."""
        first, found = self.stages[0], []
        for stage in self.stages[1:]:
            speedup = first.large_p50_ms / stage.large_p50_ms
            if stage.bytes >= first.bytes:
                found.append(f"{stage.name} is not smaller: {stage.bytes:,} bytes")
            if speedup < NOISE:
                found.append(f"{stage.name} is not faster ({speedup:.2f} times): {_why(stage)}")
        return found

    def plot(self, file: str | Path) -> None:
        """Draw accuracy against latency, with the stages that no other beats in both.

        Needs matplotlib; the file's name tells the format.
        """
        draw_frontier(self.stages, file)

    def __str__(self) -> str:
        first = self.stages[0]
        what = _table([_SIZES, *(_sizes(stage, first) for stage in self.stages)])
        how_fast = _table([_heads(first), *(_speeds(stage, first) for stage in self.stages)])
        return "\n".join([*what, "", *how_fast, *([""] if self.notes() else []), *self.notes()])


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of columns, the first two to the left, with a rule below the heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


NOISE = 1.05  # a ratio of times below it is no gain


def _why(stage: Stage) -> str:
    if stage.masked:
        return "masked, not shrunk, and dense kernels multiply zeros; sparsify, or prune_channels"
    if stage.integer:
        return "the layers are so small that calls and requantizing take the time"
    return "it has as much to compute"


_SIZES = (
    "stage", "backend", "accuracy", "95 %", "bytes", "of first", "coded", "predicted", "in memory",
    "non-zero", "worst layer",
)  # fmt: skip


def _sizes(stage: Stage, first: Stage) -> tuple[str, ...]:
    worst = min(stage.sqnr_db.values(), default=math.inf)
    low, high = stage.interval
    return (
        stage.name,
        stage.backend,
        f"{stage.accuracy:.2%}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{stage.bytes:,}",
        f"{stage.bytes / first.bytes:.3f}",
        f"{stage.coded_bytes:,}",
        f"{stage.predicted_bytes:,.0f}",
        f"{stage.memory_bytes:,}",
        f"{stage.nonzeros / max(stage.parameters, 1):.1%}",
        f"{worst:.1f} dB" if math.isfinite(worst) else "-",
    )


def _heads(first: Stage) -> tuple[str, ...]:
    one, many = f"batch {first.batch}", f"batch {first.large}"
    return (
        "stage", "multiply-adds", f"{one}: p50 ms", "p95 ms", f"{many}: p50 ms", "p95 ms",
        "samples/s", "times as fast", "predicted",
    )  # fmt: skip


def _speeds(stage: Stage, first: Stage) -> tuple[str, ...]:
    return (
        stage.name,
        f"{stage.multiply_adds:,}",
        f"{stage.p50_ms:.3f}",
        f"{stage.p95_ms:.3f}",
        f"{stage.large_p50_ms:.3f}",
        f"{stage.large_p95_ms:.3f}",
        f"{stage.throughput:,.0f}",
        f"{first.large_p50_ms / stage.large_p50_ms:.2f}",
        f"{stage.predicted_speedup(first):.2f}",
    )


def report(
    stages: Module | Mapping[str, Module],
    data: Iterable[Any],
    rounds: int = 200,
    batch: int = 1,
    reference: Mapping[str, str] | None = None,
    large: int = 64,
) -> Report:
    """Measure models side by side on batches (x, y) of classified samples.

    stages: name -> model, or one model (called "model"). rounds: timed forward passes of `batch`
    samples and of `large` ones for each stage, in turn, after a warm-up. reference: for a quantized
    stage the name of the stage that `layer_sqnr` compares it with; by default the float one with
    the nearest weights.
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
    sizes = [check.integer("report", "batch", batch, 1), check.integer("report", "large", large, 1)]
    batches = list(data)
    if not models or not batches:
        raise ArgumentError(
            f"report: needs a stage and a batch of data, got {len(models)} and {len(batches)}"
        )
    names = {**_nearest(models), **(reference or {})}
    with in_use(*models.values()):
        times = [
            latency({n: calling(m, _repeated(batches[0], m, size)) for n, m in models.items()},
                    rounds)
            for size in sizes
        ]  # fmt: skip
        return Report(
            tuple(
                _measure(name, model, batches, [t[name] for t in times], sizes,
                         models.get(names.get(name, "")))
                for name, model in models.items()
            )
        )  # fmt: skip


def _repeated(batch: Any, model: Module, size: int) -> Tensor:
    """So many samples: those of the batch, again and again if it has fewer."""
    x = inputs(batch, model)
    return concatenate([x] * -(-size // max(len(x), 1)), 0)[:size]


def _measure(
    name: str, model: Module, batches: list[Any], times: list[np.ndarray], sizes: list[int],
    reference: Module | None,
) -> Stage:  # fmt: skip
    x = inputs(batches[0], model)
    learned = parameters(model)
    right, total = right_of(model, batches)
    (p50, p95), (large_p50, large_p95) = (np.percentile(t, (50, 95)).tolist() for t in times)
    coded = [m for m in model.modules() if isinstance(m, Coded)]
    return Stage(
        name=name,
        backend=backend_of(model).name,
        accuracy=right / max(total, 1),
        bytes=file_size(model),
        parameters=sum(p.size for p in learned),
        nonzeros=sum(int(np.count_nonzero(p.numpy())) for p in learned),
        multiply_adds=summary(model, x[:1]).multiply_adds,
        p50_ms=p50 * 1e3,
        p95_ms=p95 * 1e3,
        batch=sizes[0],
        large_p50_ms=large_p50 * 1e3,
        large_p95_ms=large_p95 * 1e3,
        large=sizes[1],
        samples=total,
        interval=wilson(right, total),
        coded_bytes=file_size(model, "huffman"),
        memory_bytes=memory_size(model),
        predicted_bytes=predicted_size(model),
        masked=any(True for _ in prune.masked(model)),
        integer=bool(coded),
        sqnr_db={} if reference is None else layer_sqnr(reference, model, x),
    )


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
