"""Numbers that are new in each step although no tensor holds them: rates, counts, random counters.

A replay asks for them before it runs, and lets the optimizers and generators move on afterwards,
when nothing can go wrong any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any

from backends import Array
from backends.program import Number

from ..engine.random import Generator
from ..optim.flat import Flat
from ..optim.optimizer import Optimizer, Settings

Notes = list[tuple[Any, ...]]


class _Notes:
    """Takes the place of a backend: each method notes its name and arguments."""

    def __init__(self) -> None:
        self.calls: Notes = []

    def __getattr__(self, method: str) -> Callable[..., None]:
        def note(*arguments: Any) -> None:
            self.calls.append((method, *arguments))

        setattr(self, method, note)  # found at once from now on
        return note


class Update:
    """One call of an optimizer's `update`.

    What it passes to the backend is found out by calling it with a backend that only takes notes,
    so that this works for any optimizer. Numbers may change from run to run; the rest may not.
    """

    def __init__(
        self, optimizer: Optimizer, group: Settings, flat: Flat, state: dict[str, Array],
        run: Sequence[int], first: int,
    ) -> None:  # fmt: skip
        self.optimizer, self.group, self.flat, self.state = optimizer, group, flat, state
        self.members = [
            i for i, (p, (start, stop)) in enumerate(zip(flat.params, flat.bounds, strict=True))
            if run[0] <= start and stop <= run[1] and p.grad is not None
        ]  # fmt: skip
        self.params = [flat.params[i] for i in self.members]
        self.constraints = [p.constraint for p in self.params]
        self._notes: Any = _Notes()
        self.known = self._calls(run[2])
        self.first = self.stop = first  # its numbers' positions in the list of all
        self.arguments = [self._numbered(call[1:]) for call in self.known]
        self._patterns = [_pattern(call) for call in self.known]

    def _calls(self, step: int) -> Notes:
        self._notes.calls = []
        self.optimizer.update(self._notes, None, None, self.state, step, self.group)
        return self._notes.calls  # type: ignore[no-any-return]

    def _numbered(self, arguments: Sequence[Any]) -> list[Any]:
        numbered = []
        for a in arguments:
            changes = type(a) in (int, float)
            numbered.append(Number(self.stop, a) if changes else a)
            self.stop += changes
        return numbered

    def now(self) -> list[Any] | None:
        """The numbers for the next step; None if it would be another one than was recorded."""
        flat = self.flat
        if not all(map(is_, map(_constraint, self.params), self.constraints)):
            return None
        for flats in self.optimizer._flats:
            if flat in flats:
                break
        else:  # state was loaded, or parameters were moved
            return None
        numbers: list[Any] = []
        calls = self._calls(flat.steps[self.members[0]] + 1)
        for call, (length, changing, fixed, before) in zip(calls, self._patterns, strict=True):
            if len(call) != length or not all(map(is_, fixed(call), before)):
                return None
            numbers += changing(call)
        return numbers

    def advance(self) -> None:
        """Count the step."""
        for i in self.members:
            self.flat.steps[i] += 1


_constraint = attrgetter("constraint")


def _pattern(call: Sequence[Any]) -> tuple[int, Any, Any, Sequence[Any]]:
    """Of such a call the length, functions that pick out its numbers and the rest, and the rest."""
    changes = [type(a) in (int, float) for a in call]
    changing, fixed = (
        _picker([i for i, c in enumerate(changes) if c is kind]) for kind in (True, False)
    )
    return len(call), changing, fixed, fixed(call)


def _picker(at: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that picks the elements at these places."""
    if len(at) > 1:
        return itemgetter(*at)
    return lambda call: [call[i] for i in at]


class Draw:
    """Random words that a step takes from a generator."""

    def __init__(self, generator: Generator, words: int, counter: int, first: int) -> None:
        self.generator, self.words = generator, words
        self.numbers = Number(first, generator.seed), Number(first + 1, counter)

    def take(self, numbers: list[Any]) -> int:
        """Fill in seed and counter for the next step; returns the generator's counter before."""
        before = self.generator.counter
        seed, counter = self.numbers
        numbers[seed.index] = self.generator.seed
        numbers[counter.index] = self.generator.reserve(self.words)
        return before
