"""Holding one backend to the whole contract, and the table that says how it did."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from backends import METHODS, Backend

from .. import ops
from ..engine.modes import get_backend
from ..errors import ArgumentError
from .conformance import Run, every_run, level
from .doors import DOORS, Door
from .gradients import CHECKS, Case, check_values, every_case
from .record import Record, recording
from .snippet import rerun, snippet

SECTIONS = {
    "method": "methods of the contract",
    "operation": "other operations of the engine",
    "law": "laws",
}


@dataclass
class Row:
    """What was tried of a method of the contract, an operation or a law, and what came of it."""

    subject: str
    kind: str = "method"  # or "operation" (of the engine), or "law"
    cases: int = 0  # calls whose results were compared, in all examples together
    ulps: float = 0.0  # the worst error, in units in the last place
    fraction: float = 0.0  # the worst error as a fraction of what is allowed
    gradient: float | None = None  # the same for gradients of every order; None: not differentiable
    bad_inputs: int = 0
    failures: list[str] = field(default_factory=list)  # each a program that shows one

    @property
    def verdict(self) -> str:
        """ "pass", "FAIL", or "no case" where nothing was tried."""
        return "FAIL" if self.failures else "pass" if self.cases else "no case"


@dataclass
class Report:
    """How a backend did, row by row, and what it ran on."""

    backend: str
    level: str
    rows: list[Row]
    about: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.verdict == "pass" for row in self.rows)

    @property
    def failures(self) -> list[str]:
        """A program for each failure."""
        return [text for row in self.rows for text in row.failures]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        rows = [asdict(row) | {"verdict": row.verdict} for row in self.rows]
        return asdict(self) | {"rows": rows, "passed": self.passed}

    def __str__(self) -> str:
        head = f"{'':<24}{'cases':>9}{'worst ULP':>11}{'of bound':>10}{'gradient':>10}"
        head += f"{'bad inputs':>12}  verdict"
        lines, kind = [head], ""
        for row in self.rows:
            if row.kind != kind:
                kind = row.kind
                lines.append(f"-- {SECTIONS[kind]} ".ljust(len(head), "-"))
            gradient = "" if row.gradient is None else _short(row.gradient)
            name = [row.subject] if len(row.subject) < 24 else [row.subject, ""]
            lines += name[:-1]
            lines.append(
                f"{name[-1]:<24}{row.cases:>9,}{_short(row.ulps):>11}{_short(row.fraction):>10}"
                f"{gradient:>10}{row.bad_inputs or '':>12}  {row.verdict}"
            )
        failed = sum(row.verdict != "pass" for row in self.rows)
        end = f"{failed} of {len(self.rows)} rows fail" if failed else f"all {len(self.rows)} pass"
        total = sum(row.cases for row in self.rows)
        lines += ["-" * len(head), f"{self.backend}, level {self.level}: {total:,} cases; {end}"]
        return "\n".join(lines)


def _short(number: float) -> str:
    """Where a sum cancels to nearly nothing, an error can be many units of its last place."""
    return f"{number:.3f}" if number < 1e5 else f"{number:.0e}"


def verify(
    backend: str | Backend, depth: str = "quick", only: Iterable[str] = (), progress: bool = False
) -> Report:
    """Run the cases of the kit on a backend, or those about the subjects `only`.

    depth: "quick", "default" or "full", that is 8, 25 or 300 examples of each property.
    Raises: ArgumentError for another depth, or a subject that is neither a method of the contract
    nor a law; UnknownBackend, BackendUnavailable.

    >>> report = verify("numpy", only=["cumsum"])
    >>> report.passed, [row.subject for row in report.rows]
    (True, ['cumsum'])
    """
    found = get_backend(backend)
    name = backend if isinstance(backend, str) else found.name
    known = {subject: Row(subject, kind) for kind, subject in _subjects()}
    unknown = set(only) - known.keys()
    if unknown:
        listed = ", ".join(sorted(unknown))
        raise ArgumentError(f"verify: {listed} is no method of the contract, operation or law")
    rows = {subject: known[subject] for subject in only or known}
    for method in rows.keys() & set(METHODS):
        _signature(found, rows[method])
    everything: list[Run | Case | Door] = [*every_run(), *every_case(), *DOORS]
    works = [work for work in everything if not rows.keys().isdisjoint(work.subjects)]
    with level(depth):
        for work in tqdm(works, disable=not progress, unit="case", leave=False):
            if isinstance(work, Run):
                _run(work, found, name, depth, rows)
            elif isinstance(work, Case):
                _differentiate(work, found, name, rows)
            else:
                _knock(work, found, name, rows)
    about = {"numpy": np.__version__, "python": platform.python_version()}
    return Report(name, depth, list(rows.values()), about | found.describe())


def run_case(name: str, backend: str | Backend, depth: str = "quick") -> None:
    """Run one case by the name that a report gives it, as `verify` does at that depth.

    Raises: whatever it raises; ArgumentError.

    >>> run_case("arrays.full_of_nan_and_infinity", "numpy")
    """
    chosen = [work for called, work in _named() if called == name]
    if not chosen:
        raise ArgumentError(f"run_case: no case is called {name!r}")
    with level(depth):
        for work in chosen:
            work(get_backend(backend))


def _named() -> Iterator[tuple[str, Callable[[Backend], object]]]:
    """Everything that is run, under the name that a report gives it."""
    for run in every_run():
        yield str(run), partial(run, reference=get_backend("numpy"))
    for case in every_case():
        for check in CHECKS:
            yield f"{check.__name__} {case}", partial(check, case=case)
    for door in DOORS:
        yield f"wrong input {door}", door.knock


def _subjects() -> list[tuple[str, str]]:
    """(kind, name) of every row: first what the contract says, then what is built on it."""
    laws = dict.fromkeys(s for run in every_run() for s in run.subjects if s not in METHODS)
    operations = [name for name in ops.__all__ if name not in (*METHODS, "native_index")]
    named = {"method": METHODS, "operation": operations, "law": laws}
    return [(kind, name) for kind, names in named.items() for name in names]


def _run(run: Run, backend: Backend, name: str, depth: str, rows: dict[str, Row]) -> None:
    with recording() as record:
        try:
            run(backend, get_backend("numpy"))
        except Exception as error:  # whatever a backend does wrong is the finding
            reason = f"{run}: {type(error).__name__}: {error}"
            blamed = record.method if record.method in run.subjects else run.subjects[0]
            if blamed in rows:
                rows[blamed].failures.append(snippet(name, record, str(run), depth, reason))
    _count(run, record, rows)


def _differentiate(case: Case, backend: Backend, name: str, rows: dict[str, Row]) -> None:
    """Values and gradients of an operation of the engine; its name is also the method's."""
    for check in CHECKS:
        failure = ""
        with recording() as record:
            try:
                check(backend, case)
            except Exception as error:  # likewise
                called = f"{check.__name__} {case}"
                failure = rerun(called, name, f"{called}: {type(error).__name__}: {error}")
        worst = record.tally("").fraction
        for row in (rows[subject] for subject in case.subjects if subject in rows):
            if row.kind == "operation":
                row.cases += 1
            if case.order and check is not check_values:
                row.gradient = max(row.gradient or 0.0, worst)
            if failure:
                row.failures.append(failure)


