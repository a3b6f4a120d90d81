"""Compiled = eager, bit for bit, over random programs of few operations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .programs import OPERATIONS, assert_compiled_is_eager

ROUNDS = 25  # a program of the Numba backend is compiled first, which takes most of its time
back = st.integers(0, 5)
names = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), back, back), min_size=1, max_size=6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation(operation):
    assert_compiled_is_eager([(operation, 1, 0), (operation, 0, 2)])


@settings(
    max_examples=ROUNDS, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(names=names)
def test_random_programs(names):
    assert_compiled_is_eager(names)
