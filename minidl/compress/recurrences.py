"""Which operations of a traced model are an LSTM that can run on codes.

`ops.lstm` is a product of the input with a weight, and an operation that goes through time: Linear,
Reshape, LSTM. What comes of it has a row of states for each step, one for the last state and one
for the last cell (see `backends.interface`); models take parts of it by index.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np

from ..engine.apply import apply
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from .graph import Graph, Node, Value
from .nodes import resolved

STATES, LAST = slice(None, -2, None), -2  # what `ops.lstm` takes of its result
Readers = Callable[[Value], list[Node]]  # the operations that read a value, and count


def recurrence(linear: Node, known: Container[Value], steady: Container[Value],
               readers: Readers) -> list[Node]:  # fmt: skip
    """Linear, Reshape and LSTM, if an LSTM on codes begins with that product; else nothing.

    Its weights are known, its first states are those of all samples, and nobody looks at its last
    cells, which are no codes.
    """
    found, op = [linear], linear.op
    for op in ("Reshape", "LSTM"):
        following = readers(found[-1].output)
        if len(following) != 1 or following[0].op != op:
            return []
        found += following
    lstm = found[-1]
    x, weight, bias, h, c, _ = lstm.inputs
    fixed = weight in known and (bias is None or bias in known) and linear.inputs[2] is None
    if linear.op != "Linear" or x is not found[1].output or not fixed:
        return []
    if not all(v in steady and alike(v) for v in (h, c)):
        return []
    states = all(
        node.op == "GetItem" and node.settings["index"] in (STATES, LAST)
        for node in readers(lstm.output)
    )
    return found if states else []


def steady_values(graph: Graph) -> set[Value]:
    """All values that do not depend on the input, though they may grow with the batch."""
    found = {v for v in graph.values if v.tensor is not None}
    for node in graph.nodes:
        if all(x in found for x in node.inputs if isinstance(x, Value)):
            found.add(node.output)
    return found


def at(value: Value, batch: int) -> Tensor:
    """What a value that does not depend on the input is, for a batch of that size."""
    if value.tensor is not None:
        return value.at(batch)
    node = value.producer
    assert node is not None
    given = [at(x, batch) if isinstance(x, Value) else resolved(x, batch) for x in node.inputs]
    return apply(node.at(batch), *given)


def alike(value: Value) -> bool:
    """Whether all samples of a batch have the same row of a value (N, H)."""
    with no_grad():
        rows = at(value, 2).numpy()
    return bool((rows == rows[0]).all())


def start(value: Value) -> np.ndarray:
    """That row."""
    with no_grad():
        row: np.ndarray = at(value, 1).numpy()[0]
    return row


def of_states(node: Node) -> bool:
    """Whether an operation takes states of an LSTM, or the last of them."""
    x: Any = node.inputs[0]
    return node.op == "GetItem" and x.producer is not None and x.producer.op == "LSTM"


def seen(node: Node, result: Tensor) -> Tensor:
    """What of a result becomes codes: of an LSTM's, the states."""
    return result[:-1] if node.op == "LSTM" else result
