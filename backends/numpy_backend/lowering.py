"""Replaying a recorded program with NumPy: the same calls, into memory that is there already.

A program becomes one Python function. Methods in the table are written as NumPy calls with `out=`;
the others are called as they are, and their results copied to where the program expects them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..interface import Array, Backend
from ..program import ALIGNMENT, Call, Number, Program, Step, Value
from ..quiet import quiet

# One line for each ufunc; {0}, {1} are the operands, {y} is the result. The formulas are those of
# this backend's methods, so that the bits are the same.
UFUNCS = {
    name: f"np.{name}({{0}}, {{1}}, out={{y}})"
    for name in (
        "add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal",
        "less", "less_equal", "greater", "greater_equal", "bitwise_and", "bitwise_or",
        "bitwise_xor", "matmul",
    )
} | {
    name: f"np.{name}({{0}}, out={{y}})"
    for name in ("negative", "abs", "sign", "exp", "log", "sqrt", "sin", "cos", "tanh", "invert")
} | {
    "pow": "np.power({0}, {1}, out={y})",
    "relu": "np.maximum({0}, 0, out={y})",
    "copy": "{y}[...] = {0}",
    "astype": "{y}[...] = {0}",
    "copyto": "{0}[...] = {1}",
    "sum": "np.add.reduce({0}, axis={1}, dtype={y}.dtype, out={y}, keepdims={2})",
}  # fmt: skip
SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


LARGE = 1 << 14  # bytes of a result from which on it is kept where it was made, and not copied


class NumpyLowering:
    """See `backends.program.Lowering`."""

    def __init__(self, backend: Backend, reference: type[Backend]) -> None:
        self.backend, self.reference = backend, reference

    def steps(self, calls: Sequence[Call]) -> list[Step]:
        """One for each call."""
        return [self.single(call) for call in calls]

    def single(self, call: Call) -> Step:
        """A call from Python; what is not written into the arena stays where it is made."""
        if not self.writes_out(call.method):
            for value in call.results:
                if value.kind == "temporary" and value.base is None and value.nbytes >= LARGE:
                    value.kind = "made"
        return Step([call])

    def writes_out(self, method: str) -> bool:
        """Whether a method is a NumPy call with `out=`, and the backend has not replaced it."""
        own = getattr(type(self.backend), method, None)
        known = method in (*UFUNCS, "linear", "linear_relu", "linear_grad")
        return known and own is getattr(self.reference, method, None)

    def build(self, program: Program) -> PythonReplay:
        """The program as a Python function."""
        return PythonReplay(program, self)


class PythonReplay:
    """A program as a Python function over arrays that keep their place from run to run."""

    def __init__(self, program: Program, lowering: NumpyLowering) -> None:
        self.program, self.lowering = program, lowering
        self.arena = aligned(program.arena)
        self.space: dict[str, Any] = {
            "np": np, "backend": lowering.backend, "view": view, "laid_out": laid_out,
            "plain": plain,
        }  # fmt: skip
        self.from_python = {
            v for step in program.steps if step.kind == "python" for v in step.values()
        }
        for value in self.from_python:
            if value.root.array is not None or value.root in program.offsets:
                self.space[value.name] = self.array(value)
        python = "\n".join(["def run(inputs, numbers):", *("    " + x for x in self.lines())])
        self.source = python
        self.prepare()
        exec(compile(python, "<minidl.compile>", "exec"), self.space)
        self.run: Callable[..., list[Array] | None] = quiet(self.space["run"])

    def prepare(self) -> None:
        """For replays that need more than the function's own names."""

    def array(self, value: Value) -> Array:
        """Where a value lies: in its own memory, or in the arena."""
        root = value.root
        if root.array is not None:
            return view(root.array, value.offset, value.shape, value.dtype, value.strides)
        start = self.program.offsets[root]
        return view(self.arena, start + value.offset, value.shape, value.dtype, value.strides)

    def lines(self) -> list[str]:
        """The function's text."""
        found = self.opening()
        for i, step in enumerate(self.program.steps):
            found += self.called(step.calls[0], i)
        return [*found, self.closing()]

    def opening(self) -> list[str]:
        """Inputs and outputs get their names."""
        found = []
        for i, x in enumerate(self.program.inputs):
            found += [f"{x.name} = plain(inputs[{i}])", *self.views(x)]
        for y in self.program.outputs:
            found.append(f"{y.name} = np.empty({y.shape}, {y.dtype.name!r})")
        return found

    def closing(self) -> str:
        """What the function returns."""
        return f"return [{', '.join(y.name for y in self.program.outputs)}]"

    def views(self, base: Value) -> list[str]:
        """Other names for parts of memory that is new in each run."""
        return [
            f"{v.name} = view({base.name}, {v.offset}, {v.shape}, np.dtype({v.dtype.name!r}), "
            f"{v.strides})"
            for v in self.program.values()
            if v.base is base and v in self.from_python
        ]

    def called(self, call: Call, at: int) -> list[str]:
        """The lines that run one call, and then let go of memory that is not needed any more."""
        lines = [f"# {call.operation}"] if call.operation else []
        lines += self.statement(call)
        for value in call.results:
            lines += self.views(value) if value.kind == "made" else []
        for value in dict.fromkeys(v.root for v in (*call.reads, *call.results)):
            if value.kind == "made" and not any(
                value is v.root for step in self.program.steps[at + 1 :] for v in step.values()
            ):
                names = [v.name for v in self.program.values() if v.root is value]
                lines.append(f"{' = '.join(names)} = None")
        return lines

    def statement(self, call: Call) -> list[str]:
        """The call itself."""
        arguments = [text(a, self.space) for a in call.arguments]
        if call.tests:
            return guard(call, arguments)
        names = [value.name for value in call.results or call.writes]
        if self.lowering.writes_out(call.method):
            if call.method in UFUNCS:
                return [UFUNCS[call.method].format(*arguments, y=names[0])]
            if call.method == "linear_grad":
                return self.gradients(call, arguments)
            x, weight, bias = arguments
            y = names[0]
            lines = [f"np.matmul({x}, {weight}.T, out={y})"]
            lines += [] if bias == "None" else [f"np.add({y}, {bias}, out={y})"]
            return lines + [f"np.maximum({y}, 0, out={y})"] * (call.method == "linear_relu")
        made = f"backend.{call.method}({', '.join(arguments)})"
        if not call.results:
            return [made]
        if len(call.results) == 1 and call.method != "linear_grad":
            return [stored(call.results[0], made)]
        return [f"made = {made}", *(stored(v, f"made[{i}]") for i, v in enumerate(call.results))]

    def gradients(self, call: Call, arguments: list[str]) -> list[str]:
        """Those of a linear layer, written to where they belong."""
        grad, x, weight, y, bias, _ = arguments
        lines = [f"gated = {grad if y == 'None' else f'backend.relu_grad({grad}, {y})'}"]
        lines += [] if weight == "None" else [f"np.matmul(gated, {weight}, out={{}})"]
        lines += [] if x == "None" else [f"np.matmul(gated.T, {x}, out={{}})"]
        lines += ["np.sum(gated, 0, out={})"] if bias == "True" else []
        names = [value.name for value in call.results]
        return [lines[0], *map(str.format, lines[1:], names)]


