"""Tensors from values: lists, NumPy arrays, constants, random numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backends import Backend

from ..errors import ArgumentError, DTypeError
from .arguments import LARGEST, holds, instance, number
from .dtypes import SUPPORTED, as_dtype, float32, int64
from .modes import get_backend
from .random import Generator, source_of
from .tensor import Tensor

Where = str | Backend | None
_SEQUENCES = (tuple, list, np.ndarray)
_MOST = 1 << 47  # elements: one byte for each would fill the address space of a process


def tensor(
    data: Any, dtype: Any = None, *, requires_grad: bool = False, backend: Where = None
) -> Tensor:
    """A new tensor with a copy of data: a number, nested lists, a NumPy array, another tensor.

    Python floats become float32 and integers int64; arrays keep their dtype.
    Raises: DTypeError for ragged lists, objects and unsupported dtypes; ArgumentError for a number
    that an integer dtype cannot hold.

    >>> tensor([[1, 2], [3, 4]]).shape, tensor(0.5).dtype
    ((2, 2), dtype('float32'))
    """
    target = get_backend(backend)
    if isinstance(data, Tensor):
        data = data.numpy()
    host = _host_array(data)
    chosen = _natural_dtype(data, host) if dtype is None else as_dtype(dtype)
    if host.dtype != chosen and host.size:
        holds("tensor", chosen, host.min(), host.max())
    return Tensor(target.asarray(np.array(host, chosen, order="C")), target, requires_grad)


def _host_array(data: Any) -> np.ndarray:
    try:
        host = np.asarray(data)
    except (ValueError, TypeError) as error:
        kind = type(data).__name__
        raise DTypeError(f"tensor: cannot make an array of {kind}: {error}") from error
    if host.dtype.kind not in "fiub":
        raise DTypeError(f"tensor: needs numbers in rows of equal length, got {host.dtype}")
    return host


def _natural_dtype(data: Any, host: np.ndarray) -> np.dtype[Any]:
    """What tensor(data) becomes if nobody asks for a dtype."""
    if not isinstance(data, (np.ndarray, np.generic)):
        if host.dtype == np.float64:
            return float32
        if host.dtype.kind == "i":
            return int64
    native = host.dtype.newbyteorder("=")
    if native not in SUPPORTED:
        raise DTypeError(f"tensor: dtype {native} is not supported; convert it, or pass dtype=")
    return native


def from_numpy(array: np.ndarray, backend: Where = None) -> Tensor:
    """A tensor around a NumPy array, sharing its memory on a CPU backend.

    Raises: DTypeError for an unsupported dtype.

    >>> a = np.zeros(2)
    >>> x = from_numpy(a)
    >>> a[0] = 5
    >>> x.tolist()
    [5.0, 0.0]
    """
    target = get_backend(backend)
    instance("from_numpy", "array", array, np.ndarray, "; use minidl.tensor(x)")
    as_dtype(array.dtype)
    # A view: two tensors never hold one array object, by which the graph tells saved values apart.
    return Tensor(target.asarray(array[...]), target)


def full(
    shape: Any, value: float, dtype: Any = float32, *, requires_grad: bool = False,
    backend: Where = None,
) -> Tensor:  # fmt: skip
    """A tensor with every element equal to value; float32 unless dtype says otherwise, also for an
    integer value (NumPy and PyTorch go by the value). Raises: ArgumentError, DTypeError.

    >>> full((2,), 7.0)
    Tensor([7., 7.])
    """
    target, chosen = get_backend(backend), as_dtype(dtype)
    plain = number("full", "value", value)
    holds("full", chosen, plain)
    return Tensor(target.full(as_shape(shape), plain, chosen), target, requires_grad)


def zeros(
    shape: Any, dtype: Any = float32, *, requires_grad: bool = False, backend: Where = None
) -> Tensor:
    """A tensor of zeros.

    >>> zeros((1, 2))
    Tensor([[0., 0.]])
    """
    return full(shape, 0, dtype, requires_grad=requires_grad, backend=backend)


def ones(
    shape: Any, dtype: Any = float32, *, requires_grad: bool = False, backend: Where = None
) -> Tensor:
    """A tensor of ones.

    >>> ones(2)
    Tensor([1., 1.])
    """
    return full(shape, 1, dtype, requires_grad=requires_grad, backend=backend)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and backend of x.

    >>> zeros_like(tensor([[3.0, 4.0]]))
    Tensor([[0., 0.]])
    """
    instance("zeros_like", "x", x, Tensor)
    return full(x.shape, 0, x.dtype, backend=x.backend)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape, dtype and backend of x.

    >>> ones_like(tensor([[3.0, 4.0]]))
    Tensor([[1., 1.]])
    """
    instance("ones_like", "x", x, Tensor)
    return full(x.shape, 1, x.dtype, backend=x.backend)


def arange(
    start: float, stop: float | None = None, step: float = 1, dtype: Any = None, *,
    backend: Where = None,
) -> Tensor:  # fmt: skip
    """start, start + step, ... up to but not including stop; from 0 if only one number is given.

    Raises: ArgumentError for a step of 0, too many numbers, and what is no finite number.

    >>> arange(3)
    Tensor([0, 1, 2])
    """
    given = (0, start, step) if stop is None else (start, stop, step)
    ends = [number("arange", "each argument", v, -LARGEST, LARGEST) for v in given]
    if step == 0 or (ends[1] - ends[0]) / step > _MOST:
        raise ArgumentError(f"arange: step must not be 0, nor too small for the range, got {step}")
    values = np.arange(*ends)
    natural = float32 if values.dtype.kind == "f" else int64
    return tensor(values, natural if dtype is None else dtype, backend=backend)


def eye(n: int, dtype: Any = float32, *, backend: Where = None) -> Tensor:
    """The n by n identity matrix.

    >>> eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return tensor(np.eye(as_shape((n, n))[0]), dtype, backend=backend)


