"""The steps of an integer program: what each keeps, and which call of the backend it becomes.

A step's `prepare` computes once, for a backend, all that a call needs; what it returns gives the
call for a batch size, so that running a program is a list of calls and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from backends import Array, Backend

from ..engine.apply import apply
from ..engine.creation import tensor
from ..engine.dtypes import float32, float64, int32
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..nn.summary import MULTIPLY_ADDS
from .graph import Node, Value
from .integer_loop import Watched
from .integer_parts import Step, folded, layer_path
from .integer_plan import Plan
from .layers import Coded
from .models import backend_of
from .nodes import resolved
from .qtensor import SYMMETRIC, Scheme, quantize
from .requantize import (
    LONGEST_SHIFT,
    Grid,
    fixed_point,
    for_addition,
    narrow,
    offsets,
    quantized_weight,
    requantizer,
    rescaler,
)  # fmt: skip

Call: TypeAlias = Callable[..., Array]
Known: TypeAlias = dict[Value, Tensor]  # what does not depend on the input
Prepared: TypeAlias = Callable[[int], Call]  # batch size -> call


class IntegerStep(Watched):
    """One step: slots that it reads and writes, and the grids of those that hold codes.

    A grid is a number, the place of its scale and zero point in the program's; -1 for floats.
    """

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__()
        self.kind, self.name, self.relu = step.kind, step.name, step.relu
        self.operations = "+".join(node.op for node in step.nodes if node not in step.folded)
        self.shape, self.dtype = step.output.value.sizes, step.output.value.dtype
        self.last = step.nodes[-1].index if step.nodes else -1  # the operation whose result it is
        self.grid_in = [plan.grid[x.value] if x.codes else -1 for x in step.inputs]
        self.grid_out = plan.grid[step.output.value] if step.output.codes else -1
        self.slots_in: tuple[int, ...] = ()
        self.sources: tuple[int, ...] = ()  # the steps whose results it reads, counted from 1
        self.slot_out = -1
        self.multiply_adds = sum(map(_multiply_adds, step.nodes)) // max(plan.graph.batch, 1)

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        """What makes the call for a batch size."""
        raise NotImplementedError

    def describe(self) -> str:
        """What it does, for a table."""
        return self.operations or self.kind

    def extra_repr(self) -> str:
        return self.describe()


def _multiply_adds(node: Node) -> int:
    class Result:
        size, shape = math.prod(node.output.shape), node.output.shape

    count = MULTIPLY_ADDS.get(node.op)
    return count(node.function, node.inputs, Result) if count else 0  # type: ignore[arg-type]


def alone(node: Node) -> Node:
    """A node apart from its graph, and so from the model's weights."""
    return replace(node, inputs=(), output=None)  # type: ignore[arg-type]


def moves(nodes: Sequence[Node]) -> Callable[[Backend, int], list[Any]]:
    """The operations of nodes for a backend and a batch size."""
    kept = [alone(node) for node in nodes]

    def made(lib: Backend, batch: int) -> list[Any]:
        functions = [node.at(batch) for node in kept]
        for function in functions:
            function.backend = lib
        return functions

    return made


def chain(call: Call, functions: Sequence[Any]) -> Call:
    """call, and then the functions' forward."""
    if not functions:
        return call
    first, *others = functions
    return chain(lambda *xs: first.forward(call(*xs)), others)


class QuantizeStep(IntegerStep):
    """Numbers become codes."""

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        scale, zero, scheme = grids[self.grid_out]
        s, z = lib.full((), scale, float32), lib.full((), zero, int32)
        return lambda batch: lambda x: lib.quantize(x, s, z, scheme.low, scheme.high, scheme.dtype)


class DequantizeStep(IntegerStep):
    """Codes become numbers."""

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        scale, zero, _ = grids[self.grid_in[0]]
        s, z = lib.full((), scale, float32), lib.full((), zero, int32)
        return lambda batch: lambda x: lib.dequantize(x, s, z)


