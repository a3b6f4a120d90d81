"""Making, copying, converting and inspecting arrays."""

from __future__ import annotations

import math
import warnings

import numpy as np

from backends import Backend

from ..conformance import call, call_in_place, covers, drawn, each
from ..strategies import (
    FLOATS,
    LAYOUTS,
    Laid,
    arrays,
    different,
    float_dtypes,
    lay,
    special_values,
)
from ..tolerances import assert_same

ALL_VALUES = ("normal", "special", "wide", "bits")
DTYPES: tuple[type, ...] = (np.bool_, np.int8, np.uint8, np.int32, np.int64, *FLOATS)


@covers("asarray", "to_numpy", "is_array")
@drawn(x=arrays(kinds=ALL_VALUES))
def a_round_trip_keeps_every_bit(backend: Backend, x: Laid) -> None:
    native = backend.asarray(x.values)
    assert backend.is_array(native)
    host = backend.to_numpy(native)
    assert isinstance(host, np.ndarray)
    assert_same(host, x.values)


@covers("asarray")
@each("dtype", DTYPES)
def asarray_takes_scalars_and_nested_lists(backend: Backend, dtype: type) -> None:
    for source in (1, [], [0, 1], [[1, 0], [0, 1]], np.arange(2)):
        native = backend.asarray(source, np.dtype(dtype))
        assert backend.is_array(native)
        assert_same(backend.to_numpy(native), np.asarray(source, dtype))


@covers("asarray")
def asarray_of_a_native_array_is_free_unless_the_dtype_changes(backend: Backend) -> None:
    native = backend.asarray(np.array([1, 2, 3], np.float32))
    assert backend.asarray(native) is native
    whole = backend.asarray(native, np.dtype(np.int32))
    assert_same(backend.to_numpy(whole), np.array([1, 2, 3], np.int32))


@covers("is_array")
def only_native_arrays_are_arrays(backend: Backend) -> None:
    """A NumPy array is one only where the backend computes with NumPy arrays."""
    host = np.zeros(2, np.float32)
    others: list[object] = [1.0, [1.0], None, "array", object()]
    if not isinstance(backend.full((2,), 0, host.dtype), np.ndarray):
        others.append(host)
    for other in others:
        assert not backend.is_array(other)


@covers("synchronize", "describe")
def description_is_text_and_waiting_ends(backend: Backend) -> None:
    described = backend.describe()
    assert described
    assert all(isinstance(k, str) and isinstance(v, str) and v for k, v in described.items())
    assert backend.synchronize() is None


@covers("set_num_threads", "get_num_threads")
def fewer_threads_compute_the_same(backend: Backend) -> None:
    """A backend without threads of its own, or without the means to limit them, may ignore it."""
    x = backend.asarray((np.arange(120_000, dtype=np.float32) % 8).reshape(300, 400))
    most, expected = backend.get_num_threads(), backend.to_numpy(backend.matmul(x.T, x))
    assert most >= 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        backend.set_num_threads(1)
        try:
            assert 1 <= backend.get_num_threads() <= most
            assert_same(backend.to_numpy(backend.matmul(x.T, x)), expected)
        finally:
            backend.set_num_threads(most)
    assert backend.get_num_threads() == most


@covers("full")
@each("dtype", DTYPES)
def full_repeats_one_value(backend: Backend, dtype: type) -> None:
    for shape, value in (((), 1), ((0, 3), 0), ((2, 1, 3), 1), ((70001,), 1)):
        assert_same(
            call(backend, "full", shape, value, np.dtype(dtype)), np.full(shape, value, dtype)
        )


@covers("full")
def full_of_nan_and_infinity(backend: Backend) -> None:
    for dtype in FLOATS:
        for value in (math.nan, math.inf, -0.0, 0.1):
            expected = np.full((3,), value, dtype)
            assert_same(call(backend, "full", (3,), value, np.dtype(dtype)), expected)


@covers("copy")
@drawn(x=arrays(kinds=ALL_VALUES))
def copy_is_new(backend: Backend, x: Laid) -> None:
    assert_same(call(backend, "copy", x), x.values)


@covers("copy")
@each("layout", LAYOUTS)
def copy_is_contiguous(backend: Backend, layout: str) -> None:
    """In C order the elements have a view on one axis, where a write to the copy shows."""
    x = lay(np.arange(24, dtype=np.float32).reshape(2, 3, 4), layout)
    copied = backend.copy(x.on(backend))
    flat, other = backend.reshape(copied, (24,)), different(x.values)
    backend.copyto(copied, backend.asarray(other))
    assert_same(np.asarray(backend.to_numpy(flat)), other.reshape(-1))


