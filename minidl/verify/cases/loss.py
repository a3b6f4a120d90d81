"""Cross entropy and its gradient, with class weights, ignored rows and label smoothing."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn
from ..running import Approx
from ..strategies import FLOATS, Laid, arrays, fill, float_dtypes, seeds
from ..tolerances import assert_close

IGNORE = -100

# logits (N, C), grad (N,), target (N,), weight (C,), the target to ignore, smoothing
Labelled = tuple[Laid, Laid, np.ndarray, Laid | None, int, float]


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """logits (N, C), grad (N,), targets with ignored rows, weights or None, smoothing."""
    rows, classes = draw(st.integers(0, 5)), draw(st.integers(1, 6))
    dtype = draw(float_dtypes)
    logits = draw(arrays((rows, classes), dtype))
    grad = draw(arrays((rows,), dtype, ("integers", "normal")))
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    ignore = draw(st.sampled_from((IGNORE, 0, -1)))
    target = rng.integers(0, classes, rows)
    target[rng.random(rows) < 0.3] = ignore
    weight = draw(st.none() | arrays((classes,), dtype, ("normal",)))
    if weight is not None:
        weight = Laid(np.abs(weight.values), weight.layout)
    smoothing = draw(st.sampled_from((0.0, 0.1, 1.0)))
    return logits, grad, target, weight, ignore, smoothing


def shares(
    target: np.ndarray, weight: np.ndarray | None, ignore: int, smoothing: float,
    dtype: np.dtype, classes: int,
) -> Approx:  # fmt: skip
    """(N, C): how much each log-probability counts; a few roundings each, 0 in ignored rows."""
    w = np.ones(classes) if weight is None else weight.astype(np.float64)
    hot = np.arange(classes) == target[:, None]
    value = (1 - smoothing) * w * hot + smoothing / classes * w
    value[target == ignore] = 0
    return Approx(value, dtype) * 1.0 * 1.0


def running_log_probs(logits: np.ndarray) -> Approx:
    peak: np.ndarray = logits.max(axis=1, keepdims=True).astype(np.float64)
    shifted = Approx(logits, logits.dtype) - peak
    return shifted - shifted.exp().sum(1).log()


def host(weight: Laid | np.ndarray | None) -> np.ndarray | None:
    return weight.values if isinstance(weight, Laid) else weight


def check_loss(
    backend: Backend, logits: Laid, target: np.ndarray, weight: Laid | np.ndarray | None,
    ignore: int, smoothing: float, expected: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:  # fmt: skip
    values = logits.values
    log_probs = running_log_probs(values)
    share = shares(target, host(weight), ignore, smoothing, values.dtype, values.shape[1])
    loss = -(share * log_probs).sum(1, False)
    expected = expected or (loss.value, log_probs.value)
    actual = call(backend, "cross_entropy", logits, target, weight, ignore, smoothing)
    assert_close(actual[0], expected[0], loss.bound, values.dtype)
    assert_close(actual[1], expected[1], log_probs.bound, values.dtype)


def check_grad(
    backend: Backend, grad: Laid, log_probs: np.ndarray, target: np.ndarray,
    weight: Laid | np.ndarray | None, ignore: int, smoothing: float,
    expected: np.ndarray | None = None,
) -> None:  # fmt: skip
    dtype = log_probs.dtype
    share = shares(target, host(weight), ignore, smoothing, dtype, log_probs.shape[1])
    upstream = Approx(grad.values, dtype).reshape(-1, 1)
    slope = (Approx(log_probs, dtype).exp() * share.sum(1) - share) * upstream
    if expected is None:
        expected = slope.value
    actual = call(backend, "cross_entropy_grad", grad, log_probs, target, weight, ignore, smoothing)
    assert_close(actual, expected, slope.bound, dtype)


@covers("cross_entropy")
@drawn(case=labelled())
def cross_entropy_agrees_with_oracle(backend: Backend, case: Labelled) -> None:
    logits, _, target, weight, ignore, smoothing = case
    expected = oracle.cross_entropy(logits.values, target, host(weight), ignore, smoothing)
    check_loss(backend, logits, target, weight, ignore, smoothing, expected)


@covers("cross_entropy_grad")
@drawn(case=labelled())
def cross_entropy_grad_agrees_with_oracle(backend: Backend, case: Labelled) -> None:
    logits, grad, target, weight, ignore, smoothing = case
    log_probs = oracle.log_softmax(logits.values, 1).astype(logits.dtype)
    expected = oracle.cross_entropy_grad(
        grad.values, log_probs, target, host(weight), ignore, smoothing
    )
    check_grad(backend, grad, log_probs, target, weight, ignore, smoothing, expected)


@covers("cross_entropy", "cross_entropy_grad")
def cross_entropy_of_many_rows_and_classes(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        for rows, classes in ((2048, 10), (7, 5003)):
            logits = fill((rows, classes), dtype, "normal", 1)
            target = np.random.Generator(np.random.PCG64(2)).integers(0, classes, rows)
            target[::5] = IGNORE
            weight = np.abs(fill((classes,), dtype, "normal", 3))
            options = (target, weight, IGNORE, 0.1)
            if method == "cross_entropy":
                check_loss(backend, Laid(logits), *options)
            else:
                log_probs = running_log_probs(logits).value.astype(dtype)
                grad = Laid(fill((rows,), dtype, "normal", 4))
                check_grad(backend, grad, log_probs, *options)


@covers("cross_entropy", "cross_entropy_grad")
def ignored_rows_are_exactly_zero(backend: Backend, method: str) -> None:
    """Even where the logits of the row, or the gradient that arrives there, are not numbers."""
    for dtype in FLOATS:
        logits = np.array([[1, 2], [np.nan, np.inf]], dtype)
        target = np.array([1, IGNORE])
        if method == "cross_entropy":
            loss, _ = call(backend, method, logits, target, None, IGNORE, 0.0)
            assert loss[1] == 0
            assert np.isfinite(loss[0])
            continue
        log_probs = oracle.log_softmax(logits[:1], 1).astype(dtype).repeat(2, axis=0)
        log_probs[1] = np.nan
        grad = np.array([1, np.nan], dtype)
        slope = call(backend, method, grad, log_probs, target, None, IGNORE, 0.1)
        assert (slope[1] == 0).all()
        assert np.isfinite(slope[0]).all()


@covers("cross_entropy")
def masked_classes_leave_a_finite_loss(backend: Backend) -> None:
    """A class at -inf has probability 0 and, without smoothing, no part in the loss of another."""
    for dtype in FLOATS:
        logits = np.array([[0, 0, -np.inf], [1000, -1000, 0]], dtype)
        loss, log_probs = call(
            backend, "cross_entropy", logits, np.array([0, 0]), None, IGNORE, 0.0
        )
        bound = running_log_probs(logits.clip(-1000)).bound[:, 0]
        assert_close(loss, np.array([np.log(2), 0]), bound, dtype)
        assert log_probs[0, 2] == -np.inf
