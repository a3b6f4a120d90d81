"""Compiled = eager, bit for bit, over random programs of few operations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .programs import OPERATIONS, assert_compiled_is_eager

ROUNDS = 8  # a program of the Numba backend is compiled first, for some seconds
GROUPS = [sorted(OPERATIONS)[start::4] for start in range(4)]
back = st.integers(0, 5)
names = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), back, back), min_size=1, max_size=6)


@pytest.mark.parametrize("operations", GROUPS, ids=", ".join)
def test_every_operation(operations):
    assert_compiled_is_eager([(operation, 1, 0) for operation in operations])


@settings(
    max_examples=ROUNDS, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(names=names)
def test_random_programs(names):
    assert_compiled_is_eager(names)
