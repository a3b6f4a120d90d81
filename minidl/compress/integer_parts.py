"""What a plan of integer steps consists of, and what it asks of single operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..engine.tensor import Tensor
from ..errors import DTypeError, ShapeError
from .graph import Graph, Node, Size, Value

MOVED = ("Reshape", "Transpose", "GetItem", "Flip", "BroadcastTo", "Alias", "Clone")


class Slot(NamedTuple):
    """A value of the graph, as codes or as numbers."""

    value: Value
    codes: bool


@dataclass(eq=False)
class Step:
    """One call of the backend: `nodes` are the operations of the model that it stands for."""

    kind: str
    nodes: list[Node]
    inputs: list[Slot]
    output: Slot
    folded: list[Node] = field(default_factory=list)  # of `nodes`, those that went into the weight
    relu: bool = False
    pool: tuple[int, int] = (1, 1)  # of a convolution: windows side by side, the largest stays

    @property
    def name(self) -> str:
        """The path of the module that it comes from."""
        return self.nodes[0].module if self.nodes else ""


class Point(NamedTuple):
    """A value whose grid is decided by the numbers that pass, or by those in a table of rows."""

    value: Value
    table: Value | None = None

    @property
    def of_states(self) -> bool:
        """Whether it is the states of an LSTM, whose grid has a scale of its own kind."""
        return self.value.producer is not None and self.value.producer.op == "LSTM"


class Door(NamedTuple):
    """Which inputs a model was traced for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int | Size, ...]
    axis: int | None
    size: int

    def batch(self, x: Tensor) -> int:
        """How many samples an input has. Raises: ShapeError, DTypeError if it does not fit."""
        size = self.size
        if self.axis is not None and x.ndim == len(self.shape):
            size = x.shape[self.axis]
        wanted = tuple(n if isinstance(n, int) else n.at(size) for n in self.sizes)
        if x.shape != wanted:
            raise ShapeError(
                f"IntegerModel: traced with an input of shape {self.shape}, got {x.shape}; samples"
                f" must be alike{', only their number may differ' if self.axis is not None else ''}"
            )
        if x.dtype != self.dtype:
            raise DTypeError(f"IntegerModel: x must be {self.dtype}, got {x.dtype}")
        return size


def layer_path(node: Node) -> str:
    """The path of the module whose weight it is."""
    weight = node.inputs[0 if node.op == "Embedding" else 1]
    return weight.path.rpartition(".")[0] if weight.path else node.module


def arguments(node: Node, held: dict[Value, Tensor]) -> list[Any]:
    """The inputs of an operation, from the values that are held."""
    return [held[x] if isinstance(x, Value) else x for x in node.inputs]


def beforehand(graph: Graph) -> dict[Node, None]:
    """The operations whose inputs are weights, constants, or results of such operations, and whose
    results do not grow with the batch.
    """
    known = {v for v in graph.values if v.tensor is not None and v.sizes == v.shape}
    found: dict[Node, None] = {}
    for node in graph.nodes:
        steady = node.output.sizes == node.output.shape
        if steady and all(not isinstance(x, Value) or x in known for x in node.inputs):
            found[node] = None
            known.add(node.output)
    return found


def moves(node: Node) -> bool:
    """Whether an operation only moves numbers: so does one that stacks a single tensor."""
    return node.op in MOVED or (node.op == "Concatenate" and len(node.inputs) == 1)


def live(graph: Graph) -> dict[Node, None]:
    """The operations that the result needs, in order."""
    needed, found = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            found.append(node)
            needed.update(x for x in node.inputs if isinstance(x, Value))
    return dict.fromkeys(reversed(found))


def together(node: Node) -> bool:
    """Whether the axes of a mean lie side by side, the first not among them."""
    axes = node.settings["axis"]
    return bool(axes) and min(axes) > 0 and max(axes) - min(axes) == len(axes) - 1


def folded(step: Step, known: dict[Value, Any]) -> tuple[Any, Any]:
    """Weight and bias (or None) of a layer with the multiplications and additions after it.

    Written with operators, for Tensors and NumPy arrays alike.
    """
    weight, bias = (known.get(x) for x in step.nodes[0].inputs[1:])
    assert weight is not None
    lead = (-1, *[1] * (len(weight.shape) - 1))
    for node in step.folded:
        other = next(x for x in node.inputs if not isinstance(x, Value) or x in known)
        row = known[other].reshape((-1,)) if isinstance(other, Value) else other
        if node.op in ("Add", "Subtract"):
            row = -row if node.op == "Subtract" else row
            bias = row if bias is None else bias + row
            continue
        row = 1 / row if node.op == "Divide" else row
        column = row.reshape(lead) if isinstance(other, Value) else row
        weight, bias = weight * column, None if bias is None else bias * row
    return weight, bias
