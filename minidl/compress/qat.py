"""Training that feels the rounding: a plan run in float, with fake quantization where its integer
program rounds.

The weights are the float model's own, so any optimizer trains them; the loss flows straight through
the rounding (`fake_quantize`). Batch normalization is folded into the layer before it with frozen
running statistics: the weight that is rounded in training is then the one that the program will
have, whereas a batch's own statistics would make it another in every step. Its weight and bias go
on learning. Dropout is left out. Sources: Jacob et al. (2018), arXiv:1712.05877, section 3;
freezing: Krishnamoorthi (2018), arXiv:1806.08342, section 3.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..engine.apply import apply
from ..engine.creation import from_numpy, tensor
from ..engine.dtypes import float32, int32
from ..engine.tensor import Tensor
from ..nn import Module, ModuleList
from ..ops import check
from ..ops.attention import BY_HEAD
from .fake_quantize import FakeQuantize, fake_quantize
from .graph import Node, Value
from .integer import How, IntegerModel
from .integer_parts import Slot, Step, folded
from .integer_plan import ON_THE_SAME_GRID, Plan
from .models import backend_of, clone
from .observer import MinMax, MovingAverageMinMax
from .post_training import check_batches, settings
from .qtensor import Scheme, grids, ranges
from .recurrences import at
from .requantize import Grid
from .static import calibrated, plan_of, table_grid


class QATModel(Module):
    """A model whose forward pass rounds as its integer program will; see `prepare_qat`.

    `model` has the weights; `points` are the FakeQuantize modules of the values with a grid, whose
    ranges follow the batches while training (`freeze` stops that).
    """

    def __init__(self, plan: Plan, found: Sequence[Grid], how: How) -> None:
        super().__init__()
        self.model, self.plan, self.how = plan.graph.model, plan, how
        where = backend_of(self.model)
        self.points = ModuleList(_point(g, where) for g in found)
        for point, module in zip(plan.points, self.points, strict=True):
            if point.of_states:
                module.disable_observer()  # a power of two covers them, as `state_grid` says

    def forward(self, x: Tensor) -> Tensor:
        """What the integer program will make of x, but for steps of its codes; with gradients."""
        check.tensors("QATModel", x=x)
        batch, known = self.plan.door.batch(x), self.plan.known()
        held = {Slot(self.plan.graph.inputs[0], False): x}
        points = list(self.points)
        for step in self.plan.steps:
            y = simulated(step, [held[slot] for slot in step.inputs], known, self.how, batch)
            if step.output.codes and step.kind not in (*ON_THE_SAME_GRID, "embedding"):
                y = points[self.plan.grid[step.output.value]](y)
            held[step.output] = y
        return held[self.plan.outputs[0]]

    def freeze(self) -> QATModel:
        """Keep all ranges as they are, as is usual for the last epochs; returns the model."""
        for point in self.points:
            point.disable_observer()
        return self

    def grids(self) -> list[Grid]:
        """The grids that training arrived at."""
        known = self.plan.known()
        return [
            Grid(p.scale.item(), p.zero_point.item(), p.scheme) if point.table is None
            else table_grid(point, known[point.table], self.how)
            for p, point in zip(self.points, self.plan.points, strict=True)
        ]  # fmt: skip


def _point(grid: Grid, backend: Any) -> FakeQuantize:
    """A FakeQuantize that begins with a grid."""
    observer = MovingAverageMinMax()
    observer.low = (grid.scheme.low - grid.zero_point) * grid.scale
    observer.high = (grid.scheme.high - grid.zero_point) * grid.scale
    point = FakeQuantize(grid.scheme.name, grid.scheme.kind, observer=observer, backend=backend)
    point.scale.copy_(tensor(grid.scale, float32, backend=backend))
    point.zero_point.copy_(tensor(grid.zero_point, int32, backend=backend))
    return point


def simulated(
    step: Step, inputs: Sequence[Tensor], known: dict[Value, Tensor], how: How, batch: int
) -> Tensor:
    """A step on numbers: its weight is rounded, its result is not yet."""
    held = {slot.value: x for slot, x in zip(step.inputs, inputs, strict=True)}
    if step.kind == "lstm":
        return through_time(step, held, known, how, batch)
    if step.kind == "layer":
        weight, bias = folded(step, known)
        weight = rounded_weight(weight, how.weight_scheme, how.weights == "per_channel")
        y = apply(step.nodes[0].at(batch), *inputs, weight, bias)
        held[step.nodes[0].output] = y
    elif step.kind == "embedding":
        table = rounded_weight(known[step.nodes[0].inputs[0]], how.weight_scheme, False)
        known = {**known, step.nodes[0].inputs[0]: table}
    for node in step.nodes:
        if node in step.folded:
            held[node.output] = y
        elif node.output not in held:
            arguments = [
                held[v] if v in held else known[v] if isinstance(v, Value) else v
                for v in node.inputs
            ]
            if step.kind == "attention":
                return attended(node, arguments)
            held[node.output] = y = apply(node.at(batch), *arguments)
    return held[step.output.value]


def through_time(
    step: Step, held: dict[Value, Tensor], known: dict[Value, Tensor], how: How, batch: int
) -> Tensor:
    """An LSTM whose weights are rounded. What it feeds back to itself is not; nor are its gates,
    of which a program has 16 bits. The row of the last cells holds the last states again.
    """
    linear, reshape, lstm = step.nodes
    options = how.weight_scheme, how.weights == "per_channel"
    weight, bias, h, c, lengths = lstm.inputs[1:]
    given, hidden = (rounded_weight(known[v], *options) for v in (linear.inputs[1], weight))
    gates = apply(linear.at(batch), held[linear.inputs[0]], given, None)
    gates = apply(reshape.at(batch), gates)
    states = at(h, batch), at(c, batch)
    added, ends = (None if v is None else (held | known)[v] for v in (bias, lengths))
    y = apply(lstm.at(batch), gates, hidden, added, *states, ends)
    return ops.concatenate([y[:-1], y[-2:-1]], 0)


def attended(node: Node, arguments: Sequence[Any]) -> Tensor:
    """`Attention` or `SelfAttention` with weights that are rounded to 255ths of the largest, before
    they are divided by their sum, as `Backend.int8_attention` does it.
    """
    *given, mask = arguments
    if node.op == "SelfAttention":
        causal, scale = node.settings["settings"][:2]
        query, key, value = (ops.transpose(given[0][:, :, i], BY_HEAD) for i in range(3))
    else:
        causal, scale = node.settings["causal"], node.settings["scale"]
        query, key, value = given
    scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) * scale
    if mask is not None:
        scores = ops.where(mask, scores, -math.inf)
    if causal:
        seen = from_numpy(np.tri(*scores.shape[-2:], dtype=bool), scores.backend)
        scores = ops.where(seen, scores, -math.inf)
    top = scores.detach().max(-1, keepdims=True)
    weights = ops.exp(scores - ops.where(top == -math.inf, 0.0, top))
    weights = fake_quantize(weights, 1 / 255, 0, 0, 255)
    y = ops.matmul(weights, value) / ops.maximum(weights.sum(-1, keepdims=True), 1 / 255)
    return ops.transpose(y, BY_HEAD) if node.op == "SelfAttention" else y


def rounded_weight(weight: Tensor, scheme: Scheme, per_channel: bool) -> Tensor:
    """A weight moved to the numbers of its codes, on the grid that covers it."""
    axis = 0 if per_channel else None
    scale, zero = grids(*ranges(weight.detach(), axis, None), scheme, np.dtype(float32))
    where = weight.backend
    given = tensor(scale, backend=where), tensor(zero, int32, backend=where)
    return fake_quantize(weight, *given, scheme.low, scheme.high, axis)


def prepare_qat(
    model: Module, calibration: Iterable[Any], weights: str = "per_channel",
    activations: str = "affine", modules: Iterable[str] | None = None, weight_bits: int = 8,
) -> QATModel:  # fmt: skip
    """A copy of a model that can be trained to bear quantization; `convert` makes integers of it.

    The arguments are those of `quantize_model`: batches set the ranges to begin with. Train the
    result like any model, with a small learning rate; it makes nothing else of eval mode than that
    ranges stay as they are.
    Raises: as `quantize_model` with calibration data.

    >>> import minidl
    >>> from minidl import nn
    >>> model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), minidl.ones((8, 4))
    >>> qat = prepare_qat(model, [x], weight_bits=4)
    >>> qat(x).sum().backward()
    >>> convert(qat)(x).shape
    (8, 2)
    """
    how = settings("prepare_qat", model, weights, activations, modules, weight_bits)
    check_batches("prepare_qat", calibration)
    plan, batches = plan_of(clone(model), calibration, how)
    return QATModel(plan, calibrated(plan, batches, how, MinMax), how)


def convert(model: QATModel) -> IntegerModel:
    """The integer program of a trained QATModel, which agrees with it to a step of the codes.

    Raises: DTypeError.
    """
    check.instance("convert", "model", model, QATModel)
    return IntegerModel(model.plan, model.grids(), model.how).eval()
