"""Running a step once while noting every call of the backend that it makes.

While a `Recorder` is entered, the backend's methods are shadowed by ones that also take notes, and
what they return is wrapped in `Traced`, so that operators between arrays, which no method sees, are
noted too. The engine's observer hook supplies the operations' names, and the tensors that take part
from outside. It alone would not do: it sees each `Function`, but neither how gradients add up, nor
optimizers, nor the arithmetic inside a `backward`. Notes are taken below it, where all of these
meet.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends import METHODS, Array, Backend
from backends.program import Call, Number, Program, Value, replaced

from ..engine import modes, random
from ..engine.function import Function, Version
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import CompileError
from ..nn.module import Module
from ..optim import optimizer as optim
from ..optim.flat import Flat
from ..optim.optimizer import Optimizer, Settings
from .numbers import Draw, Update
from .traced import Bound, Traced

_OWN = tuple(str(Path(inspect.getfile(x)).parent) for x in (Backend, CompileError))
CONTRACT = [n for n in METHODS if n not in ("synchronize", "describe", "is_array")]
IN_PLACE = {n for n in CONTRACT if "In place" in (getattr(Backend, n).__doc__ or "")}
WITH_OUT = {n for n in CONTRACT if "out" in inspect.signature(getattr(Backend, n)).parameters}
# Where a method's arguments seed and counter are, one after the other.
FROM_SEED = {
    n: list(inspect.signature(getattr(Backend, n)).parameters).index("seed") - 1
    for n in CONTRACT if "counter" in inspect.signature(getattr(Backend, n)).parameters
}  # fmt: skip


class Recorder:
    """Use as a context around one run of a step; afterwards `program` holds the calls."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.program = Program([], [], [])
        self.reason: str | None = None  # why the step cannot be replayed
        self.once = False  # an optimizer made its state in this step, which will not happen again
        self.updates: list[Update] = []
        self.draws: list[Draw] = []
        self.leaves: dict[int, tuple[Tensor, int]] = {}  # tensors from outside, their versions
        self.rests_on: dict[int, tuple[Tensor, Version, int]] = {}
        self.modules: dict[int, Module] = {}
        self.entry = {  # which tensors had a gradient when the step began
            id(t): t.grad
            for t in gc.get_objects() if issubclass(type(t), Tensor) and t.node is None
        }  # fmt: skip
        self._known: dict[int, Traced] = {}  # arrays from outside, by identity
        self._counters: dict[tuple[int, int], tuple[Number, Number]] = {}
        self._expected: list[list[Any]] = []  # the arguments of the calls that an update will make
        self._inside, self._thread = False, threading.get_ident()

    # -- entering and leaving -------------------------------------------------------------------
    def __enter__(self) -> Recorder:
        shadows = {name: self._shadow(name, getattr(self.backend, name)) for name in CONTRACT}
        self._plain_array, self._call = self.backend.is_array, Module.__call__
        shadows["is_array"] = self._is_array
        recorder, call = self, self._call

        def called(module: Module, *args: Any, **kwargs: Any) -> Any:
            for inner in module.modules() if id(module) not in recorder.modules else ():
                recorder.modules[id(inner)] = inner
                for x in vars(inner).values():
                    if isinstance(x, Tensor):
                        recorder.leaf(x)
            return call(module, *args, **kwargs)

        vars(self.backend).update(shadows)
        Module.__call__ = called  # type: ignore[assignment, method-assign]
        for hook, own in self._hooks():
            hook.append(own)
        return self

    def __exit__(self, *error: object) -> None:
        for name in (*CONTRACT, "is_array"):
            del vars(self.backend)[name]
        Module.__call__ = self._call  # type: ignore[method-assign]
        for hook, own in self._hooks():
            hook.remove(own)

    def _is_array(self, x: object) -> bool:
        return isinstance(x, Traced) or self._plain_array(x)

    def _hooks(self) -> list[tuple[list[Any], Callable[..., None]]]:
        return [
            (modes.observers, self._observe), (optim.updating, self._update),
            (random.reserved, self._reserve),
        ]  # fmt: skip

    def _shadow(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(method)

        def noted(*args: Any, **kwargs: Any) -> Any:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            return self.note(name, method, bound.args)

        return noted

    def release(self) -> None:
        """Put the plain arrays back wherever a Traced one outlived the step."""
        traced = [x for x in gc.get_objects() if type(x) is Traced]
        for holder in gc.get_referrers(*traced) if traced else ():
            if isinstance(holder, Tensor):
                holder.data = holder.data.array
            elif isinstance(holder, (dict, list)) and holder is not traced:
                items = holder.items() if isinstance(holder, dict) else enumerate(holder)
                for key, item in list(items):
                    if type(item) is Traced:
                        holder[key] = item.array

    # -- what the hooks say ---------------------------------------------------------------------
    def _observe(
        self, phase: str, function: Function, inputs: tuple[Any, ...], result: Any
    ) -> None:
        """Name the calls of this operation; let its backward meet Traced arrays only."""
        if self._unseen():
            return
        for call in reversed(self.program.calls):
            if call.operation:
                break
            call.operation = function.name + (".backward" if phase == "backward" else "")
            if function.rests_on:
                self._fix(call, inputs)
        self.rests_on.update((id(x), (x, x.version, x.version.changed)) for x in function.rests_on)
        if phase == "backward":
            return
        for x in inputs:
            if isinstance(x, Tensor) and not isinstance(x.data, Traced):
                self.leaf(x)
        if not isinstance(result.data, Traced):
            self.fail(
                f"{function.name}.forward computes with operators on a parameter, unseen",
                "write self.backend.multiply(a, b) there instead of a * b",
            )
        renamed = {}
        for name, value in function.saved().items():
            if not isinstance(value, Traced) and self._is_array(value):
                setattr(function, name, self.traced(value))
                renamed[id(value)] = id(self.traced(value))
        if renamed and function._links is not None:
            function._links = [
                (edge, shape, dtype, renamed.get(identity, identity), version)
                for edge, shape, dtype, identity, version in function._links
            ]

    def _fix(self, call: Call, inputs: tuple[Any, ...]) -> None:
        """What an operation that rests on other tensors brings along is the same in all runs."""
        given = {id(x.data) for x in inputs if isinstance(x, Tensor)}
        for value in (v.root for v in call.reads):
            if value.kind == "live" and id(value.array) not in given:
                value.kind = "constant"

    def leaf(self, x: Tensor) -> None:
        """A tensor from outside takes part."""
        self.leaves.setdefault(id(x), (x, x.version.changed))

    def _update(
        self, optimizer: Optimizer, group: Settings, flat: Flat, state: dict[str, Array],
        run: list[int],
    ) -> None:  # fmt: skip
        update = Update(optimizer, group, flat, state, run, self.program.numbers)
        self.program.numbers = update.stop
        self.updates.append(update)
        self._expected = list(update.arguments)
        made = (flat.param, *state.values())
        self.once = self.once or any(isinstance(array, Traced) for array in made)
        for i in update.members:
            self.leaf(flat.params[i])

    def _reserve(self, generator: Generator, words: int, counter: int) -> None:
        if threading.get_ident() == self._thread:
            draw = Draw(generator, words, counter, self.program.numbers)
            self.program.numbers += len(draw.numbers)
            self.draws.append(draw)
            self._counters[generator.seed, counter] = draw.numbers

    # -- what cannot be replayed ----------------------------------------------------------------
    def needs_value(self, what: str) -> None:
        """The step looked at values, on which its course may depend."""
        self.fail(
            f"{what}, and so may depend on values, which a recorded step cannot",
            "return the tensor and look at it outside the step; choose with ops.where inside",
        )

    def _unseen(self) -> bool:
        """Whether this is another thread, or work that is no part of the step."""
        return threading.get_ident() != self._thread or modes.is_aside()

    def fail(self, problem: str, fix: str) -> None:
        """Note why the step cannot be replayed; it runs on, so that it is done whole."""
        self.reason = self.reason or f"compile: {_line()} {problem}. Likely fix: {fix}."

    # -- arrays and their values ----------------------------------------------------------------
    def input(self, array: Array) -> Traced:
        """An argument of the step, which programs take in C order."""
        if not array.flags.c_contiguous:
            array = self.backend.copy(array).array
            self.program.calls.pop()
        traced = self._traced(array, "input")
        self.program.inputs.append(traced.value)
        return traced

    def traced(self, array: Array, kind: str = "live") -> Traced:
        """An array from outside, the same object each time."""
        if id(array) not in self._known:
            self._known[id(array)] = self._traced(array, kind)
        return self._known[id(array)]

    def _traced(self, array: Array, kind: str) -> Traced:
        kept = array if kind in ("live", "constant") else None
        value = Value(array.shape, array.dtype, array.strides, kind, kept)
        return Traced(array, value, self)

    def unowned(self) -> bool:
        """Whether an array from outside belongs to nobody: it was computed unseen, for this run.

        Call it when the step's own variables are gone.
        """
        arrays = [t.value.array for t in self._known.values() if t.value.kind == "live"]
        # Each is referred to by its Traced, its Value, the list, and getrefcount's argument.
        return any(sys.getrefcount(arrays[i]) <= 4 for i in range(len(arrays)))

    def gradient_at_entry(self, x: Tensor) -> Array | bool | None:
        """None, if x had no gradient; the array, if the step read it; else True."""
        grad = self.entry.get(id(x))
        if grad is None:
            return None
        return grad.data if id(grad.data) in self._known else True

    def forget(self) -> None:
        """Let go of arrays that the program does not need."""
        self._known, self.entry = {}, {}

    # -- taking notes ---------------------------------------------------------------------------
    def note(self, method: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Run function on the plain arrays behind arguments, and note the call."""
        plain = [replaced(a, _is_traced, _plain) for a in arguments]
        if self._inside or self._unseen():
            return function(*plain)
        if method in ("to_numpy", "all_finite"):
            self.needs_value("reads the values of a tensor")
            return function(*plain)
        if method in IN_PLACE:
            for array in _written(method, [a for a in arguments if self._is_array(a)]):
                self._unfold(array)
        self._inside = True
        try:
            result = function(*plain)
        finally:
            self._inside = False
        if method == "asarray" and not isinstance(arguments[0], Traced):
            host = isinstance(arguments[0], (bool, int, float, list, tuple))
            return self.traced(result, "constant" if host else "live")
        values = [self._as_value(a) for a in arguments]
        into = _memory(arguments[-1], plain[-1]) if method in WITH_OUT else {}
        if into:
            return self._into(into, Call(method, tuple(values)), plain, result)
        for argument, own in zip(arguments, plain, strict=True):
            if own is result and self._is_array(own):
                return argument
        return self._noted(Call(method, self._numbered(method, values)), plain, result)

    def _numbered(self, method: str, values: list[Any]) -> tuple[Any, ...]:
        """The arguments with Numbers in place of what changes from run to run."""
        if method.endswith("_step") and self._expected:
            pairs = zip(values, self._expected.pop(0), strict=True)
            return tuple(n if isinstance(n, Number) else v for v, n in pairs)
        at = FROM_SEED.get(method)
        if at is None:
            return tuple(values)
        seed, counter = values[at : at + 2]
        return (*values[:at], *self._counters.get((seed, counter), (seed, counter)),
                *values[at + 2 :])  # fmt: skip

    def _noted(self, call: Call, plain: Sequence[Any], result: Any) -> Any:
        if call.method == "bounds":
            return self._guard(call, result)
        if call.method in IN_PLACE:
            call.writes = _written(call.method, [v for v in call.arguments if isinstance(v, Value)])
            self.program.calls.append(call)
            return None
        drawn = any(isinstance(a, Number) for a in call.arguments)
        folded = not drawn and all(v.root.kind == "constant" for v in call.reads)
        parts = result if isinstance(result, tuple) else (result,)
        traced = tuple(self._result(call, plain, part, folded) for part in parts)
        if not folded:
            call.results = tuple(t.value for t in traced)
            self.program.calls.append(call)
        return traced if isinstance(result, tuple) else traced[0]

    def _result(self, call: Call, plain: Sequence[Any], array: Any, folded: bool) -> Traced:
        """A result; on the CPU it is found out whether it is a view of an argument."""
        array = np.asarray(array) if isinstance(array, np.generic) else array
        value = Value(array.shape, array.dtype, array.strides)
        if isinstance(array, np.ndarray):
            for base, other in zip(call.reads, _arrays(plain), strict=True):
                if np.may_share_memory(array, other):
                    apart = array.ctypes.data - other.ctypes.data
                    value.base, value.offset = base.root, base.offset + apart
                    value.kind = base.root.kind
        if folded and value.base is None:
            value.kind, value.array = "constant", array
        return Traced(array, value, self)

    def _guard(self, call: Call, result: tuple[float, float]) -> Any:
        if all(v.root.kind == "constant" for v in call.reads):
            return result
        self.program.calls.append(call)
        return tuple(Bound(value, call, i, self) for i, value in enumerate(result))

    def _unfold(self, target: Any) -> None:
        """A constant that is about to be written to must be made anew in each run."""
        root = (target if isinstance(target, Traced) else self.traced(target)).value.root
        if root.kind != "constant":
            return
        made = Value(
            root.shape, root.dtype, root.strides, "constant", self.backend.copy(root.array)
        )
        root.kind, root.array = "temporary", None
        self.program.calls.insert(0, Call("copyto", (root, made), writes=(root,)))

    def _into(self, into: dict[int, Any], call: Call, plain: Sequence[Any], result: Any) -> Any:
        """A call that was given memory for its result, or for some of them, as its last argument:
        `into`, by the identity of the plain arrays.
        """
        parts = result if isinstance(result, tuple) else (result,)
        made = [
            into[id(x)] if id(x) in into else self._result(call, plain, x, False) for x in parts
        ]
        call.results = tuple(map(self._value, made))
        call.writes = tuple(map(self._value, into.values()))
        forgotten = replaced(call.arguments[-1], lambda x: isinstance(x, Value), lambda x: None)
        call.arguments = (*call.arguments[:-1], forgotten)
        self.program.calls.append(call)
        return tuple(made) if isinstance(result, tuple) else made[0]

    def _as_value(self, argument: Any) -> Any:
        """An argument with values in place of arrays."""
        return replaced(argument, self._is_array, self._value)

    def _value(self, array: Any) -> Value:
        return (array if isinstance(array, Traced) else self.traced(array)).value


def _written(method: str, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """What a method that works in place changes: its first array. By the contract an optimizer
    leaves only the second, the gradient, as it is.
    """
    return (arrays[0], *(arrays[2:] if method.endswith("_step") else ()))


def _memory(given: Any, plain: Any) -> dict[int, Any]:
    """What a method was given to write to, an array or some of a tuple, by plain identity."""
    pairs = zip(given, plain, strict=True) if isinstance(given, tuple) else [(given, plain)]
    return {id(own): argument for argument, own in pairs if argument is not None}


def _is_traced(x: Any) -> bool:
    return isinstance(x, Traced)


def _plain(x: Traced) -> Array:
    return x.array


def _arrays(plain: Any) -> Iterator[np.ndarray]:
    """The arrays among arguments, in the order of `values_in`."""
    for x in plain:
        if isinstance(x, np.ndarray):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _arrays(x)


def _line() -> str:
    """Where the step's own text is: the innermost line outside of minidl and its backends."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
