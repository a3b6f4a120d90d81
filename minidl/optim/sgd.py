"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from backends import Array, Backend

from ..errors import ArgumentError
from .optimizer import Optimizer, Params, Settings, require


class SGD(Optimizer):
    """v = momentum v + (1 - dampening) g, p = p - lr v, where g includes weight_decay p.

    The first v is g itself; with nesterov p moves by lr (g + momentum v). Source: Sutskever et al.
    (2013), "On the importance of initialization and momentum in deep learning", section 2, in
    PyTorch's form, where lr is not part of v. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn
    >>> p = nn.Parameter(minidl.tensor([1.0]))
    >>> optimizer = SGD([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.tolist()
    [0.0]
    """

    def __init__(
        self, params: Params, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "nesterov": nesterov})

    def check(self, settings: Settings) -> None:
        require("SGD", settings, "lr momentum weight_decay")
        require("SGD", settings, "dampening", -float("inf"))
        if settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
            raise ArgumentError("SGD: nesterov needs momentum > 0 and dampening = 0")

    def initial(self, settings: Settings) -> dict[str, float]:
        return {"velocity": 0.0} if settings["momentum"] else {}

    def update(
        self,
        backend: Backend,
        param: Array,
        grad: Array,
        state: dict[str, Array],
        step: int,
        s: Any,
    ) -> None:
        backend.sgd_step(
            param, grad, state.get("velocity"), s["lr"], s["momentum"], s["dampening"],
            s["weight_decay"], s["nesterov"], step == 1,
        )  # fmt: skip
