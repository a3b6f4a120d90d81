"""Which kernels a method launches, found out by running it: so that a program can launch them.

A method of this backend does little itself: it takes memory for results and for what its kernels
need on the way, looks up tables that follow from shapes, and launches. So it is run on arrays of
random numbers, and each array that a kernel was given is recognised by its address:

- a part of an argument or a result of the method: a value of the program (constants take part
  as they are);
- a part of what was taken from `memory.empty`: scratch, which gets a place in the arena;
- anything else: a table, which must be the same for other random numbers.

Then the launches are done once more, on memory full of rubbish, and the results must be those of
the method, bit for bit. A method that computes something in Python on the way does not pass, and
stays a call from Python.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..interface import Array
from ..numpy_backend.lowering import aligned, view
from ..program import Call, Number, Step, Value, replaced
from . import memory, native
from .formulas import KINDS
from .jit import Kernel

RUBBISH = 0xCD
# Below which number indices must be, given the call's arguments; with others it could not be run.
INDICES: dict[str, Callable[..., int]] = {
    "cross_entropy": lambda logits, *_: logits.shape[1],
    "embedding_grad": lambda grad, index, rows: rows,
    "max_pool2d_grad": lambda grad, index, shape: shape[2] * shape[3],
    **dict.fromkeys(("rnn", "lstm", "gru"), lambda x, *_: x.shape[0] + 1),
}
# Arguments that must be finite, or the method does something else.
FINITE = {"conv2d_input_grad": 1}
# What kernels are told of a seed and a counter, which are new in each run.
WORDS: dict[str, Callable[[int, int], int]] = {
    "{0}": lambda seed, counter: seed,
    "{1} % 2**64": lambda seed, counter: counter % 2**64,
    "{1} >> 64": lambda seed, counter: counter >> 64,
}
_watching = threading.Lock()


class Place(NamedTuple):
    """An array `offset` bytes from the first element of a value, or of scratch by its number."""

    owner: Value | int
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Word(NamedTuple):
    """One of WORDS."""

    expression: str


class Launch(NamedTuple):
    """A kernel by its name, its form, and its arguments, with Places and Words among them."""

    kernel: str
    form: str
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Launched(Step):
    """A call that is nothing but launches, with memory for what lies between them."""

    launches: list[Launch] = field(default_factory=list)
    scratch: list[Value] = field(default_factory=list)

    def values(self) -> list[Value]:
        return [*super().values(), *self.scratch]


class _OtherError(Exception):
    """The method does something besides launching kernels."""


def launched(call: Call, method: Callable[..., Any]) -> Launched | None:
    """What a program can do in place of this call, if that is launching kernels only."""
    new = all(v.base is None for v in call.results) and set(call.writes) <= set(call.results)
    if not call.results or not new or not all(_drawn(v, call.method) for v in call.reads):
        return None
    try:
        first, second = _Run(call, method, 0), _Run(call, method, 1)
        if _same(first.noted, second.noted) and first.noted:
            step = Launched([call], "native", first.noted, first.scratch)
            return step if _repeats(step, method) else None
    except _OtherError:
        pass
    return None


def _drawn(value: Value, method: str) -> bool:
    """Whether random numbers can stand for a value: any do as numbers and as codes, but indices
    must be in range. What is constant stands for itself.
    """
    codes = value.dtype.itemsize == 1 and (method.startswith("int8_") or method == "dequantize")
    indices = value.dtype.kind in "iu" and value.root.kind != "constant"
    return codes or not indices or method in INDICES


class _Run:
    """One run of the method on random numbers, and what it was seen to do."""

    def __init__(self, call: Call, method: Callable[..., Any], seed: int) -> None:
        arrays, arguments, self.words = _given(call, seed)
        result, noted, taken = _watched(method, arguments)
        arrays |= zip(call.results, _parts(result, call), strict=True)
        self.spans: list[tuple[Value | int, int, int]] = [
            (v, _address(x), v.span) for v, x in arrays.items()
        ]
        starts = {start for _, start, _ in self.spans}
        between = [x for x in taken if _address(x) not in starts]
        self.spans += [(i, _address(x), x.nbytes) for i, x in enumerate(between)]
        self.scratch = [Value((x.nbytes,), np.dtype(np.uint8), (1,)) for x in between]
        self.noted = [Launch(_name(k), form, self.described(given)) for k, form, given in noted]

    def described(self, argument: Any) -> Any:
        """An argument of a kernel with Places and Words in it."""
        if isinstance(argument, np.ndarray):
            return self.place(argument)
        if isinstance(argument, tuple):
            items = [self.described(item) for item in argument]
            return argument._make(items) if hasattr(argument, "_make") else tuple(items)
        if isinstance(argument, np.uint64) and int(argument) in self.words:
            return Word(self.words[int(argument)])
        if isinstance(argument, (bool, int, float, np.generic)) and np.isfinite(argument):
            return argument
        raise _OtherError

    def place(self, x: Array) -> Place | Array:
        """Where an array is, or the array itself if it is a table."""
        if not x.flags.carray or x.dtype not in KINDS:
            raise _OtherError
        for owner, start, size in self.spans if x.size else ():
            if start <= _address(x) < start + size:
                return Place(owner, _address(x) - start, x.shape, x.dtype)
        return x


def _watched(
    method: Callable[..., Any], arguments: list[Any]
) -> tuple[Any, list[Any], list[Array]]:
    """The method's result, the launches that it made, and the memory that it took."""
    noted: list[Any] = []
    taken: list[Array] = []
    run, thread = Kernel._run, threading.get_ident()

    def watched(kernel: Kernel, form: str, given: tuple[Any, ...]) -> Any:
        if threading.get_ident() == thread:
            noted.append((kernel, form.lstrip("_"), given))
        return run(kernel, form, given)

    with _watching:
        memory.taken.append(taken)
        Kernel._run = watched  # type: ignore[assignment, method-assign]
        try:
            result = method(*arguments)
        finally:
            Kernel._run = run  # type: ignore[method-assign]
            memory.taken.pop()
    return result, noted, taken


