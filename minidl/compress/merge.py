"""One graph of two runs of a model: what is alike belongs to the model, and what differs is a
length of the batch, or an error.
"""

from __future__ import annotations

from typing import Any

from ..engine.tensor import Tensor
from ..errors import GraphError
from ..ops import broadcast_to
from .nodes import Node, Size, Value, made, resolved
from .tracing import Call, Run, Seen, mapped, same


class Merge:
    """The inputs, nodes, values and result of a graph, from runs on `batch` and `other` samples.
    Raises: GraphError for what is not alike.
    """

    def __init__(self, first: Run, second: Run, batch: int, other: int) -> None:
        self.first, self.second, self.batch, self.other = first, second, batch, other
        if [c.kind for c in first.calls] != [c.kind for c in second.calls]:
            raise GraphError(
                "trace: the model runs other operations for other values of its input; replace the "
                "condition by where(), or trace the part without it"
            )
        self.known: dict[Seen, Value] = {}
        given = zip(first.inputs, second.inputs, strict=True)
        self.inputs = [self._value(*pair, "input") for pair in given]
        calls = zip(first.calls, second.calls, strict=True)
        self.nodes = [self._node(i, a, b) for i, (a, b) in enumerate(calls)]
        self.result = self._result()
        self.values = sorted(self.known.values(), key=lambda value: value.index)

    def _result(self) -> Any:
        ends: list[list[Seen]] = [[], []]
        mapped(self.first.result, ends[0].append, Seen)
        mapped(self.second.result, ends[1].append, Seen)
        if len(ends[0]) != len(ends[1]):
            raise GraphError("trace: the model returns another structure for other values")
        for a, b in zip(*ends, strict=True):
            self._value(a, b, "the result")
        return mapped(self.first.result, self.known.__getitem__, Seen)

    def _node(self, index: int, a: Call, b: Call) -> Node:
        where = f"{a.kind.__name__} in module {a.module!r}"
        if len(a.inputs) != len(b.inputs) or a.module != b.module:
            raise GraphError(f"trace: {where} has other inputs when the input has other values")
        inputs = tuple(
            self._value(x, y, where)
            if isinstance(x, Seen) and isinstance(y, Seen)
            else self._blend(x, y, where)
            for x, y in zip(a.inputs, b.inputs, strict=True)
        )
        settings = self._blend(a.settings, b.settings, where)
        output = self._value(a.output, b.output, where)
        function = made(a.kind, resolved(settings, self.batch))
        node = Node(index, function, inputs, output, a.module, settings)
        output.producer = node
        for value in {id(x): x for x in inputs if isinstance(x, Value)}.values():
            value.consumers.append(node)
        return node

    def _value(self, a: Seen, b: Seen, where: str) -> Value:
        if a in self.known and a.index == b.index:
            return self.known[a]
        if (a.kind, a.index, a.path) != (b.kind, b.index, b.path):
            raise GraphError(f"trace: {where} takes other tensors when the input has other values")
        sizes = self._blend(a.tensor.shape, b.tensor.shape, where)
        value = Value(a.index, a.kind, a.tensor.shape, a.tensor.dtype, a.path, sizes=sizes)
        if a.kind == "constant":
            value.tensor = self._constant(a.tensor, b.tensor, sizes, where)
        elif a.kind in ("parameter", "buffer"):
            value.tensor = a.tensor
        self.known[a] = value
        return value

    def _constant(self, a: Tensor, b: Tensor, sizes: Any, where: str) -> Tensor:
        """A constant, of length 1 along the axes of the batch: all samples must have the same."""
        one = b[tuple(slice(0, 1) if isinstance(n, Size) else slice(None) for n in sizes)].clone()
        if not (same(broadcast_to(one, a.shape), a) and same(broadcast_to(one, b.shape), b)):
            raise GraphError(
                f"trace: {where} reads a tensor of shape {a.shape} that depends on the input and "
                "was computed where no operation was seen, such as with NumPy; compute it with "
                "minidl.ops, or write it as a Function"
            )
        return one

    def _blend(self, x: Any, y: Any, where: str) -> Any:
        """What two runs have in common, with a Size for each number that grows with the batch."""
        if isinstance(x, dict) and isinstance(y, dict) and x.keys() == y.keys():
            return {key: self._blend(x[key], y[key], where) for key in x}
        if type(x) is type(y) and isinstance(x, (tuple, list)) and len(x) == len(y):
            items = [self._blend(*pair, where) for pair in zip(x, y, strict=True)]
            return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
        if isinstance(x, slice) and isinstance(y, slice):
            left, right = ((s.start, s.stop, s.step) for s in (x, y))
            return slice(*self._blend(left, right, where))
        if type(x) is type(y) is int and x != y and self.batch != self.other:
            slope, rest = divmod(y - x, self.other - self.batch)
            if not rest:
                return Size(slope, x - slope * self.batch)
        elif type(x) is type(y) and (x is y or _alike(x, y)):
            return x
        raise GraphError(
            f"trace: {where} has the setting {x!r}, but {y!r} when the input has other values; "
            "settings cannot depend on the input"
        )


def _alike(x: Any, y: Any) -> bool:
    """Whether two settings are the same. Objects without an equality of their own are told apart
    by their class only.
    """
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return bool(x.shape == y.shape and x.dtype == y.dtype and (x == y).all())
    own = "__eq__" in vars(type(x)) or isinstance(x, (str, bytes, int, float))
    return not own or bool(x == y) or x != x
