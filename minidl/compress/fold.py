"""Batch norm folding: in use, a batch norm is one scale and one shift per channel, which the layer
before it, or behind it, can have in its own weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn import BatchNorm1d, BatchNorm2d, Conv2d, Identity, Module
from .graph import Graph, Value
from .matched import (
    add_to_bias,
    by_input,
    copied,
    host,
    layers,
    only_reader,
    scale_columns,
    scale_rows,
)
from .models import replace

BatchNorm = BatchNorm1d | BatchNorm2d


def fold(model: Module, example: Any, inplace: bool = False, *, batch_axis: int = 0) -> Module:
    """A copy of the model, in eval mode, in which batch norms became part of a Linear or Conv2d.

    A batch norm is folded into the layer that makes its input, if nobody else reads that; or else
    into the layer that reads its result, if no other does and the layer does not pad with zeros,
    which the batch norm would have shifted. An `nn.Identity` takes its place. Others stay.
    With s = weight / sqrt(var + eps), W x + b becomes (s W) x + s (b - mean) + bias. Source: Jacob
    et al. (2018), arXiv:1712.05877, section 3.2. example, batch_axis: as for `prune_channels`.
    inplace: change the model itself. Raises: GraphError if the model cannot be traced.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.ReLU())
    >>> fold(model, minidl.zeros((1, 2)))
    Sequential(
      (0): Linear(in_features=2, out_features=3)
      (1): Identity()
      (2): ReLU()
    )
    """
    graph = copied("fold", model, example, inplace, batch_axis)
    while _fold_some(graph):  # what stands behind a folded one may be next
        graph = copied("fold", graph.model, example, True, batch_axis)
    return graph.model.eval()


def _fold_some(graph: Graph) -> bool:
    """Fold what can be, each layer at most once."""
    free = layers(graph)
    done: dict[Module, Module] = {}
    for path, norm in graph.model.named_modules():
        if not isinstance(norm, (BatchNorm1d, BatchNorm2d)) or norm.running_mean is None:
            continue
        ends = _ends(graph, path)
        if ends is None:
            continue
        before, after = ends
        made = before.producer
        reader = only_reader(graph, after)
        if made in free and made.op != "LinearRelu" and only_reader(graph, before):
            _into_rows(free.pop(made), norm)
        elif reader in free and reader.inputs[0] is after and _no_frame(free[reader]):
            _into_columns(free.pop(reader), norm)
        else:
            continue
        done[norm] = Identity()
    replace(graph.model, done)
    return bool(done)


def _ends(graph: Graph, path: str) -> tuple[Value, Value] | None:
    """What goes into the batch norm and what comes out, if it is called once."""
    inside = [node for node in graph.nodes if node.module == path]
    own = {node.output for node in inside}
    entries = [
        x for node in inside for x in node.inputs
        if isinstance(x, Value) and x.kind in ("input", "result") and x not in own
    ]  # fmt: skip
    ends = [v for v in own if v in graph.outputs or any(n.module != path for n in v.consumers)]
    return (entries[0], ends[0]) if len(entries) == len(ends) == 1 else None


def _no_frame(layer: Any) -> bool:
    return not isinstance(layer, Conv2d) or layer.padding == (0, 0)


def _scale_and_shift(norm: BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = 1 / np.sqrt(host(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * host(norm.weight)
    shift = -host(norm.running_mean) * scale
    return scale, shift if norm.bias is None else shift + host(norm.bias)


def _into_rows(layer: Any, norm: BatchNorm) -> None:
    scale, shift = _scale_and_shift(norm)
    scale_rows(layer, scale)
    add_to_bias(layer, shift)


def _into_columns(layer: Any, norm: BatchNorm) -> None:
    scale, shift = _scale_and_shift(norm)
    rows = by_input(layer, host(layer.weight))  # (groups, inputs, outputs, pixels)
    brought = (rows.sum(3) * shift.reshape(*rows.shape[:2], 1)).sum(1).ravel()
    add_to_bias(layer, brought)
    scale_columns(layer, scale)
