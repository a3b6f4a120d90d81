"""Which channels must go together: labels along the axes of everything that a model computes.

Each position along an axis of a parameter starts with a label of its own. The operations of the
traced graph then carry labels on and tie them: an addition ties the channels of both operands, a
concatenation puts labels one behind the other, flattening repeats each label for every pixel, a
product ties the channels of x to the columns of the weight. Channels with one label live or die
together. The label PINNED stands for whatever must stay: samples, pixels, classes, and all that an
operation without a rule touches.

Source: the dependency graph of Fang et al. (2023), arXiv:2301.12900, section 3, here for single
channels instead of whole layers, so that no offsets are needed behind concatenations and reshapes.
"""

from __future__ import annotations

import numpy as np

from ..nn import MultiheadAttention
from .channel_rules import PINNED, RULES, Labels, pinned
from .graph import Graph, Node, Value


class Channels:
    """The labels of a graph's Values. Labels that were tied have the same `root`."""

    def __init__(self, graph: Graph, through_layer_norm: bool = False) -> None:
        self.graph, self.through_layer_norm = graph, through_layer_norm
        self.parents = [PINNED]
        self.modules = dict(graph.model.named_modules())
        self.of: dict[Value, Labels] = {}
        for value in graph.values:
            if value.tensor is not None:
                self.of[value] = self._start(value)
            elif value.kind == "input":
                self.of[value] = pinned(value)
        self.live = _live(graph)
        for node in graph.nodes:
            if node in self.live:
                self._visit(node)
            else:
                self.of[node.output] = pinned(node.output)
        for value in graph.outputs:
            self.pin(*self.of[value])

    def _start(self, value: Value) -> Labels:
        """New labels. Constants follow the channels where layers of minidl.nn make them."""
        if value.kind == "constant" and not all(self._ours(n) for n in value.consumers):
            return pinned(value)
        return tuple(self.fresh(n) for n in value.shape)

    def _ours(self, node: Node) -> bool:
        return type(self.modules[node.module]).__module__.startswith("minidl.nn.")

    def _visit(self, node: Node) -> None:
        given = [self.of[x] if isinstance(x, Value) else None for x in node.inputs]
        rule = RULES.get(node.op)
        found = None if rule is None else rule(self, node, *given)
        if found is None:
            self.pin(*(axis for labels in given for axis in labels or ()))
            found = pinned(node.output)
        assert tuple(map(len, found)) == node.output.shape, f"a rule for {node.op} is wrong"
        self.of[node.output] = found

    # -- labels that are one --------------------------------------------------------------------
    def fresh(self, count: int) -> np.ndarray:
        """So many new labels."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, label: int) -> int:
        """The one label that stands for all that were tied to this one."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """The root of each."""
        known = {label: self.root(label) for label in set(labels.tolist())}
        return np.array([known[label] for label in labels.ravel().tolist()], int).reshape(
            labels.shape
        )

    def tie(self, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Let labels at the same place be one; which is also what is returned."""
        for other in others:
            for a, b in set(zip(first.tolist(), other.tolist(), strict=True)):
                a, b = self.root(a), self.root(b)
                self.parents[max(a, b)] = min(a, b)  # so that PINNED is a root for ever
        return first

    def pin(self, *axes: np.ndarray) -> None:
        """Keep all these."""
        for labels in axes:
            self.tie(np.full(labels.size, PINNED), labels.ravel())

    def free(self, labels: np.ndarray) -> bool:
        """Whether any of these may still go."""
        return bool((self.roots(labels) != PINNED).any())

    def heads(self, node: Node) -> bool:
        """Whether it runs in a module that splits features into heads, and knows how many."""
        return isinstance(self.modules[node.module], MultiheadAttention)


def _live(graph: Graph) -> set[Node]:
    """The operations that the result needs."""
    live: set[Node] = set()
    waiting = [v.producer for v in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in live:
            live.add(node)
            waiting += [x.producer for x in node.inputs if isinstance(x, Value)]
    return live
