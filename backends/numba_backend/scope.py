"""The text of native functions: names for arrays and kernels, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..interface import Array, DType, Shape
from ..program import Number, Value
from .formulas import KINDS
from .launches import Launched, Place, Word


class Scope:
    """Names in the text of a native function, and what they stand for.

    place says in which slot a value is, and how many bytes from its address on; slots from `free`
    on are for tables.
    """

    def __init__(
        self, place: Callable[[Value], tuple[int, int]] = lambda value: (0, 0),
        serial: bool = False, free: int = 0,
    ) -> None:  # fmt: skip
        self.place, self.serial, self.free = place, serial, free
        self.tables: list[Array] = []  # which kernels only read
        self.views: dict[str, str] = {}
        self.kernels: dict[str, str] = {}
        self.samples: list[tuple[str, tuple[Any, ...]]] = []  # of arguments of outlined kernels
        self.before: list[tuple[str, tuple[Any, ...]]] = []  # what Python does before each run
        self.given = 0  # numbers that are new in each run
        self.parallel = False

    def array(self, value: Value, *shape: int) -> str:
        """A contiguous value as an array, of its own shape or another."""
        shape = shape or value.shape or (1,)
        name = value.name if shape == value.shape else f"{value.name}_{'x'.join(map(str, shape))}"
        slot, offset = self.place(value)
        kind = KINDS[value.dtype]
        self.views[name] = f"{name} = view(slots, {slot}, {offset}, {shape}, {kind})"
        return name

    def part(self, value: Value, offset: int, shape: Shape, dtype: DType) -> str:
        """An array that begins some bytes from the first element of a value."""
        slot, start = self.place(value)
        return self._view(value.name, slot, start + offset, shape, dtype)

    def nothing(self, dtype: DType) -> str:
        """An empty array, for what is left out."""
        return self._view("nothing", 0, 0, (0,), dtype)

    def table(self, array: Array) -> str:
        """An array that is the same in all runs."""
        known = [i for i, other in enumerate(self.tables) if other is array]
        at = known[0] if known else len(self.tables)
        self.tables += [] if known else [array]
        return self._view(f"table{at}", self.free + at, 0, array.shape, array.dtype)

    def _view(self, name: str, slot: int, offset: int, shape: Shape, dtype: DType) -> str:
        name = "_".join([name, str(offset), "x".join(map(str, shape)), KINDS[dtype]])
        self.views[name] = f"{name} = view(slots, {slot}, {offset}, {shape}, {KINDS[dtype]})"
        return name

    def named(self, kind: type) -> str:
        """A class of this folder whose objects kernels take."""
        file = kind.__module__.rpartition(".")[2]
        name = f"{file}_{kind.__name__}"
        self.kernels[name] = f"{name} = native.known('{file}.{kind.__name__}')"
        return name

    def flat(self, value: Value) -> str:
        """All elements from the first to the last that a value of any strides touches."""
        return self.array(value, value.span // value.dtype.itemsize)

    def contiguous(self, value: Value) -> tuple[list[str], str] | None:
        """A vector as an array in which elements are neighbours, after these lines."""
        if value.contiguous:
            return [], self.array(value)
        if len(value.shape) != 1:
            return None
        step = value.strides[0] // value.dtype.itemsize
        made = f"{value.name}_copy"
        return [f"{made} = lowered.spread({self.flat(value)}, {value.size}, {step})"], made

    def kernel(self, name: str, work: int = 0, parallel_from: int = 1) -> str:
        """The name of a kernel, given as file.name, in the form that pays for this much work."""
        parallel = work >= parallel_from and not self.serial
        self.parallel = self.parallel or parallel
        form = "parallel" if parallel else "serial"
        known = f"{name.replace('.', '_')}_{form}"
        self.kernels[known] = f"{known} = native.kernel({name!r}, {form!r})"
        return known

    def numbers(self, expression: str, arguments: Sequence[Any], count: int) -> list[str]:
        """The names of what a Python expression makes of arguments before each run: floats."""
        first, self.given = self.given, self.given + count
        pack = f"pack_into('{count}d', given, {8 * first}, *({expression}))"
        self.before.append((pack, tuple(arguments)))
        return [f"given[{i}]" for i in range(first, self.given)]

    def integers(self, arguments: Sequence[Any], *expressions: str) -> list[str]:
        """The same for integers of 64 bits."""
        first, self.given = self.given, self.given + len(expressions)
        pack = f"pack_into('{len(expressions)}Q', given, {8 * first}, {', '.join(expressions)})"
        self.before.append((pack, tuple(arguments)))
        return [f"given.view(np.uint64)[{i}]" for i in range(first, self.given)]


def plain(*values: int) -> str:
    """Integers as the text of an argument. As literals they would be types of their own to Numba,
    and the kernel compiled for each.
    """
    texts = [f"i64({value})" for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def launch_lines(step: Launched, scope: Scope) -> list[str]:
    """The lines that do what a call was seen to do."""
    numbers = [a for a in step.calls[0].arguments if isinstance(a, Number)]

    def text(argument: Any) -> str:
        if isinstance(argument, Place):
            owner = argument.owner
            value = step.scratch[owner] if isinstance(owner, int) else owner
            return scope.part(value, argument.offset, argument.shape, argument.dtype)
        if isinstance(argument, np.ndarray):
            return scope.table(argument)
        if isinstance(argument, Word):
            return scope.integers(numbers, argument.expression)[0]
        if isinstance(argument, tuple):
            inner = "".join(f"{text(item)}, " for item in argument)
            return f"{scope.named(type(argument)) if hasattr(argument, '_make') else ''}({inner})"
        dtype = np.dtype(type(argument))
        number = argument.item() if isinstance(argument, np.generic) else argument
        return f"{KINDS.get(dtype) or f'np.{dtype}'}({number!r})"

    lines = []
    for launch in step.launches:
        use = scope.kernel(launch.kernel, launch.form == "parallel")
        lines.append(f"{use}({', '.join(map(text, launch.arguments))})")
    return lines
