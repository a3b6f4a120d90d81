"""What a run of the suite has seen: of each method how often it was called, and its worst error.

`conformance.call` and `tolerances.assert_close` report to whoever watches; when a case fails, the
last call and the last comparison are those of the smallest failing example, because Hypothesis runs
it once more at the end.
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
    """One method's row: calls, and the worst error in ULP and as a fraction of its bound."""

    calls: int = 0
    ulps: float = 0.0
    fraction: float = 0.0

    def add(self, comparison: Comparison) -> None:
        """Remember a comparison if it is worse than those before."""
        self.ulps = max(self.ulps, comparison.ulps)
        self.fraction = max(self.fraction, comparison.fraction)


@dataclass
class Record:
    """Tallies by method, and the last thing that happened."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    method: str = ""
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None
    expected: Any = None

    def called(self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """A method of the backend is about to be called."""
        self.method, self.arguments, self.options = method, arguments, options
        self.comparison = self.expected = None
        self.tallies.setdefault(method, Tally()).calls += 1

    def compared(self, comparison: Comparison | None, expected: Any) -> None:
        """A result of the last call was compared: under a bound, or (None) bit for bit."""
        self.comparison, self.expected = comparison, expected
        if comparison is not None:
            self.tallies.setdefault(self.method, Tally()).add(comparison)


_watching: list[Record] = []


def called(method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Tell every record of a call."""
    for record in _watching:
        record.called(method, arguments, options)


def compared(comparison: Comparison | None, expected: Any) -> None:
    """Tell every record of a comparison."""
    for record in _watching:
        record.compared(comparison, expected)


@contextmanager
def recording() -> Iterator[Record]:
    """A Record of all that happens within.

    >>> with recording() as record:
    ...     called("sum", (), {})
    >>> record.tallies["sum"].calls
    1
    """
    record = Record()
    _watching.append(record)
    try:
        yield record
    finally:
        _watching.remove(record)
