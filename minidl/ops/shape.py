"""The same elements in another order or shape, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..engine.apply import apply
from ..engine.creation import as_shape
from ..engine.function import Function
from ..engine.tensor import Axis, Tensor
from ..errors import ArgumentError, ShapeError
from . import check
from .indexing import getitem


class Reshape(Function):
    """The elements in C order under another shape."""

    view = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        self.before = x.shape
        return self.backend.reshape(x, self.shape)

    def backward(self, grad: Any) -> Any:
        return self.backend.reshape(grad, self.before)


def reshape(x: Tensor, shape: Any) -> Tensor:
    """The elements of x in C order under another shape; one length may be -1.

    Raises: ShapeError, ArgumentError.

    >>> from minidl import arange
    >>> reshape(arange(6), (2, -1)).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    check.tensors("reshape", x=x)
    wanted = list(shape) if isinstance(shape, (tuple, list, np.ndarray)) else [shape]
    if not all(isinstance(n, (int, np.integer)) for n in wanted):
        raise ArgumentError(f"reshape: a shape consists of integers, got {shape!r}")
    known = 1
    for n in wanted:
        known *= n if n != -1 else 1
    if wanted.count(-1) == 1 and min(wanted) == -1 and known > 0 and x.size % known == 0:
        wanted[wanted.index(-1)] = x.size // known
    elif known != x.size or min(wanted, default=0) < 0:
        raise ShapeError(
            f"reshape: {x.size} elements (shape {x.shape}) do not fill shape {tuple(wanted)}"
        )
    return apply(Reshape(tuple(wanted)), x)


