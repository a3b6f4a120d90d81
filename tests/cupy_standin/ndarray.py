"""The stand-in's array: NumPy's values behind CuPy's manners.

A host array cannot be mixed in, NumPy cannot look inside, and each method that brings a value to
the host, for which a GPU would make the host wait, is written down in `SYNCS`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .capture import Syncs, captured
from .spec import check_call, methods

SYNCS = Syncs()  # one entry per transfer to the host since the process started

Scalar = (bool, int, float, np.generic)


@contextmanager
def counted_syncs() -> Iterator[list[str]]:
    """A list that holds, when the block has ended, the synchronisations that happened in it."""
    start, found = len(SYNCS), []  # type: ignore[var-annotated]
    try:
        yield found
    finally:
        found += SYNCS[start:]


def wrap(values: Any) -> ndarray:
    """An array of the stand-in over these values, without a copy."""
    values = np.asarray(values)
    if values.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {values.dtype}")
    array = object.__new__(ndarray)
    array._a = values
    if values.base is None:
        _wholes.setdefault(id(values), array)
    return array


def unwrap(x: Any) -> Any:
    """The values behind an array; scalars pass, host arrays and lists are refused as CuPy does."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, Scalar) or x is None:
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _index(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_index(k) for k in key)
    return key._a if isinstance(key, ndarray) else key


def _has_mask(key: Any) -> bool:
    keys = key if isinstance(key, tuple) else (key,)
    return any(isinstance(k, (ndarray, np.ndarray)) and k.dtype == bool for k in keys)


@dataclass(frozen=True)
class Flags:
    """The three flags that CuPy has."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool


@dataclass(frozen=True)
class Memory:
    """What `ndarray.data` offers: the address of the first element."""

    ptr: int


_wholes: WeakValueDictionary[int, ndarray] = WeakValueDictionary()


def _whole(view: np.ndarray) -> ndarray:
    """The array that owns a view's memory, the same object as long as somebody holds it."""
    while isinstance(view.base, np.ndarray):
        view = view.base
    found = _wholes.get(id(view))
    return wrap(view) if found is None else found


