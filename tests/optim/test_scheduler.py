"""Schedules against their closed forms, computed here in another way where there is one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import minidl
from minidl import optim
from minidl.errors import ArgumentError, CheckpointError, DTypeError
from minidl.verify.tolerances import assert_close, composed_bound
from tests.optim.steps import parameter


def sgd(*lrs: float, momentum: float = 0.0) -> optim.SGD:
    groups = [{"params": [parameter(np.ones(1, np.float32))], "lr": lr} for lr in lrs]
    return optim.SGD(groups, momentum=momentum)


def rates(schedule: optim.Scheduler, steps: int, group: int = 0) -> list[float]:
    """The rates of so many steps, the first before any call of step()."""
    found = [schedule.get_last_lr()[group]]
    for _ in range(steps - 1):
        schedule.optimizer.step()
        schedule.step()
        found.append(schedule.optimizer.param_groups[group]["lr"])
    return found


def same(actual: list[float], expected: list[float], largest: float = 1.0) -> None:
    """But for the roundings of a formula that starts from the largest rate."""
    bound = composed_bound(np.float64, np.float64(largest))
    assert_close(np.array(actual), np.array(expected), bound)


def test_step():
    schedule = optim.StepLR(sgd(1.0, 8.0), 3, gamma=0.5)
    assert rates(schedule, 8) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert schedule.get_last_lr() == [0.25, 2.0]
    assert schedule.last_epoch == 7


def test_lambda():
    assert rates(optim.LambdaLR(sgd(2.0), lambda t: 1 / (t + 1)), 3) == [2, 1, 2 / 3]
    two = optim.LambdaLR(sgd(2.0, 4.0), [lambda t: t, lambda t: 0.5**t])
    two.step()
    assert two.get_last_lr() == [2, 2]
    with pytest.raises(ArgumentError, match="1 functions for 2"):
        optim.LambdaLR(sgd(1.0, 1.0), [lambda t: 1])


def test_cosine_follows_its_recurrence():
    """PyTorch's form: each rate from the one before it, by the ratio of two cosines."""
    base, low, period = 0.8, 0.2, 10
    expected = [base]
    for t in range(1, period + 1):
        ratio = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        expected.append(low + (expected[-1] - low) * ratio)
    found = rates(optim.CosineAnnealingLR(sgd(base), period, low), 2 * period + 1)
    same(found[: period + 1], expected)
    assert (found[0], found[period]) == (base, low)
    same(found[period:], found[period::-1])  # it comes up again as it went down


def test_warmup():
    assert rates(optim.LinearWarmup(sgd(1.0), 3), 6) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rates(optim.LinearWarmup(sgd(1.0), 0), 2) == [1, 1]
    optimizer = sgd(1.0, 2.0)
    chained = optim.LinearWarmup(optimizer, 3, optim.StepLR(optimizer, 2, 0.5))
    assert rates(chained, 8, group=1) == [0.5, 1, 1.5, 2, 2, 1, 1, 0.5]
    assert chained.get_last_lr() == [0.25, 0.5]


def test_warmup_before_a_schedule_that_changes_the_rate_at_once():
    """A schedule that begins elsewhere than at its base does not make that its base."""
    optimizer = sgd(1.0)
    chained = optim.LinearWarmup(optimizer, 1, optim.LambdaLR(optimizer, lambda t: 0.5))
    assert rates(chained, 3) == [0.5, 0.5, 0.5]
    assert chained.base_lrs == [1.0]


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle(strategy):
    """total_steps rates: up to the top at pct_start, down to the bottom at the end."""
    total, top = 20, 2.0
    schedule = optim.OneCycleLR(
        sgd(0.1, momentum=0.9), top, total, pct_start=0.25, anneal_strategy=strategy,
        base_momentum=0.8, max_momentum=0.9, div_factor=10, final_div_factor=100,
    )  # fmt: skip
    optimizer = schedule.optimizer
    found, momenta = [], []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        schedule.step()
    first, last = top / 10, top / 10 / 100
    up = np.arange(5) / 4  # steps 0 to 4: 0.25 * 20 - 1
    down = np.arange(1, 16) / 15
    if strategy == "cos":
        up, down = ((1 - np.cos(np.pi * part)) / 2 for part in (up, down))
    same(found, [*(first + (top - first) * up), *(top + (last - top) * down)], top)
    same(momenta, [*(0.9 - 0.1 * up), *(0.8 + 0.1 * down)])
    same([optimizer.param_groups[0]["lr"]], [last])  # one step more, as a loop makes it
    with pytest.raises(ArgumentError, match="step 21 of a cycle of 20"):
        schedule.step()


def test_one_cycle_turns_the_first_beta():
    p = parameter(np.ones(1, np.float32))
    schedule = optim.OneCycleLR(
        optim.Adam([p], betas=(0.9, 0.99)), 1.0, epochs=2, steps_per_epoch=5
    )
    assert schedule.total_steps == 10
    assert schedule.optimizer.param_groups[0]["betas"] == (0.95, 0.99)
    schedule.step()
    schedule.step()
    same(list(schedule.optimizer.param_groups[0]["betas"]), [0.85, 0.99])


