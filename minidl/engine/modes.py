"""The engine's switches: whether to record, the default backend, who observes, and what not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import backends
from backends import Backend, BackendError

from .arguments import integer

if TYPE_CHECKING:
    from .function import Function


class _Recording(threading.local):
    """Each thread decides for itself, so that an evaluation beside a training loop disturbs
    nothing.
    """

    enabled = True

    def __init__(self) -> None:
        self.before: list[bool] = []  # what the enclosing blocks of this thread will restore


recording = _Recording()


class _SetRecording(ContextDecorator):
    value: bool

    def __enter__(self) -> None:
        recording.before.append(recording.enabled)
        recording.enabled = self.value

    def __exit__(self, *error: object) -> None:
        recording.enabled = recording.before.pop()


class no_grad(_SetRecording):  # noqa: N801  (PyTorch's name)
    """Within it nothing is recorded for gradients; a context manager and a decorator.

    >>> import minidl
    >>> x = minidl.tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    value = False


class enable_grad(_SetRecording):  # noqa: N801  (PyTorch's name)
    """Within it operations are recorded again, even inside `no_grad`.

    >>> import minidl
    >>> x = minidl.tensor([1.0], requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """

    value = True


def is_grad_enabled() -> bool:
    """Whether this thread records operations for gradients.

    >>> is_grad_enabled()
    True
    """
    return recording.enabled


class _Default:
    backend: Backend | None = None


def get_backend(backend: str | Backend | None = None) -> Backend:
    """The backend of that name, a backend itself unchanged, or for None the default one.

    Raises: UnknownBackend, BackendUnavailable (see `backends.get`).

    >>> get_backend("numpy").name
    'numpy'
    """
    if isinstance(backend, Backend):
        return backend
    if backend is not None:
        return backends.get(backend)
    if _Default.backend is None:
        try:
            _Default.backend = backends.get(os.environ.get("MINIDL_BACKEND") or "numpy")
        except BackendError as error:
            raise type(error)(f"MINIDL_BACKEND: {error}") from error
    return _Default.backend


class use_backend:  # noqa: N801  (used as a verb)
    """Make a backend the default for new tensors: from now on, or within a `with` block.

    The default belongs to the process, not to a thread. `MINIDL_BACKEND` sets it from outside, read
    when a default is first needed.
    Raises: UnknownBackend, BackendUnavailable; the default then stays as it was.

    >>> with use_backend("numpy"):
    ...     get_backend().name
    'numpy'
    """

    def __init__(self, backend: str | Backend) -> None:
        chosen = get_backend(backend)
        self._before, _Default.backend = _Default.backend, chosen

    def __enter__(self) -> Backend:
        return get_backend()

    def __exit__(self, *error: object) -> None:
        _Default.backend = self._before


def set_num_threads(count: int) -> None:
    """Let every backend use at most count threads of the processor from now on.

    Numba has as many as the processor has cores, or NUMBA_NUM_THREADS. NumPy's products can be
    limited where threadpoolctl is installed; where not, a warning says so.
    Raises: ArgumentError unless count is an integer of at least 1.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    backends.set_num_threads(integer("set_num_threads", "count", count, 1))


def get_num_threads() -> int:
    """How many threads the default backend's operations may use."""
    return get_backend().get_num_threads()


Observer = Callable[[Literal["forward", "backward"], "Function", tuple[Any, ...], Any], None]
observers: list[Observer] = []


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call `observer(phase, function, inputs, result)` after every operation: the hook for timers
    and profilers.

    In the forward phase inputs are the operation's arguments and result is its Tensor; in the
    backward phase inputs is a tuple of the incoming gradient, and result a tuple of the outgoing
    ones.

    >>> import minidl
    >>> seen = []
    >>> with observe(lambda phase, function, inputs, result: seen.append(function.name)):
    ...     y = minidl.tensor([1.0]) * 2 + 1
    >>> seen
    ['Multiply', 'Add']
    """
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)


class _Aside(threading.local):
    depth = 0


_aside = _Aside()


@contextmanager
def aside() -> Iterator[None]:
    """Within it arrays are made that are kept, so that it is no part of a step that is compiled.

    The Function that computes with them lists in `rests_on` the tensors from which they follow.
    """
    _aside.depth += 1
    try:
        yield
    finally:
        _aside.depth -= 1


def is_aside() -> bool:
    """Whether this thread is within `aside`."""
    return _aside.depth > 0
