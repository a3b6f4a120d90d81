"""The function that takes the place of a step: records it once for each signature, then replays."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from backends import Backend

from ..engine import modes
from ..engine.tensor import Tensor
from ..errors import CompileError
from .record import Recorder
from .recording import Recording, mapped
from .show import Plan

P = ParamSpec("P")
R = TypeVar("R")


class Compiled(Generic[P, R]):
    """A step that is replayed; see `minidl.compile`."""

    def __init__(self, step: Callable[P, R], fullgraph: bool, recompile_limit: int) -> None:
        functools.update_wrapper(self, step)
        self.step, self.fullgraph, self.recompile_limit = step, fullgraph, recompile_limit
        self.recordings: dict[Any, list[Recording]] = {}
        self.last: Recording | None = None
        self.eager = False  # for good: what it does cannot be replayed, or changes too often
        self._around = _surroundings(step)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.eager:
            return self.step(*args, **kwargs)
        tensors: list[Tensor] = []
        key = _key((args, kwargs) if kwargs else args, tensors)
        for read, known in self._around:
            if read() is not known:
                self.recordings, self._around = {}, _surroundings(self.step)
                break
        reason: str | None = "its arguments have other shapes, dtypes or values"
        known = self.recordings.get((key, modes.recording.enabled, modes.get_backend()), ())
        for recording in known:
            result, reason = recording.run(tensors)
            if reason is None:
                self.last = recording
                return result  # type: ignore[no-any-return]
        return self._record(key, tensors, reason, args, kwargs)

    def _record(self, key: Any, given: list[Tensor], reason: Any, args: Any, kwargs: Any) -> R:
        if sum(map(len, self.recordings.values())) >= self.recompile_limit:
            return self._give_up(
                f"compile: {self._name} was recorded {self.recompile_limit} times, and now {reason}"
                "; from here on it runs as it is. Likely fix: bring batches to one shape, keep "
                "numbers that change in tensors, or raise recompile_limit.", args, kwargs,
            )  # fmt: skip
        backend = _backend(given)
        if backend.lowering is None:
            return self._give_up(
                f"compile: backend {backend.name!r} cannot replay a step; it runs as it is. "
                "Likely fix: give the backend a `lowering`.", args, kwargs,
            )  # fmt: skip
        recorder = Recorder(backend)
        try:
            with recorder:
                own = [_argument(recorder, x) for x in given]
                replace = dict(zip(map(id, given), own, strict=True))
                own_args, own_kwargs = mapped((args, kwargs), lambda x: replace[id(x)])
                result = self.step(*own_args, **own_kwargs)
            if recorder.reason is None and recorder.unowned():
                recorder.fail(
                    "computes with arrays that are no tensors, unseen",
                    "use minidl.ops, or pass them as tensors",
                )
            if recorder.reason is None and not recorder.once:
                recording = Recording(recorder, own, given, result)
                where = (key, modes.recording.enabled, modes.get_backend())
                self.recordings.setdefault(where, []).append(recording)
                self.last = recording
        finally:
            recorder.release()
        if recorder.reason is not None:
            if self.fullgraph:
                raise CompileError(recorder.reason)
            self.eager = True
            warnings.warn(f"{recorder.reason} It runs as it is.", RuntimeWarning, stacklevel=3)
        return mapped(result, Tensor.detach)  # type: ignore[no-any-return]

    def _give_up(self, message: str, args: Any, kwargs: Any) -> R:
        if self.fullgraph:
            raise CompileError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        self.eager = True
        return self.step(*args, **kwargs)

    @property
    def _name(self) -> str:
        return getattr(self.step, "__qualname__", type(self.step).__name__)

    def _latest(self) -> Recording:
        if self.last is None:
            raise CompileError(
                f"compile: {self._name} was not recorded yet; call it once with its arguments"
            )
        self.last.build()
        return self.last

    def source(self) -> str:
        """The text of the program that ran last. Raises: CompileError before the first call."""
        return self._latest().build().source

    def plan(self) -> Plan:
        """The memory of the program that ran last; print it. Raises: CompileError before the first
        call.
        """
        return Plan(self._latest().program)


def _argument(recorder: Recorder, x: Tensor) -> Tensor:
    """A tensor like x, whose array is recorded."""
    if x.node is not None:
        raise CompileError(
            f"compile: an argument of shape {x.shape} has a history outside the step, which no "
            "gradient would reach. Likely fix: pass x.detach(), or compute it inside."
        )
    if x.backend is not recorder.backend:
        raise CompileError(
            f"compile: the arguments are on two backends, {recorder.backend.name!r} and "
            f"{x.backend.name!r}. Likely fix: x.to({recorder.backend.name!r}) before the call."
        )
    own = Tensor(x.data, x.backend, x.requires_grad)
    own.data, own.grad = recorder.input(x.data), x.grad
    return own


def _backend(tensors: list[Tensor]) -> Backend:
    return tensors[0].backend if tensors else modes.get_backend()


def _key(argument: Any, tensors: list[Tensor]) -> Any:
    """What a recording depends on in an argument; its tensors are added to the list."""
    if isinstance(argument, Tensor):
        tensors.append(argument)
        x = argument.data
        return x.shape, x.dtype, argument.backend, argument.requires_grad, argument.grad is None
    if isinstance(argument, (tuple, list)):
        return type(argument), *[_key(item, tensors) for item in argument]
    if isinstance(argument, dict):
        return tuple((key, _key(item, tensors)) for key, item in argument.items())
    try:
        hash(argument)
    except TypeError:
        raise CompileError(
            f"compile: cannot tell one {type(argument).__name__} from another, so arguments are "
            "tensors, numbers, texts, or tuples, lists and dicts of them. Likely fix: "
            "minidl.tensor(x) for an array."
        ) from None
    return type(argument), argument


def _surroundings(step: Any) -> list[tuple[Callable[[], Any], Any]]:
    """What the variables that a step takes from outside refer to, and how to look again."""
    function = getattr(step, "__func__", step)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    space = function.__globals__
    reads = [functools.partial(space.get, name) for name in code.co_names if name in space]
    reads += [
        functools.partial(getattr, cell, "cell_contents") for cell in function.__closure__ or ()
    ]
    return [(read, read()) for read in reads]