def _knock(door: Door, backend: Backend, name: str, rows: dict[str, Row]) -> None:
    row = rows[door.operation]
    row.bad_inputs += 1
    try:
        door.knock(backend)
    except AssertionError as error:
        row.failures.append(rerun(f"wrong input {door}", name, f"wrong input {error}"))


def _count(run: Run, record: Record, rows: dict[str, Row]) -> None:
    """Credit each method with the calls that it got, and a law with its examples."""
    for subject in run.subjects:
        if subject in rows and subject not in record.tallies:
            rows[subject].cases += max(record.examples, 1)
    for method, tally in record.tallies.items():
        if method in rows:
            row = rows[method]
            row.cases += tally.calls
            row.ulps = max(row.ulps, tally.ulps)
            row.fraction = max(row.fraction, tally.fraction)


def _signature(backend: Backend, row: Row) -> None:
    """The method must be there, with the contract's parameters."""
    own, asked = getattr(backend, row.subject), getattr(Backend, row.subject)
    if getattr(own, "__isabstractmethod__", False):
        row.failures.append(f"# {row.subject} is not implemented")
    elif _shape(own) != _shape(asked)[1:]:
        wanted, got = inspect.signature(asked), inspect.signature(own)
        row.failures.append(f"# {row.subject} takes {got}; the contract says {wanted}")


def _shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of the parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]
