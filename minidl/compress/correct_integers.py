"""Bias correction of an integer program: its layers' mean sums become those of the float model.

A layer is linear, so that the mean of its outputs, before a relu, is what it makes of the mean of
its inputs. In the program that mean is one of codes, with all errors of the steps before it; the
bias takes what is left in whole units of s_x s_w. Source: see `correct.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..engine.creation import tensor
from ..engine.dtypes import float64, int32
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, NonFiniteError
from ..nn import Module
from .graph import Value
from .integer import IntegerModel, planned
from .integer_parts import Step, folded
from .integer_plan import Plan
from .integer_steps import LayerStep
from .models import in_use, inputs
from .requantize import ROOM


def correct_program(program: IntegerModel, reference: Module, batches: Sequence[Any]) -> None:
    """Change the biases of a program in place, layer by layer, first to last; see `correct_bias`.

    reference: the float model that it was made of. Raises: ArgumentError for another model;
    NonFiniteError.
    """
    example = inputs(batches[0], reference)
    plan = planned(reference, example[:2] if example.ndim else example, program.how)
    kinds = [step.kind for step in program.steps]
    if [step.kind for step in plan.steps] != kinds:
        raise ArgumentError(
            "correct_bias: the program has other steps than one of this reference would have; pass"
            " the float model that it was made of"
        )
    layers = {i: step for i, step in enumerate(plan.steps) if step.kind == "layer"}
    wanted = _wanted(plan, layers, batches)
    for i in layers:
        layer: Any = program.steps[i]
        scales = layer.weight_scale.numpy().astype(float64)
        lead = (-1, *[1] * (layer.weight.ndim - 1)) if scales.ndim else ()
        weight = layer.weight.numpy() * scales.reshape(lead)
        unit = scales * program.grids[layer.grid_in[0]].scale
        bias = layer.bias.numpy() * unit
        mean = _mean(_inputs_of(program, i, batches), layer.settings is not None)
        error = _outputs(mean, weight, bias, layer.settings) - wanted[i]
        if not np.isfinite(error).all():
            raise NonFiniteError(
                f"correct_bias: the mean outputs of layer {layer.path!r} are not finite"
            )
        _shift(layer, np.rint(error / unit))


def _wanted(plan: Plan, layers: dict[int, Step], batches: Sequence[Any]) -> dict[int, np.ndarray]:
    """The mean outputs of each layer of the float model, before a relu."""
    seen: dict[Value, list[Tensor]] = {step.inputs[0].value: [] for step in layers.values()}
    with in_use(plan.graph.model):
        plan.watch(batches, lambda value, x: seen[value].append(x), set(seen))
        known = {v: x.numpy().astype(float64) for v, x in plan.known().items()}
    found = {}
    for i, step in layers.items():
        weight, bias = folded(step, known)
        geometry = step.nodes[0].settings["geometry"] if step.nodes[0].op == "Conv2d" else None
        mean = _mean(seen[step.inputs[0].value], geometry is not None)
        found[i] = _outputs(mean, weight, 0.0 if bias is None else bias, geometry)
    return found


def _inputs_of(program: IntegerModel, step: int, batches: Sequence[Any]) -> list[Tensor]:
    """The numbers that a step reads, batch by batch."""
    layer: Any = program.steps[step]
    with no_grad():
        return [program.outputs(inputs(b, program))[layer.sources[0] - 1] for b in batches]


def _mean(xs: Sequence[Tensor], images: bool) -> np.ndarray:
    """The mean sample (1, C, H, W), or the mean row (1, D), in float64."""
    total: Any = 0.0
    count = 0
    for x in xs:
        rows = x.numpy().astype(float64)
        rows = rows if images else rows.reshape(-1, rows.shape[-1])
        total, count = total + rows.sum(axis=0, keepdims=True), count + len(rows)
    return np.asarray(total / max(count, 1))


def _outputs(x: np.ndarray, weight: Any, bias: Any, geometry: Any) -> np.ndarray:
    """What a layer makes of a mean, averaged over the pixels: one number for each output."""
    if geometry is None:
        return np.asarray(x[0] @ weight.T + bias)
    stride, padding, dilation, groups = geometry
    image, kernel = (tensor(a, backend="numpy") for a in (x, weight))
    y = ops.conv2d(image, kernel, None, stride, padding, dilation, groups)
    return np.asarray(y.numpy().mean(axis=(0, 2, 3)) + bias)


def _shift(layer: LayerStep, units: np.ndarray) -> None:
    """bias -= units, as far as 32 bits hold the sums."""
    sizes = np.abs(layer.weight.numpy().astype(np.int64)).reshape(layer.weight.shape[0], -1)
    most = ROOM - 255 * sizes.sum(axis=1)
    bias = np.clip(layer.bias.numpy() - units, -most, most)
    with no_grad():
        layer.bias.copy_(tensor(bias.astype(int32), backend=layer.bias.backend))
