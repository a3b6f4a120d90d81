"""The door: shapes, axes and settings are checked here, so that kernels can trust what they get."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.arguments import function as function
from ..engine.arguments import holds as holds
from ..engine.arguments import instance as instance
from ..engine.arguments import integer as integer
from ..engine.arguments import number as number
from ..engine.creation import from_numpy
from ..engine.graph import mismatch
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError

Pair = tuple[int, int]
_NUMBERS = (float, int, bool)


def operands(operation: str, *values: Any) -> list[Any]:
    """Tensors and Python numbers, one a Tensor: a NumPy scalar becomes a number, which widens no
    tensor, and a NumPy array a Tensor beside the first one. Raises: DTypeError.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors:
        kinds = " and ".join(type(v).__name__ for v in values)
        raise DTypeError(f"{operation}: needs a Tensor, got {kinds}; wrap one: minidl.tensor(x)")
    return [
        v if isinstance(v, Tensor) or type(v) is float else _operand(operation, v, tensors[0])
        for v in values
    ]


def _operand(operation: str, value: Any, like: Tensor) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) in _NUMBERS:
        return number(operation, "an operand", plain)
    if isinstance(value, np.ndarray):
        return from_numpy(value, like.backend)
    raise DTypeError(
        f"{operation}: needs tensors or numbers, got {type(value).__name__}; "
        "wrap it: minidl.tensor(x)"
    )


def held(operation: str, a: Any, b: Any) -> None:
    """A Python integer must fit an integer Tensor that it meets. Raises: ArgumentError."""
    for x, v in ((a, b), (b, a)):
        if type(v) is int and isinstance(x, Tensor):
            holds(operation, x.dtype, v)


def tensors(operation: str, **named: Any) -> None:
    """Each named argument must be a Tensor. Raises: DTypeError."""
    for name, x in named.items():
        if not isinstance(x, Tensor):
            instance(operation, name, x, Tensor, "; wrap it: minidl.tensor(x)")


def floating(operation: str, **named: Any) -> None:
    """Each named argument must be a Tensor of a floating dtype. Raises: DTypeError."""
    for name, x in named.items():
        if not isinstance(x, Tensor):
            tensors(operation, **{name: x})
        if x.data.dtype.kind != "f":
            raise DTypeError(
                f"{operation}: {name} must be floating, got {x.dtype}; use .astype('float32')"
            )


def same_dtype(operation: str, x: Tensor, **others: Tensor | None) -> None:
    """A fused kernel works in one dtype. Raises: DTypeError."""
    dtype = x.data.dtype
    for name, other in others.items():
        if other is not None and other.data.dtype != dtype:
            raise DTypeError(
                f"{operation}: x is {x.dtype}, but {name} is {other.dtype}; "
                f"convert one: .astype('{x.dtype}')"
            )


