"""Which numbers share a grid: all of a tensor, a slice along an axis, or a group of neighbours.

A group is `group_size` neighbours along the last axis, which for a weight (O, D) is the input's;
the last group of a row may be shorter. Source: Frantar et al. (2023), arXiv:2210.17323, section 4.
"""

from __future__ import annotations

import math
from typing import Any

from backends import Array

from .. import ops
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..ops import check

Slicing = tuple[int | None, int | None]  # axis and group_size, of which at most one is not None


def checked(operation: str, ndim: int, axis: Any, group_size: Any) -> Slicing:
    """axis counted from 0, and group_size. Raises: ShapeError, ArgumentError."""
    if group_size is None:
        return None if axis is None else check.axis(operation, axis, ndim), None
    group_size = check.integer(operation, "group_size", group_size, 1)
    if axis is not None:
        raise ArgumentError(
            f"{operation}: groups lie along the last axis; leave out axis, got {axis!r}"
        )
    check.axis(operation, -1, ndim)
    return None, group_size


def scale_shape(
    shape: tuple[int, ...], axis: int | None, group_size: int | None
) -> tuple[int, ...]:
    """The shape of the scales of a tensor of that shape.

    >>> scale_shape((6, 5), None, None), scale_shape((6, 5), 0, None), scale_shape((6, 5), None, 2)
    ((), (6,), (6, 3))
    """
    if group_size is not None:
        return (*shape[:-1], -(-shape[-1] // group_size))
    return () if axis is None else (shape[axis],)


def sliced(x: Tensor, axis: int | None, group_size: int | None) -> Tensor:
    """x as (N, C, L) in which C counts the slices; the last group of a row is filled up with 0.

    >>> import minidl
    >>> x = minidl.zeros((6, 5))
    >>> [sliced(x, *how).shape for how in ((None, None), (0, None), (1, None), (None, 2))]
    [(1, 1, 30), (1, 6, 5), (6, 5, 1), (1, 18, 2)]
    """
    if group_size is not None:
        rows = math.prod(scale_shape(x.shape, axis, group_size))
        return ops.reshape(_filled(x, group_size), (1, rows, group_size))
    if axis is None:
        return ops.reshape(x, (1, 1, x.size))
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return ops.reshape(x, (before, x.shape[axis], after))


def joined(y: Tensor, shape: tuple[int, ...], group_size: int | None) -> Tensor:
    """The reverse of `sliced` for a tensor of that shape."""
    if group_size is None or shape[-1] % group_size == 0:
        return ops.reshape(y, shape)
    whole = -(-shape[-1] // group_size) * group_size
    return ops.reshape(y, (*shape[:-1], whole))[..., : shape[-1]]


def spread(
    parameter: Tensor, shape: tuple[int, ...], axis: int | None, group_size: int | None
) -> Array:
    """One number per slice, as an array that broadcasts against a tensor of that shape."""
    lib, data = parameter.backend, parameter.data
    if group_size is not None:
        each = lib.broadcast_to(lib.reshape(data, (*data.shape, 1)), (*data.shape, group_size))
        rows = lib.reshape(each, (*data.shape[:-1], data.shape[-1] * group_size))
        return lib.getitem(rows, (..., slice(shape[-1])))
    if axis is None:
        return data
    return lib.reshape(data, tuple(parameter.size if i == axis else 1 for i in range(len(shape))))


def _filled(x: Tensor, group_size: int) -> Tensor:
    missing = -x.shape[-1] % group_size
    return ops.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x
