"""Losses, against straightforward formulas: cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import Case, case, spread

REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}
X, T = spread(3, 4), spread(3, 4, low=-1.9, high=2.4, seed=1)
PROBABILITIES = spread(3, 4, low=0.05, high=0.95, seed=2)
LOGITS, LABELS = spread(4, 3), np.array([2, 0, 1, 1])
CLASS_WEIGHTS = np.array([0.25, 1.0, 2.0])


def huber(x: np.ndarray, t: np.ndarray, delta: float) -> Any:
    d = np.abs(x - t)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


def bce(x: np.ndarray, t: np.ndarray, pos: np.ndarray | float = 1.0) -> Any:
    s = 1 / (1 + np.exp(-x))
    return -(pos * t * np.log(s) + (1 - t) * np.log(1 - s))


def simple_cases() -> list[Case]:
    found = []
    for r, reduce in REDUCTIONS.items():
        found += [
            case(f"mse_loss: {r}", lambda x, t, r=r: ops.mse_loss(x, t, r),
                 lambda x, t, f=reduce: f((x - t) ** 2), X, T),
            case(f"l1_loss: {r}", lambda x, t, r=r: ops.l1_loss(x, t, r),
                 lambda x, t, f=reduce: f(np.abs(x - t)), X, T),
            case(f"huber_loss: {r}", lambda x, t, r=r: ops.huber_loss(x, t, r, 0.75),
                 lambda x, t, f=reduce: f(huber(x, t, 0.75)), X, T),
            case(f"binary_cross_entropy_with_logits: {r}",
                 lambda x, t, r=r: ops.binary_cross_entropy_with_logits(x, t, reduction=r),
                 lambda x, t, f=reduce: f(bce(x, t)), X, PROBABILITIES),
            case(f"binary_cross_entropy_with_logits: weights {r}",
                 lambda x, t, w, p, r=r: ops.binary_cross_entropy_with_logits(x, t, w, r, p),
                 lambda x, t, w, p, f=reduce: f(w * bce(x, t, p)), X, PROBABILITIES,
                 spread(4, low=0.5), spread(3, 1, low=0.5)),
        ]  # fmt: skip
    for r, log_target in itertools.product([*REDUCTIONS, "batchmean"], (False, True)):
        reduce = REDUCTIONS.get(r, lambda x: np.sum(x) / len(x))
        target = np.log(PROBABILITIES) if log_target else PROBABILITIES
        found.append(
            case(f"kl_div: {r} {log_target}",
                 lambda x, t, r=r, log=log_target: ops.kl_div(x, t, r, log),
                 lambda x, t, f=reduce, log=log_target: f(
                     np.exp(t) * (t - x) if log else t * (np.log(t) - x)), X, target)
        )  # fmt: skip
    return found


def class_loss(
    ignore: int, smoothing: float, reduction: str, log_probs: bool = False
) -> Callable[..., Any]:
    """The loss of each row and the weighted mean over the rows that count, by loops."""

    def formula(x: np.ndarray, target: np.ndarray, w: np.ndarray | None = None) -> Any:
        logp = x if log_probs else oracle.log_softmax(x, 1)
        logp = np.moveaxis(logp, 1, -1)
        loss, mass = np.zeros(target.shape), 0.0
        w = np.ones(x.shape[1]) if w is None else w
        for at in np.ndindex(target.shape):
            t = target[at]
            if t == ignore:
                continue
            loss[at] = -(1 - smoothing) * w[t] * logp[at][t]
            loss[at] -= smoothing * (w * logp[at]).mean()
            mass += w[t]
        return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / mass}[reduction]

    return formula


def classification_cases() -> list[Case]:
    found = []
    ignoring = np.array([2, -100, 1, 1])
    for r, weighted, smoothing, target in itertools.product(
        REDUCTIONS, (False, True), (0.0, 0.25), (LABELS, ignoring)
    ):
        label = f"{r} {'weighted ' * weighted}{smoothing} {'ignoring' * (-100 in target)}"
        weights = (CLASS_WEIGHTS,) if weighted else ()
        found.append(
            case(f"cross_entropy: {label}",
                 lambda x, t, w=None, r=r, s=smoothing: ops.cross_entropy(x, t, w, -100, r, s),
                 class_loss(-100, smoothing, r), LOGITS, target, *weights,
                 constant=(2,))
        )  # fmt: skip
        if smoothing == 0:
            found.append(
                case(f"nll_loss: {label}",
                     lambda x, t, w=None, r=r: ops.nll_loss(x, t, w, -100, r),
                     class_loss(-100, 0, r, True), LOGITS, target, *weights,
                     constant=(2,))
            )  # fmt: skip
    images, pixels = spread(2, 3, 2, 2), np.array([[[0, 1], [2, 2]], [[1, 1], [0, 2]]])
    found += [
        case("cross_entropy: images", lambda x, t, w: ops.cross_entropy(x, t, w, ignore_index=1),
             class_loss(1, 0, "mean"), images, pixels, CLASS_WEIGHTS, constant=(2,)),
        case("cross_entropy: images none",
             lambda x, t: ops.cross_entropy(x, t, reduction="none", label_smoothing=0.1),
             class_loss(-100, 0.1, "none"), images, pixels),
        case("nll_loss: images", lambda x, t: ops.nll_loss(x, t, ignore_index=0),
             class_loss(0, 0, "mean", True), images, pixels),
        case("cross_entropy: bytes", ops.cross_entropy, class_loss(-100, 0, "mean"),
             LOGITS, LABELS.astype(np.uint8)),
    ]  # fmt: skip
    return found


CLASSIFICATION = classification_cases()


CASES = (*simple_cases(), *CLASSIFICATION)