def stored(value: Value, made: str) -> str:
    """A line that puts what was made where the program expects it."""
    if value.kind == "made":
        return f"{value.name} = laid_out({made}, {value.strides})"
    return f"{value.name}[...] = {made}"


def guard(call: Call, arguments: Sequence[str]) -> list[str]:
    """Leave before anything is changed, unless each comparison turns out as it did."""
    tests = " and ".join(
        f"(bounds[{i}] {SIGNS[name]} {other!r}) is {outcome}"
        for i, name, other, outcome in call.tests
    )
    return [f"bounds = backend.bounds({arguments[0]})", f"if not ({tests}):", "    return None"]


def text(argument: Any, space: dict[str, Any]) -> str:
    """An argument as the text of an expression; what has none gets a name in space."""
    if isinstance(argument, Value):
        return argument.name
    if isinstance(argument, Number):
        return f"numbers[{argument.index}]"
    if isinstance(argument, (tuple, list)):
        inner = ", ".join(text(item, space) for item in argument)
        if hasattr(argument, "_fields"):  # a NamedTuple
            space[type(argument).__name__] = type(argument)
            return f"{type(argument).__name__}({inner})"
        return (
            f"[{inner}]" if isinstance(argument, list) else f"({inner}{',' * (len(argument) == 1)})"
        )
    if argument is None or isinstance(argument, (bool, int, str)):
        return repr(argument)
    if isinstance(argument, float) and math.isfinite(argument):
        return repr(argument)
    name = f"constant{len(space)}"
    space[name] = argument
    return name


def view(base: Array, offset: int, shape: Any, dtype: Any, strides: Any) -> Array:
    """Other elements of the same memory, from `offset` bytes behind the first of base on.

    >>> view(np.arange(6), 8, (2,), np.dtype("int64"), (16,))
    array([1, 3])
    """
    return np.asarray(Whole(base.ctypes.data + offset, shape, dtype, strides, base))


class Whole:
    """An owner for memory at an address, which keeps the array that it belongs to."""

    def __init__(self, address: int, shape: Any, dtype: Any, strides: Any, keep: Any) -> None:
        self.keep = keep
        self.__array_interface__ = {
            "version": 3, "data": (address, False), "shape": shape, "typestr": dtype.str,
            "strides": strides,
        }  # fmt: skip


def laid_out(array: Array, strides: tuple[int, ...]) -> Array:
    """The array, copied if it does not lie in memory as it did when it was recorded."""
    if array.strides == strides:
        return array
    copied = view(aligned(sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True))
                          + array.itemsize), 0, array.shape, array.dtype, strides)  # fmt: skip
    copied[...] = array
    return copied


def plain(array: Array) -> Array:
    """The array itself if it lies in C order and may be written to, else a copy."""
    return array if array.flags.carray else np.array(array, order="C")


def aligned(size: int) -> Array:
    """Memory of that many bytes that begins at a cache line."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]
