"""What can be measured of a model: how often it is right, what it weighs, how far off it is."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import Module
from . import sharing
from .files import save
from .integer import IntegerModel
from .integer_steps import LayerStep
from .layers import Coded
from .models import backend_of, in_use, inputs
from .qtensor import sqnr
from .sparse import SparseLinear
from .tracing import record


def right_of(model: Module, data: Iterable[Any]) -> tuple[int, int]:
    """How many samples have their label as the largest output, and how many there are.

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
    return right, total


def accuracy(model: Module, data: Iterable[Any]) -> float:
    """The fraction of samples whose largest output is that of their label; see `right_of`."""
    right, total = right_of(model, data)
    return right / max(total, 1)


def wilson(right: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval in which the true accuracy lies with that confidence.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22(158).

    >>> low, high = wilson(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, room = right / total, z * z / total
    centre = (share + room / 2) / (1 + room)
    reach = z / (1 + room) * math.sqrt((share * (1 - share) + room / 4) / total)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def file_size(model: Module, coding: str | None = None) -> int:
    """Bytes on disk, by saving the model to a temporary file and weighing it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(model, path, coding)
        return path.stat().st_size


def memory_size(model: Module) -> int:
    """Bytes of all parameters and buffers, which is what the model holds while it is used."""
    return sum(x.size * x.dtype.itemsize for x in (*model.parameters(), *model.buffers()))


def predicted_size(model: Module) -> float:
    """Bytes that the weights need by their number and bits alone.

    Each weight that is not zero has its bits, those that share values the bits of a code; where
    that is less than storing zeros, each weight adds one bit that says whether it is there.
    """
    codes = sharing.shared(model)
    named = dict(model.named_parameters())
    bits_of = {
        id(named[name]): math.log2(max(int(x.numpy().max()), 2)) for name, x in codes.items()
    }
    total = 0.0
    for x in parameters(model):
        bits = bits_of.get(id(x), 8.0 * x.dtype.itemsize)
        left = int(np.count_nonzero(x.numpy()))
        total += min(x.size * bits, left * bits + x.size) / 8
    return total


def parameters(model: Module) -> list[Tensor]:
    """Weights and biases, each once, whether they are Parameters or frozen in quantized layers."""
    frozen = [m for m in model.modules() if isinstance(m, Coded)]
    held = [t for m in frozen for t in (m.weight, m.bias) if t is not None]
    sparse = [m for m in model.modules() if isinstance(m, SparseLinear)]
    held += [t for m in sparse for t in (m.values, m.bias) if t is not None]
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
    calls = record(reference, (x.to(backend_of(reference)),)).calls
    pairs = zip(model.steps, model.outputs(x), strict=True)
    layers = [(step, y) for step, y in pairs if isinstance(step, LayerStep)]
    return {step.path: sqnr(calls[step.last].output.tensor, y) for step, y in layers}


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