def rand(
    *shape: int, generator: Generator | None = None, dtype: Any = float32,
    requires_grad: bool = False, backend: Where = None,
) -> Tensor:  # fmt: skip
    """Uniform random numbers in [0, 1), the same on every backend for the same generator state.

    >>> rand(2, generator=Generator(0)).shape
    (2,)
    """
    target, source = get_backend(backend), source_of("rand", generator)
    values = source.uniform(as_shape(shape), _floating("rand", dtype), target)
    return Tensor(values, target, requires_grad)


def randn(
    *shape: int, generator: Generator | None = None, dtype: Any = float32,
    requires_grad: bool = False, backend: Where = None,
) -> Tensor:  # fmt: skip
    """Standard normal random numbers, the same on every backend for the same generator state.

    >>> randn(2, 3, generator=Generator(0)).shape
    (2, 3)
    """
    target, source = get_backend(backend), source_of("randn", generator)
    values = source.normal(as_shape(shape), _floating("randn", dtype), target)
    return Tensor(values, target, requires_grad)


def _floating(operation: str, dtype: Any) -> np.dtype[Any]:
    found = as_dtype(dtype)
    if found.kind != "f":
        raise DTypeError(f"{operation}: draws float32 or float64, not {found}; convert: .astype()")
    return found


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints, from a number or a sequence. Raises: ArgumentError.

    >>> as_shape(3), as_shape([2, 2])
    ((3,), (2, 2))
    """
    sizes = tuple(shape) if isinstance(shape, _SEQUENCES) else (shape,)
    if len(sizes) == 1 and isinstance(sizes[0], _SEQUENCES):
        sizes = tuple(sizes[0])
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise ArgumentError(f"a shape consists of integers >= 0, got {shape!r}")
    if math.prod(n or 1 for n in sizes) > _MOST:
        raise ArgumentError(f"a shape of more elements than any memory holds, {shape!r}")
    return tuple(int(n) for n in sizes)