def test_one_cycle_without_momentum_and_by_group():
    optimizer = sgd(0.1, 0.2, momentum=0.5)
    schedule = optim.OneCycleLR(optimizer, [1.0, 2.0], 10, cycle_momentum=False, div_factor=4)
    assert schedule.get_last_lr() == [0.25, 0.5]
    assert optimizer.param_groups[0]["momentum"] == 0.5
    adagrad = optim.Adagrad([parameter(np.ones(1, np.float32))])
    with pytest.raises(ArgumentError, match="cycle_momentum=False"):
        optim.OneCycleLR(adagrad, 1.0, 10)
    optim.OneCycleLR(adagrad, 1.0, 10, cycle_momentum=False)
    with pytest.raises(ArgumentError, match="1 rates"):
        optim.OneCycleLR(optimizer, [1.0], 10)


@pytest.mark.parametrize("pct", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_any_length_ends_in_finite_rates(total, pct):
    found = rates(optim.OneCycleLR(sgd(0.1), 1.0, total, pct_start=pct), total + 1)
    assert all(0 < rate <= 1 for rate in found)


MAKERS = {
    "StepLR": lambda o: optim.StepLR(o, 2),
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 7, 0.01),
    "LinearWarmup": lambda o: optim.LinearWarmup(o, 3, optim.CosineAnnealingLR(o, 5)),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 0.7, 9),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_restored_schedule_continues(make):
    one = make(sgd(0.3, 0.6, momentum=0.9))
    rates(one, 5)
    two = make(sgd(0.3, 0.6, momentum=0.9))
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.get_last_lr() == one.get_last_lr()
    assert rates(two, 4, 1) == rates(one, 4, 1)
    assert two.optimizer.param_groups[0]["momentum"] == one.optimizer.param_groups[0]["momentum"]


def test_a_schedule_over_a_restored_optimizer_keeps_its_base():
    """The optimizer's saved rate is the current one; the base is the schedule's own to restore."""
    one = optim.StepLR(sgd(1.0), 1, 0.5)
    rates(one, 3)
    optimizer = sgd(1.0)
    optimizer.load_state_dict(one.optimizer.state_dict())
    two = optim.StepLR(optimizer, 1, 0.5)
    two.load_state_dict(one.state_dict())
    two.step()
    assert two.get_last_lr() == [0.125]


def test_a_state_for_other_groups_is_refused():
    for state in ({}, {"last_epoch": 1, "base_lrs": [1.0, 2.0]}, {"base_lrs": [1.0]}):
        schedule = optim.StepLR(sgd(1.0), 1)
        with pytest.raises(CheckpointError, match="StepLR"):
            schedule.load_state_dict(state)
        assert schedule.last_epoch == 0


BAD = {
    "step_size": lambda o: optim.StepLR(o, 0),
    "T_max": lambda o: optim.CosineAnnealingLR(o, 2.5),
    "warmup_steps": lambda o: optim.LinearWarmup(o, -1),
    "total_steps": lambda o: optim.OneCycleLR(o, 1.0),
    "pct_start": lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=1.5),
    "anneal_strategy": lambda o: optim.OneCycleLR(o, 1.0, 10, anneal_strategy="cubic"),
    "div_factor": lambda o: optim.OneCycleLR(o, 1.0, 10, div_factor=0),
    "gamma": lambda o: optim.StepLR(o, 1, None),
    "eta_min": lambda o: optim.CosineAnnealingLR(o, 2, "a"),
    "a learning rate": lambda o: optim.OneCycleLR(o, -1.0, 10),
    "max_momentum": lambda o: optim.OneCycleLR(o, 1.0, 10, max_momentum=1.0),
    "epochs": lambda o: optim.OneCycleLR(o, 1.0, epochs="a", steps_per_epoch=2),
    "callable": lambda o: optim.LambdaLR(o, 3),
    "what a function returns": lambda o: optim.LambdaLR(o, lambda t: None),
}


@pytest.mark.parametrize(("name", "make"), BAD.items(), ids=BAD)
def test_bad_settings_are_refused(name, make):
    with pytest.raises(ArgumentError, match=name):
        make(sgd(0.1))


def test_what_is_no_optimizer_or_schedule_is_refused():
    for make in (
        lambda: optim.StepLR(None, 3),
        lambda: optim.LambdaLR(3, len),
        lambda: optim.OneCycleLR([], 1.0, 10),
        lambda: optim.LinearWarmup(sgd(0.1), 3, after=sgd(0.1)),
        lambda: optim.StepLR(sgd(0.1), 3).load_state_dict(None),
    ):
        with pytest.raises(DTypeError, match=r"must be an? (Optimizer|Scheduler|Mapping), got"):
            make()


def test_numpy_numbers_are_plain():
    """So that what the schedule sets can be saved as JSON."""
    three, half = np.int64(3), np.float32(0.5)
    for schedule in (
        optim.StepLR(sgd(1.0), three, half),
        optim.CosineAnnealingLR(sgd(1.0), three, half),
        optim.LinearWarmup(sgd(1.0), three),
        optim.LambdaLR(sgd(1.0), lambda t: half),
        optim.OneCycleLR(sgd(1.0, momentum=0.5), half, three),
        optim.OneCycleLR(sgd(1.0, momentum=0.5), [half], epochs=three, steps_per_epoch=three),
    ):
        schedule.step()
        json.dumps([schedule.get_last_lr(), schedule.state_dict()])


def test_training_under_a_schedule_uses_its_rates(backend):
    p = parameter(np.zeros(1, np.float32))
    optimizer = optim.SGD([p], lr=1.0)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (p * minidl.ones(1)).sum().backward()
        optimizer.step()
        schedule.step()
    assert p.tolist() == [-1.75]
