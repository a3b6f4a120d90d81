"""Learning rates that change: each is a formula of the number of steps taken, so it can be resumed.

A scheduler sets the rate of step 0 when it is built; call `step()` after the optimizer's, once per
epoch or once per batch as suits the schedule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, CheckpointError
from ..ops import check
from .optimizer import Optimizer, Settings


class Scheduler:
    """Base of all schedulers; a subclass keeps its settings, calls this, and defines `rate`."""

    def __init__(self, optimizer: Optimizer, base_lrs: Sequence[float] | None = None) -> None:
        check.instance(type(self).__name__, "optimizer", optimizer, Optimizer)
        self.optimizer = optimizer
        given = [group["lr"] for group in optimizer.param_groups] if base_lrs is None else base_lrs
        self.base_lrs = [self._number("a learning rate", lr, 0) for lr in given]
        self.last_epoch = 0
        if len(self.base_lrs) != len(optimizer.param_groups):
            raise ArgumentError(
                f"{type(self).__name__}: {len(self.base_lrs)} rates or functions for "
                f"{len(optimizer.param_groups)} parameter groups"
            )
        self._set()

    def _number(self, name: str, value: Any, low: float = -math.inf, **how: bool) -> float:
        return check.number(type(self).__name__, name, value, low, **how)

    def rate(self, base: float, t: int) -> float:
        """The learning rate after t steps of a group that began with base."""
        raise NotImplementedError

    def settings(self, group: int, t: int) -> Settings:
        """What to set in a parameter group after t steps."""
        return {"lr": self.rate(self.base_lrs[group], t)}

    def _set(self) -> None:
        for i, group in enumerate(self.optimizer.param_groups):
            group.update(self.settings(i, self.last_epoch))

    def step(self) -> None:
        """Count one step and set the learning rates that follow it."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The current learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The steps taken and the rates at the beginning, fit for JSON."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`. Raises: CheckpointError if it is not for as many groups."""
        twin = self.check_state(state)
        self.last_epoch, self.base_lrs = twin.last_epoch, twin.base_lrs
        self._set()

    def check_state(self, state: Mapping[str, Any]) -> Scheduler:
        """A copy that continues from a `state_dict`; nothing is loaded. Raises: CheckpointError if
        the state is not for as many groups; ArgumentError for a number that cannot be.
        """
        check.instance(type(self).__name__, "the state", state, Mapping)
        base_lrs = list(state.get("base_lrs", ()))
        if len(base_lrs) != len(self.base_lrs) or "last_epoch" not in state:
            raise CheckpointError(
                f"{type(self).__name__}: needs last_epoch and {len(self.base_lrs)} base_lrs, "
                f"got {state}"
            )
        twin = copy.copy(self)
        twin.base_lrs = [self._number("a learning rate", lr, 0) for lr in base_lrs]
        twin.last_epoch = check.integer(type(self).__name__, "last_epoch", state["last_epoch"], 0)
        for i in range(len(base_lrs)):
            twin.settings(i, twin.last_epoch)  # which some schedules refuse beyond their end
        return twin


class StepLR(Scheduler):
    """base gamma^floor(t / step_size). Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(minidl.ones(1))], lr=0.5)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check.integer("StepLR", "step_size", step_size, 1)
        self.gamma = self._number("gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class LambdaLR(Scheduler):
    """base f(t), with one f for all parameter groups or one for each. Raises: ArgumentError.

    >>> from minidl import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = LambdaLR(optimizer, lambda step: 0.5**step)
    >>> schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        check.instance("LambdaLR", "optimizer", optimizer, Optimizer)
        groups = len(optimizer.param_groups)
        several = list(lr_lambda) if isinstance(lr_lambda, Sequence) else [lr_lambda] * groups
        if len(several) != groups or not all(map(callable, several)):
            raise ArgumentError(
                f"LambdaLR: {len(several)} functions for {groups} groups, each to be callable: "
                f"{lr_lambda!r:.60}"
            )
        self.lambdas = several
        super().__init__(optimizer)

    def settings(self, group: int, t: int) -> Settings:
        factor = self._number("what a function returns", self.lambdas[group](t), 0)
        return {"lr": self.base_lrs[group] * factor}


class CosineAnnealingLR(Scheduler):
    """eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2; beyond T_max it rises again.

    Source: Loshchilov & Hutter (2016), arXiv:1608.03983, equation 5. Raises: ArgumentError.

    >>> from minidl import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = CosineAnnealingLR(optimizer, 2)
    >>> schedule.step()
    >>> round(optimizer.param_groups[0]["lr"], 3)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        self.T_max = check.integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = self._number("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        return _cosine(base, self.eta_min, t / self.T_max)


class LinearWarmup(Scheduler):
    """base (t + 1) / (warmup_steps + 1) for warmup_steps steps, then `after` from its start.

    Without `after` the rate stays at base. Source: Goyal et al. (2017), arXiv:1706.02677, section
    2.2. PyTorch composes LinearLR and SequentialLR for this. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(minidl.ones(1))], lr=1.0)
    >>> schedule = LinearWarmup(optimizer, 3, after=CosineAnnealingLR(optimizer, 10))
    >>> [schedule.settings(0, t)["lr"] for t in (0, 1, 2, 3, 8)]
    [0.25, 0.5, 0.75, 1.0, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, after: Scheduler | None = None
    ) -> None:
        self.warmup_steps = check.integer("LinearWarmup", "warmup_steps", warmup_steps, 0)
        if after is not None:
            check.instance("LinearWarmup", "after", after, Scheduler)
        self.after = after
        super().__init__(optimizer, None if after is None else after.base_lrs)

    def rate(self, base: float, t: int) -> float:
        return base * min((t + 1) / (self.warmup_steps + 1), 1.0)

    def settings(self, group: int, t: int) -> Settings:
        if self.after is None or t < self.warmup_steps:
            return super().settings(group, t)
        return self.after.settings(group, t - self.warmup_steps)


class OneCycleLR(Scheduler):
    """From max_lr / div_factor up to max_lr in pct_start of total_steps, then down to almost 0.

    The end is max_lr / div_factor / final_div_factor. With cycle_momentum, momentum (or Adam's
    first beta) moves the other way, between base_momentum and max_momentum. total_steps may be
    given as epochs times steps_per_epoch. Source: Smith & Topin (2017), arXiv:1708.07120, section
    3, in the two phases that PyTorch has by default.
    Raises: ArgumentError, also for a step beyond the end.

    >>> import minidl
    >>> from minidl import nn, optim
    >>> optimizer = optim.Adam([nn.Parameter(minidl.ones(1))])
    >>> schedule = OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    >>> [round(schedule.settings(0, t)["lr"], 3) for t in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
        epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
        anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: float = 0.85,
        max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
    ) -> None:  # fmt: skip
        check.instance("OneCycleLR", "optimizer", optimizer, Optimizer)
        if total_steps is None:
            total_steps = check.integer("OneCycleLR", "epochs (or total_steps)", epochs, 1)
            total_steps *= check.integer("OneCycleLR", "steps_per_epoch", steps_per_epoch, 1)
        self.total_steps = check.integer("OneCycleLR", "total_steps", total_steps, 1)
        pct_start = check.number("OneCycleLR", "pct_start", pct_start, 0, 1)
        check.choice("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ArgumentError(
                "OneCycleLR: the optimizer has no momentum; pass cycle_momentum=False"
            )
        self.div_factor = self._number("div_factor", div_factor, 0, above=True)
        self.final_div_factor = self._number("final_div_factor", final_div_factor, 0, above=True)
        self.anneal = _cosine if anneal_strategy == "cos" else _straight
        self.peak = pct_start * self.total_steps - 1
        bounds = {"base_momentum": base_momentum, "max_momentum": max_momentum}
        low, high = (
            check.number("OneCycleLR", name, value, 0, 1, below=True)
            for name, value in bounds.items()
        )
        self.cycle_momentum, self.momenta = cycle_momentum, (low, high)
        several: Any = max_lr if isinstance(max_lr, (tuple, list)) else None
        super().__init__(optimizer, several or [max_lr] * len(optimizer.param_groups))

    def _between(self, first: float, peak: float, last: float, t: int) -> float:
        if t <= self.peak:
            return self.anneal(first, peak, t / self.peak if self.peak else 1.0)
        left = self.total_steps - 1 - self.peak
        return self.anneal(peak, last, min((t - self.peak) / left, 1.0) if left else 1.0)

    def rate(self, base: float, t: int) -> float:
        if t > self.total_steps:
            raise ArgumentError(f"OneCycleLR: step {t} of a cycle of {self.total_steps} steps")
        first = base / self.div_factor
        return self._between(first, base, first / self.final_div_factor, t)

    def settings(self, group: int, t: int) -> Settings:
        found = super().settings(group, t)
        if self.cycle_momentum:
            low, high = self.momenta
            momentum = self._between(high, low, high, t)
            betas = self.optimizer.param_groups[group].get("betas")
            found |= {"betas": (momentum, betas[1])} if betas else {"momentum": momentum}
        return found


def _cosine(start: float, end: float, done: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _straight(start: float, end: float, done: float) -> float:
    """From start to end along a line."""
    return start + (end - start) * done