class LayerStep(IntegerStep, Coded):
    """Linear or Conv2d, with what follows it folded in: sums of products, requantized.

    Buffers: weight (int8), weight_scale ((O,) or ()), bias (int32, in units of s_x s_w).
    """

    bias: Tensor

    def __init__(
        self, plan: Plan, step: Step, known: Known, grids: Sequence[Grid],
        scheme: Scheme, per_channel: bool,
    ) -> None:  # fmt: skip
        super().__init__(plan, step, known)
        node = step.nodes[0]
        self.path = layer_path(node)
        weight, bias = folded(step, {v: x.numpy() for v, x in known.items()})
        scale = grids[self.grid_in[0]].scale
        values = quantized_weight(weight, bias, scale, scheme, per_channel)
        for name, value in zip(("weight", "weight_scale", "bias"), values, strict=True):
            self.register_buffer(name, tensor(value, backend=backend_of(plan.graph.model)))
        self.settings: Any = None
        if node.op == "Conv2d":
            self.settings = tuple(node.settings["geometry"])
        self.pool = step.pool
        self.moves = moves([n for n in step.nodes[1:] if n.op == "Reshape"])

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        scale, zero, _ = grids[self.grid_in[0]]
        weight, outputs = self.weight.data, self.weight.shape[0]
        offset = offsets(self.bias.numpy(), self.weight.numpy(), zero)
        factors = np.broadcast_to(self.weight_scale.numpy().astype(float64) * scale, (outputs,))
        finish: Any
        if self.grid_out < 0:
            finish = rescaler(lib, offset, factors, self.relu)
        else:
            result = grids[self.grid_out]
            finish = requantizer(lib, offset, factors / result.scale, result, self.relu)
        if self.settings is None:
            packed = lib.int8_pack(weight, 1)
            call: Call = lambda x: lib.int8_linear(x, weight, packed, finish)  # noqa: E731
        else:
            stride, padding, dilation, groups = self.settings
            packed, pool = lib.int8_pack(weight, groups), self.pool
            options = stride, padding, dilation, groups
            call = lambda x: lib.int8_conv2d(  # noqa: E731
                x, weight, packed, zero, *options, finish
            )
            if pool != (1, 1):
                call = lambda x: lib.int8_conv2d_pool(  # noqa: E731
                    x, weight, packed, zero, *options, finish, pool
                )
        return lambda batch: chain(call, self.moves(lib, batch))

    def describe(self) -> str:
        per = "tensor" if self.weight_scale.ndim == 0 else "channel"
        shape = "x".join(map(str, self.weight.shape))
        return f"{self.operations} {shape} per {per}"


class MoveStep(IntegerStep):
    """The same codes in another order, shape or selection."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        nodes = step.nodes
        while len(nodes) > 1 and nodes[-1].op == nodes[-2].op == "Reshape":
            nodes = [*nodes[:-2], nodes[-1]]
        self.moves = moves(nodes)

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        def at(batch: int) -> Call:
            first, *others = self.moves(lib, batch)
            return chain(first.forward, others)

        return at


class LookupStep(IntegerStep):
    """A function of one number, for all 256 codes computed beforehand."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        self.calls: list[tuple[Node, int, list[Any]]] = []  # which argument moves, and all others
        seen = step.inputs[0].value
        for node in step.nodes:
            others = [
                None if x is seen else float(known[x].item()) if x in known else x
                for x in node.inputs
            ]
            self.calls.append((alone(node), node.inputs.index(seen), others))
            seen = node.output

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        x = tensor(grids[self.grid_in[0]].numbers(), float64, backend="numpy")
        with no_grad():
            for node, at, others in self.calls:
                x = apply(node.at(1), *others[:at], x, *others[at + 1 :])
        result = grids[self.grid_out]
        table = lib.asarray(result.codes(np.nan_to_num(x.numpy())))
        return lambda batch: lambda x: lib.int8_lookup(x, table)


class AddStep(IntegerStep):
    """The sum or difference of two values, or of one and a constant, and a relu."""

    constant: Tensor | None
    constant_scale: Tensor | None

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        node = step.nodes[0]
        self.sign = -1 if node.op == "Subtract" else 1
        fixed = [x for x in node.inputs if x in known]
        self.first = not fixed or node.inputs[1] is fixed[0]  # a constant comes second
        codes = quantize(known[fixed[0]].detach()) if fixed else None
        self.register_buffer(
            "constant", None if codes is None else Tensor(codes.data, codes.backend)
        )
        self.register_buffer("constant_scale", None if codes is None else codes.scale)

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        left, right = self._terms(grids)
        result = grids[self.grid_out]
        factors, shift = for_addition(left.scale, self.sign * right.scale, result)
        zeros, finish = (left.zero_point, right.zero_point), narrow(result, shift, self.relu)
        if self.constant is None:
            return lambda batch: lambda a, b: lib.int8_add(a, b, zeros, factors, finish)
        c = self.constant.data
        if self.first:
            return lambda batch: lambda a: lib.int8_add(a, c, zeros, factors, finish)
        return lambda batch: lambda b: lib.int8_add(c, b, zeros, factors, finish)

    def _terms(self, grids: Sequence[Grid]) -> list[Grid]:
        terms = [grids[i] for i in self.grid_in]
        if self.constant_scale is not None:
            own = Grid(self.constant_scale.item(), 0, SYMMETRIC)
            terms = [*terms, own] if self.first else [own, *terms]
        return terms


