"""Pieces of kernels that are compiled once, on their own, and called by name.

What an intrinsic emits becomes part of every kernel that uses it, and Numba compiles a parallel
kernel five times over: with a dozen unrolled loops for as many heights of a tile, that took 20 s
for one convolution. A piece is compiled alone (and kept on disk) instead. Kernels hold a call to
its symbol, which costs 2 ns, so they are small, and the symbol must be known before they are
loaded: `kernel(calls=[...])` names the pieces that a kernel calls.

`tasks` does the same for whole loop bodies: all that its parallel form holds is a loop of calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any
from zlib import crc32

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils as cgutils_untyped

from .jit import REASSOCIATE, RUNNING, VERSION, Kernel, compile_c, config, numba

cgutils: Any = cgutils_untyped
intrinsic: Any = extending.intrinsic
types: Any = numba.types

_FIXED = {"n": types.intp, "flag": types.boolean}
_ARRAYS = {"bytes": types.uint8, "sums": types.int32, "taps": types.int32, "table": types.int64}
_BYTE = ir.IntType(8)


class Piece:
    """An intrinsic that can be compiled alone, for each dtype of its "real" arrays.

    kinds, one per parameter: "n" an integer, "flag" a boolean, "real" an array of float32 or
    float64, and arrays of one dtype: "bytes", "sums", "taps" (int32), "table" (int64).
    """

    def __init__(self, emit: Callable[..., Any], name: str, kinds: tuple[str, ...]) -> None:
        self.emit, self.name, self.kinds = emit, name, kinds
        self.compiled: dict[str, Any] = {}  # kept, so that the addresses stay valid

    def symbol(self, dtype: str) -> str:
        return f"minidl_{self.name}_{dtype}_{VERSION:08x}"

    def prepare(self, dtype: str) -> None:
        """Compile it, or load it from the cache, and tell LLVM where it is."""
        if dtype in self.compiled or (dtype == "none") == ("real" in self.kinds):
            return
        real = types.float32 if dtype == "float32" else types.float64
        names = [f"x{i}" for i in range(len(self.kinds))]
        kinds = [_FIXED.get(kind) or types.CPointer(_ARRAYS.get(kind, real)) for kind in self.kinds]
        given = [
            name if kind in _FIXED else f"carray({name}, (1,))"
            for name, kind in zip(names, self.kinds, strict=True)
        ]
        text = f"def {self.name}({', '.join(names)}):\n    emit({', '.join(given)})\n"
        space: dict[str, Any] = {"emit": intrinsic(self.emit), "carray": numba.carray}
        exec(compile(text, __file__, "exec"), space)  # a file that exists: the cache asks for it
        function = space[self.name]
        assert isinstance(function, FunctionType)
        function.__module__ = __name__
        function.__qualname__ = self.symbol(dtype)
        built = self.compiled[dtype] = compile_c(function, types.void(*kinds))
        llvmlite.binding.add_symbol(self.symbol(dtype), built.address)


def prepare(pieces: Iterable[Any], arguments: tuple[Any, ...]) -> None:
    """Have the pieces ready that a kernel calls when it is given these arguments."""
    floats = (a.dtype.name for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f")
    dtype = next(floats, "float32")  # bytes are moved as numbers of 32 bits
    for piece in map(PIECES.__getitem__, pieces):
        piece.prepare(dtype if "real" in piece.kinds else "none")


class Tasks(Kernel):
    """A kernel whose body is one task, `body(*arguments, part)`, compiled once for both forms.

    Its parallel form runs the parts on Numba's threads, its serial form one after another; both
    are called with the number of parts first. Arguments are passed by address.
    """

    def __init__(
        self, body: Callable[..., Any], fastmath: Any, calls: Sequence[Any], alike: bool
    ) -> None:
        assert isinstance(body, FunctionType)
        self.body, self.fastmath, self.alike = body, fastmath, alike
        self.names = list(inspect.signature(body).parameters)[:-1]
        self.symbols: dict[str, Any] = {}
        # What is cached belongs to this file for Numba, and would outlive a change of the body's.
        home = Path(body.__code__.co_filename)
        text = home.read_bytes() if home.exists() else body.__code__.co_code
        self.stamp = f"{crc32(text):08x}_{VERSION:08x}"
        listed = ", ".join(self.names)
        launcher = f"""def {body.__name__}(parts, {listed}):
    for part in prange(parts):
        task({listed}, part)