def layer(operation: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """A fused layer works on Tensors of one floating dtype. Raises: DTypeError."""
    dtypes = [t.data.dtype for t in (x, weight, bias) if isinstance(t, Tensor)]
    given = 2 if bias is None else 3
    if len(dtypes) == given and dtypes[0].kind == "f" and dtypes.count(dtypes[0]) == given:
        return
    floating(operation, x=x, weight=weight)
    tensors(operation, **({} if bias is None else {"bias": bias}))
    same_dtype(operation, x, weight=weight, bias=bias)


def same_backend(operation: str, x: Tensor, *others: Tensor | None) -> None:
    """For tensors that no recorded operation takes. Raises: BackendMismatch."""
    for other in others:
        if other is not None and other.backend is not x.backend:
            raise mismatch(operation, x.backend.name, other.backend.name)


def integers(operation: str, name: str, x: Any) -> None:
    """x must be an integer Tensor. Raises: DTypeError."""
    if not isinstance(x, Tensor):
        tensors(operation, **{name: x})
    if x.data.dtype.kind not in "iu":
        raise DTypeError(f"{operation}: {name} must hold integers, got {x.dtype}; .astype('int64')")


def in_range(operation: str, name: str, index: Tensor, low: int, high: int) -> tuple[float, float]:
    """Every element of index must lie in [low, high); returns its bounds. Raises: IndexRangeError.

    On a GPU this waits for the device; a training step has no synchronisation of another kind.
    """
    if index.size == 0:
        return low, low
    smallest, largest = index.backend.bounds(index.data)
    if smallest < low or largest >= high:
        wrong = smallest if smallest < low else largest
        raise IndexRangeError(
            f"{operation}: {name} contains {int(wrong)}, allowed are {low} to {high - 1}"
        )
    return smallest, largest


def axis(operation: str, value: Any, ndim: int) -> int:
    """One axis, counted from 0. Raises: ShapeError."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not -ndim <= value < ndim:
        raise ShapeError(f"{operation}: axis {value!r} is not one of the {ndim} axes of the tensor")
    return int(value) % ndim


def axes(operation: str, value: Any, ndim: int) -> tuple[int, ...] | None:
    """None, or the given axes counted from 0, each at most once. Raises: ShapeError."""
    if value is None:
        return None
    found = tuple(
        axis(operation, v, ndim) for v in (value if isinstance(value, (tuple, list)) else (value,))
    )
    if len(set(found)) != len(found):
        raise ShapeError(f"{operation}: axis {value!r} names an axis twice")
    return found


def broadcast(operation: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the given ones broadcast to, as in NumPy. Raises: ShapeError."""
    result: list[int] = []
    for i in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {s[-i] for s in shapes if i <= len(s)} - {1}
        if len(sizes) > 1:
            listed = " and ".join(map(str, shapes))
            raise ShapeError(
                f"{operation}: shapes {listed} do not broadcast: lengths {sorted(sizes)} on "
                f"axis -{i}, where they must be equal or 1"
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(reversed(result))


def pair(operation: str, name: str, value: Any, low: int = 1) -> Pair:
    """An int or a pair of ints >= low, as a pair. Raises: ArgumentError."""
    both = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    try:
        first, second = (integer(operation, name, v, low) for v in both)
    except ValueError as error:  # ArgumentError is one; so is the wrong count
        raise ArgumentError(
            f"{operation}: {name} must be an integer >= {low} or two of them, got {value!r}"
        ) from error
    return first, second


def shape_is(operation: str, name: str, x: Tensor | None, expected: tuple[int, ...]) -> None:
    """x, if there is one, must be a Tensor of that shape. Raises: ShapeError, DTypeError."""
    if x is not None:
        if not isinstance(x, Tensor):
            tensors(operation, **{name: x})
        if x.data.shape != expected:
            raise ShapeError(f"{operation}: {name} must have shape {expected}, got {x.shape}")


def choice(operation: str, name: str, value: str, options: tuple[str, ...]) -> None:
    """value must be one of options. Raises: ArgumentError."""
    if not isinstance(value, str) or value not in options:
        raise ArgumentError(
            f"{operation}: {name} must be one of {', '.join(options)}, got {value!r}"
        )


def native_index(x: Tensor, index: Any) -> Any:
    """index with every Tensor, list and array in it native to x's backend, and in range.

    Raises: IndexRangeError for a position outside its axis; DTypeError for a float index;
    ShapeError for too many indices or a mask of the wrong shape.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    if sum(item is Ellipsis for item in items) > 1:
        raise ShapeError("getitem: an index has at most one ellipsis (...), got more than one")
    used = sum(_consumes(item) for item in items)
    if used > x.ndim:
        raise ShapeError(
            f"getitem: {used} indices for a tensor with {x.ndim} axes (shape {x.shape})"
        )
    at = 0
    for i, item in enumerate(items):
        if item is Ellipsis:
            at += x.ndim - used
        elif item is not None:
            taken = _consumes(item)
            if isinstance(item, slice):
                _whole(item)
            else:
                items[i] = _native(x, item, at, x.shape[at : at + taken])
            at += taken
    _arrays_broadcast(x, [item for item in items if x.backend.is_array(item)])
    return tuple(items) if isinstance(index, tuple) else items[0]


def _whole(part: slice) -> None:
    try:
        part.indices(0)
    except (TypeError, ValueError) as error:
        raise DTypeError(
            f"getitem: a slice has integers and a step other than 0, got {part}"
        ) from error


def _arrays_broadcast(x: Tensor, arrays: list[Any]) -> None:
    """Index arrays in several places must fit each other; a mask counts as its true positions."""
    if len(arrays) > 1:
        shapes = [
            (int(x.backend.to_numpy(a).sum()),) if is_mask(a) and a.ndim else tuple(a.shape)
            for a in arrays
        ]
        broadcast("getitem", *shapes)


def _consumes(item: Any) -> int:
    """How many axes one item of an index refers to."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, list):
        item = _host(item)
    return len(getattr(item, "shape", ())) if is_mask(item) else 1


def _host(item: Any) -> np.ndarray:
    """A list of numbers or booleans as an array; an empty one selects nothing."""
    try:
        return np.asarray(item, dtype=np.int64 if item == [] else None)
    except ValueError as error:
        raise DTypeError("getitem: an index list needs rows of equal length") from error


def is_mask(item: Any) -> bool:
    """Whether item is a bool, or an array or Tensor of them."""
    return isinstance(item, bool) or getattr(item, "dtype", None) == np.bool_


def _native(x: Tensor, item: Any, at: int, lengths: tuple[int, ...]) -> Any:
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        if not -lengths[0] <= item < lengths[0]:
            raise IndexRangeError(
                f"getitem: index {item} is outside axis {at} of length {lengths[0]}"
            )
        return int(item)
    if isinstance(item, (list, range, bool)):
        item = _host(item)
    if isinstance(item, Tensor):
        if item.backend is not x.backend:
            item = item.to(x.backend)
        item = item.data
    if not x.backend.is_array(item) and not isinstance(item, (np.ndarray, np.generic)):
        raise DTypeError(f"getitem: cannot index with {type(item).__name__}")
    if item.dtype.kind not in "biu":
        raise DTypeError(f"getitem: an index must hold integers or booleans, got {item.dtype}")
    native = x.backend.copy(
        x.backend.asarray(item)
    )  # the graph keeps it: the caller may change his
    if is_mask(native):
        if native.shape != lengths:
            raise ShapeError(
                f"getitem: a mask of shape {native.shape} on axes of lengths {lengths}"
            )
        return native
    in_range(
        "getitem", f"the index for axis {at}", Tensor(native, x.backend), -lengths[0], lengths[0]
    )
    return native


def signed(function: str, *operands: Any) -> None:
    """Raise DTypeError if there is nothing but masks."""
    if all(map(is_mask, operands)):
        raise DTypeError(f"{function}: masks have no sign; use ~x, a != b, or .astype('int64')")
