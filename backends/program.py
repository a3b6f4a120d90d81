"""A recorded step: the calls of the contract that it made, and the values that went through them.

`minidl.compile` records programs; a backend's `replayer` turns one into something that runs without
Python for each call. Nothing here computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .interface import Array, DType, Shape

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(eq=False)
class Value:
    """An array of the program; what it holds may differ from run to run, its shape does not.

    kind is "input" (given at each run), "live" (memory that outlives the step: parameters, state),
    "constant" (computed once), "output" (a new array for each run), "temporary", or "made" (a
    temporary for which a method called from Python brings its own memory). A view is in the memory
    of its base, `offset` bytes from the first element.
    """

    shape: Shape
    dtype: DType
    strides: tuple[int, ...]
    kind: str = "temporary"
    array: Array | None = None  # the memory of what is live or constant
    base: Value | None = None
    offset: int = 0
    name: str = "?"

    @property
    def root(self) -> Value:
        """The value whose memory this one is in."""
        return self if self.base is None else self.base

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def span(self) -> int:
        """Bytes from the first element to the end of the last one; of a view, of its base."""
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return reach + self.dtype.itemsize if self.size else 0

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after another in C order."""
        step = self.dtype.itemsize
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != step:
                return False
            step *= n
        return True

    @property
    def dense(self) -> bool:
        """Whether the elements lie one after another in the order of some axes."""
        known = zip(self.strides, self.shape, strict=True)
        steps, shape = zip(*sorted(known, reverse=True), strict=True) if self.shape else ((), ())
        return replace(self, shape=shape, strides=steps).contiguous


@dataclass(frozen=True)
class Number:
    """A number that is new at each run: the learning rate, a count of steps, a random counter."""

    index: int  # in the list that each run is given
    value: Any  # while recording


@dataclass(eq=False)
class Call:
    """One call of the contract. A guard is a call of `bounds` whose result led Python somewhere:
    `tests` are the comparisons made, and their outcomes.
    """

    method: str
    arguments: tuple[Any, ...]  # Values, Numbers, Python constants, and tuples or lists of them
    results: tuple[Value, ...] = ()
    writes: tuple[Value, ...] = ()  # arguments that it changes in place
    operation: str = ""  # the operation of minidl.ops that made the call
    tests: list[tuple[int, str, float, bool]] = field(default_factory=list)

    @property
    def reads(self) -> Iterator[Value]:
        """The values among the arguments."""
        return values_in(self.arguments)


@dataclass(eq=False)
class Step:
    """Calls that run as one: a loop over elements in which they are fused, or a single call."""

    calls: list[Call]
    kind: str = "python"  # what becomes of it: "loop", "native", or "python" for a call from Python

    def values(self) -> list[Value]:
        """Every value that the calls read or make, each once."""
        return list(dict.fromkeys(v for c in self.calls for v in (*c.reads, *c.results)))


@dataclass(eq=False)
class Program:
    """Calls in the order in which they run, and where their temporaries lie.

    All temporaries share one arena of memory: `offsets` says at which byte each begins. One that
    has no offset lives in a register inside a fused loop.
    """

    calls: list[Call]
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    numbers: int = 0  # how many each run is given
    steps: list[Step] = field(default_factory=list)
    offsets: dict[Value, int] = field(default_factory=dict)
    arena: int = 0  # bytes
    eager: int = 0  # bytes that the calls allocate for their results where they are not planned

    def values(self) -> list[Value]:
        """Every value, each once, in order of appearance."""
        found = (v for step in self.steps for v in step.values())
        return list(dict.fromkeys((*self.inputs, *found)))

    def name_values(self) -> None:
        """Give each value a short name that tells its kind."""
        counts: dict[str, int] = {}
        for value in self.values():
            letter = "v" if value.base is not None else _LETTERS[value.kind]
            counts[letter] = counts.get(letter, -1) + 1
            value.name = f"{letter}{counts[letter]}"


_LETTERS = {"input": "x", "live": "p", "constant": "c", "output": "y", "temporary": "t",
            "made": "m"}  # fmt: skip


class Replay(Protocol):
    """A program that is ready to run."""

    source: str

    def run(self, inputs: Sequence[Array], numbers: Sequence[Any]) -> list[Array] | None:
        """The outputs; None, and nothing is changed, where a guard does not hold."""


class Lowering(Protocol):
    """How a backend replays programs."""

    def steps(self, calls: Sequence[Call]) -> list[Step]:
        """The calls in the same order, neighbours joined that run as one loop."""

    def build(self, program: Program) -> Replay:
        """The program, whose memory is planned, as something that runs."""


def values_in(argument: Any) -> Iterator[Value]:
    """The values in an argument, which may be a tuple or list of them."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from values_in(item)


def replaced(argument: Any, kind: Callable[[Any], bool], new: Callable[[Any], Any]) -> Any:
    """An argument with everything of a kind in it exchanged.

    >>> replaced((1, [2, "x"]), lambda item: item == 2, str)
    (1, ['2', 'x'])
    """
    if kind(argument):
        return new(argument)
    if isinstance(argument, (tuple, list)):
        items = [replaced(item, kind, new) for item in argument]
        return argument._make(items) if hasattr(argument, "_make") else type(argument)(items)
    return argument
