"""Cross-layer equalisation: move range from one layer to the next until a per-tensor scale fits all
channels of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..nn import Module
from ..ops import check
from .graph import Graph, Node, Value
from .matched import (
    Layer,
    by_input,
    copied,
    host,
    layers,
    only_reader,
    scale_columns,
    scale_rows,
)

# f(s x) = s f(x) for s > 0, channel by channel.
EQUIVARIANT = ("Relu", "LeakyRelu", "Abs", "Alias", "Clone", "MaxPool2d", "AvgPool2d")
SETTLED = 1e-3  # a factor closer to 1 changes no scale that 8 bits could tell


def equalize(
    model: Module, example: Any, iterations: int = 20, inplace: bool = False, *, batch_axis: int = 0
) -> Module:  # fmt: skip
    """A copy of the model that computes the same, to rounding, with weights of more equal ranges.

    Two layers (Linear or Conv2d) form a pair if the second alone reads what the first makes,
    through operations that commute with a positive scale: relu, pooling, flattening. Channel i of
    the first is divided by s_i = sqrt(r1_i r2_i) / r2_i and what the second makes of it multiplied,
    where r1_i and r2_i are the largest magnitudes of their weights for that channel: both then have
    the range sqrt(r1_i r2_i). All pairs in turn, at most `iterations` times, until nothing moves.
    Fold batch norms first: they stand between the layers. Source: Nagel et al. (2019),
    arXiv:1906.04721, section 4.1. example, batch_axis: as for `prune_channels`. inplace: change the
    model itself. Raises: ArgumentError; GraphError if the model cannot be traced.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> with minidl.no_grad():
    ...     w1 = model[0].weight.copy_(minidl.tensor([[100.0], [1.0]]))
    ...     w2 = model[2].weight.copy_(minidl.tensor([[1.0, 1.0]]))
    >>> equal = equalize(model, minidl.zeros((1, 1)))
    >>> equal[0].weight.tolist(), equal[2].weight.tolist()
    ([[10.0], [1.0]], [[10.0, 1.0]])
    """
    rounds = check.integer("equalize", "iterations", iterations, 1)
    graph = copied("equalize", model, example, inplace, batch_axis)
    found = pairs(graph)
    for _ in range(rounds):
        moved = [_balance(*pair) for pair in found]
        if max(moved, default=0.0) < SETTLED:
            break
    return graph.model


def pairs(graph: Graph) -> list[tuple[Layer, Layer]]:
    """The layers that follow each other so that a positive scale can pass from one to the next."""
    free = layers(graph)
    found = []
    for node, layer in free.items():
        after = _next(graph, node.output)
        if after in free:
            found.append((layer, free[after]))
    return found


def _next(graph: Graph, value: Value) -> Node | None:
    """The layer that reads a value through nothing but what commutes with a scale per channel."""
    channels = value.shape[1] if len(value.shape) > 1 else 0
    while (reader := only_reader(graph, value)) is not None:
        if reader.op in ("Linear", "LinearRelu", "Conv2d"):
            return reader if reader.inputs[0] is value else None
        if not _commutes(reader, value, channels):
            return None
        value = reader.output
    return None


def _commutes(node: Node, x: Value, channels: int) -> bool:
    function: Any = node.function
    if node.op == "Reshape":  # samples stay, and the channels come first in what follows
        flat, shape = math.prod(x.shape[1:]), node.output.shape
        return shape[:2] == x.shape[:2] or (shape == (x.shape[0], flat) and x.shape[1] == channels)
    if node.op == "Mean":
        return set(function.axis or (0,)) <= {2, 3}
    if node.op == "Einsum":  # adaptive pooling
        constant = all(y.kind == "constant" for y in node.inputs if y is not x)
        first = node.inputs[0] is x and function.output[:2] == function.terms[0][:2]
        return constant and first
    return node.op in EQUIVARIANT


def _balance(first: Layer, second: Layer) -> float:
    """Equalise one pair; how far the largest factor was from 1, as a logarithm."""
    weight = host(first.weight)
    own = np.abs(weight).reshape(len(weight), -1).max(1)
    read = np.abs(by_input(second, host(second.weight))).max((2, 3)).reshape(len(weight), -1)
    ahead = read.max(1)
    usable = (own > 0) & (ahead > 0)
    scale = np.ones(len(weight))
    scale[usable] = np.sqrt(own[usable] / ahead[usable])
    scale_rows(first, 1 / scale)
    scale_columns(second, np.repeat(scale, read.shape[1]))
    return float(np.abs(np.log(scale)).max())
