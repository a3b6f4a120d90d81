"""CUDA graphs of the stand-in: what is called while a stream captures is noted, and done at launch.

As on a GPU, capturing computes nothing that stays: what was written to is put back at its end. The
results have their memory, which each launch fills again. To ask for a value while capturing is an
error. Source: CUDA C++ Programming Guide, "CUDA Graphs", section "Prohibited and Unhandled
Operations".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Note = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]


class Capture:
    """What has been called since a stream began to capture."""

    active: Capture | None = None

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.before: list[tuple[np.ndarray, np.ndarray]] = []
        self.inside = False

    def call(self, function: Callable[..., Any], args: Any, options: Any) -> Any:
        self.before += [(a, a.copy()) for a in _arrays((args, options)) if a.flags.writeable]
        self.inside = True
        try:
            result = function(*args, **options)
        finally:
            self.inside = False
        self.notes.append((function, args, options, result))
        return result


class Syncs(list[str]):
    """The transfers to the host; while capturing there can be none."""

    def append(self, what: str) -> None:
        if Capture.active is not None:
            raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {what}")
        super().append(what)


def captured(function: F) -> F:
    """A function of the device: while a stream captures, its calls are noted."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        capture = Capture.active
        if capture is None or capture.inside:
            return function(*args, **options)
        return capture.call(function, args, options)

    return cast("F", call)


def _arrays(x: Any) -> Iterator[np.ndarray]:
    """The values of all arrays of the stand-in that are part of something."""
    if hasattr(x, "_a"):
        yield x._a
    elif isinstance(x, (tuple, list, dict)):
        for item in x.values() if isinstance(x, dict) else x:
            yield from _arrays(item)


class Graph:
    """Calls to be made again, with the same arrays."""

    def __init__(self, notes: list[Note]) -> None:
        self._notes = notes

    def launch(self, stream: Any = None) -> None:
        for function, args, options, result in self._notes:
            again = function(*args, **options)
            for new, old in zip(_arrays(again), _arrays(result), strict=True):
                if not np.shares_memory(new, old) and old.size:
                    old[...] = new


class Stream:
    """A stream; in the stand-in everything has happened when its call returns."""

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False,
        priority: int | None = None,
    ) -> None:  # fmt: skip
        self.non_blocking = non_blocking

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin_capture(self, mode: int | None = None) -> None:
        if Capture.active is not None or not self.non_blocking:
            raise RuntimeError("cudaErrorStreamCaptureImplicit")
        Capture.active = Capture()

    def end_capture(self) -> Graph:
        capture = Capture.active
        if capture is None:
            raise RuntimeError("cudaErrorIllegalState: no capture has begun")
        Capture.active = None
        for array, values in reversed(capture.before):
            array[...] = values
        return Graph(capture.notes)
