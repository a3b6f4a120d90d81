"""The stand-in refuses what the real CuPy refuses, and counts what would make the host wait."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_on_cpu import unavailable
from tests.cupy_standin import counted_syncs, cupy


@pytest.fixture
def x():
    return cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))


HOST = np.ones((2, 3), np.float32)

REFUSED = {
    "conversion to NumPy": lambda x: np.asarray(x),
    "conversion inside a list": lambda x: np.array([x, x]),
    "array + host array": lambda x: x + HOST,
    "host array + array": lambda x: HOST + x,
    "array += host array": lambda x: x.__iadd__(HOST),
    "array - list": lambda x: x - [1, 2, 3],
    "comparison with a host array": lambda x: x == HOST,
    "ufunc of a host array": lambda x: cupy.exp(HOST),
    "ufunc of a list": lambda x: cupy.add([1.0], x),
    "ufunc into a host array": lambda x: cupy.exp(x, out=HOST.copy()),
    "function of a host array": lambda x: cupy.sum(HOST),
    "concatenation with a host array": lambda x: cupy.concatenate([x, HOST]),
    "where with a host array": lambda x: cupy.where(x > 0, x, HOST),
    "unknown argument of a function": lambda x: cupy.sum(x, where=x > 0),
    "unknown argument of a method": lambda x: x.sum(initial=0),
    "unknown argument of a ufunc": lambda x: cupy.add(x, x, where=x > 0),
    "einsum into an array": lambda x: cupy.einsum("ij->i", x, out=x),
    "too many positional arguments": lambda x: cupy.clip(x, 0, 1, x, x),
    "casting in astype": lambda x: x.astype(np.float64, casting="safe"),
    "function of a scalar": lambda x: cupy.sum(1.0),
    "where with a scalar condition": lambda x: cupy.where(True, x, x),
    "a constructor call": lambda x: type(x)((2, 3)),
    "hashing": hash,
}


@pytest.mark.parametrize("case", REFUSED)
def test_type_errors(x, case):
    with pytest.raises(TypeError):
        REFUSED[case](x)


ABSENT = ["block", "insert", "einsum_path", "errstate", "vecdot", "frompyfunc"]


@pytest.mark.parametrize("name", ABSENT)
def test_names_that_cupy_does_not_have(name):
    assert hasattr(np, name), "the point is that NumPy has it"
    with pytest.raises(AttributeError, match=name):
        getattr(cupy, name)


def test_methods_that_cupy_does_not_have(x):
    assert hasattr(HOST, "resize")
    with pytest.raises(AttributeError):
        x.resize(3, 2)


def test_scatter_with_a_ufunc_that_cupy_does_not_scatter_with(x):
    index = cupy.asarray(np.array([0, 0]))
    cupy.add.at(x, index, 1)
    assert x[0].get().tolist() == [2, 3, 4]
    with pytest.raises(NotImplementedError):
        cupy.multiply.at(x, index, 2)


def test_objects_and_texts_are_not_elements():
    for host in (np.array([None]), np.array(["a"])):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(host)


def test_no_other_kind_of_sort(x):
    with pytest.raises(ValueError, match="kind"):
        cupy.argsort(x, kind="quicksort")


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_raw_modules_and_kernels_check_their_arguments(x):
    code = 'extern "C" __global__ void f(float* x, int n) {}'
    with pytest.raises(TypeError):
        cupy.RawModule(code=code, options=["-std=c++17"])
    kernel = cupy.RawModule(code=code).get_function("f")
    kernel((1,), (1,), (x, np.int32(1)))
    for args in ((x, 1), (HOST, np.int32(1)), (x, 1.0)):
        with pytest.raises(TypeError, match="Unsupported type"):
            kernel((1,), (1,), args)


SYNCHRONISING = {
    "get": lambda x: x.get(),
    "asnumpy": lambda x: cupy.asnumpy(x),
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: bool((x > 0).all()),
    "index": lambda x: [10, 20][cupy.asarray(1)],
    "tolist": lambda x: x.tolist(),
    "repr": repr,
    "a boolean mask": lambda x: x[x > 2],
    "assignment of an array through a mask": lambda x: x.__setitem__(x > 3, x[0, :2]),
    "nonzero": lambda x: cupy.nonzero(x),
    "where with one argument": lambda x: cupy.where(x > 2),
    "iteration with float": lambda x: [float(v) for v in x[0, :1]],
}


@pytest.mark.parametrize("case", SYNCHRONISING)
def test_transfers_to_the_host_are_counted(x, case):
    with counted_syncs() as syncs:
        SYNCHRONISING[case](x)
    assert len(syncs) == 1


def test_work_on_the_device_does_not_synchronise(x):
    with counted_syncs() as syncs:
        y = cupy.maximum(x @ x.T, 0).sum(axis=0)
        y[...] = 2 * y - cupy.exp(x[0, 0])
        y[y > 3] = 0
        y += np.float32(1) * y
        assert isinstance(np.sum(y), cupy.ndarray)
    assert syncs == []


def test_reductions_and_elements_are_arrays_without_axes(x):
    for scalar in (x.sum(), cupy.max(x), x[1, 2], x.argmax()):
        assert isinstance(scalar, cupy.ndarray)
        assert scalar.shape == ()


def test_of_several_nan_any_may_be_found():
    x = cupy.asarray(np.array([1, np.nan, 2, np.nan, 3]))
    assert x.argmax().get() == 3
    assert cupy.argmin(x).get() == 3
    assert cupy.asarray(np.array([2, 1, 2, 1])).argmax().get() == 0


def test_an_element_is_a_view(x):
    element = x[1, 2]
    element[...] = 7
    assert x.get()[1, 2] == 7


def test_new_memory_holds_nothing_useful():
    assert np.isnan(cupy.empty(3, np.float32).get()).all()
    assert (cupy.empty_like(cupy.zeros(3, np.int32)).get() != 0).all()


def test_a_copy_of_a_host_array_is_a_copy():
    host = np.zeros(3, np.float32)
    x = cupy.asarray(host)
    host[0] = 1
    assert x.get()[0] == 0


def test_division_by_zero_is_silent(x):
    with np.errstate(all="raise"):
        assert np.isinf((x / 0).get()).any()
        assert np.isnan((cupy.log(x) * 0).get()).any()
