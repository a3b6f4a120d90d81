"""The operations that a model runs, as a list that can be read, searched and run again.

`trace` runs the model twice: on the example, and on a batch of twice the size with other values.
What is alike in both runs belongs to the model; numbers that grow with the batch are lengths of it;
and what differs otherwise was computed from the input where nobody saw it, which is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..engine.apply import apply
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import Module
from ..ops import check, concatenate
from .merge import Merge
from .nodes import Node, Size, Value, resolved
from .tracing import mapped, other_values, record

__all__ = ["Graph", "Node", "Size", "Value", "trace"]


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
            arguments = resolved(mapped(node.inputs, held.__getitem__, Value), batch)
            held[node.output] = apply(node.at(batch), *arguments)
        return mapped(self.result, held.__getitem__, Value)

    def _check(self, given: list[Tensor]) -> int:
        """The batch size of the inputs, which must fit."""
        batch = self.batch
        first = next((v for v in self.inputs if v.sizes != v.shape), None)
        if first is not None and len(given) == len(self.inputs) and self.batch_axis is not None:
            x = given[self.inputs.index(first)]
            batch = x.shape[self.batch_axis] if x.ndim == len(first.shape) else 0
        wanted = [resolved(value.sizes, batch) for value in self.inputs]
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
            return _graph(model, Merge(first, record(model, twice), batch, 2 * batch), axis)
        except Exception:  # of the model's own code, too: another run of one size shows what it is
            pass
    again = record(model, mapped(example, _once(other_values)))
    return _graph(model, Merge(first, again, batch, batch), None)


def _graph(model: Module, merged: Merge, axis: int | None) -> Graph:
    parts = (merged.inputs, merged.nodes, merged.values, merged.result)
    return Graph(model, *parts, merged.batch, axis)


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
