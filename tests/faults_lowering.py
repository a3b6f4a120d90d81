"""Mistakes in turning programs into native code. See `faults_compile.py`."""

from __future__ import annotations

import functools

from backends.numba_backend import formulas, launches, lowering, rewrites

from .faults_compile import found_by

in_numba = functools.partial(found_by, backend="numba")


@in_numba("test_native.test_nan_and_infinity_in_fused_loops")
def fused_relu_turns_nan_into_zero(monkeypatch):
    monkeypatch.setitem(formulas.ARITHMETIC, "relu", "{a} if {a} > 0 else {T}(0)")


@in_numba("test_native.test_nan_and_infinity_in_fused_loops")
def fused_maximum_loses_nan(monkeypatch):
    monkeypatch.setitem(formulas.ARITHMETIC, "maximum", "{a} if {a} > {b} else {b}")


@in_numba("test_programs.test_every_operation", ["transpose", "row"])
def loops_go_on_through_other_elements(monkeypatch):
    """A transposed operand is read as if it lay as the result does."""
    walk = formulas.walk

    def straight(calls):
        way = walk(calls)
        if way is not None:
            return way
        values = [v for c in calls for v in (*c.reads, *c.results)]
        return formulas.Walk(1, values[0].size, dict.fromkeys(values, (0, 1)))

    monkeypatch.setattr(formulas, "walk", straight)


@in_numba("test_native.test_a_loop_ends_where_memory_is_read_as_other_elements")
def loops_read_what_they_have_overwritten(monkeypatch):
    monkeypatch.setattr(formulas, "_apart", lambda a, b: False)


@in_numba("test_native.test_a_gate_that_changes_is_read_when_it_was")
def a_gate_may_change(monkeypatch):
    monkeypatch.setattr(rewrites, "_unchanged", lambda values, calls: True)


@in_numba("test_native.test_what_is_done_in_python_is_not_lost", "adds one")
def launches_are_not_tried(monkeypatch):
    monkeypatch.setattr(launches, "_repeats", lambda step, method: True)


@in_numba("test_native.test_what_is_done_in_python_is_not_lost", "looks at numbers")
def tables_may_follow_from_numbers(monkeypatch):
    monkeypatch.setattr(launches, "_same", lambda a, b: True)
    monkeypatch.setattr(launches, "_repeats", lambda step, method: True)


@in_numba("test_native.test_weights_that_became_infinite_are_not_multiplied_by_padding")
def infinite_weights_are_not_looked_for(monkeypatch):
    monkeypatch.setattr(lowering, "FINITE", {})


@in_numba("test_programs.test_every_operation", ["concatenate"])
def parts_of_a_concatenation_all_begin_at_its_start(monkeypatch):
    part = rewrites._part

    def first(y, shape, strides, offset):
        return part(y, shape, strides, 0)

    monkeypatch.setattr(rewrites, "_part", first)
