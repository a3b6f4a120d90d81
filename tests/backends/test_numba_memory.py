"""Memory of large results: used again when nobody refers to it any more, and not before."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minidl

pytest.importorskip("numba", reason="the Numba backend needs numba")
from backends.numba_backend import memory

SHAPE, DTYPE = (3, 1 << 15), np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_idle(monkeypatch):
    """Each test starts with no idle memory, and takes none from the others."""
    gc.collect()
    monkeypatch.setattr(memory.IDLE, "blocks", {})
    monkeypatch.setattr(memory.IDLE, "bytes", 0)


def address(x):
    return x.ctypes.data


def test_the_next_result_of_the_same_size_gets_it():
    x = memory.empty(SHAPE, DTYPE)
    where = address(x)
    assert x.flags.carray
    assert where % memory.ALIGNMENT == 0
    del x
    assert address(memory.empty((SHAPE[1], SHAPE[0]), np.int32)) == where


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x[1, 5:],
        lambda x: x.T,
        lambda x: memoryview(x),
        lambda x: np.from_dlpack(x),
        lambda x: minidl.from_numpy(x, backend="numba")[0],
    ],
    ids=["slice", "transpose", "memoryview", "dlpack", "tensor"],
)
def test_whatever_still_looks_at_it_keeps_it(hold):
    x = memory.empty(SHAPE, DTYPE)
    where, held = address(x), hold(x)
    del x
    gc.collect()
    assert address(memory.empty(SHAPE, DTYPE)) != where
    del held
    gc.collect()
    assert where in {b.address for b in memory.IDLE.blocks[np.prod(SHAPE) * 4]}


def test_small_arrays_and_other_sizes_are_fresh():
    assert memory.empty((8,), DTYPE).flags.owndata
    x = memory.empty(SHAPE, DTYPE)
    where = address(x)
    del x
    assert address(memory.empty((2, *SHAPE), DTYPE)) != where


def test_idle_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 3 * memory.LARGE)
    for rows in range(1, 6):
        x = memory.empty((rows, memory.LARGE), np.uint8)
        del x
        kept = sum(b.size for blocks in memory.IDLE.blocks.values() for b in blocks)
        assert kept == memory.IDLE.bytes <= memory.KEPT


def test_threads_never_share_a_block():
    def work(value):
        for _ in range(300):
            x = memory.empty((memory.LARGE,), np.uint8)
            x[:] = value
            y = memory.empty((memory.LARGE,), np.uint8)
            y[:] = value + 100
            if not ((x == value).all() and (y == value + 100).all()):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))


def test_results_of_operations_are_not_overwritten_by_later_ones():
    """The engine holds what it needs; a chain of operations in recycled memory is still right."""
    x = minidl.randn(64, 1024, generator=minidl.Generator(1), backend="numba")
    results = [(x * float(k)).relu() for k in range(1, 9)]
    for k, y in enumerate(results, 1):
        assert (y.numpy() == np.maximum(x.numpy() * np.float32(k), 0)).all()
