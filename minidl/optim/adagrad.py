"""Adagrad."""

from __future__ import annotations

from typing import Any

from backends import Array, Backend

from .optimizer import Optimizer, Params, Settings, require


class Adagrad(Optimizer):
    """s = s + g^2, p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps) at step t.

    g includes weight_decay p. Source: Duchi, Hazan & Singer (2011), "Adaptive subgradient methods",
    JMLR 12, figure 1. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn
    >>> p = nn.Parameter(minidl.tensor([1.0]))
    >>> optimizer = Adagrad([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.tolist()
    [0.5]
    """

    def __init__(
        self, params: Params, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        first = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__(params, {**defaults, **first})

    def check(self, settings: Settings) -> None:
        require("Adagrad", settings, "lr lr_decay weight_decay initial_accumulator_value eps")

    def initial(self, settings: Settings) -> dict[str, float]:
        return {"square": settings["initial_accumulator_value"]}

    def update(
        self,
        backend: Backend,
        param: Array,
        grad: Array,
        state: dict[str, Array],
        step: int,
        s: Any,
    ) -> None:
        lr = s["lr"] / (1 + (step - 1) * s["lr_decay"])
        backend.adagrad_step(param, grad, state["square"], lr, s["eps"], s["weight_decay"])
