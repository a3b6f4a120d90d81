"""From a name to a backend. Nothing is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import BackendError, BackendUnavailable, UnknownBackend

if TYPE_CHECKING:
    from .interface import Backend

ENTRY_POINT_GROUP = "minidl.backends"

Factory: TypeAlias = "Callable[[], Backend]"
_instances: dict[str, Backend] = {}
_registered: dict[str, Factory] = {}
_threads: list[int] = []  # the number that was asked for, if any
_starting = RLock()  # one instance per process; the factory of one backend may ask for another


def _lazy(module: str, attribute: str) -> Factory:
    def start() -> Backend:
        backend: Backend = getattr(import_module(module), attribute)()
        return backend

    return start


_BUILT_IN: dict[str, Factory] = {
    "numpy": _lazy("backends.numpy_backend", "NumpyBackend"),
    "numba": _lazy("backends.numba_backend", "NumbaBackend"),
    "cupy": _lazy("backends.cupy_backend", "CupyBackend"),
}


def register(name: str, factory: Factory) -> None:
    """Make `factory()` the backend called `name`, instead of an earlier one of that name.

    >>> from backends.numpy_backend import NumpyBackend
    >>> register("mine", NumpyBackend)
    >>> get("mine") is get("mine")
    True
    """
    _instances.pop(name, None)
    _registered[name] = factory


@cache
def _third_party() -> dict[str, Factory]:
    """Entry points of installed packages; reading them takes tens of milliseconds, so only if
    needed.
    """
    from importlib.metadata import entry_points  # here, since importing it takes 20 ms

    return {e.name: partial(_start, e) for e in entry_points(group=ENTRY_POINT_GROUP)}


def _start(entry: Any) -> Backend:
    backend: Backend = entry.load()()
    return backend


def names() -> list[str]:
    """Every known backend, whether it works here or not: built-in, registered, installed.

    >>> names()[:3]
    ['numpy', 'numba', 'cupy']
    """
    return list({**_BUILT_IN, **_registered, **_third_party()})


def get(name: str) -> Backend:
    """The backend called `name`, started on first use.

    Raises: UnknownBackend for a name that nobody registered; BackendUnavailable where what it needs
    (a package, a GPU) is missing.

    >>> get("numpy").name
    'numpy'
    """
    if name not in _instances:
        with _starting:
            if name not in _instances:
                _instances[name] = _started(name)
    return _instances[name]


def _started(name: str) -> Backend:
    factory = _registered.get(name) or _BUILT_IN.get(name) or _third_party().get(name)
    if factory is None:
        known = ", ".join(names())
        raise UnknownBackend(f"no backend is called {name!r}; known: {known}")
    try:
        backend = factory()
        for count in _threads:
            backend.set_num_threads(count)
        return backend
    except BackendError:
        raise
    except Exception as error:  # a third party's start-up may fail in any way
        raise BackendUnavailable(f"backend {name!r} failed to start: {error!r}") from error


def set_num_threads(count: int) -> None:
    """Let every backend use at most count threads, those that start later too.

    >>> from backends.registry import set_num_threads
    >>> before = get("numpy").get_num_threads()
    >>> set_num_threads(1)
    >>> get("numpy").get_num_threads()
    1
    >>> set_num_threads(before)
    """
    with _starting:
        _threads[:] = [count]
        for backend in _instances.values():
            backend.set_num_threads(count)


def available() -> list[str]:
    """The names of the backends that work on this machine.

    >>> "numpy" in available()
    True
    """
    return [name for name in names() if _starts(name)]


def _starts(name: str) -> bool:
    try:
        get(name)
    except BackendUnavailable:
        return False
    return True
