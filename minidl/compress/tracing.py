"""Watch one run of a model: which operations ran, on what, in which module.

The engine's observer hook tells of each operation, hooks of the modules tell where it ran. `graph`
makes a Graph of two such runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np

from ..engine import random
from ..engine.function import Function, Version
from ..engine.modes import observe
from ..engine.tensor import Tensor
from ..errors import GraphError
from ..nn import LinearReLU, Module
from .models import in_use


@dataclass(eq=False)
class Seen:
    """A tensor that took part, and what it is: "input", "parameter", "buffer", "result", or
    "constant" for one that came from elsewhere.
    """

    kind: str
    tensor: Tensor
    path: str = ""
    index: int = -1  # in the order in which they took part


@dataclass(eq=False)
class Call:
    """One operation; of its inputs, tensors are Seen, numbers and None stand for themselves."""

    kind: type[Function]
    settings: dict[str, Any]
    inputs: tuple[Any, ...]
    output: Seen
    module: str


@dataclass
class Run:
    """All that one run of a model did."""

    inputs: list[Seen] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    result: Any = None  # of the model, with Seen in place of Tensors


def record(model: Module, example: tuple[Any, ...]) -> Run:
    """Run a model once, in eval mode and unrecorded. Raises: GraphError if it draws random numbers
    or changes a tensor in place, which a list of operations cannot repeat.
    """
    watcher = _Watcher(model, example)
    begin = Version.last
    with in_use(model), watcher.hooked(model), observe(watcher.operation):
        result = model(*example)
    for seen in watcher.run.seen:
        if seen.tensor.version.changed > begin:
            raise GraphError(
                f"trace: {type(model).__name__} changes a tensor of shape {seen.tensor.shape} in "
                "place, which a graph of operations cannot repeat; compute a new one instead"
            )
    watcher.run.result = mapped(result, watcher.known)
    return watcher.run


class _Watcher:
    """Takes notes of one run."""

    def __init__(self, model: Module, example: tuple[Any, ...]) -> None:
        self.run = Run()
        self.name, self.thread = type(model).__name__, threading.get_ident()
        self.inside: list[str] = []  # paths of the modules that are running, the innermost last
        self.tensors: dict[int, Seen] = {}
        self.versions: dict[int, list[Seen]] = {}  # who shares memory
        for named, kind in ((model.named_parameters, "parameter"), (model.named_buffers, "buffer")):
            for path, tensor in named():
                self.enter(Seen(kind, tensor, path))
        given: list[Tensor] = []
        mapped(example, given.append)
        entered = {id(x): self.take(Seen("input", x)) for x in {id(x): x for x in given}.values()}
        self.run.inputs = [entered[id(x)] for x in given]

    def enter(self, seen: Seen) -> Seen:
        self.tensors[id(seen.tensor)] = seen
        self.versions.setdefault(id(seen.tensor.version), []).append(seen)
        return seen

    def take(self, seen: Seen) -> Seen:
        """Let it take part; the first to come is numbered first."""
        if seen.index < 0:
            seen.index = len(self.run.seen)
            self.run.seen.append(seen)
        return self.enter(seen)

    def known(self, x: Tensor) -> Seen:
        """What a tensor is. The same values in the same memory are the same: x.detach() is x."""
        found = self.tensors.get(id(x))
        shared = () if found else self.versions.get(id(x.version), ())
        for other in shared:
            if found is None and same(other.tensor, x):
                found = other
        return self.take(found or Seen("constant", x))

    def operation(self, phase: str, function: Function, inputs: Any, result: Any) -> None:
        """Called by the engine after each operation."""
        if phase == "forward" and threading.get_ident() == self.thread:
            call = Call(
                type(function), settings_of(function),
                tuple(self.known(x) if isinstance(x, Tensor) else x for x in inputs),
                self.take(Seen("result", result)), self.inside[-1] if self.inside else "",
            )  # fmt: skip
            self.run.calls.append(call)

    def drawn(self, *reservation: Any) -> None:
        if threading.get_ident() == self.thread:
            raise GraphError(
                f"trace: {self.name} draws random numbers although it is in eval mode, so no two "
                "runs are alike; pass training=self.training to what draws them"
            )

    @contextmanager
    def hooked(self, model: Module) -> Iterator[None]:
        """Hear of modules that begin and end, and of random draws."""
        removes: list[Callable[[], None]] = []
        random.reserved.append(self.drawn)
        try:
            fused = {id(part) for m in model.modules() if _fused(m) for part in m.children()}
            for path, module in model.named_modules():
                if id(module) not in fused:  # a hook would part them
                    removes += self._hooks(path, module)
            yield
        finally:
            random.reserved.remove(self.drawn)
            for remove in removes:
                remove()

    def _hooks(self, path: str, module: Module) -> Iterator[Callable[[], None]]:
        yield module.register_forward_pre_hook(lambda m, args: self.inside.append(path))

        def leave(module: Module, args: Any, result: Any) -> None:
            self.inside.pop()

        yield module.register_forward_hook(leave)


def _fused(module: Module) -> bool:
    return isinstance(module, LinearReLU) and not any(
        m._hooks or m._pre_hooks for m in module.children()
    )


def settings_of(function: Function) -> dict[str, Any]:
    """What `__init__` stored, without what `forward` saved: `apply` sets the backend in between."""
    names = takewhile(lambda name: name != "backend", vars(function))
    return {name: vars(function)[name] for name in names}


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same bits under the same shape.

    >>> import minidl
    >>> same(minidl.ones(2), minidl.ones(2)), same(minidl.ones(2), minidl.ones(1))
    (True, False)
    """
    return (a.shape, a.dtype) == (b.shape, b.dtype) and a.numpy().tobytes() == b.numpy().tobytes()


def mapped(x: Any, new: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """A structure with each `kind` in it exchanged: in tuples, lists, slices and dicts.

    >>> mapped({"a": (1, None)}, lambda n: n + 1, int)
    {'a': (2, None)}
    """
    if isinstance(x, kind):
        return new(x)
    if isinstance(x, (tuple, list)):
        items = [mapped(item, new, kind) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, slice):
        return slice(*(mapped(end, new, kind) for end in (x.start, x.stop, x.step)))
    if isinstance(x, dict):
        return {key: mapped(item, new, kind) for key, item in x.items()}
    return x


def other_values(x: Tensor) -> Tensor:
    """A tensor like x with other values that are as valid: the same ones in another order, and
    floating ones halved.

    >>> import minidl
    >>> other_values(minidl.tensor([2.0, 4.0])).tolist()
    [2.0, 1.0]
    """
    flipped = x.numpy()[tuple(slice(None, None, -1) for _ in x.shape)]
    values = flipped * flipped.dtype.type(0.5) if flipped.dtype.kind == "f" else flipped
    return Tensor(x.backend.asarray(np.ascontiguousarray(values), x.dtype), x.backend)