class MaxPoolStep(IntegerStep):
    """The largest code of each window: codes are in the order of their numbers."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        self.settings = step.nodes[0].settings["settings"]

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        return lambda batch: lambda x: lib.int8_max_pool2d(x, *self.settings)


class AvgPoolStep(IntegerStep):
    """The mean of each window, or over axes that lie side by side, which is one window."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        node, x = step.nodes[0], step.inputs[0].value
        self.axes: tuple[int, int] | None = None
        self.moves = moves([])
        if node.op == "AvgPool2d":
            *self.window, self.counted = node.settings["settings"]
            return
        first, last = min(node.settings["axis"]), max(node.settings["axis"]) + 1
        self.axes, self.counted = (first, last), True
        size = math.prod(x.shape[first:last])
        self.window = [(size, 1), (size, 1), (0, 0)]

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        given, result = grids[self.grid_in[0]], grids[self.grid_out]
        kernel = self.window[0]
        area = kernel[0] * kernel[1]
        counts = np.full(area, area) if self.counted else np.arange(1, area + 1)
        factors = given.scale / result.scale / counts
        # One shift for all: as many bits as the largest factor leaves, and room for the sum.
        _, shifts = fixed_point(factors.max())
        shift = min(int(shifts), LONGEST_SHIFT)
        multiplier = lib.asarray(np.rint(np.ldexp(factors, shift)).astype(int32))
        finish = narrow(result, shift)
        settings = (given.zero_point, multiplier, *self.window, finish)
        if self.axes is None:
            return lambda batch: lambda x: lib.int8_avg_pool2d(x, *settings)
        first, last = self.axes
        sizes = self.shape

        def at(batch: int) -> Call:
            shape = tuple(n if isinstance(n, int) else n.at(batch) for n in sizes)

            def call(x: Array) -> Array:
                before, after = math.prod(x.shape[:first]), math.prod(x.shape[last:])
                image = lib.reshape(x, (before, 1, area, after))
                return lib.reshape(lib.int8_avg_pool2d(image, *settings), shape)

            return call

        return at


class ConcatenateStep(IntegerStep):
    """Codes one behind another, after those on other grids were moved to that of the result."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        self.axis: int = step.nodes[0].settings["axis"]

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        result = grids[self.grid_out]
        tables = [
            None if grids[i] == result else lib.asarray(result.codes(grids[i].numbers()))
            for i in self.grid_in
        ]

        def call(*xs: Array) -> Array:
            moved = [
                x if table is None else lib.int8_lookup(x, table)
                for x, table in zip(xs, tables, strict=True)
            ]
            return lib.concatenate(moved, self.axis)

        return lambda batch: call


class FloatStep(IntegerStep):
    """An operation that has no integer form, as the model does it."""

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        node = step.nodes[0]
        self.node = alone(node)
        self.arguments: list[tuple[str, Any]] = []
        slots = {x.value: i for i, x in enumerate(step.inputs)}
        for i, x in enumerate(node.inputs):
            if isinstance(x, Value) and x not in slots:
                self.register_buffer(f"input{i}", known[x].detach().clone())
                self.arguments.append(("buffer", (f"input{i}", x.sizes)))
            else:
                self.arguments.append(("slot", slots[x]) if isinstance(x, Value) else ("is", x))

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        def at(batch: int) -> Call:
            function = self.node.at(batch)
            function.backend = lib
            fixed = {
                i: self._fixed(lib, kind, resolved(which, batch))
                for i, (kind, which) in enumerate(self.arguments) if kind != "slot"
            }  # fmt: skip
            slots = [(i, which) for i, (kind, which) in enumerate(self.arguments) if kind == "slot"]

            def call(*xs: Array) -> Array:
                held = {**fixed, **{i: xs[slot] for i, slot in slots}}
                return function.forward(*(held[i] for i in range(len(held))))

            return call

        return at

    def _fixed(self, lib: Backend, kind: str, which: Any) -> Any:
        """An argument that does not come from another step."""
        if kind == "is":
            return which
        name, shape = which
        data = getattr(self, name).data
        return data if data.shape == shape else lib.broadcast_to(data, shape)


PLAIN: dict[str, type[IntegerStep]] = {
    "quantize": QuantizeStep, "dequantize": DequantizeStep, "move": MoveStep,
    "lookup": LookupStep, "add": AddStep, "max_pool": MaxPoolStep, "avg_pool": AvgPoolStep,
    "concatenate": ConcatenateStep, "float": FloatStep,
}  # fmt: skip
