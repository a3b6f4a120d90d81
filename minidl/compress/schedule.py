"""Gradual pruning: a little at a time, while the model trains and makes up for what it lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn import Module
from ..ops import check
from ..training import Callback
from . import prune


def cubic(t: float, begin: float, end: float, final: float, initial: float = 0.0) -> float:
    """The sparsity at time t: s_f + (s_i - s_f) (1 - (t - begin) / (end - begin))^3 in between.

    It rises fast while many weights are superfluous, and slowly at the end.
    Source: Zhu & Gupta (2017), arXiv:1710.01878, equation 1. Raises: ArgumentError.

    >>> [round(cubic(t, 0, 10, 0.8), 3) for t in (0, 5, 10, 20)]
    [0.0, 0.7, 0.8, 0.8]
    """
    check.number("cubic", "t", t)
    if not begin < end:
        raise ArgumentError(f"cubic: begin must be before end, got {begin!r} and {end!r}")
    if t <= begin or t >= end:
        return initial if t <= begin else final
    return final + (initial - final) * (1 - (t - begin) / (end - begin)) ** 3


class GradualPruning(Callback):
    """Prunes the model of a Trainer step by step along `cubic`; times are in epochs.

    Between begin and end, every `every` epochs (0.1: ten times in each), criterion is called with
    the amount that is due; options go to it, such as scope="layer" or pattern="16x1". The masks are
    there from the start, so that checkpoints of the training have them; a resumed one goes on.
    Source: Zhu & Gupta (2017), arXiv:1710.01878, section 3.
    Raises: ArgumentError.

    >>> import minidl, numpy as np
    >>> from minidl import nn, ops, optim
    >>> from minidl.training import Trainer
    >>> model = nn.Linear(10, 4)
    >>> pruning = GradualPruning(model, 0.75, begin=0, end=2)
    >>> sgd = optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = Trainer(model, sgd, callbacks=[pruning], batch_size=8)
    >>> x, y = np.ones((64, 10), np.float32), np.zeros(64, np.int64)
    >>> history = trainer.fit((x, y), epochs=3, progress=False)
    >>> prune.sparsity(model)
    0.75
    """

    def __init__(
        self, model: Module, final: float, begin: float, end: float, every: float = 0.1,
        initial: float = 0.0, criterion: Callable[..., Module] = prune.magnitude, **options: Any,
    ) -> None:  # fmt: skip
        self.begin = check.number("GradualPruning", "begin", begin, 0)
        self.end = check.number("GradualPruning", "end", end, 0)
        self.every = check.number("GradualPruning", "every", every, 0, above=True)
        self.initial = check.number("GradualPruning", "initial", initial, 0, 1, below=True)
        self.final = check.number("GradualPruning", "final", final, 0, 1, below=True)
        cubic(begin, begin, end, final)
        check.function("GradualPruning", "criterion", criterion, "model", "amount")
        self.criterion, self.options = criterion, options
        self.times = max(math.ceil((self.end - self.begin) / self.every), 1)
        self.done = -1  # of times 0, 1, ... self.times
        chosen = {k: v for k, v in options.items() if k in ("modules", "names")}
        for target in prune.targets(model, **chosen):
            if target.mask is None:
                prune.attach(target.module, target.name, np.ones(target.parameter.shape, bool))

    def on_step_end(self, model: Module, epochs: float) -> None:
        """Prune if it is time."""
        if epochs < self.begin:
            return
        due = int((epochs - self.begin) / self.every + 1e-9)  # 0.3 / 0.1 is a little below 3
        due = self.times if epochs >= self.end else min(due, self.times - 1)
        if due <= self.done:
            return
        self.done = due
        at = self.end if due == self.times else self.begin + due * self.every
        amount = cubic(at, self.begin, self.end, self.final, self.initial)
        self.criterion(model, amount, **self.options)

    def state_dict(self) -> dict[str, Any]:
        return {"settings": {"done": self.done}, "tensors": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = int(state["settings"]["done"])
