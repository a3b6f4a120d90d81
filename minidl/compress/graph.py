"""The operations that a model runs, as a list that can be read, searched and run again.

`trace` runs the model twice: on the example, and on a batch of twice the size with other values.
What is alike in both runs belongs to the model; numbers that grow with the batch are lengths of it;
and what differs otherwise was computed from the input where nobody saw it, which is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ArgumentError, GraphError, ShapeError
from ..nn import Module
from ..ops import broadcast_to, check, concatenate
from .tracing import Call, Run, Seen, mapped, other_values, record, same


@dataclass(frozen=True)
class Size:
    """A number that grows with the batch: slope * batch + start."""

    slope: int
    start: int

    def at(self, batch: int) -> int:
        """The number for a batch of that size.

        >>> Size(2, 1).at(10)
        21
        """
        return self.slope * batch + self.start


@dataclass(eq=False)
class Value:
    """A tensor of the graph. kind is "input", "parameter" or "buffer" (which have a `path` in the
    model), "constant", or "result" (which has a `producer`).
    """

    index: int  # in the order in which they took part
    kind: str
    shape: tuple[int, ...]  # for the example's batch
    dtype: np.dtype[Any]
    path: str = ""
    tensor: Tensor | None = None  # of a parameter, buffer or constant
    producer: Node | None = None
    consumers: list[Node] = field(default_factory=list)
    sizes: tuple[int | Size, ...] = ()  # the shape for any batch

    def at(self, batch: int) -> Tensor:
        """A parameter, buffer or constant as it takes part in a batch of that size."""
        assert self.tensor is not None
        if self.kind != "constant" or self.sizes == self.shape:
            return self.tensor
        return broadcast_to(self.tensor, _resolved(self.sizes, batch))

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"constant{self.shape}"
        return self.path or f"%{self.index}"

    __repr__ = __str__


@dataclass(eq=False)
class Node:
    """One operation. `function` has its settings (`function.geometry` of a convolution, say) for
    the example's batch; inputs are Values, numbers (a Size, if it grows with the batch) or None, in
    the order of its `forward`.
    """

    index: int
    function: Function
    inputs: tuple[Any, ...]
    output: Value
    module: str  # the path of the innermost module in which it ran
    settings: dict[str, Any]  # what `function` was made with, for any batch

    @property
    def op(self) -> str:
        """The name of the operation's class."""
        return type(self.function).__name__

    def at(self, batch: int) -> Function:
        """A new instance of the operation, for a batch of that size."""
        return _made(type(self.function), _resolved(self.settings, batch))

    def __str__(self) -> str:
        return f"{self.output} = {self.op}({', '.join(map(str, self.inputs))})"

    __repr__ = __str__


@dataclass(eq=False)
class Graph:
    """The operations of a model in the order in which they ran; printing it shows a table.

    `result` is what the model returned, with Values in place of Tensors. `batch_axis` is None where
    the graph holds for the example's batch size only.
    """

    model: Module
    inputs: list[Value]
    nodes: list[Node]
    values: list[Value]
    result: Any
    batch: int
    batch_axis: int | None

    @property
    def outputs(self) -> list[Value]:
        """The Values of the result, in order."""
        found: list[Value] = []
        mapped(self.result, found.append, Value)
        return found

    def run(self, *inputs: Any) -> Any:
        """Run the operations on new inputs: what the model in eval mode would return.

        Gradients flow to the parameters, unless within `no_grad`. Raises: ShapeError if the inputs
        have other shapes than the example had, apart from the batch.

        >>> import minidl
        >>> model = minidl.nn.Linear(3, 2)
        >>> x = minidl.ones((5, 3))
        >>> (trace(model, minidl.zeros((1, 3))).run(x) == model(x)).tolist()[0]
        [True, True]
        """
        given = _tensors(inputs)
        batch = self._check(given)
        held = dict(zip(self.inputs, given, strict=True))
        if any(held[v] is not x for v, x in zip(self.inputs, given, strict=True)):
            raise ArgumentError(
                "Graph.run: the example had one tensor in several places, so pass one there"
            )
        for value in self.values:
            if value.tensor is not None:
                held[value] = value.at(batch)
        for node in self.nodes:
            arguments = _resolved(mapped(node.inputs, held.__getitem__, Value), batch)
            held[node.output] = apply(node.at(batch), *arguments)
        return mapped(self.result, held.__getitem__, Value)

    def _check(self, given: list[Tensor]) -> int:
        """The batch size of the inputs, which must fit."""
        batch = self.batch
        first = next((v for v in self.inputs if v.sizes != v.shape), None)
        if first is not None and len(given) == len(self.inputs) and self.batch_axis is not None:
            x = given[self.inputs.index(first)]
            batch = x.shape[self.batch_axis] if x.ndim == len(first.shape) else 0
        wanted = [_resolved(value.sizes, batch) for value in self.inputs]
        if [x.shape for x in given] != wanted:
            shapes = ", ".join(str(x.shape) for x in given)
            raise ShapeError(
                f"Graph.run: traced for inputs of {', '.join(map(str, wanted))}, got {shapes}; "
                "trace the model with an example of this shape"
            )
        return batch

    def __str__(self) -> str:
        rows = [("value", "operation", "inputs", "shape", "module")]
        rows += [(str(v), "input", "", str(v.shape), "") for v in self.inputs]
        for node in self.nodes:
            listed = ", ".join(map(str, node.inputs))
            rows.append((str(node.output), node.op, listed, str(node.output.shape), node.module))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        result = ", ".join(map(str, self.outputs))
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], f"result: {result}"])

    __repr__ = __str__


