"""Losses: how wrong a prediction is. `reduction` is "mean", "sum" or "none", as in PyTorch."""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.creation import ones
from ..engine.dtypes import int64
from ..engine.function import Function
from ..engine.graph import repeats
from ..engine.tensor import Tensor
from ..errors import ShapeError
from . import check
from .activation import softplus
from .elementwise import clip, where
from .indexing import gather
from .reduce import log_softmax, mean
from .reduce import sum as total
from .shape import reshape, transpose
from .unary import exp, log

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Function):
    """loss = -(1 - s) w[t] log p[t] - s / C sum_c w[c] log p[c] for each row, p = softmax(x).

    With a = dloss/dlogp this gives dL/dx = g (a - p sum(a)); without weights and smoothing, g (p -
    onehot(t)).
    Source: Szegedy et al. (2015), arXiv:1512.00567, section 7, for the smoothing s.
    """

    def __init__(self, ignore_index: int, smoothing: float, reduction: str) -> None:
        self.ignore_index, self.smoothing, self.reduction = ignore_index, smoothing, reduction

    def forward(self, x: Any, target: Any, weight: Any) -> Any:
        self.target, self.weight = target, weight
        loss, self.log_probs = self.backend.cross_entropy(
            x, target, weight, self.ignore_index, self.smoothing
        )
        if self.reduction == "none":
            return loss
        return self.backend.mean(loss) if self.reduction == "mean" else self.backend.sum(loss)

    def backward(self, grad: Any) -> Any:
        if self.reduction != "none":
            rows = self.target.shape[0]
            each = grad / rows if self.reduction == "mean" else grad
            grad = self.backend.broadcast_to(each, (rows,))
        settings = (self.target, self.weight, self.ignore_index, self.smoothing)
        return self.backend.cross_entropy_grad(grad, self.log_probs, *settings), None, None

    def definition(self, x: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        log_probs = log_softmax(x, 1)
        weighted = log_probs if weight is None else log_probs * weight
        ignored = target == self.ignore_index
        label = reshape(where(ignored, 0, target), (-1, 1))
        hard = reshape(gather(weighted, 1, label), (-1,))
        loss = -(1 - self.smoothing) * hard - self.smoothing * mean(weighted, 1)
        return _reduced("cross_entropy", where(ignored, 0.0, loss), self.reduction)


def _reduced(operation: str, loss: Tensor, reduction: str) -> Tensor:
    check.choice(operation, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return loss
    return mean(loss) if reduction == "mean" else total(loss)


def _alike(operation: str, x: Tensor, target: Tensor) -> None:
    check.floating(operation, x=x, target=target)
    check.shape_is(operation, "target", target, x.shape)


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - target)^2. Shapes: both alike. Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> mse_loss(tensor([1.0, 2.0]), tensor([1.0, 4.0])).item()
    2.0
    """
    _alike("mse_loss", x, target)
    difference = x - target
    return _reduced("mse_loss", difference * difference, reduction)


def l1_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - target|. Shapes: both alike. Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> l1_loss(tensor([1.0, 2.0]), tensor([1.0, 4.0])).item()
    1.0
    """
    _alike("l1_loss", x, target)
    return _reduced("l1_loss", (x - target).abs(), reduction)


def huber_loss(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where d = |x - target| <= delta, else delta (d - delta / 2).

    Source: Huber (1964), "Robust estimation of a location parameter", section 5. Shapes: both
    alike.
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> huber_loss(tensor([0.5, 4.0]), tensor([0.0, 0.0]), "none")
    Tensor([0.125, 3.5  ])
    """
    _alike("huber_loss", x, target)
    delta = check.number("huber_loss", "delta", delta, 0, above=True)
    difference = x - target
    near = clip(difference, -delta, delta)  # near (d - near / 2) covers all branches, smoothly at 0
    return _reduced("huber_loss", near * (difference - 0.5 * near), reduction)


def binary_cross_entropy_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """-(p t log s + (1 - t) log(1 - s)), s = sigmoid(x), p = pos_weight; in a form that cannot
    overflow.

    log s = -softplus(-x) and log(1 - s) = -softplus(x). Shapes: x and target alike, the weights
    broadcast.
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> x, target = tensor([0.0, 1000.0]), tensor([1.0, 1.0])
    >>> binary_cross_entropy_with_logits(x, target, reduction="none")
    Tensor([0.6931, 0.    ])
    """
    _alike("binary_cross_entropy_with_logits", x, target)
    for w in (w for w in (weight, pos_weight) if w is not None):
        check.tensors("binary_cross_entropy_with_logits", weight=w)
        if not repeats(w.shape, x.shape):
            raise ShapeError(
                f"binary_cross_entropy_with_logits: a weight of shape {w.shape} cannot be repeated "
                f"to x {x.shape}"
            )
    positive = target * softplus(-x)
    loss = (positive if pos_weight is None else positive * pos_weight) + (1 - target) * softplus(x)
    return _reduced(
        "binary_cross_entropy_with_logits", loss if weight is None else loss * weight, reduction
    )


def cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log softmax(x)[target]: the loss of a classifier, from logits.

    With class weights, which are constants, the mean is weighted. Rows whose target is ignore_index
    count for nothing; if all are, the mean is NaN, as in PyTorch.

    Shapes: x (N, C) or (N, C, ...), target (N,) or (N, ...) of integers, weight (C,).
    Raises: ShapeError, DTypeError, ArgumentError; IndexRangeError for a label outside 0 to C - 1.

    >>> from minidl import tensor
    >>> cross_entropy(tensor([[0.0, 0.0]]), tensor([1])).item()
    0.693147...
    """
    smoothing = check.number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    ignore_index = check.integer("cross_entropy", "ignore_index", ignore_index)
    rows, labels, some_ignored = _classes("cross_entropy", x, target, weight, ignore_index)
    check.choice("cross_entropy", "reduction", reduction, REDUCTIONS)
    weight = None if weight is None else weight.detach()
    weighted = reduction == "mean" and (some_ignored or weight is not None)
    function = CrossEntropy(ignore_index, float(smoothing), "sum" if weighted else reduction)
    loss = apply(function, rows, labels, weight)
    if weighted:
        return loss / _counted(labels, weight, ignore_index, x)
    return reshape(loss, target.shape) if reduction == "none" and target.ndim > 1 else loss


def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-x[target] for log-probabilities x. Shapes and errors as in `cross_entropy`.

    >>> from minidl import tensor
    >>> nll_loss(tensor([[-1.0, -2.0]]), tensor([1])).item()
    2.0
    """
    ignore_index = check.integer("nll_loss", "ignore_index", ignore_index)
    rows, labels, some_ignored = _classes("nll_loss", x, target, weight, ignore_index)
    weight = None if weight is None else weight.detach()
    ignored = labels == ignore_index
    weighted = rows if weight is None else rows * weight
    picked = reshape(gather(weighted, 1, reshape(where(ignored, 0, labels), (-1, 1))), (-1,))
    loss = where(ignored, 0.0, -picked)
    if reduction == "mean" and (some_ignored or weight is not None):
        return total(loss) / _counted(labels, weight, ignore_index, x)
    return _reduced("nll_loss", reshape(loss, target.shape), reduction)


def _classes(
    operation: str, x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, bool]:
    """Logits as rows (N, C), labels as int64 (N,) known to be in range, and whether some may be
    ignored.
    """
    check.floating(operation, x=x)
    check.integers(operation, "target", target)
    shape = x.data.shape
    if len(shape) < 2 or target.data.shape != (shape[0], *shape[2:]):
        raise ShapeError(
            f"{operation}: x {x.shape} must be (N, C) or (N, C, ...), and target its shape "
            f"without C, got {target.shape}"
        )
    classes = shape[1]
    if weight is not None:
        check.shape_is(operation, "weight", weight, (classes,))
        check.same_dtype(operation, x, weight=weight)
    labels = target if target.data.dtype == int64 else target.astype(int64)
    rows = x
    if len(shape) > 2:
        labels = reshape(labels, target.size)
        rows = reshape(transpose(x, (0, *range(2, x.ndim), 1)), (target.size, classes))
    some_ignored = 0 <= ignore_index < classes
    if labels.data.size:
        low, high = labels.backend.bounds(labels.data)
        if low < 0 or high >= classes:
            some_ignored = True
            kept = where(labels == ignore_index, 0, labels)
            check.in_range(operation, "target", kept, 0, classes)
    return rows, labels, some_ignored


def _counted(labels: Tensor, weight: Tensor | None, ignore_index: int, like: Tensor) -> Tensor:
    """What the mean divides by: the summed weight of the labels that count."""
    ignored = labels == ignore_index
    if weight is None:
        return total(where(ignored, 0.0, ones(labels.shape, like.dtype, backend=like.backend)))
    return total(where(ignored, 0.0, weight[where(ignored, 0, labels)]))


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence target (log target - x) of log-probabilities x from target.

    As in PyTorch "mean" averages over all elements; "batchmean" divides the sum by N and is the
    divergence proper.
    Shapes: both alike. Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> p = tensor([[0.5, 0.5]])
    >>> kl_div(p.log(), p, "batchmean").item()
    0.0
    """
    _alike("kl_div", x, target)
    check.choice("kl_div", "reduction", reduction, (*REDUCTIONS, "batchmean"))
    if log_target:
        loss = exp(target) * (target - x)
    else:  # 0 log 0 = 0
        positive = target > 0
        loss = where(positive, target * (log(where(positive, target, 1.0)) - x), 0.0)
    if reduction == "batchmean":
        return total(loss) / (x.shape or (1,))[0]
    return _reduced("kl_div", loss, reduction)
