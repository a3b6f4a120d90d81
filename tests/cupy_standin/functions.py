"""The module that stands for `cupy`: NumPy's functions under CuPy's names and rules."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from .capture import captured
from .gpu import RawModule, cuda
from .ndarray import SYNCS, ndarray, unwrap, wrap
from .spec import VERSION, check_call, check_loop, exists, is_ufunc, takes_array_first

# These bring host values to the device; all others refuse host arrays.
TRANSFERS = frozenset({"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"})
# The size of the result depends on values, so the host has to wait for it.
DATA_DEPENDENT = frozenset({"nonzero", "flatnonzero", "argwhere", "unique", "extract"})
# CuPy implements `at` for these only.
SCATTERS = frozenset({"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or"})
# What new memory holds, by kind of dtype: values that spoil a result that they get into.
POISON = {"f": np.nan, "c": np.nan, "b": True, "i": 77, "u": 77}


def _plain(x: Any, transfer: bool) -> Any:
    """An argument as NumPy's function takes it."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, (list, tuple)):
        return type(x)(_plain(item, transfer) for item in x)
    if isinstance(x, np.ndarray) and not transfer:
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def _wrapped(result: Any) -> Any:
    """Results as CuPy gives them: 0-d arrays instead of scalars."""
    if isinstance(result, (np.ndarray, np.generic)):
        return wrap(result)
    if isinstance(result, (list, tuple)):
        return type(result)(map(_wrapped, result))
    return result


class Ufunc:
    """Elementwise functions take arrays of the stand-in and scalars, nothing else."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._function = getattr(np, name)

    @captured
    def __call__(self, *args: Any, **options: Any) -> Any:
        name = self.__name__
        if options:
            check_call(name, args, options)
        out = options.get("out")
        if out is not None:
            options["out"] = unwrap(out)
        plain = [unwrap(a) for a in args]
        with np.errstate(all="ignore"):
            result = self._function(*plain, **options)
        if isinstance(result, tuple):
            return tuple(map(wrap, result))
        self._check_dtypes(plain, result)
        return wrap(result) if out is None else out

    def _check_dtypes(self, plain: list[Any], result: Any) -> None:
        arrays = [a for a in plain if isinstance(a, (np.ndarray, np.generic))]
        if len(arrays) == len(plain) and is_ufunc(self.__name__):  # Python scalars adapt to arrays
            check_loop(self.__name__, tuple(a.dtype.char for a in arrays), result.dtype.char)

    @captured
    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in SCATTERS:
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet")
        self._function.at(unwrap(a), _plain(indices, transfer=False), unwrap(b))


def _function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    transfer = name in TRANSFERS
    needs_array = not transfer and takes_array_first(name)

    @captured
    def call(*args: Any, **options: Any) -> Any:
        check_call(name, args, options)
        if needs_array and args and not isinstance(args[0], ndarray):
            raise TypeError(f"cupy.{name} of a {type(args[0]).__name__}")
        if name in DATA_DEPENDENT or (name == "where" and len(args) == 1):
            SYNCS.append(name)
        plain = [_plain(a, transfer) for a in args]
        named = {key: _plain(value, transfer) for key, value in options.items()}
        with np.errstate(all="ignore"):
            result = function(*plain, **named)
        out = options.get("out")
        return out if out is not None else _wrapped(result)

    call.__name__ = name
    return call


def _poisoned(values: np.ndarray) -> np.ndarray:
    """Memory as an allocator gives it: reading it before writing must show."""
    values.fill(POISON[values.dtype.kind])
    return values


@captured
def _empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return wrap(_poisoned(np.empty(shape, dtype, order)))  # type: ignore[call-overload]


@captured
def _empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    values = np.empty_like(unwrap(prototype), dtype, order, shape=shape)  # type: ignore[call-overload]
    return wrap(_poisoned(values))


@captured
def _ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """Unlike NumPy's, CuPy's leaves a 0-d array 0-d."""
    return wrap(np.asarray(_plain(a, transfer=True), dtype, order="C"))


@captured
def _asarray(a: Any, dtype: Any = None, order: Any = None, *, blocking: bool = False) -> ndarray:
    """Values from the host are copied: later changes there do not reach the device."""
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return wrap(np.array(_plain(a, transfer=True), dtype, order=order or "K"))


def _asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    return a.get(order=order) if isinstance(a, ndarray) else np.asarray(a)


@captured
def _argsort(a: ndarray, axis: int | None = -1, kind: str | None = None) -> ndarray:
    """Always stable; no other kind is accepted."""
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    return wrap(np.argsort(unwrap(a), axis=axis, kind="stable"))


@captured
def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return wrap(np.lib.stride_tricks.as_strided(unwrap(x), shape, strides))


class Module(types.ModuleType):
    """Attributes appear when they are asked for, if the real CuPy has them."""

    def __getattr__(self, name: str) -> Any:
        if not exists(name):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        value = getattr(np, name, None)
        if value is None:
            raise NotImplementedError(f"the stand-in does not have cupy.{name}, which exists")
        if is_ufunc(name) or name == "matmul":
            value = Ufunc(name)
        elif callable(value) and not isinstance(value, type):
            value = _function(name, value)
        setattr(self, name, value)
        return value


def _argmax(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.argmax(axis, dtype, out, keepdims)


def _argmin(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.argmin(axis, dtype, out, keepdims)


cupy = Module("cupy", "A strict stand-in for CuPy, on the CPU.")
cupy.__dict__.update(
    __version__=f"{VERSION} (stand-in on the CPU)",
    ndarray=ndarray,
    empty=_empty,
    empty_like=_empty_like,
    ascontiguousarray=_ascontiguousarray,
    asarray=_asarray,
    asnumpy=_asnumpy,
    argmax=_argmax,
    argmin=_argmin,
    argsort=_argsort,
    RawModule=RawModule,
    cuda=cuda,
    lib=types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_as_strided)),
)


@captured
def erf(x: ndarray) -> ndarray:
    """cupyx.scipy.special.erf."""
    values = unwrap(x)
    if values.dtype.char not in "efd":
        raise TypeError(f"erf has no loop for {values.dtype}")
    y = np.array([math.erf(v) for v in values.ravel().tolist()], values.dtype)
    return wrap(y.reshape(values.shape))