def trace(model: Module, *example: Any, batch_axis: int = 0) -> Graph:
    """The operations that `model(*example)` runs in eval mode.

    batch_axis: the axis along which the samples of an input lie; inputs that are as long as the
    first one there are batches. The graph then holds for other batch sizes, too; where the model's
    own code does something else for another size, it holds for the example's.
    Raises: DTypeError if there is no Tensor in the example; ArgumentError for an empty batch;
    GraphError if the model draws random numbers, changes tensors in place, decides by the values of
    its input, or computes something where operations are not seen, such as with NumPy.

    >>> import minidl
    >>> from minidl import nn
    >>> trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), minidl.zeros((2, 4)))
    value  operation  inputs                shape   module
    ------------------------------------------------------
    %0     input                            (2, 4)
    %3     Linear     %0, 0.weight, 0.bias  (2, 3)  0
    %4     Relu       %3                    (2, 3)  1
    result: %4
    """
    check.instance("trace", "model", model, Module)
    given = _tensors(example)
    check.tensors("trace", example=given[0] if given else None)
    axis = check.axis("trace", batch_axis, given[0].ndim) if given[0].ndim else None
    batch = 1 if axis is None else given[0].shape[axis]
    if not all(x.size for x in given):
        raise ArgumentError("trace: the example is empty; give it at least one sample")
    first = record(model, example)
    if axis is not None:
        try:
            twice = mapped(example, _once(lambda x: _doubled(x, axis, batch)))
            return _Merge(first, record(model, twice), batch, 2 * batch).graph(model, axis)
        except Exception:  # of the model's own code, too: another run of one size shows what it is
            pass
    again = record(model, mapped(example, _once(other_values)))
    return _Merge(first, again, batch, batch).graph(model, None)


def _tensors(x: Any) -> list[Tensor]:
    found: list[Tensor] = []
    mapped(x, found.append)
    return found


def _once(new: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that makes of one tensor one tensor, however often it is asked."""
    made: dict[int, Tensor] = {}
    return lambda x: made[id(x)] if id(x) in made else made.setdefault(id(x), new(x))


def _doubled(x: Tensor, axis: int, batch: int) -> Tensor:
    other = other_values(x)
    fits = x.ndim > axis and x.shape[axis] == batch
    return concatenate([other, other_values(other)], axis) if fits else other


class _Merge:
    """Makes one graph of two runs."""

    def __init__(self, first: Run, second: Run, batch: int, other: int) -> None:
        self.first, self.second, self.batch, self.other = first, second, batch, other

    def graph(self, model: Module, axis: int | None) -> Graph:
        """The graph. Raises: GraphError for what is not alike."""
        if [c.kind for c in self.first.calls] != [c.kind for c in self.second.calls]:
            raise GraphError(
                f"trace: {type(model).__name__} runs other operations for other values of its "
                "input; replace the condition by where(), or trace the part without it"
            )
        calls = zip(self.first.calls, self.second.calls, strict=True)
        self.values: dict[Seen, Value] = {}
        inputs = [
            self._value(*x, "input")
            for x in zip(self.first.inputs, self.second.inputs, strict=True)
        ]
        nodes = [self._node(i, a, b) for i, (a, b) in enumerate(calls)]
        ends: list[tuple[Seen, Seen]] = []
        others: list[Seen] = []
        mapped(self.second.result, others.append, Seen)
        left = iter(others)
        mapped(self.first.result, lambda a: ends.append((a, next(left, a))), Seen)
        for a, b in ends:
            self._value(a, b, "the result")
        result = mapped(self.first.result, self.values.__getitem__, Seen)
        values = sorted(self.values.values(), key=lambda v: v.index)
        return Graph(model, inputs, nodes, values, result, self.batch, axis)

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
        function = _made(a.kind, _resolved(settings, self.batch))
        node = Node(index, function, inputs, output, a.module, settings)
        output.producer = node
        for value in {id(x): x for x in inputs if isinstance(x, Value)}.values():
            value.consumers.append(node)
        return node

    def _value(self, a: Seen, b: Seen, where: str) -> Value:
        if a in self.values and a.index == b.index:
            return self.values[a]
        if (a.kind, a.index, a.path) != (b.kind, b.index, b.path):
            raise GraphError(f"trace: {where} takes other tensors when the input has other values")
        sizes = self._blend(a.tensor.shape, b.tensor.shape, where)
        value = Value(a.index, a.kind, a.tensor.shape, a.tensor.dtype, a.path, sizes=sizes)
        if a.kind == "constant":
            value.tensor = self._constant(a.tensor, b.tensor, sizes, where)
        elif a.kind in ("parameter", "buffer"):
            value.tensor = a.tensor
        self.values[a] = value
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


def _resolved(template: Any, batch: int) -> Any:
    """A template's numbers for a batch of that size."""
    return mapped(template, lambda size: size.at(batch), Size)


def _made(kind: type[Function], settings: dict[str, Any]) -> Function:
    """An operation with these settings; `__init__` would want them under other names."""
    function = kind.__new__(kind)
    vars(function).update(settings)
    return function
