"""RMSprop."""

from __future__ import annotations

from typing import Any

from backends import Array, Backend

from .optimizer import Optimizer, Params, Settings, require


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2, p = p - lr g / (sqrt(s) + eps); g includes weight_decay p.

    With momentum, v = momentum v + g / (sqrt(s) + eps) and p = p - lr v. Source: Tieleman & Hinton
    (2012), "Neural Networks for Machine Learning", lecture 6.5. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn
    >>> p = nn.Parameter(minidl.tensor([1.0]))
    >>> optimizer = RMSprop([p], lr=0.1, alpha=0.0)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p
    Parameter containing:
    Tensor([0.9], requires_grad=True)
    """

    def __init__(
        self, params: Params, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0, momentum: float = 0,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "alpha": alpha, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "momentum": momentum})

    def check(self, settings: Settings) -> None:
        require("RMSprop", settings, "lr eps weight_decay momentum")
        require("RMSprop", settings, "alpha", 0, 1)

    def initial(self, settings: Settings) -> dict[str, float]:
        return {"square": 0.0, **({"velocity": 0.0} if settings["momentum"] else {})}

    def update(
        self,
        backend: Backend,
        param: Array,
        grad: Array,
        state: dict[str, Array],
        step: int,
        s: Any,
    ) -> None:
        backend.rmsprop_step(
            param, grad, state["square"], state.get("velocity"), s["lr"], s["alpha"], s["eps"],
            s["weight_decay"], s["momentum"],
        )  # fmt: skip
