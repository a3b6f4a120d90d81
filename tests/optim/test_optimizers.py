"""Every optimizer, step by step, against the oracle; its settings, groups, and saved state."""

from __future__ import annotations

import json

import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.errors import ArgumentError, CheckpointError, DTypeError
from minidl.verify.strategies import FLOATS, fill
from minidl.verify.tolerances import assert_close, assert_same
from tests.optim.steps import expected, give, parameter

SETTINGS = {
    "SGD plain": (optim.SGD, {"lr": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "SGD dampening": (
        optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    ),
    "SGD nesterov": (
        optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    ),
    "RMSprop": (optim.RMSprop, {"lr": 0.01, "eps": 1e-3}),
    "RMSprop momentum": (
        optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "weight_decay": 0.1},
    ),
    "Adagrad": (optim.Adagrad, {"lr": 0.1, "eps": 1e-3}),
    "Adagrad decay": (
        optim.Adagrad,
        {
            "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5,
            "eps": 1e-3,
        },
    ),
    "Adam": (optim.Adam, {"lr": 0.01, "eps": 1e-3}),
    "Adam decay": (
        optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "AdamW": (optim.AdamW, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1}),
}  # fmt: skip
EACH = pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS)
SHAPES = ((3, 5), (), (1,), (0,), (17,))


def check(p: nn.Parameter, optimizer: optim.Optimizer, start, grads, group: int = 0) -> None:
    settings = optimizer.param_groups[group]
    want, bound = expected(type(optimizer).__name__, settings, start, grads)
    assert_close(p.numpy(), want, bound, start.dtype)


@EACH
@pytest.mark.parametrize("dtype", FLOATS)
def test_steps_agree_with_the_oracle(kind, settings, dtype):
    starts = [fill(shape, dtype, "normal", i) for i, shape in enumerate(SHAPES)]
    params = [parameter(a) for a in starts]
    optimizer = kind(params, **settings)
    grads = []
    for step in range(4):
        optimizer.zero_grad()
        grads.append([fill(s, dtype, "normal", 100 * step + i + 9) for i, s in enumerate(SHAPES)])
        for p, g in zip(params, grads[-1], strict=True):
            give(p, g)
        optimizer.step()
    for i, (p, start) in enumerate(zip(params, starts, strict=True)):
        check(p, optimizer, start, [g[i] for g in grads])
        assert not start.size or (p.numpy() != start).all()


@EACH
def test_a_restored_optimizer_continues_bit_for_bit(kind, settings):
    """Through JSON and copies of the tensors, as a checkpoint does it."""
    starts = [fill(shape, np.float32, "normal", i) for i, shape in enumerate(SHAPES)]
    first = [parameter(a) for a in starts]
    groups = [{"params": first[:2]}, {"params": first[2:], "lr": 0.05}]
    one = kind(groups, **settings)
    train(one, first, range(3))
    state = one.state_dict()
    saved = json.loads(json.dumps(state["settings"]))
    tensors = {name: minidl.tensor(x.numpy()) for name, x in state["tensors"].items()}
    second = [parameter(p.numpy()) for p in first]
    two = kind([{"params": second[:2]}, {"params": second[2:]}], **{**settings, "lr": 7.0})
    two.load_state_dict({"settings": saved, "tensors": tensors})
    assert two.param_groups[1]["lr"] == 0.05
    train(one, first, range(3, 6))
    train(two, second, range(3, 6))
    for a, b in zip(first, second, strict=True):
        assert_same(b.numpy(), a.numpy())
    again = two.state_dict()
    assert list(again["tensors"]) == list(state["tensors"])
    assert [g["steps"] for g in again["settings"]] == [[6, 6], [6, 6, 6]]


def train(optimizer, params, steps) -> None:
    for step in steps:
        optimizer.zero_grad()
        for i, p in enumerate(params):
            give(p, fill(p.shape, np.float32, "normal", 100 * step + i))
        optimizer.step()


def test_groups_have_their_own_settings():
    starts = [fill((5,), np.float32, "normal", i) for i in range(3)]
    params = [parameter(a) for a in starts]
    optimizer = optim.Adam([{"params": params[0], "lr": 0.5}, {"params": params[1:2]}], lr=0.25)
    optimizer.add_param_group({"params": (p for p in params[2:]), "betas": (0.5, 0.5)})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25, 0.25]
    grad = fill((5,), np.float32, "normal", 9)
    for p in params:
        give(p, grad)
    optimizer.step()
    for i, p in enumerate(params):
        check(p, optimizer, starts[i], [grad], i)


def test_settings_may_change_between_steps():
    start, grad = (fill((5,), np.float32, "integers", i) for i in range(2))
    p = parameter(start)
    optimizer = optim.SGD([p], lr=0.5)
    for lr in (0.5, 0.25):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        give(p, grad)
        optimizer.step()
    assert_same(p.numpy(), start - np.float32(0.75) * grad, signed_zero=False)


def test_gradients_add_up_until_they_are_forgotten():
    p = parameter(np.zeros(3, np.float32))
    optimizer = optim.SGD([p], lr=1.0)
    for _ in range(2):
        give(p, np.ones(3, np.float32))
    optimizer.step()
    assert p.tolist() == [-2, -2, -2]
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    assert p.tolist() == [-2, -2, -2]


