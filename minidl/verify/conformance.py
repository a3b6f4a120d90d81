"""What makes a function a case of the kit, and how cases are run.

A case checks a backend: `covers` says which methods of the contract it is about, `law` that it is
about the engine as a whole. It is a function of `backend`; of `method`, if it covers several in the
same way; of `reference`, if it compares bits with the NumPy backend; of what `each` lists and of
what `drawn` draws. It needs nothing from pytest: `minidl verify` and the tests run the same cases.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import METHODS, Backend

from ..errors import ArgumentError
from .record import watching
from .strategies import Laid, different

Case = TypeVar("Case", bound=Callable[..., None])

CASES: dict[str, list[Callable[..., None]]] = {}  # method of the contract, or law -> its cases
LEVELS = {"quick": 8, "default": 25, "full": 300}  # examples of everything that is drawn

# Results of these may be views of their arguments, because NumPy's would be; a 1x1 kernel makes
# im2col a reshape, and a weight may be packed as it is.
VIEWS = frozenset({
    "reshape", "transpose", "broadcast_to", "getitem", "flip", "einsum", "im2col", "int8_pack",
})  # fmt: skip


def covers(*methods: str) -> Callable[[Case], Case]:
    """Register a case of these methods of the contract."""
    unknown = set(methods) - set(METHODS)
    if unknown or not methods:
        raise ValueError(f"the contract has no method {sorted(unknown)}")
    return _register(methods)


def law(statement: str) -> Callable[[Case], Case]:
    """Register a case of something that holds of the engine as a whole."""
    return _register((statement,))


def _register(subjects: tuple[str, ...]) -> Callable[[Case], Case]:
    def register(case: Case) -> Case:
        case.subjects = subjects  # type: ignore[attr-defined]
        for subject in subjects:
            CASES.setdefault(subject, []).append(case)
        return case

    return register


def each(name: str, values: Iterable[Any]) -> Callable[[Case], Case]:
    """Run a case once for every value of the parameter `name`; goes below `covers`."""

    def register(case: Case) -> Case:
        case.axes = [*getattr(case, "axes", ()), (name, list(values))]  # type: ignore[attr-defined]
        return case

    return register


def drawn(**strategies: st.SearchStrategy[Any]) -> Callable[[Case], Case]:
    """Let Hypothesis draw these parameters, as often as the level says; goes below `covers`.

    Hypothesis' own `given` would fix that number when the module is imported.
    """

    def register(case: Case) -> Case:
        case.strategies = strategies  # type: ignore[attr-defined]
        return case

    return register


def _profiles() -> None:
    # derandomize: the same examples on every machine and backend; no failure is lost to chance.
    # The health checks that are off measure time, which on a shared machine measures the others.
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    for level, count in LEVELS.items():
        settings.register_profile(
            level, max_examples=count, deadline=None, derandomize=True, database=None,
            suppress_health_check=slow, print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip


_profiles()


@contextmanager
def level(name: str) -> Iterator[None]:
    """Within it, properties get as many examples as LEVELS says. Raises: ArgumentError."""
    if name not in LEVELS:
        raise ArgumentError(f"verify: level must be one of {', '.join(LEVELS)}, got {name!r}")
    before = settings.get_current_profile_name()
    settings.load_profile(name)
    try:
        yield
    finally:
        settings.load_profile(before)


@dataclass(frozen=True)
class Made:
    """An array that was made for a call: its values, and the contiguous array that it lies in."""

    native: Any
    values: np.ndarray
    base: Any


def _native(backend: Backend, argument: Any, made: list[Made]) -> Any:
    """The argument with every host array in it moved to the backend; `made` remembers them."""
    if isinstance(argument, (tuple, list)):
        make = getattr(argument, "_make", type(argument))  # of a named tuple
        return make(_native(backend, a, made) for a in argument)
    if isinstance(argument, np.ndarray):
        argument = Laid(argument)
    if isinstance(argument, Laid):
        native, base = argument.within(backend)
        made.append(Made(native, argument.values, base))
        return native
    return argument


def _holds(backend: Backend, native: Any, values: np.ndarray) -> bool:
    """Whether a native array has exactly these bits."""
    now = np.asarray(backend.to_numpy(native))
    return now.dtype == values.dtype and now.tobytes() == values.tobytes()


def _host(backend: Backend, method: str, result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_host(backend, method, r) for r in result)
    assert backend.is_array(result), f"{method} returned {type(result).__name__}, not an array"
    return np.array(backend.to_numpy(result))


def _own_memory(backend: Backend, result: Any, host: Any, made: list[Made]) -> bool:
    """Whether the result stays as it is when all that the arguments lie in is overwritten."""
    for argument in made:
        other = different(np.asarray(backend.to_numpy(argument.base)))
        backend.copyto(argument.base, backend.asarray(other))
    results, hosts = (result, host) if isinstance(result, tuple) else ((result,), (host,))
    return all(_holds(backend, r, h) for r, h in zip(results, hosts, strict=True))


def call(backend: Backend, method: str, *args: Any, **options: Any) -> Any:
    """backend.method(*args) with host arrays and Laid as arguments, and host arrays as results.

    Fails if a result is not a native array or shares memory with an argument where it should not,
    or if an argument changed by a single bit.
    """
    made: list[Made] = []
    native = [_native(backend, a, made) for a in args]
    for record in watching:
        record.called(method, args, options)
    result = getattr(backend, method)(*native, **options)
    host = _host(backend, method, result)
    for array in made:
        assert _holds(backend, array.native, array.values), f"{method} modified an argument"
    shared = method not in VIEWS and not _own_memory(backend, result, host, made)
    assert not shared, f"{method} returned a view of its argument"
    for record in watching:
        record.returned(host)
    return host


def call_in_place(
    backend: Backend, method: str, *args: Any, changes: tuple[int, ...]
) -> list[np.ndarray]:
    """Like `call`, for a method that writes to the arguments at the positions `changes`.

    Returns what these hold afterwards.
    """
    natives, records = [], []
    for argument in args:
        made: list[Made] = []
        natives.append(_native(backend, argument, made))
        records.append(made)
    for record in watching:
        record.called(method, args, {}, changes)
    assert getattr(backend, method)(*natives) is None, f"{method} works in place: no result"
    for position, made in enumerate(records):
        for array in made if position not in changes else ():
            kept = _holds(backend, array.native, array.values)
            assert kept, f"{method} modified argument {position}"
    after = [np.array(backend.to_numpy(natives[i])) for i in changes]
    for record in watching:
        record.returned(after)
    return after


def parameter_sets(case: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The keyword arguments with which a case is to be run, besides the backend (and reference).

    >>> @covers("sum", "mean")
    ... def case(backend, method): ...
    >>> list(parameter_sets(case))
    [{'method': 'sum'}, {'method': 'mean'}]
    >>> for name in case.subjects:
    ...     CASES[name].remove(case)
    """
    axes: list[tuple[str, Any]] = list(getattr(case, "axes", ()))
    if "method" in inspect.signature(case).parameters:
        axes.insert(0, ("method", case.subjects))  # type: ignore[attr-defined]
    names = [name for name, _ in axes]
    for values in itertools.product(*(values for _, values in axes)):
        yield dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class Run:
    """One case with one set of arguments."""

    case: Callable[..., None]
    arguments: dict[str, Any]

    def __str__(self) -> str:
        shown = (v.__name__ if isinstance(v, type) else str(v) for v in self.arguments.values())
        return "-".join([f"{self.case.__module__.rpartition('.')[2]}.{self.case.__name__}", *shown])

    @property
    def subjects(self) -> tuple[str, ...]:
        """The methods of the contract that it is about, or the law."""
        chosen = self.arguments.get("method")
        return (chosen,) if chosen else self.case.subjects  # type: ignore[attr-defined]

    def __call__(self, backend: Backend, reference: Backend) -> None:
        """Run it. Raises: AssertionError, or whatever the backend raises."""
        fixed = {"backend": backend, **self.arguments}
        if "reference" in inspect.signature(self.case).parameters:
            fixed["reference"] = reference
        strategies = getattr(self.case, "strategies", None)
        if strategies is None:
            self.case(**fixed)
            return

        @settings()  # of the level in force
        @given(**strategies)
        def example(**values: Any) -> None:
            for record in watching:
                record.examples += 1
            self.case(**fixed, **values)

        example()


def every_run() -> list[Run]:
    """All cases of the kit with all their arguments, family by family.

    >>> len(every_run()) > 200
    True
    """
    folder = f"{__package__}.cases"
    for module in pkgutil.iter_modules(importlib.import_module(folder).__path__):
        importlib.import_module(f"{folder}.{module.name}")
    unique = dict.fromkeys(case for covering in CASES.values() for case in covering)
    return [Run(case, arguments) for case in unique for arguments in parameter_sets(case)]