"""
        task = body if config.DISABLE_JIT else intrinsic(self._caller(listed))
        space = {"task": task, "prange": numba.prange}
        exec(compile(launcher, __file__, "exec"), space)
        launch = space[body.__name__]
        launch.__module__, launch.__doc__ = body.__module__, body.__doc__
        launch.__qualname__ = f"{body.__module__}.{body.__qualname__}.{self.stamp}"
        super().__init__(launch, fastmath, calls)
        self.outlined = True

    def prepare(self, arguments: tuple[Any, ...]) -> None:
        """Compile the body for arguments of these dtypes, the first time."""
        RUNNING.kernel = self
        key: Any = arguments[1].dtype
        if not self.alike:
            key = tuple(getattr(argument, "dtype", None) for argument in arguments)
        if key in self.ready or config.DISABLE_JIT:
            return
        prepare(self.calls, arguments)
        kinds = [numba.typeof(argument) for argument in arguments[1:]]
        symbol = self._symbol(kinds)
        if symbol not in self.symbols:
            self._build(symbol, kinds)
        self.ready.add(key)

    def _symbol(self, kinds: Sequence[Any]) -> str:
        return f"minidl_{self.body.__name__}_{crc32(repr(kinds).encode()):08x}_{self.stamp}"

    def _build(self, symbol: str, kinds: list[Any]) -> None:
        addresses = [f"a{i}" for i in range(len(kinds))]
        values = [f"load{i}(a{i})" for i in range(len(kinds))]
        text = f"""def {self.body.__name__}({", ".join(addresses)}, part):
    body({", ".join(values)}, part)
"""
        space: dict[str, Any] = {"body": numba.njit(inline="always")(self.body)}
        space |= {f"load{i}": _loader(kind) for i, kind in enumerate(kinds)}
        exec(compile(text, __file__, "exec"), space)
        function = space[self.body.__name__]
        function.__module__, function.__qualname__ = self.body.__module__, symbol
        pointers = [types.voidptr] * len(kinds)
        built = self.symbols[symbol] = compile_c(
            function, types.void(*pointers, types.intp), fastmath=self.fastmath
        )
        llvmlite.binding.add_symbol(symbol, built.address)

    def _caller(self, listed: str) -> Any:
        """The function behind an intrinsic that calls the body: one parameter per argument."""
        space: dict[str, Any] = {"resolve": self._resolve}
        exec(f"def task(typing, {listed}, part):\n    return resolve([{listed}])\n", space)
        return space["task"]

    def _resolve(self, kinds: list[Any]) -> tuple[Any, Any]:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = _BYTE.as_pointer()
            places = [
                builder.bitcast(cgutils.alloca_once_value(builder, value), pointer)
                for value in values[:-1]
            ]
            kind = ir.FunctionType(ir.VoidType(), [pointer] * len(places) + [values[-1].type])
            symbol = self._symbol(kinds)
            assert symbol in self.symbols, f"{self.name}: not alike, say tasks(alike=False)"
            function = cgutils.get_or_insert_function(builder.module, kind, symbol)
            builder.call(function, [*places, values[-1]])
            return context.get_dummy_value()

        return types.void(*kinds, types.intp), emit


def _loader(kind: Any) -> Any:
    """An intrinsic that reads a value of a Numba type at an address."""

    def load(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.bitcast(arguments[0], context.get_value_type(kind).as_pointer())
            value = builder.load(place)
            context.nrt.incref(builder, kind, value)  # the caller keeps its own reference
            return value

        return kind(types.voidptr), emit

    return intrinsic(load)


def tasks(
    *, calls: Sequence[Any] = (), exact: bool = False, alike: bool = True
) -> Callable[[Callable[..., Any]], Tasks]:
    """Make a kernel of the body of its loop, whose last parameter is the number of the part.

    alike: the dtype of the first argument, an array, tells those of all others. For exact see
    `jit.kernel`.

    >>> import numpy as np
    >>> @tasks()
    ... def double(x, part):
    ...     x[part] *= 2
    >>> x = np.arange(3.0)
    >>> double(3, x)
    >>> x
    array([0., 2., 4.])
    """
    return lambda body: Tasks(body, False if exact else REASSOCIATE, calls, alike)


PIECES: dict[Any, Piece] = {}  # by the intrinsic that calls it


def outlined(*kinds: str, name: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function as `numba.extending.intrinsic` does, but of a Piece."""

    def make(emit: Callable[..., Any]) -> Any:
        piece = Piece(emit, name or emit.__name__, kinds)
        assert len(inspect.signature(emit).parameters) == len(kinds) + 1

        @wraps(emit)
        def call(typing: Any, *parameters: Any) -> Any:
            signature, _ = emit(typing, *parameters)
            return signature, piece_call

        def piece_call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            assert made in RUNNING.kernel.calls, f"kernel(calls=[{piece.name}, ...])"
            dtype, values = "none", []
            for kind, given, value in zip(kinds, signature.args, arguments, strict=True):
                if kind == "n":
                    values.append(value)
                elif kind == "flag":
                    values.append(builder.zext(value, _BYTE))
                else:
                    dtype = f"float{given.dtype.bitwidth}" if kind == "real" else dtype
                    start = context.make_array(given)(context, builder, value).data
                    values.append(builder.bitcast(start, _BYTE.as_pointer()))
            assert dtype in piece.compiled, f"{piece.name} for {dtype} is not ready"
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [value.type for value in values]),
                piece.symbol(dtype),
            )
            builder.call(function, values)
            return context.get_dummy_value()

        made = intrinsic(call)
        PIECES[made] = piece
        return made

    return make
