"""The elementary functions that kernels call: their error over all exponents, and their vectors."""

from __future__ import annotations

import math
import os
import re

import llvmlite.binding
import numba
import numpy as np
import pytest

from backends.numba_backend import vector_math
from backends.numba_backend.jit import REASSOCIATE
from minidl.verify.tolerances import KERNEL_ULPS, spacing

COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
FLOATS = (np.float32, np.float64)


def sigmoid(x):
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x)))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


erf = np.vectorize(math.erf, otypes=[np.float64])


def normal_cdf(x):
    return (1 + erf(x * math.sqrt(0.5))) / 2


# In long double, which is wider than float64 on x86.
EXACT = {
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sigmoid": sigmoid,
    "softplus": softplus, "erf": erf, "normal_cdf": normal_cdf,
}  # fmt: skip


@pytest.fixture(scope="module")
def loops():
    """A loop over each function, compiled with all the freedom that a kernel may give."""

    def loop_of(function):
        @numba.njit(error_model="numpy", fastmath=REASSOCIATE)
        def loop(x, y):
            for i in range(y.size):
                y[i] = function(x[i])

        return np.errstate(all="ignore")(loop) if not COMPILED else loop

    return {name: loop_of(getattr(vector_math, name)) for name in EXACT}


def sweep(dtype, name):
    """Numbers of every exponent and either sign, and many of the size that networks meet."""
    rng = np.random.Generator(np.random.PCG64(1))
    count = 200_000 if COMPILED else 1_000
    unsigned = np.uint32 if dtype is np.float32 else np.uint64
    every = rng.integers(0, np.iinfo(unsigned).max, count, unsigned, endpoint=True).view(dtype)
    x = np.concatenate([every, *(rng.uniform(-s, s, count).astype(dtype) for s in (2, 20, 745))])
    x = x[np.isfinite(x)]
    return np.abs(x[np.abs(x) <= 1]) if name == "log1p" else x


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_error_stays_within_budget(loops, name, dtype):
    x = sweep(dtype, name)
    y = np.empty_like(x)
    loops[name](x, y)
    by_math = name in ("erf", "normal_cdf")
    wide = np.float64 if dtype is np.float32 or by_math else np.longdouble
    with np.errstate(all="ignore"):
        expected = EXACT[name](x.astype(wide))
        overflows = np.abs(expected) >= np.finfo(dtype).max
        unit = spacing(np.ones(1) if name == "normal_cdf" else expected, dtype)
        error = np.where(overflows, 0, np.abs(y - expected)) / unit
    assert (np.isnan(y) == np.isnan(expected)).all()
    assert (y[overflows] == np.copysign(np.inf, expected[overflows])).all()
    # The reference itself may be off by one unit where it is no wider.
    budget = KERNEL_ULPS[name] + (np.finfo(wide).eps == np.finfo(dtype).eps)
    worst = np.nanargmax(error)
    assert error[worst] <= budget, (x[worst], y[worst], expected[worst])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_special_values_are_numpys(loops, name, dtype):
    small = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, small, 1e-30, np.inf, np.nan], dtype)
    x = x[np.isnan(x) | (x <= 1)] if name == "log1p" else np.concatenate([x, -x])
    y = np.empty_like(x)
    loops[name](x, y)
    with np.errstate(all="ignore"):
        expected = EXACT[name](x).astype(dtype)
        error = np.abs(y - expected) / spacing(expected, dtype)
    same = (y == expected) | (np.isnan(y) & np.isnan(expected))
    assert (same | (error <= KERNEL_ULPS[name])).all(), (x, y, expected)
    real = ~np.isnan(y)
    assert (np.signbit(y) == np.signbit(expected))[real].all()


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.skipif(
    not llvmlite.binding.get_host_cpu_features().get("avx2"), reason="needs a processor with AVX2"
)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_loops_become_vectors(loops, name, dtype):
    loop = loops[name]
    loop(np.ones(3, dtype), np.empty(3, dtype))
    assembly = loop.inspect_asm((numba.from_dtype(np.dtype(dtype))[::1],) * 2)
    suffix = "ps" if dtype is np.float32 else "pd"
    assert len(re.findall(rf"\bv(?:fm\w+|fn\w+|mul){suffix}\s.*%[yz]mm", assembly)) > 4
