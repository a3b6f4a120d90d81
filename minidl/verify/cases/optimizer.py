"""Optimizer steps: one step from a random state, in place, under a running error bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, call_in_place, covers, drawn, each
from ..running import Approx
from ..strategies import FLOATS, Laid, arrays, fill, float_dtypes, seeds, shapes
from ..tolerances import assert_close, assert_same, rounded_bound

OFF_OR_ON = st.sampled_from((0.0, 0.01))


@st.composite
def states(draw: st.DrawFn) -> list[Laid]:
    """param, grad and two states, the second not negative; flat, or slices of a buffer."""
    n, dtype, seed = draw(st.integers(0, 33)), draw(float_dtypes), draw(seeds)
    layout = draw(st.sampled_from(("contiguous", "offset")))
    return [Laid(a, layout) for a in random_state(n, dtype, seed)]


def random_state(n: int, dtype: type, seed: int) -> list[np.ndarray]:
    param, grad, mean = (fill((n,), dtype, "normal", seed + i) for i in range(3))
    return [param, grad, mean, fill((n,), dtype, "normal", seed + 3) ** 2]


def lifted(arrays: Sequence[Laid | None]) -> list[Approx | None]:
    return [None if a is None else Approx(a.values, a.dtype) for a in arrays]


def running_sgd(
    p: Approx, g: Approx, v: Approx | None, lr: float, momentum: float, dampening: float,
    weight_decay: float, nesterov: bool, first: bool,
) -> list[Approx]:  # fmt: skip
    g = g + p * weight_decay
    if v is None:
        return [p - g * lr]
    v = g if first else v * momentum + g * (1 - dampening)
    return [p - (g + v * momentum if nesterov else v) * lr, v]


def running_rmsprop(
    p: Approx, g: Approx, s: Approx, v: Approx | None, lr: float, alpha: float, eps: float,
    weight_decay: float, momentum: float,
) -> list[Approx]:  # fmt: skip
    g = g + p * weight_decay
    s = s * alpha + g * g * (1 - alpha)
    step = g / (s.sqrt() + eps)
    if v is None:
        return [p - step * lr, s]
    v = v * momentum + step
    return [p - v * lr, s, v]


def running_adagrad(
    p: Approx, g: Approx, s: Approx, lr: float, eps: float, weight_decay: float
) -> list[Approx]:
    g = g + p * weight_decay
    s = s + g * g
    return [p - g * lr / (s.sqrt() + eps), s]


def running_adam(
    p: Approx, g: Approx, m: Approx, s: Approx, step: int, lr: float, beta1: float,
    beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> list[Approx]:  # fmt: skip
    if decoupled:
        p = p - p * (lr * weight_decay)
    else:
        g = g + p * weight_decay
    m = m * beta1 + g * (1 - beta1)
    s = s * beta2 + g * g * (1 - beta2)
    m_hat, s_hat = m / (1 - beta1**step), s / (1 - beta2**step)
    return [p - m_hat * lr / (s_hat.sqrt() + eps), m, s]


RUNNING: dict[str, Callable[..., list[Approx]]] = {
    "sgd_step": running_sgd,
    "rmsprop_step": running_rmsprop,
    "adagrad_step": running_adagrad,
    "adam_step": running_adam,
}


def check(
    backend: Backend, method: str, arrays: Sequence[Laid | None], options: tuple[Any, ...],
    changes: tuple[int, ...],
) -> None:  # fmt: skip
    """What the step leaves in `changes` against the oracle; everything else must stay as it was."""
    host = [None if a is None else a.values for a in arrays]
    expected = getattr(oracle, method)(*host, *options)
    bounds = RUNNING[method](*lifted(arrays), *options)
    actual = call_in_place(backend, method, *arrays, *options, changes=changes)
    for got, want, bound in zip(actual, expected, bounds, strict=True):
        assert_close(got, want, bound.bound, bound.dtype)


@covers("sgd_step")
@drawn(
    state=states(),
    with_velocity=st.booleans(),
    dampening=st.sampled_from((0.0, 0.3)),
    weight_decay=OFF_OR_ON,
    nesterov=st.booleans(),
    first=st.booleans(),
)
def sgd(
    backend: Backend, state: list[Laid], with_velocity: bool, dampening: float,
    weight_decay: float, nesterov: bool, first: bool,
) -> None:  # fmt: skip
    param, grad, mean, _ = state
    velocity = mean if with_velocity else None
    momentum = 0.9 if with_velocity else 0.0
    options = (0.1, momentum, dampening, weight_decay, nesterov and with_velocity, first)
    changes = (0, 2) if with_velocity else (0,)
    check(backend, "sgd_step", [param, grad, velocity], options, changes)


@covers("rmsprop_step")
@drawn(state=states(), with_velocity=st.booleans(), weight_decay=OFF_OR_ON)
def rmsprop(backend: Backend, state: list[Laid], with_velocity: bool, weight_decay: float) -> None:
    param, grad, mean, square = state
    velocity = mean if with_velocity else None
    options = (0.01, 0.99, 1e-3, weight_decay, 0.9 if with_velocity else 0.0)
    changes = (0, 2, 3) if with_velocity else (0, 2)
    check(backend, "rmsprop_step", [param, grad, square, velocity], options, changes)


@covers("adagrad_step")
@drawn(state=states(), weight_decay=OFF_OR_ON)
def adagrad(backend: Backend, state: list[Laid], weight_decay: float) -> None:
    param, grad, _, square = state
    check(backend, "adagrad_step", [param, grad, square], (0.05, 1e-3, weight_decay), (0, 2))


@covers("adam_step")
@drawn(
    state=states(),
    step=st.sampled_from((1, 2, 10, 100_000)),
    eps=st.sampled_from((1e-8, 1e-3)),
    weight_decay=OFF_OR_ON,
    decoupled=st.booleans(),
)
def adam(
    backend: Backend, state: list[Laid], step: int, eps: float, weight_decay: float,
    decoupled: bool,
) -> None:  # fmt: skip
    options = (step, 1e-3, 0.9, 0.999, eps, weight_decay, decoupled)
    check(backend, "adam_step", state, options, (0, 2, 3))


@covers("adam_step")
def adam_does_not_move_without_a_gradient(backend: Backend) -> None:
    """0 / (sqrt(0) + eps) is 0, not NaN, also where the second moment is 0."""
    for dtype in FLOATS:
        param, *rest = (Laid(np.full(5, v, dtype)) for v in (1.5, 0, 0, 0))
        options = (1, 1e-3, 0.9, 0.999, 1e-8, 0.0, False)
        after = call_in_place(backend, "adam_step", param, *rest, *options, changes=(0, 2, 3))
        for got, want in zip(after, (1.5, 0, 0), strict=True):
            assert (got == want).all()


@covers(*RUNNING)
def many_parameters(backend: Backend, method: str) -> None:
    """Enough for several threads, with a remainder."""
    options = {
        "sgd_step": (0.1, 0.9, 0.0, 0.01, True, False),
        "rmsprop_step": (0.01, 0.99, 1e-8, 0.01, 0.9),
        "adagrad_step": (0.05, 1e-8, 0.01),
        "adam_step": (3, 1e-3, 0.9, 0.999, 1e-8, 0.01, True),
    }[method]
    for dtype in FLOATS:
        param, grad, mean, square = (Laid(a) for a in random_state(70_001, dtype, 1))
        arrays, changes = {
            "sgd_step": ([param, grad, mean], (0, 2)),
            "rmsprop_step": ([param, grad, square, mean], (0, 2, 3)),
            "adagrad_step": ([param, grad, square], (0, 2)),
            "adam_step": ([param, grad, mean, square], (0, 2, 3)),
        }[method]
        check(backend, method, arrays, options, changes)


@covers(*RUNNING)
def a_nan_gradient_shows_in_its_own_parameter(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        param, grad, mean, square = random_state(5, dtype, 2)
        grad[3] = np.nan
        state = {"sgd_step": [mean], "adam_step": [mean, square]}.get(method, [square])
        options = {
            "sgd_step": (0.1, 0.9, 0.0, 0.0, False, False),
            "rmsprop_step": (None, 0.01, 0.99, 1e-8, 0.0, 0.0),
            "adagrad_step": (0.05, 1e-8, 0.0),
            "adam_step": (3, 1e-3, 0.9, 0.999, 1e-8, 0.0, False),
        }[method]
        changes = (0, *range(2, 2 + len(state)))
        after = call_in_place(backend, method, param, grad, *state, *options, changes=changes)[0]
        assert np.isnan(after).tolist() == [False, False, False, True, False]


@covers("norm")
@drawn(x=arrays(shapes(), kinds=("normal", "wide", "offset", "constant")))
def norm_of_all_elements(backend: Backend, x: Laid) -> None:
    """As in float64, then rounded to the dtype; for float64 with the running error of the sum."""
    expected = oracle.norm(x.values)
    wide = Approx(x.values.astype(np.float64).ravel(), np.float64)
    bound = (wide * wide).sum().sqrt().bound.reshape(()) if x.values.size else 0.0
    actual = call(backend, "norm", x)
    assert_close(actual, expected, bound + rounded_bound(float(expected), x.dtype), x.dtype.type)


@covers("norm")
@each("n", [5, 400_009])
def norms_beyond_squares(backend: Backend, n: int) -> None:
    """Squares of these leave float32's range, or vanish beside the first; their sum must not."""
    for value in (1e25, 1e-25):
        x = np.full(n, value, np.float32)
        expected = oracle.norm(x)
        assert_close(call(backend, "norm", x), expected, rounded_bound(float(expected), np.float32))
    x = np.full(n, 0.5, np.float32)
    x[0] = 4096
    expected = oracle.norm(x)
    assert_close(call(backend, "norm", x), expected, rounded_bound(float(expected), np.float32))