def test_a_gradient_of_zero_is_not_none():
    """As in PyTorch: without a gradient nothing happens, with zeros momentum and decay go on."""
    p = parameter(np.ones(3, np.float32))
    optimizer = optim.SGD([p], lr=0.5, momentum=0.5)
    give(p, np.ones(3, np.float32))
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0, 0]
    optimizer.step()
    assert p.tolist() == [0.25, 0.25, 0.25]
    give(p, np.ones(3, np.float32))
    assert p.grad.tolist() == [1, 1, 1]


BAD = {
    "negative lr": lambda p: optim.SGD(p, lr=-1),
    "lr is NaN": lambda p: optim.Adam(p, lr=float("nan")),
    "lr is text": lambda p: optim.Adam(p, lr="fast"),
    "momentum": lambda p: optim.SGD(p, momentum=-0.1),
    "weight_decay": lambda p: optim.AdamW(p, weight_decay=-1e-3),
    "nesterov without momentum": lambda p: optim.SGD(p, nesterov=True),
    "nesterov with dampening": lambda p: optim.SGD(p, 1, 0.9, 0.1, nesterov=True),
    "beta of 1": lambda p: optim.Adam(p, betas=(0.9, 1.0)),
    "one beta": lambda p: optim.Adam(p, betas=(0.9,)),
    "beta alone": lambda p: optim.Adam(p, betas=0.9),
    "eps": lambda p: optim.Adagrad(p, eps=-1),
    "alpha": lambda p: optim.RMSprop(p, alpha=1),
    "accumulator": lambda p: optim.Adagrad(p, initial_accumulator_value=-1),
    "empty": lambda p: optim.SGD([]),
    "no list": lambda p: optim.SGD(p[0]),
    "a dict": lambda p: optim.SGD({"params": p}),
    "a tensor": lambda p: optim.SGD([minidl.zeros(2, requires_grad=True)]),
    "twice": lambda p: optim.SGD([*p, p[0]]),
    "twice in groups": lambda p: optim.SGD([{"params": p}, {"params": [p[0]]}]),
    "empty group": lambda p: optim.SGD([{"params": []}]),
    "unknown setting": lambda p: optim.SGD([{"params": p, "betas": (0, 0)}]),
    "bad setting in a group": lambda p: optim.SGD([{"params": p, "lr": -1}]),
    "None": lambda p: optim.SGD(None),
    "a number": lambda p: optim.SGD(3),
    "a model": lambda p: optim.SGD(nn.Linear(1, 1)),
    "a number in a group": lambda p: optim.SGD([{"params": 3}]),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(make):
    with pytest.raises(ArgumentError):
        make([parameter(np.ones(2, np.float32))])


def test_an_iterator_of_parameters_is_empty_the_second_time():
    params = iter([parameter(np.ones(2, np.float32))])
    optim.SGD(params)
    with pytest.raises(ArgumentError, match="empty after its first use: call it again"):
        optim.SGD(params)


def test_numpy_scalars_are_plain_settings():
    """In a saved state they are JSON, and in a step they widen nothing."""
    p = parameter(np.ones(2, np.float32))
    optimizer = optim.Adam([{"params": p, "lr": np.float32(0.5)}], betas=[np.float64(0.5), 0.5])
    assert json.loads(json.dumps(optimizer.state_dict()["settings"]))[0]["lr"] == 0.5
    assert type(optimizer.param_groups[0]["betas"][0]) is float


def test_groups_and_states_are_dicts():
    optimizer = stepped()
    for call in (optimizer.add_param_group, optimizer.load_state_dict):
        for wrong in (None, [1], "a"):
            with pytest.raises(DTypeError, match="must be a Mapping, got"):
                call(wrong)


def states() -> dict[str, object]:
    good = stepped().state_dict()
    only = good["settings"][0]
    tensors = good["tensors"]
    misshapen = {**tensors, "0.mean": minidl.zeros(3)}
    return {
        "nothing": {},
        "more groups": {**good, "settings": [only, only]},
        "fewer parameters": {**good, "settings": [{**only, "steps": [1]}]},
        "no betas": {
            **good, "settings": [{k: v for k, v in only.items() if k != "betas"}],
        },
        "no moment": {**good, "tensors": {k: v for k, v in tensors.items() if k != "1.mean"}},
        "unknown tensor": {**good, "tensors": {**tensors, "2.mean": minidl.zeros(2)}},
        "misshapen": {**good, "tensors": misshapen},
    }  # fmt: skip


def stepped(lr: float = 0.5) -> optim.Adam:
    optimizer = optim.Adam([parameter(np.ones(2, np.float32)) for _ in range(2)], lr=lr)
    train(optimizer, optimizer.param_groups[0]["params"], range(1))
    return optimizer


CASES = (
    "nothing", "more groups", "fewer parameters", "no betas", "no moment", "unknown tensor",
    "misshapen",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_loaded(case):
    optimizer = stepped(lr=0.25)
    before = optimizer.state_dict()
    with pytest.raises(CheckpointError, match="Adam: "):
        optimizer.load_state_dict(states()[case])
    after = optimizer.state_dict()
    assert after["settings"] == before["settings"]
    for name, x in before["tensors"].items():
        assert_same(after["tensors"][name].numpy(), x.numpy())


def test_a_setting_out_of_range_in_a_state_is_refused():
    optimizer, state = stepped(), stepped().state_dict()
    state["settings"][0]["lr"] = -1.0
    with pytest.raises(ArgumentError, match="lr"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5
