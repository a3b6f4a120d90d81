"""How long models take, side by side: in turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..nn import Module
from .models import backend_of

WARM_UP = 10  # calls that are not timed: compilation, caches, first allocations


def latency(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round; a round goes through all calls, so drift hits all alike.

    >>> latency({"nothing": lambda: None}, rounds=5)["nothing"].shape
    (5,)
    """
    seconds = {name: np.empty(rounds) for name in calls}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    for i in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name][i] = time.perf_counter() - start
    return seconds


def calling(model: Module, x: Tensor) -> Callable[[], None]:
    """A call to be timed: the model on x, until the result is there."""
    backend = backend_of(model)

    def call() -> None:
        model(x)
        backend.synchronize()

    return call
