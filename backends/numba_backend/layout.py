"""Which arrays a kernel takes, and how others are brought into that form.

Numba compiles a kernel anew for every layout, number of dimensions, dtype and for read-only arrays.
Kernels here are given C-contiguous, writeable, aligned arrays only: one compilation per dtype.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array, DType

# NumPy keeps one object for each of its own dtypes, so that `is` will do, and is quicker than ==.
F32, F64, I64 = (np.dtype(t) for t in (np.float32, np.float64, np.int64))
NOTHING = {dtype: np.empty(0, dtype) for dtype in (F32, F64)}  # in place of what is left out


def suits(first: Array, *rest: Array | None) -> bool:
    """Whether all are non-empty, of the same dtype, and that is float32 or float64.

    None stands for an argument that was left out. What does not suit goes to the NumPy backend.

    >>> suits(np.ones(3), None, np.ones((2, 2))), suits(np.ones(3), np.ones(3, np.float32))
    (True, False)
    """
    dtype = first.dtype
    if (dtype is not F32 and dtype is not F64) or not first.size:
        return False
    for x in rest:  # written out, as the loop of a generator takes 0.3 us more
        if x is None:
            continue
        if x.dtype is not dtype or not x.size:
            return False
    return True


def plain(x: Array) -> Array:
    """x itself if kernels take it as it is, else a copy (of views, read-only arrays, subclasses).

    >>> x = np.ones((2, 3))
    >>> plain(x) is x, plain(x.T).flags.carray, plain(np.broadcast_to(x, (4, 2, 3))).shape
    (True, True, (4, 2, 3))
    """
    if type(x) is np.ndarray and x.flags.carray:
        return x
    return np.array(x, order="C", subok=False)


def laid(absent: Array, *arrays: Array | None) -> list[Array]:
    """The arrays as kernels take them, and `absent` in place of None.

    >>> [x.size for x in laid(np.empty(0), np.ones((2, 3)), None)]
    [6, 0]
    """
    return [
        absent if x is None else x if type(x) is np.ndarray and x.flags.carray else plain(x)
        for x in arrays
    ]


def flat(x: Array) -> Array:
    """The elements of a plain array in one dimension, without a copy."""
    return x.reshape(-1)


def optional(x: Array | None, dtype: DType) -> Array:
    """x as kernels take it; an empty array in place of None, so that there is one signature."""
    return np.empty(0, dtype) if x is None else plain(x)


class _Memory:
    """All that lies between the first and the last element of an array with positive strides."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, x: Array, size: int) -> None:
        self.owner = x
        self.__array_interface__ = {
            "shape": (size,), "typestr": x.dtype.str, "version": 3,
            "data": (x.__array_interface__["data"][0], False),
        }  # fmt: skip


def in_memory(x: Array) -> tuple[Array, tuple[int, ...]]:
    """The memory of x as a flat array, and the strides of all axes but the last, in elements: so
    kernels of one signature read views of any strides, where they are.

    x is copied first if its last axis is not contiguous or another goes backwards.

    >>> x = np.arange(24.0).reshape(2, 3, 4)[:, 1:, 1:3]
    >>> memory, strides = in_memory(x)
    >>> strides, memory[1 * strides[0] + 1 * strides[1]].item(), x[1, 1, 0].item()
    ((12, 4), 21.0, 21.0)
    """
    size = x.itemsize
    *steps, last = x.strides
    if last != size or not x.flags.aligned or any(s < 0 or s % size for s in steps):
        x = np.array(x, order="C", subok=False)
        steps = list(x.strides[:-1])
    strides = tuple(s // size for s in steps)
    reach = sum(s * (n - 1) for s, n in zip(strides, x.shape, strict=False)) + x.shape[-1]
    return np.asarray(_Memory(x, reach)), strides
