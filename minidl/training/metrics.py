"""How good a prediction is: for the labels of a batch, or of a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ops import argmax, check, gather


@no_grad()
def accuracy(x: Tensor, target: Tensor) -> Tensor:
    """Share of the rows whose largest element is at the target.

    Shapes: x (N, C), target (N,) of integers -> (). Raises: ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> accuracy(tensor([[0.1, 0.9], [0.8, 0.2]]), tensor([1, 1])).item()
    0.5
    """
    _rows("accuracy", x, target)
    return (argmax(x, 1) == target).astype("float64").mean()


@no_grad()
def top_k_accuracy(x: Tensor, target: Tensor, k: int = 5) -> Tensor:
    """Share of the rows in which fewer than k elements exceed the one at the target (or are NaN).

    Shapes: x (N, C), target (N,) of integers -> (). Raises: ShapeError, DTypeError, ArgumentError,
    IndexRangeError.

    >>> from minidl import tensor
    >>> top_k_accuracy(tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]), tensor([2, 2]), k=2).item()
    0.5
    """
    _rows("top_k_accuracy", x, target)
    k = check.integer("top_k_accuracy", "k", k, 1)
    chosen = gather(x, 1, target.reshape(-1, 1))
    ahead = (~(x <= chosen)).astype("float32").sum(1)
    return (ahead < k).astype("float64").mean()


def confusion_matrix(x: Any, target: Any, classes: int | None = None) -> np.ndarray:
    """How often target i (row) was taken for j (column): int64 (classes, classes).

    Shapes: x (N, C) or predicted labels (N,), target (N,).
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1])
    array([[1, 1],
           [0, 1]])
    """
    predicted, labels = _labels(x), _labels(target)
    if predicted.shape != labels.shape:
        raise ShapeError(
            f"confusion_matrix: {predicted.shape} predictions for {labels.shape} targets"
        )
    width = np.shape(x)[1] if np.ndim(x) == 2 else 0
    both = np.concatenate([predicted, labels])
    n = max(int(both.max(initial=-1)) + 1, width)
    if classes is not None:
        n = check.integer("confusion_matrix", "classes", classes, 0)
    if both.size and not 0 <= both.min() <= both.max() < n:
        raise ArgumentError(
            f"confusion_matrix: labels must be from 0 to {n - 1}, got {both.min()} to {both.max()}"
        )
    return np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)


def _labels(x: Any) -> np.ndarray:
    """int64 (N,): labels as they are, scores (N, C) as the position of the largest."""
    values = np.asarray(x)
    if values.ndim == 2:
        values = values.argmax(1)
    if values.ndim != 1:
        raise ShapeError(
            f"confusion_matrix: needs labels (N,) or scores (N, C), got {values.shape}"
        )
    if values.size and values.dtype.kind not in "iub":
        raise DTypeError(f"confusion_matrix: labels must be integers, got {values.dtype}")
    return values.astype(np.int64)


def f1_score(x: Any, target: Any, average: str = "macro") -> Any:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN) for each class.

    average "macro" is the mean over the classes that occur, predicted or true; "none" gives one
    value for each class (NaN for one that does not occur); "micro" counts over all classes, which
    is the accuracy.
    Source: van Rijsbergen (1979), "Information retrieval", chapter 7.

    Shapes: as `confusion_matrix`. Raises: ShapeError, ArgumentError.

    >>> round(f1_score([0, 1, 1], [0, 0, 1]), 4)
    0.6667
    """
    check.choice("f1_score", "average", average, ("macro", "micro", "none"))
    counts = confusion_matrix(x, target)
    hits, total = np.diag(counts), counts.sum(0) + counts.sum(1)
    if average == "micro":
        return float(2 * hits.sum() / total.sum()) if total.sum() else float("nan")
    scores = np.divide(2 * hits, total, out=np.full(len(hits), np.nan), where=total > 0)
    if average == "none":
        return scores
    return float(scores[total > 0].mean()) if (total > 0).any() else float("nan")


class Mean:
    """The running mean of a number per batch, weighted by the batch's size.

    Tensors are kept until somebody asks, so that a training step does not wait for the device;
    the sum is in float64 on the host.

    >>> mean = Mean()
    >>> mean.update(1.0, 3)
    >>> mean.update(5.0, 1)
    >>> mean.compute()
    2.0
    """

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total, self.count = total, count
        self._waiting: list[tuple[Tensor | float, int]] = []

    def update(self, value: Tensor | float, n: int = 1) -> None:
        """Add a batch of n samples with that mean value."""
        self._waiting.append((value.detach() if isinstance(value, Tensor) else value, n))

    def drain(self) -> list[float]:
        """The values that came since the last call, as numbers. Waits for the device."""
        values = [float(value) for value, _ in self._waiting]
        for value, (_, n) in zip(values, self._waiting, strict=True):
            self.total += value * n
            self.count += n
        self._waiting.clear()
        return values

    def compute(self) -> float:
        """The mean so far; NaN before the first batch. Waits for the device."""
        self.drain()
        return self.total / self.count if self.count else float("nan")

    @property
    def state(self) -> Sequence[float]:
        """(total, count): what the constructor takes. Waits for the device."""
        self.drain()
        return self.total, self.count


def _rows(operation: str, x: Tensor, target: Tensor) -> None:
    check.floating(operation, x=x)
    check.integers(operation, "target", target)
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ShapeError(
            f"{operation}: x must be (N, C) and target (N,), got {x.shape} and {target.shape}"
        )
