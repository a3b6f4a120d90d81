"""What a graph allows to rewrite: layers that are used once, and values that one node reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..nn import Conv2d, Linear, Module, Parameter
from ..ops import check
from .graph import Graph, Node, Value, trace
from .models import clone

Layer = Linear | Conv2d


def copied(name: str, model: Module, example: Any, inplace: bool, batch_axis: int) -> Graph:
    """The graph of a copy of the model, or of the model itself."""
    check.instance(name, "model", model, Module)
    given = example if isinstance(example, (tuple, list)) else (example,)
    return trace(model if inplace else clone(model), *given, batch_axis=batch_axis)


def layers(graph: Graph) -> dict[Node, Layer]:
    """The Linear and Conv2d layers whose weights serve one node and nothing else."""
    modules = dict(graph.model.named_modules())
    found: dict[Node, Layer] = {}
    for node in graph.nodes:
        if node.op in ("Linear", "LinearRelu", "Conv2d"):
            own = [x for x in node.inputs[1:] if isinstance(x, Value)]
            owner = modules.get(own[0].path.rpartition(".")[0])
            if isinstance(owner, (Linear, Conv2d)) and all(
                x.kind == "parameter" and x.consumers == [node] for x in own
            ):
                found[node] = owner
    return found


def only_reader(graph: Graph, value: Value) -> Node | None:
    """The one node that reads a value, if nobody else does."""
    alone = len(value.consumers) == 1 and value not in graph.outputs
    return value.consumers[0] if alone else None


def host(tensor: Tensor) -> np.ndarray:
    """The values in float64."""
    return np.array(tensor.numpy(), np.float64, order="C")


def write(parameter: Parameter, array: np.ndarray) -> None:
    """Give a parameter other values, of its own dtype."""
    with no_grad():
        values = parameter.backend.asarray(array.astype(parameter.dtype))
        parameter.copy_(Tensor(values, parameter.backend))


def add_to_bias(layer: Layer, shift: np.ndarray) -> None:
    """bias + shift; a layer without a bias gets one."""
    if layer.bias is None:
        weight = layer.weight
        zeros = Tensor(weight.backend.full(shift.shape, 0, weight.dtype), weight.backend)
        layer.bias = Parameter(zeros, weight.requires_grad)
    write(layer.bias, host(layer.bias) + shift)


def scale_rows(layer: Layer, scale: np.ndarray) -> None:
    """Multiply each output of a layer, bias included."""
    write(layer.weight, host(layer.weight) * scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        write(layer.bias, host(layer.bias) * scale)


def by_input(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """A view of a weight with its inputs first: (inputs, outputs that see it, pixels)."""
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    out, each = weight.shape[:2]
    grouped = weight.reshape(groups, out // groups, each, -1)
    return grouped.transpose(0, 2, 1, 3)


def scale_columns(layer: Layer, scale: np.ndarray) -> None:
    """Multiply what a layer makes of each input."""
    weight = host(layer.weight)
    view = by_input(layer, weight)
    view *= scale.reshape(*view.shape[:2], 1, 1)
    write(layer.weight, weight)
