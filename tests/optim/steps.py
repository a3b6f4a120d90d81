"""Optimizer steps in float64 by the oracle, and the bound on what rounding may add to them.

The gradients are given, not computed from the parameters, so that no error feeds back into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import minidl
from minidl import nn
from minidl.verify import oracle
from minidl.verify.cases.optimizer import RUNNING
from minidl.verify.running import Approx

# Optimizer -> (its kernel, state that the kernel changes, options of step t from the settings).
KERNELS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "SGD": (
        "sgd_step", ("velocity",),
        lambda t, s: (
            s["lr"], s["momentum"], s["dampening"], s["weight_decay"], s["nesterov"], t == 1,
        ),
    ),
    "RMSprop": (
        "rmsprop_step", ("square", "velocity"),
        lambda t, s: (s["lr"], s["alpha"], s["eps"], s["weight_decay"], s["momentum"]),
    ),
    "Adagrad": (
        "adagrad_step", ("square",),
        lambda t, s: (s["lr"] / (1 + (t - 1) * s["lr_decay"]), s["eps"], s["weight_decay"]),
    ),
    "Adam": (
        "adam_step", ("mean", "square"),
        lambda t, s: (t, s["lr"], *s["betas"], s["eps"], s["weight_decay"], False),
    ),
    "AdamW": (
        "adam_step", ("mean", "square"),
        lambda t, s: (t, s["lr"], *s["betas"], s["eps"], s["weight_decay"], True),
    ),
}  # fmt: skip


def expected(
    kind: str, settings: dict[str, Any], param: np.ndarray, grads: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(values, bound) of one parameter after a step for each gradient."""
    method, names, options = KERNELS[kind]
    start = settings.get("initial_accumulator_value", 0.0)
    names = tuple(n for n in names if n != "velocity" or settings["momentum"])
    exact = [param.astype(np.float64).ravel(), *(np.full(param.size, start) for _ in names)]
    rough = [Approx(a, param.dtype) for a in exact]
    gap = [None] * (kind in ("SGD", "RMSprop") and "velocity" not in names)  # an absent velocity
    for t, grad in enumerate(grads, 1):
        given = options(t, settings)
        flat = grad.astype(np.float64).ravel()
        state = [*exact[1:], *gap]
        exact = getattr(oracle, method)(exact[0], flat, *state, *given)
        rough = RUNNING[method](rough[0], Approx(flat, param.dtype), *rough[1:], *gap, *given)
    return exact[0].reshape(param.shape), rough[0].bound.reshape(param.shape)


def parameter(values: np.ndarray, **where: Any) -> nn.Parameter:
    return nn.Parameter(minidl.tensor(values, **where))


def give(p: minidl.Tensor, grad: np.ndarray) -> None:
    """Let backward() add grad to p.grad, as in training."""
    (p * minidl.tensor(grad, backend=p.backend)).sum().backward()