@covers("norm")
def norms_of_what_is_not_finite(backend: Backend) -> None:
    for dtype in FLOATS:
        for special, expected in ((np.inf, np.inf), (-np.inf, np.inf), (np.nan, np.nan)):
            for n in (3, 70_001):
                x = np.ones(n, dtype)
                x[n // 2] = special
                assert_same(call(backend, "norm", x), np.array(expected, dtype))


@covers("scale")
@drawn(
    x=arrays(kinds=("normal", "special"), plain=True),
    layout=st.sampled_from(("contiguous", "offset", "strided", "fortran")),
    factor=st.sampled_from((0.5, 1.0, 0.3, 0.0, np.inf, np.nan)),
    double=st.booleans(),
)
def scale_multiplies_in_place(
    backend: Backend, x: Laid, layout: str, factor: float, double: bool
) -> None:
    x = Laid(x.values, layout)
    factors = np.array(factor, np.float64 if double else x.dtype)
    with np.errstate(all="ignore"):
        expected = oracle.scale(x.values, float(x.dtype.type(factor))).astype(x.dtype)
    (after,) = call_in_place(backend, "scale", x, factors, changes=(0,))
    assert_same(after, expected)


@covers("scale")
def many_elements_are_scaled(backend: Backend) -> None:
    for dtype in FLOATS:
        x = fill((400_009,), dtype, "integers", 4)
        (after,) = call_in_place(backend, "scale", x, np.array(0.25, dtype), changes=(0,))
        assert_same(after, x / 4)


@covers("limit")
@drawn(
    x=arrays(kinds=("normal", "special"), plain=True),
    layout=st.sampled_from(("contiguous", "offset", "strided", "fortran")),
    bound=st.sampled_from((0.5, 0.3, 0.0, 1e30, np.inf)),
)
def limit_keeps_nan_and_limits_the_rest(
    backend: Backend, x: Laid, layout: str, bound: float
) -> None:
    expected = oracle.limit(x.values, float(x.dtype.type(bound))).astype(x.dtype)
    (after,) = call_in_place(backend, "limit", Laid(x.values, layout), bound, changes=(0,))
    assert_same(after, expected, signed_zero=False)


@covers("limit")
def many_elements_are_limited(backend: Backend) -> None:
    for dtype in FLOATS:
        x = fill((400_009,), dtype, "integers", 4)
        x[7] = np.nan
        (after,) = call_in_place(backend, "limit", x, 1.5, changes=(0,))
        assert_same(after, np.minimum(np.maximum(x, dtype(-1.5)), dtype(1.5)), signed_zero=False)