@covers("astype")
@drawn(x=arrays(kinds=ALL_VALUES), dtype=float_dtypes)
def astype_rounds_and_is_new(backend: Backend, x: Laid, dtype: type) -> None:
    with np.errstate(over="ignore"):
        expected: np.ndarray = x.values.astype(dtype)
    assert_same(call(backend, "astype", x, np.dtype(dtype)), expected)


@covers("astype")
@each("dtype", DTYPES)
def astype_between_kinds_of_numbers(backend: Backend, dtype: type) -> None:
    floats = np.array([[-2.5, -0.5, 0.0], [0.5, 1.5, 100.75]])
    if np.dtype(dtype) == np.uint8:
        floats = np.abs(floats)  # a negative float has no value in an unsigned integer
    for x in (floats, np.array([-3, 0, 7], np.int64), np.array([True, False])):
        assert_same(call(backend, "astype", x, np.dtype(dtype)), x.astype(dtype))


@covers("copyto")
@drawn(target=arrays(), source=arrays(kinds=ALL_VALUES))
def copyto_broadcasts_and_converts(backend: Backend, target: Laid, source: Laid) -> None:
    """Into a contiguous target; the source may be a smaller array of another dtype and layout."""
    with np.errstate(over="ignore"):
        expected = np.full((2, *source.shape), source.values, target.dtype)
    place = np.zeros((2, *source.shape), target.dtype)
    (after,) = call_in_place(backend, "copyto", place, source, changes=(0,))
    assert_same(after, expected)


@covers("copyto")
def copyto_writes_through_a_view(backend: Backend) -> None:
    for layout in ("fortran", "reversed", "strided", "offset"):
        target = Laid(np.zeros((3, 4), np.float32), layout)
        source = np.arange(12, dtype=np.float32).reshape(3, 4)
        (after,) = call_in_place(backend, "copyto", target, source, changes=(0,))
        assert_same(after, source)


@covers("bounds")
@drawn(x=arrays(kinds=("integers", *ALL_VALUES)))
def bounds_are_the_extremes_or_nan(backend: Backend, x: Laid) -> None:
    if not x.values.size:
        return
    low, high = backend.bounds(x.on(backend))
    assert isinstance(low, float)
    assert isinstance(high, float)
    values = x.values.ravel().tolist()
    if any(math.isnan(v) for v in values):
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert (low, high) == (min(values), max(values))


@covers("bounds")
def bounds_of_many_elements(backend: Backend) -> None:
    """The extremes, or a NaN, may sit anywhere, the last element included."""
    dtypes: tuple[type, ...] = (*FLOATS, np.int8, np.int64)
    for dtype in dtypes:
        for position in (0, 1, 35000, 70000):
            x = np.arange(70001).astype(dtype) % dtype(50)
            x[position] = dtype(99)
            assert backend.bounds(backend.asarray(x)) == (0.0, 99.0)
            x[position] = dtype(-99)
            assert backend.bounds(backend.asarray(x)) == (-99.0, 49.0)
            if np.dtype(dtype).kind == "f":
                x[position] = np.nan
                assert all(math.isnan(v) for v in backend.bounds(backend.asarray(x)))


@covers("all_finite")
@drawn(x=arrays(kinds=("integers", *ALL_VALUES)))
def all_finite_finds_any_nan_or_infinity(backend: Backend, x: Laid) -> None:
    answer = backend.all_finite(x.on(backend))
    assert answer is all(math.isfinite(v) for v in x.values.ravel().tolist())


@covers("all_finite")
def all_finite_on_many_elements(backend: Backend) -> None:
    for dtype in FLOATS:
        largest = np.full(70001, np.finfo(dtype).max, dtype)
        assert backend.all_finite(backend.asarray(largest)) is True
        for value in (np.nan, np.inf, -np.inf):
            for position in (0, 35000, 70000):
                x = largest.copy()
                x[position] = value
                assert backend.all_finite(backend.asarray(x)) is False
        special = special_values(dtype)
        finite = special[np.isfinite(special)]
        assert backend.all_finite(backend.asarray(finite)) is True
    assert backend.all_finite(backend.asarray(np.arange(3))) is True