class ndarray:  # noqa: N801 (CuPy's name)
    """See the module's docstring. Made by `wrap` and by the functions of the stand-in."""

    __slots__ = ("__weakref__", "_a")
    __hash__ = None  # type: ignore[assignment]
    _a: np.ndarray

    def __init__(self, *args: Any, **options: Any) -> None:
        raise TypeError("make arrays with cupy.empty or cupy.asarray")

    # -- what the host knows without asking ----------------------------------------------------
    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    T = property(lambda self: wrap(self._a.T))
    mT = property(lambda self: wrap(self._a.mT))  # noqa: N815
    base = property(lambda self: None if self._a.base is None else _whole(self._a))
    data = property(lambda self: Memory(self._a.ctypes.data))

    @property
    def flags(self) -> Flags:
        found = self._a.flags
        return Flags(found.c_contiguous, found.f_contiguous, found.owndata)

    def __len__(self) -> int:
        return len(self._a)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self._a)))

    # -- transfers to the host -----------------------------------------------------------------
    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        SYNCS.append("get")
        return np.array(self._a, order=order)  # type: ignore[call-overload]

    def item(self) -> Any:
        SYNCS.append("item")
        return self._a.item()

    def tolist(self) -> Any:
        SYNCS.append("tolist")
        return self._a.tolist()

    def __float__(self) -> float:
        SYNCS.append("float")
        return float(self._a)

    def __int__(self) -> int:
        SYNCS.append("int")
        return int(self._a)

    def __bool__(self) -> bool:
        SYNCS.append("bool")
        return bool(self._a)

    def __index__(self) -> int:
        SYNCS.append("index")
        return operator.index(self._a)

    def __repr__(self) -> str:
        SYNCS.append("repr")
        return repr(self._a)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    # -- NumPy functions that meet one of these arrays are sent on to the stand-in ---------------
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from . import cupy

        if method != "__call__":
            return NotImplemented
        if options.get("out"):
            (options["out"],) = options["out"]
        return getattr(cupy, ufunc.__name__)(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        from . import cupy

        return getattr(cupy, function.__name__)(*args, **options)

    # -- elements ------------------------------------------------------------------------------
    @captured
    def __getitem__(self, key: Any) -> ndarray:
        if _has_mask(key):
            SYNCS.append("mask")  # the size of the result depends on values
        key = _index(key)
        found = self._a[key]
        if isinstance(found, np.generic):  # CuPy gives a 0-d view
            found = self._a[(*(key if isinstance(key, tuple) else (key,)), ...)]
        return wrap(found)

    @captured
    def __setitem__(self, key: Any, value: Any) -> None:
        if _has_mask(key) and getattr(value, "size", 1) != 1:
            SYNCS.append("mask")  # how many elements are to be taken depends on values
        with np.errstate(all="ignore"):
            self._a[_index(key)] = value if isinstance(value, np.ndarray) else unwrap(value)

    @captured
    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        if casting is not None or subok is not None:
            raise TypeError("CuPy does not support casting and subok")
        with np.errstate(all="ignore"):
            return wrap(self._a.astype(dtype, order=order, copy=copy))  # type: ignore[arg-type]

    @captured
    def copy(self, order: str = "C") -> ndarray:
        return wrap(self._a.copy(order))  # type: ignore[arg-type]

    @captured
    def view(self, dtype: Any = None) -> ndarray:
        return wrap(self._a.view(dtype))

    @captured
    def fill(self, value: Any) -> None:
        self._a.fill(unwrap(value))

    @captured
    def argmax(
        self, axis: int | None = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> ndarray:
        return _arg(self._a, np.argmax, axis, keepdims)

    @captured
    def argmin(
        self, axis: int | None = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> ndarray:
        return _arg(self._a, np.argmin, axis, keepdims)

    @captured
    def argsort(self, axis: int | None = -1) -> ndarray:
        """Always stable."""
        return wrap(self._a.argsort(axis=axis, kind="stable"))


def _arg(values: np.ndarray, find: Callable[..., Any], axis: int | None, keepdims: bool) -> ndarray:
    """Of several NaN CuPy's threads report any; here it is the last, which NumPy never reports."""
    found = find(values, axis=axis, keepdims=keepdims)
    if values.dtype.kind == "f":
        nan = np.isnan(values)
        length = values.size if axis is None else values.shape[axis]
        turned = np.flip(nan, axis)
        last = length - 1 - np.argmax(turned, axis=axis, keepdims=keepdims)
        found = np.where(nan.any(axis=axis, keepdims=keepdims), last, found)
    return wrap(found)


def _binary(name: str) -> Callable[[ndarray, Any], Any]:
    """An operator: new arrays for a + b, the same memory for a += b."""
    function = getattr(operator, name)

    @captured
    def apply(self: ndarray, other: Any) -> Any:
        with np.errstate(all="ignore"):
            result = function(self._a, unwrap(other))
        return self if result is self._a else wrap(result)

    return apply


def _reflected(name: str) -> Callable[[ndarray, Any], ndarray]:
    function = getattr(operator, name)

    @captured
    def apply(self: ndarray, other: Any) -> ndarray:
        with np.errstate(all="ignore"):
            return wrap(function(unwrap(other), self._a))

    return apply


def _unary(name: str) -> Callable[[ndarray], ndarray]:
    function = getattr(operator, name)
    return captured(lambda self: wrap(function(self._a)))


def _method(name: str) -> Callable[..., Any]:
    """A method that NumPy has under the same name, with the arguments that CuPy's has."""

    @captured
    def apply(self: ndarray, *args: Any, **options: Any) -> Any:
        check_call(f"ndarray.{name}", args, options)
        plain = [a if isinstance(a, tuple) else _dtype_or(a) for a in args]
        named = {k: v if k in ("axis", "shape") else _dtype_or(v) for k, v in options.items()}
        with np.errstate(all="ignore"):
            result = getattr(self._a, name)(*plain, **named)
        return options["out"] if options.get("out") is not None else wrap(result)

    return apply


def _dtype_or(argument: Any) -> Any:
    """dtypes are arguments like any other; everything else goes through `unwrap`."""
    is_type = isinstance(argument, (np.dtype, type, str))
    return argument if is_type else unwrap(argument)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(ndarray, f"__{_name}__", _binary(_name))
    setattr(ndarray, f"__r{_name}__", _reflected(_name))
    setattr(ndarray, f"__i{_name}__", _binary(f"i{_name}"))
for _name in ("and", "or", "xor", "lshift", "rshift"):
    _function = f"{_name}_" if _name in ("and", "or") else _name
    setattr(ndarray, f"__{_name}__", _binary(_function))
    setattr(ndarray, f"__r{_name}__", _reflected(_function))
    setattr(ndarray, f"__i{_name}__", _binary(f"i{_name}"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _binary(_name))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(_name))
for _name in methods():
    if _name not in vars(ndarray) and hasattr(np.ndarray, _name):
        setattr(ndarray, _name, _method(_name))
