"""Tensors from values."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.errors import ArgumentError, DTypeError
from minidl.verify.tolerances import assert_same


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (1.5, np.float32(1.5)),
        (3, np.int64(3)),
        (True, np.bool_(True)),
        ([], np.zeros(0, np.float32)),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int64)),
        ([1, 2.5], np.array([1, 2.5], np.float32)),
        ([True, False], np.array([True, False])),
        (np.array([1, 2], np.int8), np.array([1, 2], np.int8)),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (np.asfortranarray(np.ones((2, 3))), np.ones((2, 3))),
        (np.float64(0.5), np.float64(0.5)),
    ],
    ids=repr,
)
def test_tensor_takes_values_and_chooses_the_dtype(backend, data, expected):
    x = minidl.tensor(data, backend=backend)
    assert x.backend is backend
    assert_same(x.numpy(), np.asarray(expected))


def test_tensor_copies_and_converts(backend, other):
    host = np.ones(2, np.float32)
    x = minidl.tensor(host, backend=backend)
    host[0] = 5
    assert x.tolist() == [1, 1]
    assert_same(minidl.tensor(x, backend=other).numpy(), np.ones(2, np.float32))
    assert_same(minidl.tensor([1.75], "int32", backend=backend).numpy(), np.array([1], np.int32))
    third = minidl.tensor([1 / 3], "float64", backend=backend)
    assert third.item() == 1 / 3  # not rounded to the default float32 on the way
    assert minidl.tensor([1, 2], float, backend=backend).dtype == np.float64


@pytest.mark.parametrize(
    "data",
    [[[1], [1, 2]], "text", [None], {1: 2}, 1j, 2**70, np.ones(1, np.float16), [object()]],
    ids=lambda data: type(data).__name__,
)
def test_tensor_refuses_what_holds_no_numbers(backend, data):
    with pytest.raises(DTypeError, match="tensor"):
        minidl.tensor(data, backend=backend)


@pytest.mark.parametrize("dtype", ["float16", "complex64", "uint64", "no dtype", object], ids=str)
def test_dtypes_that_are_not_supported(backend, dtype):
    for make in (minidl.zeros, minidl.tensor, minidl.arange, minidl.eye, minidl.randn):
        with pytest.raises(DTypeError, match="float32, float64"):
            make(2, dtype=dtype, backend=backend)


def test_none_is_no_dtype(backend):
    """NumPy takes it for float64, which nobody asked for."""
    x = minidl.ones(2, backend=backend)
    for make in (x.astype, lambda dtype: minidl.zeros(2, dtype, backend=backend)):
        with pytest.raises(DTypeError, match="dtype None is not supported"):
            make(None)


def test_only_floats_require_grad(backend):
    with pytest.raises(DTypeError, match=r"int64.*astype"):
        minidl.tensor([1, 2], requires_grad=True, backend=backend)
    assert minidl.tensor([1.0], requires_grad=True, backend=backend).requires_grad


def test_random_numbers_are_floating(backend):
    for make in (minidl.rand, minidl.randn):
        for dtype in ("float32", "float64"):
            assert make(2, dtype=dtype, backend=backend).dtype == dtype
        with pytest.raises(DTypeError, match="int64"):
            make(2, dtype="int64", backend=backend)


def test_factories(backend):
    for dtype in ("float32", "float64", "int8", "uint8", "int32", "int64", "bool"):
        assert_same(minidl.zeros((2, 1), dtype, backend=backend).numpy(), np.zeros((2, 1), dtype))
        assert_same(minidl.ones(3, dtype, backend=backend).numpy(), np.ones(3, dtype))
        assert_same(minidl.full((), 1, dtype, backend=backend).numpy(), np.ones((), dtype))
    x = minidl.full((2, 0), 3.0, "float64", backend=backend)
    for like, value in ((minidl.zeros_like(x), 0), (minidl.ones_like(x), 1)):
        assert_same(like.numpy(), np.full((2, 0), value, np.float64))
        assert like.backend is backend
    assert_same(minidl.eye(3, backend=backend).numpy(), np.eye(3, dtype=np.float32))


def test_arange(backend):
    assert_same(minidl.arange(4, backend=backend).numpy(), np.arange(4))
    assert_same(minidl.arange(2, 8, 3, backend=backend).numpy(), np.array([2, 5]))
    halves = minidl.arange(0, 1.5, 0.5, backend=backend)
    assert_same(halves.numpy(), np.array([0, 0.5, 1], np.float32))
    assert_same(minidl.arange(0, backend=backend).numpy(), np.zeros(0, np.int64))
    assert_same(minidl.arange(0.0, backend=backend).numpy(), np.zeros(0, np.float32))
    assert_same(minidl.arange(3, 0, backend=backend, dtype="int8").numpy(), np.zeros(0, np.int8))
    assert_same(minidl.arange(3, dtype="float64", backend=backend).numpy(), np.arange(3.0))
    with pytest.raises(ArgumentError, match="step"):
        minidl.arange(0, 3, 0, backend=backend)


NUMBERS = {
    "full text": lambda **on: minidl.full(2, "a", **on),
    "full None": lambda **on: minidl.full(2, None, **on),
    "full list": lambda **on: minidl.full(2, [1, 2], **on),
    "full 300": lambda **on: minidl.full(2, 300, "uint8", **on),
    "tensor 300": lambda **on: minidl.tensor([1, 300], "uint8", **on),
    "tensor -1": lambda **on: minidl.tensor([-1], "uint8", **on),
    "tensor 2**40": lambda **on: minidl.tensor(np.array([2**40]), "int32", **on),
    "tensor NaN": lambda **on: minidl.tensor([float("nan")], "int64", **on),
    "arange text": lambda **on: minidl.arange("a", **on),
    "arange None": lambda **on: minidl.arange(None, **on),
    "arange infinity": lambda **on: minidl.arange(0, float("inf"), **on),
    "arange NaN": lambda **on: minidl.arange(float("nan"), **on),
    "eye -1": lambda **on: minidl.eye(-1, **on),
    "eye float": lambda **on: minidl.eye(2.0, **on),
}


@pytest.mark.parametrize(
    "make",
    [
        lambda **on: minidl.zeros(10**18, **on),
        lambda **on: minidl.rand(10**10, 10**10, **on),
        lambda **on: minidl.ones((0, 10**30), **on),
        lambda **on: minidl.ones(1, **on).expand(10**30),
        lambda **on: minidl.eye(10**12, **on),
        lambda **on: minidl.arange(10**18, **on),
        lambda **on: minidl.arange(0, 1e300, 1e-300, **on),
        lambda **on: minidl.nn.Linear(10**12, 10**12, **on),
    ],
)
def test_sizes_beyond_any_memory_are_refused(backend, make):
    with pytest.raises(ArgumentError, match=r"more elements than any memory|too small for the"):
        make(backend=backend)


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_do_not_fit_are_refused(backend, make):
    with pytest.raises(ArgumentError):
        make(backend=backend)


def test_numpy_scalars_and_lists_are_taken(backend):
    on = {"backend": backend}
    assert_same(minidl.full([2], np.float64(2), **on).numpy(), np.full(2, 2, np.float32))
    assert minidl.zeros(np.array([2, 3]), **on).shape == (2, 3)
    assert minidl.eye(np.int64(2), **on).shape == (2, 2)
    assert minidl.arange(np.int64(3), **on).tolist() == [0, 1, 2]
    big = np.array([1.5, 2.5], ">f8")  # as files hold them
    assert_same(minidl.tensor(big, **on).numpy(), np.array([1.5, 2.5]))
    assert minidl.full(2, float("nan"), **on).numpy().dtype == np.float32


def test_what_is_neither_array_nor_tensor_nor_generator_is_refused(backend):
    for wrong in (
        lambda: minidl.from_numpy([1.0], backend=backend),
        lambda: minidl.from_numpy(minidl.ones(2), backend=backend),
        lambda: minidl.zeros_like([1.0]),
        lambda: minidl.ones_like(np.ones(2)),
        lambda: minidl.rand(2, generator=3, backend=backend),
        lambda: minidl.randn(2, generator=np.random.default_rng(0), backend=backend),
        lambda: minidl.ones(2, backend=backend).astype(None),
    ):
        with pytest.raises(DTypeError):
            wrong()


@pytest.mark.parametrize("shape", [-1, (2, -3), (1.5,), ("a",), (None,), 2.0, None], ids=repr)
def test_shapes_are_integers(backend, shape):
    with pytest.raises(ArgumentError, match="integers >= 0"):
        minidl.zeros(shape, backend=backend)


def test_from_numpy_shares_memory_on_a_cpu():
    host = np.zeros(2, np.float32)
    x = minidl.from_numpy(host, backend="numpy")
    host[0] = 3
    x[1] = 4
    assert x.tolist() == host.tolist() == [3, 4]
    with pytest.raises(DTypeError, match="uint16"):
        minidl.from_numpy(np.zeros(1, np.uint16))
