"""Losses as modules. `reduction` is "mean", "sum" or "none"; class weights are buffers."""

from __future__ import annotations

from typing import ClassVar

from .. import ops
from ..engine.tensor import Tensor
from ..ops.loss import REDUCTIONS
from .module import Module


class _Loss(Module):
    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        ops.check.choice(type(self).__name__, "reduction", reduction, self.reductions)
        self.reduction = reduction


class MSELoss(_Loss):
    """(x - target)^2; see `ops.mse_loss`.

    >>> import minidl
    >>> MSELoss()(minidl.tensor([1.0, 2.0]), minidl.tensor([1.0, 4.0])).item()
    2.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.mse_loss(x, target, self.reduction)


class L1Loss(MSELoss):
    """|x - target|; see `ops.l1_loss`.

    >>> import minidl
    >>> L1Loss()(minidl.tensor([1.0, 2.0]), minidl.tensor([1.0, 4.0])).item()
    1.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.l1_loss(x, target, self.reduction)


class HuberLoss(_Loss):
    """Quadratic up to delta, linear beyond; see `ops.huber_loss`.

    >>> import minidl
    >>> HuberLoss()(minidl.tensor([0.5]), minidl.tensor([0.0])).item()
    0.125
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = ops.check.number("HuberLoss", "delta", delta, 0, above=True)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.huber_loss(x, target, self.reduction, self.delta)


class BCEWithLogitsLoss(_Loss):
    """Binary cross entropy of sigmoid(x); see `ops.binary_cross_entropy_with_logits`.

    >>> import minidl
    >>> BCEWithLogitsLoss(reduction="none")(minidl.zeros(1), minidl.ones(1))
    Tensor([0.6931])
    """

    def __init__(
        self, weight: Tensor | None = None, reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        self.weight: Tensor | None
        self.pos_weight: Tensor | None
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.binary_cross_entropy_with_logits(
            x, target, self.weight, self.reduction, self.pos_weight
        )


class CrossEntropyLoss(_Loss):
    """-log softmax(x)[target], from logits; see `ops.cross_entropy`.

    Shapes: x (N, C) or (N, C, ...), target (N,) or (N, ...) of integers, weight (C,).

    >>> import minidl
    >>> CrossEntropyLoss()(minidl.tensor([[0.0, 0.0]]), minidl.tensor([1])).item()
    0.693147...
    """

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        name, check = type(self).__name__, ops.check
        self.ignore_index = check.integer(name, "ignore_index", ignore_index)
        self.label_smoothing = check.number(name, "label_smoothing", label_smoothing, 0, 1)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        settings = (self.ignore_index, self.reduction, self.label_smoothing)
        return ops.cross_entropy(x, target, self.weight, *settings)


class NLLLoss(_Loss):
    """-x[target] for log-probabilities x; see `ops.nll_loss`.

    >>> import minidl
    >>> NLLLoss()(minidl.tensor([[-1.0, -2.0]]), minidl.tensor([1])).item()
    2.0
    """

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        self.ignore_index = ops.check.integer("NLLLoss", "ignore_index", ignore_index)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities x from target; see `ops.kl_div`.

    >>> import minidl
    >>> p = minidl.tensor([[0.5, 0.5]])
    >>> KLDivLoss("batchmean")(p.log(), p).item()
    0.0
    """

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.kl_div(x, target, self.reduction, self.log_target)
