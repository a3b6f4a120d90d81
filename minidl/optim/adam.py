"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any, ClassVar

from backends import Array, Backend

from .optimizer import Optimizer, Params, Settings, require


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g, s = b2 s + (1 - b2) g^2, p = p - lr m' / (sqrt(s') + eps) at step t.

    m' = m / (1 - b1^t) and s' = s / (1 - b2^t) undo the start at 0; g includes weight_decay p.
    Source: Kingma & Ba (2014), arXiv:1412.6980, algorithm 1. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn
    >>> p = nn.Parameter(minidl.tensor([1.0]))
    >>> optimizer = Adam([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p
    Parameter containing:
    Tensor([0.9], requires_grad=True)
    """

    decoupled: ClassVar[bool] = False

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def check(self, settings: Settings) -> None:
        require(type(self).__name__, settings, "lr eps weight_decay")
        require(type(self).__name__, settings, "betas", 0, 1, count=2)

    def initial(self, settings: Settings) -> dict[str, float]:
        return {"mean": 0.0, "square": 0.0}

    def update(
        self,
        backend: Backend,
        param: Array,
        grad: Array,
        state: dict[str, Array],
        step: int,
        s: Any,
    ) -> None:
        beta1, beta2 = s["betas"]
        backend.adam_step(
            param, grad, state["mean"], state["square"], step, s["lr"], beta1, beta2, s["eps"],
            s["weight_decay"], self.decoupled,
        )  # fmt: skip


class AdamW(Adam):
    """Adam whose weight decay is no part of g: p = (1 - lr weight_decay) p, and then Adam's step.

    Source: Loshchilov & Hutter (2017), arXiv:1711.05101, algorithm 2. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl import nn
    >>> AdamW([nn.Parameter(minidl.ones(1))]).param_groups[0]["weight_decay"]
    0.01
    """

    decoupled = True

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)
