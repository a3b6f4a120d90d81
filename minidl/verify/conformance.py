"""What makes a test a conformance case: `covers` says of which methods, `call` runs one strictly.

A case is a function of a backend, of `method` if it covers several in the same way, of `reference`
if it compares bits with the NumPy backend, and of whatever `each` lists. It needs nothing from
pytest: `minidl verify` and the tests run the same collected CASES.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from backends import Backend

from . import record
from .strategies import Laid

Case = TypeVar("Case", bound=Callable[..., None])

CASES: dict[str, list[Callable[..., None]]] = {}

# Results of these may be views of their arguments, because NumPy's would be; a 1x1 kernel makes
# im2col a reshape.
VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "getitem", "flip", "einsum", "im2col"})


def contract_methods() -> list[str]:
    """Every method that the contract asks a backend for, in its order.

    >>> contract_methods()[:3]
    ['asarray', 'to_numpy', 'is_array']
    """
    return [
        name
        for name, value in vars(Backend).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]


def covers(*methods: str) -> Callable[[Case], Case]:
    """Register a test as a conformance case of these methods of the contract."""
    unknown = set(methods) - set(contract_methods())
    if unknown or not methods:
        raise ValueError(f"the contract has no method {sorted(unknown)}")

    def register(case: Case) -> Case:
        case.methods = methods  # type: ignore[attr-defined]
        for method in methods:
            CASES.setdefault(method, []).append(case)
        return case

    return register


def each(name: str, values: Iterable[Any]) -> Callable[[Case], Case]:
    """Run a case once for every value of the parameter `name`; goes below `covers`."""

    def register(case: Case) -> Case:
        case.axes = [*getattr(case, "axes", ()), (name, list(values))]  # type: ignore[attr-defined]
        return case

    return register


def _native(backend: Backend, argument: Any, made: list[tuple[Any, np.ndarray]]) -> Any:
    """The argument with every host array in it moved to the backend; `made` remembers values."""
    if isinstance(argument, (tuple, list)):
        return type(argument)(_native(backend, a, made) for a in argument)
    if isinstance(argument, np.ndarray):
        argument = Laid(argument)
    if isinstance(argument, Laid):
        native = argument.on(backend)
        made.append((native, argument.values))
        return native
    return argument


def _unchanged(native: Any, values: np.ndarray, backend: Backend) -> bool:
    now = np.asarray(backend.to_numpy(native))
    return now.dtype == values.dtype and now.tobytes() == values.tobytes()


def _host(backend: Backend, method: str, result: Any, made: list[tuple[Any, np.ndarray]]) -> Any:
    if isinstance(result, tuple):
        return tuple(_host(backend, method, r, made) for r in result)
    assert backend.is_array(result), f"{method} returned {type(result).__name__}, not an array"
    if isinstance(result, np.ndarray) and method not in VIEWS:
        shared = any(np.shares_memory(result, native) for native, _ in made)
        assert not shared, f"{method} returned a view of its argument"
    return np.array(backend.to_numpy(result))


def call(backend: Backend, method: str, *args: Any, **options: Any) -> Any:
    """backend.method(*args) with host arrays and Laid as arguments, and host arrays as results.

    Fails if a result is not a native array or shares memory with an argument where it should not,
    or if an argument changed by a single bit.
    """
    made: list[tuple[Any, np.ndarray]] = []
    native = [_native(backend, a, made) for a in args]
    record.called(method, args, options)
    result = getattr(backend, method)(*native, **options)
    host = _host(backend, method, result, made)
    for array, values in made:
        assert _unchanged(array, values, backend), f"{method} modified an argument"
    return host


def call_in_place(
    backend: Backend, method: str, *args: Any, changes: tuple[int, ...]
) -> list[np.ndarray]:
    """Like `call`, for a method that writes to the arguments at the positions `changes`.

    Returns what these hold afterwards.
    """
    natives, records = [], []
    for argument in args:
        made: list[tuple[Any, np.ndarray]] = []
        natives.append(_native(backend, argument, made))
        records.append(made)
    record.called(method, args, {})
    assert getattr(backend, method)(*natives) is None, f"{method} works in place: no result"
    for position, made in enumerate(records):
        for array, values in made if position not in changes else ():
            assert _unchanged(array, values, backend), f"{method} modified argument {position}"
    return [np.array(backend.to_numpy(natives[i])) for i in changes]


def parameter_sets(case: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The keyword arguments with which a case is to be run, besides the backend (and reference).

    >>> @covers("sum", "mean")
    ... def case(backend, method): ...
    >>> list(parameter_sets(case))
    [{'method': 'sum'}, {'method': 'mean'}]
    >>> for name in case.methods:
    ...     CASES[name].remove(case)
    """
    axes: list[tuple[str, Any]] = list(getattr(case, "axes", ()))
    if "method" in inspect.signature(case).parameters:
        axes.insert(0, ("method", case.methods))  # type: ignore[attr-defined]
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
    def methods(self) -> tuple[str, ...]:
        """The methods of the contract that it is about."""
        chosen = self.arguments.get("method")
        return (chosen,) if chosen else self.case.methods  # type: ignore[attr-defined]

    def __call__(self, backend: Backend, reference: Backend) -> None:
        """Run it. Raises: AssertionError, or whatever the backend raises."""
        wanted = inspect.signature(self.case).parameters
        more = {"reference": reference} if "reference" in wanted else {}
        self.case(backend=backend, **more, **self.arguments)


def every_run() -> list[Run]:
    """All cases of the kit with all their arguments, family by family.

    >>> len(every_run()) > 200
    True
    """
    from . import cases

    for module in pkgutil.iter_modules(cases.__path__, f"{cases.__name__}."):
        importlib.import_module(module.name)
    unique = dict.fromkeys(case for covering in CASES.values() for case in covering)
    return [Run(case, arguments) for case in unique for arguments in parameter_sets(case)]
