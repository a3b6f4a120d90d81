"""Mistakes in recording and replaying, as people make them; a test of `tests/compile` must find
each. `found_by` names the test that `compile/test_faults.py` runs with the mistake in place.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from minidl.compile import numbers, plan, record, recording, traced
from minidl.engine import modes

compiled = importlib.import_module("minidl.compile.compiled")
Plant = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """A mistake, the test that finds it, and the backend on which that runs."""

    name: str
    plant: Plant
    test: str
    arguments: tuple[Any, ...]
    backend: str


FAULTS: list[Fault] = []


def found_by(test: str, *arguments: Any, backend: str = "numpy") -> Callable[[Plant], Plant]:
    """Register a function that plants a mistake, and the test of tests/compile that finds it."""

    def register(plant: Plant) -> Plant:
        FAULTS.append(Fault(plant.__name__.replace("_", " "), plant, test, arguments, backend))
        return plant

    return register


# -- when a program holds --------------------------------------------------------------------------


@found_by("test_compile.test_another_shape_is_another_program_and_the_first_still_runs")
def shapes_are_not_part_of_the_key(monkeypatch):
    def key(argument, tensors):
        if isinstance(argument, compiled.Tensor):
            tensors.append(argument)
            return None
        return tuple(key(item, tensors) for item in argument)

    monkeypatch.setattr(compiled, "_key", key)


@found_by("test_compile.test_a_variable_of_the_step_that_is_assigned_anew_is_seen")
def variables_from_outside_are_not_compared(monkeypatch):
    monkeypatch.setattr(compiled, "_surroundings", lambda step: [])


@found_by("test_compile.test_train_and_eval_are_two_programs")
def modules_are_not_compared(monkeypatch):
    monkeypatch.setattr(recording.Recording, "_attributes", lambda self: [])


@found_by("test_compile.test_values_assigned_or_loaded_between_replays_are_seen")
def a_program_always_holds(monkeypatch):
    monkeypatch.setattr(recording.Recording, "stale", lambda self: None)


@found_by("test_compile.test_gradients_accumulate_as_they_do_eagerly")
def gradients_at_the_start_are_not_compared(monkeypatch):
    whole = recording.Recording.stale

    def stale(self):
        self.leaves = [(*leaf, leaf[0].grad is None) for *leaf, _ in self.leaves]
        return whole(self)

    monkeypatch.setattr(recording.Recording, "stale", stale)


@found_by("test_workloads.test_codes_that_changed_are_seen")
def what_was_packed_is_kept_for_good(monkeypatch):
    whole = recording.Recording.stale

    def stale(self):
        self.rests_on = []
        return whole(self)

    monkeypatch.setattr(recording.Recording, "stale", stale)


@found_by("test_workloads.test_an_integer_program_gives_the_same_bits")
def preparing_is_part_of_the_step(monkeypatch):
    monkeypatch.setattr(modes, "is_aside", lambda: False)


@found_by("test_compile.test_a_label_out_of_range_is_refused_and_nothing_changes")
def comparisons_of_bounds_are_forgotten(monkeypatch):
    def tested(self, other):
        return self.value < other

    monkeypatch.setattr(traced.Bound, "__lt__", tested)
    monkeypatch.setattr(traced.Bound, "__ge__", lambda self, other: not tested(self, other))


@found_by("test_compile.test_a_label_out_of_range_is_refused_and_nothing_changes")
def guards_run_where_they_were_met(monkeypatch):
    """After a part of the step: here after all of it."""
    monkeypatch.setattr(
        plan, "guards_first", lambda calls: sorted(calls, key=lambda call: bool(call.tests))
    )


# -- what is new in each run -----------------------------------------------------------------------


@found_by("test_compile.test_every_optimizer", "sgd")
def the_learning_rate_stays_what_it_was(monkeypatch):
    first = numbers.Update.now

    def now(self):
        self.kept = getattr(self, "kept", None) or first(self)
        return self.kept

    monkeypatch.setattr(numbers.Update, "now", now)


@found_by("test_compile.test_every_optimizer", "adam")
def steps_are_not_counted(monkeypatch):
    monkeypatch.setattr(numbers.Update, "advance", lambda self: None)


@found_by("test_compile.test_every_kind_of_layer", "dropout")
def every_mask_is_the_same(monkeypatch):
    take = numbers.Draw.take

    def again(self, numbers):
        before = take(self, numbers)
        self.generator.counter = before
        return before

    monkeypatch.setattr(numbers.Draw, "take", again)


@found_by("test_compile.test_a_replay_counts_as_a_change_in_place")
def changes_in_place_are_not_counted(monkeypatch):
    after = recording.Recording._after

    def uncounted(self, given, tensors):
        self.changed = []
        after(self, given, tensors)

    monkeypatch.setattr(recording.Recording, "_after", uncounted)


# -- the program -----------------------------------------------------------------------------------


@found_by("test_compile.test_every_optimizer", "momentum")
def calls_that_only_write_are_left_out(monkeypatch):
    needed = plan.needed

    def too_few(program):
        return [call for call in needed(program) if call.results or call.method == "copyto"]

    monkeypatch.setattr(plan, "needed", too_few)


@found_by("test_compile.test_every_kind_of_layer", "norms")
def memory_is_given_away_before_it_is_read(monkeypatch):
    lifetimes = plan.lifetimes

    def shorter(steps):
        return {v: (first, first) for v, (first, _) in lifetimes(steps).items()}

    monkeypatch.setattr(plan, "lifetimes", shorter)


@found_by("test_compile.test_a_copy_is_made_before_what_it_copies_to_is_read_again")
def results_go_where_something_is_still_read(monkeypatch):
    monkeypatch.setattr(plan, "_meets", lambda a, b: False)


@found_by("test_programs.test_every_operation", ["read twice"])
def relu_joins_a_layer_that_others_read(monkeypatch):
    monkeypatch.setattr(plan, "uses_of", lambda calls: dict.fromkeys(
        (v.root for c in calls for v in (*c.reads, *c.results)), 2))  # fmt: skip


@found_by("test_compile.test_what_is_changed_in_place_is_what_was_changed")
def writes_go_to_the_last_argument(monkeypatch):
    monkeypatch.setattr(record, "_written", lambda method, arrays: (arrays[-1],))


@found_by("test_compile.test_what_a_replay_returns_is_new_memory")
def outputs_are_the_same_memory_each_time(monkeypatch):
    kept = {}

    def build(self):
        replay = whole(self)
        run = replay.run

        def same(inputs, numbers):
            made = run(inputs, numbers)
            for old, new in zip(kept.setdefault("arrays", made), made, strict=True):
                old[...] = new
            return kept["arrays"]

        replay.run = same
        self.build = lambda: replay
        return replay

    whole = recording.Recording.build
    monkeypatch.setattr(recording.Recording, "build", build)
