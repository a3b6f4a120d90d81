"""What a run of the suite has seen: of each method how often it was called, and its worst error.

`conformance.call` and the comparisons in `tolerances` report to whoever watches. When a case fails,
the last call and the last comparison are those of the smallest failing example, because Hypothesis
runs it once more at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tolerances import Comparison


@dataclass
class Tally:
    """One method's calls, and its worst error in ULP and as a fraction of its bound."""

    calls: int = 0
    ulps: float = 0.0
    fraction: float = 0.0


@dataclass
class Record:
    """Tallies by method, and the last thing that happened."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    examples: int = 0  # that Hypothesis drew
    # The last call, and what it returned, as host arrays:
    method: str = ""
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    changes: tuple[int, ...] | None = None  # of a method in place: the arguments that it writes to
    results: Any = None
    unsettled: bool = False  # a call or a comparison has begun, and not ended well
    # The last comparison; bound is None where the bits had to agree:
    actual: Any = None
    expected: Any = None
    bound: Any = None
    signed_zero: bool = True
    dtype: Any = None  # that a result within a bound had to have

    def tally(self, method: str) -> Tally:
        """The tally of a method, a new one if there is none."""
        return self.tallies.setdefault(method, Tally())

    def called(
        self, method: str, arguments: tuple[Any, ...], options: dict[str, Any],
        changes: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        """A method of the backend is about to be called."""
        self.method, self.arguments, self.options = method, arguments, options
        self.changes, self.results, self.actual = changes, None, None
        self.unsettled = True
        self.tally(method).calls += 1

    def returned(self, results: Any) -> None:
        """The last call ended well and gave these host arrays."""
        self.results, self.unsettled = results, False

    def comparing(
        self, actual: Any, expected: Any, bound: Any = None, signed_zero: bool = True,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        """A result of the last call is about to be compared."""
        self.actual, self.expected, self.bound = actual, expected, bound
        self.signed_zero, self.dtype, self.unsettled = signed_zero, dtype, True

    def measured(self, worst: Comparison) -> None:
        """This is how far the result was off."""
        tally = self.tally(self.method)
        tally.ulps = max(tally.ulps, worst.ulps)
        tally.fraction = max(tally.fraction, worst.fraction)

    def agreed(self) -> None:
        """The comparison ended well: what fails next is something else."""
        self.unsettled = False


watching: list[Record] = []


@contextmanager
def recording() -> Iterator[Record]:
    """A Record of all that happens within.

    >>> with recording() as record:
    ...     for watcher in watching:
    ...         watcher.called("sum", (), {})
    >>> record.tallies["sum"].calls
    1
    """
    record = Record()
    watching.append(record)
    try:
        yield record
    finally:
        watching.remove(record)
