"""Learning rates that change: each is a formula of the number of steps taken, so it can be resumed.

A scheduler sets the rate of step 0 when it is built; call `step()` after the optimizer's, once per
epoch or once per batch as suits the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, CheckpointError
from ..ops import check
from .optimizer import Optimizer, Settings


class Scheduler:
    """Base of all schedulers; a subclass keeps its settings, calls this, and defines `rate`."""

    def __init__(self, optimizer: Optimizer, base_lrs: Sequence[float] | None = None) -> None:
        self.optimizer = optimizer
        self.base_lrs = list(base_lrs or [group["lr"] for group in optimizer.param_groups])
        self.last_epoch = 0
        if len(self.base_lrs) != len(optimizer.param_groups):
            raise ArgumentError(
                f"{type(self).__name__}: {len(self.base_lrs)} rates or functions for "
                f"{len(optimizer.param_groups)} parameter groups"
            )
        self._set()

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
        base_lrs = list(state.get("base_lrs", ()))
        if len(base_lrs) != len(self.base_lrs) or "last_epoch" not in state:
            raise CheckpointError(
                f"{type(self).__name__}: needs last_epoch and {len(self.base_lrs)} base_lrs, "
                f"got {state}"
            )
        self.last_epoch, self.base_lrs = int(state["last_epoch"]), base_lrs
        self._set()


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
        self.step_size, self.gamma = _count("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class LambdaLR(Scheduler):
    """base f(t), with one f for all parameter groups or one for each. Raises: ArgumentError."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lambdas) != groups:
            raise ArgumentError(f"LambdaLR: {len(self.lambdas)} functions for {groups} groups")
        super().__init__(optimizer)

    def settings(self, group: int, t: int) -> Settings:
        return {"lr": self.base_lrs[group] * self.lambdas[group](t)}


class CosineAnnealingLR(Scheduler):
    """eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2; beyond T_max it rises again.

    Source: Loshchilov & Hutter (2016), arXiv:1608.03983, equation 5. Raises: ArgumentError.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        self.T_max, self.eta_min = _count("CosineAnnealingLR", "T_max", T_max), eta_min
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
        self.warmup_steps = _count("LinearWarmup", "warmup_steps", warmup_steps, 0)
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
        if total_steps is None:
            total_steps = (epochs or 0) * (steps_per_epoch or 0)
        self.total_steps = _count("OneCycleLR", "total_steps (or epochs * ...)", total_steps)
        check.probability("OneCycleLR", "pct_start", pct_start)
        check.choice("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ArgumentError(
                "OneCycleLR: the optimizer has no momentum; pass cycle_momentum=False"
            )
        if not div_factor > 0 or not final_div_factor > 0:
            raise ArgumentError("OneCycleLR: div_factor and final_div_factor must be positive")
        self.anneal = _cosine if anneal_strategy == "cos" else _straight
        self.peak = pct_start * self.total_steps - 1
        self.cycle_momentum, self.momenta = cycle_momentum, (base_momentum, max_momentum)
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        groups = len(optimizer.param_groups)
        super().__init__(
            optimizer, [max_lr] * groups if isinstance(max_lr, (int, float)) else max_lr
        )

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


def _count(scheduler: str, name: str, value: Any, low: int = 1) -> int:
    if not isinstance(value, int) or value < low:
        raise ArgumentError(f"{scheduler}: {name} must be an integer >= {low}, got {value!r}")
    return value