def flatten(x: Tensor, start: int = 0) -> Tensor:
    """All axes from start on merged into one. Raises: ShapeError.

    >>> from minidl import zeros
    >>> flatten(zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    check.tensors("flatten", x=x)
    first = check.axis("flatten", start, x.ndim) if x.ndim else 0
    merged = 1
    for n in x.shape[first:]:
        merged *= n
    return apply(Reshape((*x.shape[:first], merged)), x)


def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Without the given axes of length 1 (all of them if None). Raises: ShapeError.

    >>> from minidl import zeros
    >>> squeeze(zeros((1, 2, 1))).shape
    (2,)
    """
    check.tensors("squeeze", x=x)
    chosen = check.axes("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in chosen or ()):
        raise ShapeError(f"squeeze: axis {axis} of shape {x.shape} is not of length 1")
    gone = chosen if chosen is not None else [i for i, n in enumerate(x.shape) if n == 1]
    return apply(Reshape(tuple(n for i, n in enumerate(x.shape) if i not in gone)), x)


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """With a new axis of length 1 before position axis. Raises: ShapeError.

    >>> from minidl import zeros
    >>> unsqueeze(zeros(2), 0).shape, unsqueeze(zeros(2), -1).shape
    ((1, 2), (2, 1))
    """
    check.tensors("unsqueeze", x=x)
    at = check.axis("unsqueeze", axis, x.ndim + 1)
    return apply(Reshape((*x.shape[:at], 1, *x.shape[at:])), x)


class Transpose(Function):
    """Axes in another order; backward uses the inverse permutation."""

    view = True

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return self.backend.transpose(x, self.axes)

    def backward(self, grad: Any) -> Any:
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return self.backend.transpose(grad, tuple(inverse))


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Axes in another order, as in NumPy (PyTorch's `permute`); reversed if None. Raises:
    ShapeError.

    >>> from minidl import zeros
    >>> transpose(zeros((2, 3, 4)), (1, 0, 2)).shape
    (3, 2, 4)
    """
    check.tensors("transpose", x=x)
    if axes is None:
        return apply(Transpose(tuple(reversed(range(x.ndim)))), x)
    named = tuple(axes) if isinstance(axes, Iterable) else axes
    order = check.axes("transpose", named, x.ndim) or ()
    if len(order) != x.ndim:
        raise ShapeError(f"transpose: {axes} does not name all {x.ndim} axes of shape {x.shape}")
    return apply(Transpose(order), x)


permute = transpose


def swapaxes(x: Tensor, a: int, b: int) -> Tensor:
    """Two axes exchanged. Raises: ShapeError.

    >>> from minidl import zeros
    >>> swapaxes(zeros((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    check.tensors("swapaxes", x=x)
    order = list(range(x.ndim))
    a, b = check.axis("swapaxes", a, x.ndim), check.axis("swapaxes", b, x.ndim)
    order[a], order[b] = b, a
    return transpose(x, order)


class BroadcastTo(Function):
    """x repeated to a larger shape; the graph sums the gradient over the repetitions."""

    view = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return self.backend.broadcast_to(x, self.shape)

    def backward(self, grad: Any) -> Any:
        return grad


def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    """x repeated to shape (PyTorch's `expand`); nothing is copied. Raises: ShapeError.

    >>> from minidl import tensor
    >>> broadcast_to(tensor([1.0, 2.0]), (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    check.tensors("broadcast_to", x=x)
    given = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) else (shape,)
    kept = (-1,) * (len(given) - x.ndim) + x.shape  # -1 keeps a length, as in PyTorch
    wanted = as_shape([k if n == -1 else n for n, k in zip(given, kept, strict=False)])
    if check.broadcast("broadcast_to", x.shape, wanted) != wanted:
        raise ShapeError(f"broadcast_to: shape {x.shape} cannot be repeated to {wanted}")
    return apply(BroadcastTo(wanted), x)


expand = broadcast_to


class Concatenate(Function):
    """Tensors one behind another along axis; each gets its part of the gradient."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Any) -> Any:
        self.lengths = [x.shape[self.axis] for x in xs]
        return self.backend.concatenate(xs, self.axis)

    def backward(self, grad: Any) -> Any:
        pieces, start = [], 0
        for length in self.lengths:
            part = (*[slice(None)] * self.axis, slice(start, start + length))
            pieces.append(self.backend.getitem(grad, part))
            start += length
        return tuple(pieces)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors one behind another along axis (PyTorch's `cat`). Raises: ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> concatenate([tensor([1.0]), tensor([2.0, 3.0])])
    Tensor([1., 2., 3.])
    """
    tensors = _listed("concatenate", tensors)
    first = tensors[0]
    at = check.axis("concatenate", axis, first.ndim)
    rest = [(x.ndim, x.shape[:at], x.shape[at + 1 :]) for x in tensors]
    if any(r != rest[0] for r in rest):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise ShapeError(f"concatenate: shapes {shapes} differ elsewhere than along axis {axis}")
    return apply(Concatenate(at), *tensors)


def _listed(operation: str, tensors: Iterable[Tensor]) -> list[Tensor]:
    check.instance(operation, "tensors", tensors, Iterable, " of Tensors")
    found = list(tensors)
    if not found:
        raise ShapeError(f"{operation}: needs at least one tensor")
    for x in found:
        check.tensors(operation, x=x)
    return found


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis. Raises: ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> stack([tensor([1.0, 2.0]), tensor([3.0, 4.0])]).shape
    (2, 2)
    """
    tensors = _listed("stack", tensors)
    at = check.axis("stack", axis, tensors[0].ndim + 1)
    if any(x.shape != tensors[0].shape for x in tensors):
        raise ShapeError(f"stack: shapes {', '.join(str(x.shape) for x in tensors)} differ")
    return concatenate([unsqueeze(x, at) for x in tensors], at)


def split(x: Tensor, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Consecutive pieces along axis: of one size (the last may be smaller) or of the given sizes.

    Raises: ShapeError if sizes do not add up; ArgumentError for a size below 1.

    >>> from minidl import arange
    >>> [piece.tolist() for piece in split(arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    check.tensors("split", x=x)
    at = check.axis("split", axis, x.ndim)
    length = x.shape[at]
    if isinstance(size, (tuple, list, np.ndarray)):
        sizes = [check.integer("split", "each size", n) for n in size]
    else:
        step = check.integer("split", "size", size, 1)
        sizes = [min(step, length - i) for i in range(0, length, step)] or [0]
    starts = [0]
    for n in sizes:
        starts.append(starts[-1] + n)
    if starts[-1] != length or min(sizes, default=0) < 0:
        raise ShapeError(f"split: sizes {sizes} do not add up to axis {axis} of length {length}")
    before = (slice(None),) * at
    return tuple(getitem(x, (*before, slice(a, b))) for a, b in pairwise(starts))


class Pad(Function):
    """x in a frame of a constant; the frame's gradient is dropped."""

    def __init__(self, widths: Sequence[tuple[int, int]], value: float) -> None:
        self.widths, self.value = widths, value

    def forward(self, x: Any) -> Any:
        self.inside = tuple(
            slice(before, before + n) for (before, _), n in zip(self.widths, x.shape, strict=True)
        )
        return self.backend.pad(x, self.widths, self.value)

    def backward(self, grad: Any) -> Any:
        return self.backend.getitem(grad, self.inside)


def pad(x: Tensor, widths: Sequence[tuple[int, int]] | int, value: float = 0) -> Tensor:
    """x framed by a constant: widths[axis] = (before, after), or one width for all sides.

    PyTorch lists its widths from the last axis backwards; here the order is NumPy's.
    Raises: ShapeError, ArgumentError.

    >>> from minidl import tensor
    >>> pad(tensor([1.0]), [(1, 2)], 9.0)
    Tensor([9., 1., 9., 9.])
    """
    check.tensors("pad", x=x)
    sides: list[Any] = [(widths, widths)] * x.ndim
    if isinstance(widths, (tuple, list, np.ndarray)):
        sides = list(widths)
    if len(sides) != x.ndim:
        raise ShapeError(f"pad: {len(sides)} widths for the {x.ndim} axes of shape {x.shape}")
    if any(isinstance(w, (int, np.integer)) for w in sides):
        raise ArgumentError(f"pad: needs a pair (before, after) for each axis, got {widths!r}")
    pairs = [check.pair("pad", "a width", w, 0) for w in sides]
    value = check.number("pad", "value", value)
    check.holds("pad", x.dtype, value)
    return apply(Pad(pairs, value), x)


class Flip(Function):
    """x backwards along axes; so is its gradient."""

    view = True

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return self.backend.flip(x, self.axes)

    def backward(self, grad: Any) -> Any:
        return self.backend.flip(grad, self.axes)


def flip(x: Tensor, axis: Axis = None) -> Tensor:
    """x backwards along axis (all axes if None). Raises: ShapeError.

    >>> from minidl import tensor
    >>> flip(tensor([1.0, 2.0]))
    Tensor([2., 1.])
    """
    check.tensors("flip", x=x)
    chosen = check.axes("flip", axis, x.ndim)
    return apply(Flip(tuple(range(x.ndim)) if chosen is None else chosen), x)