def _repeats(step: Launched, method: Callable[..., Any]) -> bool:
    """Whether the launches alone make what the method makes."""
    (call,) = step.calls
    arrays, arguments, words = _given(call, 2)
    expected = _parts(method(*arguments), call)
    owners: dict[Any, Array] = {**arrays}
    owners |= {v: _memory(v, RUBBISH) for v in call.results}
    owners |= {i: _memory(v, RUBBISH) for i, v in enumerate(step.scratch)}
    values = {expression: word for word, expression in words.items()}

    def real(argument: Any) -> Any:
        if isinstance(argument, Place):
            _, offset, shape, dtype = argument
            return view(owners[argument.owner], offset, shape, dtype, strides(shape, dtype))
        if isinstance(argument, Word):
            return np.uint64(values[argument.expression])
        if isinstance(argument, tuple):
            items = [real(item) for item in argument]
            return argument._make(items) if hasattr(argument, "_make") else tuple(items)
        return argument

    for launch in step.launches:
        kernel = native.known(launch.kernel)
        run = kernel if launch.form == "parallel" else kernel.serial
        run(*map(real, launch.arguments))
    pairs = zip(expected, call.results, strict=True)
    return all(x.tobytes() == owners[v].tobytes() for x, v in pairs)


def _given(call: Call, seed: int) -> tuple[dict[Value, Array], list[Any], dict[int, str]]:
    """Random arrays for the values that a call reads, its arguments with these in them, and what
    in kernels' arguments comes from the numbers that are new in each run.
    """
    random = np.random.default_rng(seed)
    numbers = [a for a in call.arguments if isinstance(a, Number)]
    seed, low, high = map(int, random.integers(2**62, 2**63, 3))
    drawn = seed, low + (high << 64)
    if len(numbers) not in (0, 2):
        raise _OtherError
    below = INDICES[call.method](*call.arguments) if call.method in INDICES else 0
    arrays: dict[Value, Array] = {v: _random(v, random, below) for v in call.reads}
    own: dict[Any, Any] = arrays | dict(zip(numbers, drawn, strict=False))
    arguments = [
        replaced(a, lambda item: isinstance(item, (Value, Number)), own.__getitem__)
        for a in call.arguments
    ]
    words = {word(*drawn): expression for expression, word in WORDS.items()} if numbers else {}
    return arrays, arguments, words


def _random(value: Value, random: np.random.Generator, below: int) -> Array:
    if value.root.kind == "constant" and value.dtype in KINDS:
        return view(value.root.array, value.offset, value.shape, value.dtype, value.strides)
    x = _memory(value)
    if value.dtype.kind == "f":
        x[...] = random.standard_normal(value.shape, np.float32)
    elif value.dtype.kind in "iu":
        low, high = (0, below) if below else (np.iinfo(value.dtype).min, np.iinfo(value.dtype).max)
        x[...] = random.integers(low, high, value.shape, endpoint=not below)
    else:
        x[...] = random.random(value.shape) < 0.5
    return x


def _memory(value: Value, content: int = 0) -> Array:
    """An array that lies in memory as a value does."""
    if any(s < 0 for s in value.strides) or not value.size or value.dtype not in KINDS:
        raise _OtherError
    memory = aligned(value.span)
    memory.fill(content)
    return view(memory, 0, value.shape, value.dtype, value.strides)


def _parts(result: Any, call: Call) -> Sequence[Array]:
    """The arrays of a result; they must lie in memory as they did when they were recorded."""
    parts = result if isinstance(result, tuple) else (result,)
    known = [(v.shape, v.dtype, v.strides) for v in call.results]
    if [(x.shape, x.dtype, x.strides) for x in parts] != known:
        raise _OtherError
    return parts


def _name(kernel: Kernel) -> str:
    """As `native.known` takes it."""
    name = f"{kernel.file}.{kernel.name}"
    try:
        found = native.known(name)
    except (ImportError, AttributeError):
        raise _OtherError from None
    if found is not kernel:
        raise _OtherError
    return name


def _address(x: Array) -> int:
    address: int = x.ctypes.data
    return address


def strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Of an array in C order.

    >>> strides((2, 3), np.dtype("float32"))
    (12, 4)
    """
    return tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))


def _same(a: Any, b: Any) -> bool:
    """Whether two descriptions are the same, tables element by element."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
