"""What is the Numba backend's own: threads, thresholds, forks, read-only arrays, the cache."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import backends
from backends import BackendUnavailable

ARITHMETIC = ("add", "subtract", "multiply", "divide")


@pytest.fixture(scope="module")
def numba_backend():
    try:
        return backends.get("numba")
    except BackendUnavailable as error:
        pytest.skip(str(error))


def values(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("size", [3, 1 << 17])
@pytest.mark.parametrize("method", ARITHMETIC)
def test_either_operand_may_be_a_number(numba_backend, reference, method, size):
    x = values(size)
    for operands in ((2.0, x), (x, 2.0), (3, x)):
        got = getattr(numba_backend, method)(*operands)
        expected = getattr(reference, method)(*operands)
        assert got.dtype == expected.dtype
        assert operator.eq(got, expected).all()
