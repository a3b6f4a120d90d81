"""Which operations of a traced model run on codes, which of them in one step, and on which grids.

A layer with weights makes codes, and codes flow on: what can be computed on them is. An operation
that has no integer form runs in float, between a step that makes numbers of codes and, where they
are needed, one that makes codes of numbers. What depends on weights alone is computed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..engine.apply import apply
from ..engine.tensor import Tensor
from .graph import Graph, Node, Value
from .integer_parts import Door, Point, Slot, Step, arguments, beforehand, live, moves, together
from .models import inputs as inputs_of
from .recurrences import of_states, recurrence, seen, steady_values

LAYERS = ("Conv2d", "Linear", "LinearRelu")
ONE_BY_ONE = (
    "Relu", "LeakyRelu", "Sigmoid", "Softplus", "Gelu", "Silu", "Tanh", "Erf", "Exp", "Log",
    "Sqrt", "Sin", "Cos", "Abs", "Negative", "Clip", "Pow", "Add", "Subtract", "Multiply",
    "Divide", "Maximum", "Minimum",
)  # fmt: skip
ON_THE_SAME_GRID = ("move", "max_pool", "states", "fill")


class Plan:
    """The steps of a graph, in order. `points` are the grids that they need.

    coded: a layer whose result is the graph's makes codes of it, too.
    """

    def __init__(self, graph: Graph, chosen: Callable[[Node], bool], coded: bool = False) -> None:
        self.graph, self.chosen, self.coded = graph, chosen, coded
        self.steps: list[Step] = []
        self.points: list[Point] = []
        self.grid: dict[Value, int] = {}  # which point's grid the codes of a value are on
        value = graph.inputs[0]
        self.door = Door(value.shape, value.dtype, value.sizes, graph.batch_axis, graph.batch)
        self.beforehand = beforehand(graph)
        self._made: set[Slot] = {Slot(value, False) for value in graph.inputs}
        self._done: set[Node] = set(self.beforehand)
        self._known = {n.output for n in self.beforehand}
        self._known |= {v for v in graph.values if v.tensor is not None}
        self._steady = steady_values(graph)
        self.live = live(graph)
        for value in graph.inputs:
            if value.dtype.kind == "f" and self._wanted(value):
                self._as(value, True)
        for node in self.live:
            if node not in self._done:
                self._plan(node)
        self.outputs = [self._as(value, False) for value in graph.outputs]
        self.steps = self._needed()

    # -- deciding -------------------------------------------------------------------------------
    def _plan(self, node: Node) -> None:
        if node.op in LAYERS and self._is_layer(node):
            self._layer(node)
            return
        moving = self._moving(node)
        if node.op == "Embedding" and self.chosen(node) and node.inputs[0] in self._known:
            inputs = [self._as(v, False) for v in moving]
            self._add(Step("embedding", [node], inputs, Slot(node.output, True)), node.inputs[0])
            return
        coded = any(Slot(v, True) in self._made for v in moving)
        coded = coded or (moves(node) and not of_states(node) and self._wanted(node.output))
        kind = self._kind(node, moving) if coded else ""
        inputs = [self._as(v, bool(kind) and v.dtype.kind == "f") for v in moving]
        if not kind:
            self._add(Step("float", [node], inputs, Slot(node.output, False)))
            return
        step = Step(kind, [node], inputs, Slot(node.output, True))
        if kind in ("add", "lookup", "move", "states"):
            self._extend(step)
        if kind in ON_THE_SAME_GRID:
            self.grid[step.output.value] = self.grid[inputs[-1].value]
        self._add(step)

    def _wanted(self, value: Value) -> bool:
        """Whether a layer needs codes of a value, perhaps after it moved."""
        return any(
            self._is_layer(node) if node.op in LAYERS
            else moves(node) and self._wanted(node.output)
            for node in self._readers(value)
        )  # fmt: skip

    def _readers(self, value: Value) -> list[Node]:
        """The operations that read a value, without those that nobody needs."""
        return [node for node in value.consumers if node in self.live]

    def _moving(self, node: Node) -> list[Value]:
        """The inputs that are not known beforehand."""
        return [x for x in node.inputs if isinstance(x, Value) and x not in self._known]

    def _kind(self, node: Node, moving: list[Value]) -> str:
        """What an operation is on codes; "" if it is nothing."""
        op, fixed = node.op, [x for x in node.inputs if x not in moving]
        if op in ("SelfAttention", "Attention"):
            *others, mask = node.inputs
            fits = mask is None or mask.dtype.kind == "b"
            return "attention" if fits and all(x in moving for x in others) else ""
        if op == "Where":
            return "fill" if node.inputs[:2] == tuple(moving) and node.inputs[2] == 0 else ""
        if any(x.dtype.kind != "f" for x in moving):
            return ""
        if of_states(node):
            return "states"
        if moves(node):
            return "move" if len(moving) == 1 else ""
        if op == "MaxPool2d":
            return "max_pool"
        if op == "AvgPool2d" or (op == "Mean" and together(node)):
            return "avg_pool"
        if op == "LayerNorm":
            return "layer_norm" if moving == [node.inputs[0]] and moving[0].shape[1] <= 4096 else ""
        if op == "Concatenate":
            return "concatenate" if not fixed else ""
        numbers = all(not isinstance(x, Value) or math.prod(x.shape) == 1 for x in fixed)
        if op in ONE_BY_ONE and len(moving) == 1 and numbers:
            return "lookup" if node.output.shape == moving[0].shape else ""
        if op in ("Add", "Subtract") and all(isinstance(x, Value) for x in node.inputs):
            return "add"
        return ""

    def _is_layer(self, node: Node) -> bool:
        return (
            self.chosen(node)
            and isinstance(node.inputs[0], Value)
            and self._moving(node) == [node.inputs[0]]
        )

    def _layer(self, node: Node) -> None:
        """A layer with all that can be part of its last multiplication, or an LSTM."""
        x = self._as(node.inputs[0], True)
        nodes = recurrence(node, self._known, self._steady, self._readers)
        if nodes:
            lengths = nodes[-1].inputs[-1]
            inputs = [x] if lengths is None else [x, self._as(lengths, False)]
            self._add(Step("lstm", nodes, inputs, Slot(nodes[-1].output, True)))
            return
        step = Step("layer", [node], [x], Slot(node.output, True), [], node.op == "LinearRelu")
        self._extend(step)
        last = step.output.value
        final = not self._readers(last) and last in self.graph.outputs and not self.coded
        step.output = Slot(last, not final)
        self._add(step)

    def _extend(self, step: Step) -> None:
        """Let a step take in the operations after it that cost nothing then."""
        while True:
            last = step.output.value
            following = self._readers(last)
            if len(following) != 1 or last in self.graph.outputs or following[0] in self._done:
                return
            node = following[0]
            if not self._joins(step, node):
                return
            step.nodes.append(node)
            step.output = Slot(node.output, step.output.codes)
            self._done.add(node)

    def _joins(self, step: Step, node: Node) -> bool:
        moving = self._moving(node)
        if len(moving) != 1:
            return False
        if step.kind in ("move", "states"):
            return moves(node)
        if step.kind == "lookup":
            return self._kind(node, moving) == "lookup"
        if node.op == "Relu" and not step.relu:
            step.relu = True
            return True
        if step.kind == "add":
            return False
        if node.op == "Reshape":
            return step.nodes[0].op != "Conv2d"
        if step.pool != (1, 1):
            return False
        if node.op == "MaxPool2d":
            return self._pools(step, node)
        if not step.relu and self._per_channel(step, node, moving[0]):
            step.folded.append(node)
            return True
        return False

    def _pools(self, step: Step, node: Node) -> bool:
        """Let a convolution pool, where codes come of it and windows neither overlap nor stand out.

        The largest sum of a window has the largest code.
        """
        kernel, stride, padding = node.settings["settings"]
        if step.nodes[0].op != "Conv2d" or not self._readers(node.output):
            return False
        if kernel != stride or padding != (0, 0):
            return False
        step.pool = kernel
        return True

    def _per_channel(self, step: Step, node: Node, x: Value) -> bool:
        """Whether node multiplies each output of a layer by a number, or adds one."""
        if node.op not in ("Multiply", "Divide", "Add", "Subtract"):
            return False
        first = node.inputs[0] is x
        other = node.inputs[1 if first else 0]
        if not first and node.op in ("Divide", "Subtract"):
            return False
        scales = node.op in ("Multiply", "Divide")
        if not isinstance(other, Value):
            return scales
        channel = x.sizes[1] if step.nodes[0].op == "Conv2d" else x.sizes[-1]
        after = len(x.shape) - 2 if step.nodes[0].op == "Conv2d" else 0
        shape = other.shape
        alone = len(shape) - 1 - after
        return (
            len(shape) <= len(x.shape)
            and all(n == 1 or (i == alone and n == channel) for i, n in enumerate(shape))
            and (scales or math.prod(shape) == channel)
        )

    # -- steps ----------------------------------------------------------------------------------
    def _as(self, value: Value, codes: bool) -> Slot:
        """A value in the form that is needed, made from the other one if need be."""
        wanted = Slot(value, codes)
        if wanted not in self._made and not (value in self._known and not codes):
            kind = "quantize" if codes else "dequantize"
            self._add(Step(kind, [], [Slot(value, not codes)], wanted))
        return wanted

    def _add(self, step: Step, table: Value | None = None) -> None:
        self.steps.append(step)
        self._made.add(step.output)
        self._done.update(step.nodes)
        value = step.output.value
        if step.output.codes and value not in self.grid:
            self.grid[value] = len(self.points)
            self.points.append(Point(value, table))

    def _needed(self) -> list[Step]:
        """The steps without those whose result went into another step beforehand."""
        needed, kept = set(self.outputs), []
        for step in reversed(self.steps):
            if step.output in needed:
                kept.append(step)
                needed.update(step.inputs)
        return kept[::-1]

    # -- running in float -------------------------------------------------------------------------
    def known(self) -> dict[Value, Any]:
        """Parameters, buffers and constants, and what follows from them alone."""
        held = {v: v.tensor for v in self.graph.values if v.tensor is not None}
        for node in self.beforehand:
            held[node.output] = apply(node.at(self.graph.batch), *arguments(node, held))
        return held

    def watch(
        self, batches: Iterable[Any], see: Callable[[Value, Tensor], None],
        values: set[Value] | None = None,
    ) -> None:  # fmt: skip
        """Run the model on batches, showing some values, by default all that have a grid."""
        known, points = self.known(), values
        if points is None:
            points = {p.value for p in self.points if p.table is None}
        later = [node for node in self.live if node not in self.beforehand]
        for batch in batches:
            x = inputs_of(batch, self.graph.model)
            size = self.door.batch(x)
            held = {**known, **{v: v.at(size) for v in known if v.tensor is not None}}
            held[self.graph.inputs[0]] = x
            for value in points & held.keys():
                see(value, held[value])
            for node in later:
                result = held[node.output] = apply(node.at(size), *arguments(node, held))
                if node.output in points:
                    see(node.output, seen(node, result))
