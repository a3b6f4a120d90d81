"""Attention and its gradients: masks, dropout, queries that may look nowhere, many blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..running import Approx
from ..strategies import FLOATS, Laid, Shape, arrays, fill, float_dtypes, lay, layouts, seeds
from ..tolerances import assert_close, assert_same, unit_roundoff
from .random import COUNTERS, SEEDS

PLAIN = (False, 1.0, 0.0, 0, 0)  # not causal, scale 1, no dropout


@dataclass(frozen=True)
class Attended:
    """Arguments of attention, and a gradient of its result."""

    query: Laid
    key: Laid
    value: Laid
    grad: Laid
    mask: Laid | None
    settings: Any  # causal, scale, p, seed, counter

    @property
    def inputs(self) -> tuple[Laid, Laid, Laid, Laid | None]:
        return self.query, self.key, self.value, self.mask

    @property
    def host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        mask = None if self.mask is None else self.mask.values
        return self.query.values, self.key.values, self.value.values, mask


@st.composite
def masks(draw: st.DrawFn, shape: Shape, dtype: type) -> Laid | None:
    """None, or bool or floating with some -inf, of a shape that broadcasts to the given one."""
    kind = draw(st.sampled_from(("none", "bool", "float")))
    if kind == "none":
        return None
    kept = tuple(n if draw(st.booleans()) else 1 for n in shape)
    kept = kept[draw(st.integers(0, 3)) :]
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    seen = rng.random(kept) < 0.6
    values = seen if kind == "bool" else np.where(seen, rng.standard_normal(kept), -np.inf)
    layout = draw(layouts(len(kept))) if 0 not in kept else "contiguous"
    return lay(values if kind == "bool" else values.astype(dtype), layout)


@st.composite
def attended(draw: st.DrawFn) -> Attended:
    n, h, t, s = (draw(st.integers(low, 3)) for low in (0, 1, 0, 0))
    d, e, dtype = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(float_dtypes)
    shapes = ((n, h, t, d), (n, h, s, d), (n, h, s, e), (n, h, t, e))
    found = [draw(arrays(shape, dtype)) for shape in shapes]
    scale, p = (
        draw(st.sampled_from((1.0, 0.5, d**-0.5))),
        draw(st.sampled_from((0.0, 0.0, 0.3, 1.0))),
    )
    settings = (draw(st.booleans()), scale, p, draw(SEEDS), draw(COUNTERS))
    query, key, value, grad = found
    return Attended(query, key, value, grad, draw(masks((n, h, t, s), dtype)), settings)


class Running:
    """Attention with its rounding errors. What is hidden from a query has weight 0, exactly."""

    def __init__(self, case: Attended) -> None:
        query, key, value, mask = case.host
        causal, self.scale, p, seed, counter = case.settings
        self.dtype = query.dtype
        self.query = Approx(query[:, :, :, None], self.dtype)
        self.key, self.value = (Approx(x[:, :, None], self.dtype) for x in (key, value))
        self.grad = Approx(case.grad.values[:, :, :, None], self.dtype)
        scores = (self.query * self.key).sum(-1, False) * self.scale
        shape = scores.value.shape
        seen = np.ones(shape, bool) if mask is None else np.broadcast_to(mask != -np.inf, shape)
        if mask is not None and mask.dtype.kind == "b":
            seen = np.broadcast_to(mask, shape)
        elif mask is not None:
            scores = scores + np.where(mask == -np.inf, 0, mask)
        if causal:
            seen = seen & np.tri(*shape[2:], dtype=np.bool_)
        self.scores, self.seen = scores, seen
        self.some = np.asarray(seen.any(-1))
        words = oracle.philox(seed, counter, seen.size).reshape(shape) if p else np.zeros(shape)
        self.kept = (words >= math.ceil(p * 2**32)) / (1 - p if p < 1 else 1)

    def forward(self) -> tuple[Approx, Approx]:
        """-> y and the logsumexp (0 where it should be -inf)."""
        hidden = np.where(self.seen, self.scores.value, -np.inf)
        peak = hidden.max(-1, keepdims=True, initial=-np.inf)
        peak[~self.some] = 0
        terms = (self.scores - peak).exp() * self.seen
        total = terms.sum(-1) + ~self.some[..., None]
        weights = terms / total * self.kept
        y = (weights.reshape(*weights.value.shape, 1) * self.value).sum(-2, False)
        return y, (total.log() + peak)[..., 0]

    def backward(self, y: np.ndarray, logsumexp: np.ndarray) -> list[Approx]:
        """-> gradients of query, key and value; y and logsumexp were rounded to the dtype."""
        u = unit_roundoff(self.dtype)
        shift = np.where(self.some, logsumexp.astype(np.float64), 0)
        weights = (self.scores - Approx(shift, self.dtype, u * abs(shift))[..., None]).exp()
        weights = weights * self.seen
        delta = (self.grad * Approx(y, self.dtype, u * abs(y))[:, :, :, None]).sum(-1, False)
        slope = (self.grad * self.value).sum(-1, False) * self.kept - delta
        slope = (weights * slope * self.scale)[..., None]
        kept = (weights * self.kept)[..., None]
        products = ((slope * self.key, 3), (slope * self.query, 2), (kept * self.grad, 2))
        return [product.sum(axis, False) for product, axis in products]


def check_forward(backend: Backend, case: Attended, expected: Any = None) -> None:
    running = Running(case)
    y, logsumexp = running.forward()
    total = np.where(running.some, logsumexp.value, -np.inf)
    wanted = expected or (y.value, total)
    actual = call(backend, "attention", *case.inputs, *case.settings)
    for got, want, bound in zip(actual, wanted, (y, logsumexp), strict=True):
        assert_close(got, want, bound.bound, case.query.dtype)


def check_backward(backend: Backend, case: Attended, expected: Any = None) -> None:
    running, dtype = Running(case), case.query.dtype
    y, logsumexp = running.forward()
    given = np.where(running.some, logsumexp.value, -np.inf).astype(dtype)
    rounded = y.value.astype(dtype)
    bounds = running.backward(rounded, given)
    args = (case.grad, *case.inputs, rounded, given, *case.settings)
    actual = call(backend, "attention_grad", *args)
    wanted = expected or [b.value for b in bounds]
    for got, want, bound in zip(actual, wanted, bounds, strict=True):
        assert_close(got, want, bound.bound, dtype)


@covers("attention")
@drawn(case=attended())
def attention_agrees_with_oracle(backend: Backend, case: Attended) -> None:
    check_forward(backend, case, oracle.attention(*case.host, *case.settings))


@covers("attention_grad")
@drawn(case=attended())
def attention_grad_agrees_with_oracle(backend: Backend, case: Attended) -> None:
    expected = oracle.attention_grad(case.grad.values, *case.host, *case.settings)
    check_backward(backend, case, expected)


# N, H, T, S, D, E: around the sides of blocks and registers, whole panels and parts of them.
SIZES = (
    (2, 3, 70, 150, 16, 32),
    (1, 2, 131, 65, 33, 7),
    (1, 1, 260, 257, 8, 8),
    (3, 2, 1, 90, 64, 64),
)


def long(sizes: tuple[int, ...], dtype: type, mask: np.ndarray | None, *settings: Any) -> Attended:
    n, h, t, s, d, e = sizes
    shapes = ((n, h, t, d), (n, h, s, d), (n, h, s, e), (n, h, t, e))
    query, key, value, grad = (
        Laid(fill(shape, dtype, "normal", seed)) for seed, shape in enumerate(shapes)
    )
    return Attended(query, key, value, grad, None if mask is None else Laid(mask), settings)


@covers("attention", "attention_grad")
@each("sizes", SIZES)
def attention_over_many_tokens(backend: Backend, method: str, sizes: tuple[int, ...]) -> None:
    """The float64 values of the running analysis stand in for the loops."""
    check = check_forward if method == "attention" else check_backward
    n, h, t, s, d, _ = sizes
    rng = np.random.Generator(np.random.PCG64(5))
    padding = np.arange(s) < rng.integers(1, s, (n, 1, 1, 1))
    for dtype in FLOATS:
        added = np.where(rng.random((h, t, s)) < 0.3, -np.inf, 1).astype(dtype)
        added[:, 0] = -np.inf  # the first query may look nowhere
        for mask, causal, p in ((None, False, 0), (padding, True, 0.25), (added, False, 0.1)):
            check(backend, long(sizes, dtype, mask, causal, d**-0.5, p, 7, 2**64 - 50))


@covers("attention")
@drawn(seed=SEEDS, counter=COUNTERS, p=st.sampled_from((0.1, 0.5, 0.9)))
def the_weights_that_are_dropped_are_those_of_dropout(
    backend: Backend, seed: int, counter: int, p: float
) -> None:
    """Each value is one unit vector, so that the result is the weights."""
    for dtype in FLOATS:
        query, key = np.zeros((2, 1, 71, 2), dtype), np.zeros((2, 1, 67, 2), dtype)
        value = np.broadcast_to(np.eye(67, dtype=dtype), (2, 1, 67, 67)).copy()
        y, _ = call(backend, "attention", query, key, value, None, False, 1.0, p, seed, counter)
        _, mask = oracle.dropout(np.ones(y.shape, dtype), p, seed, counter)
        assert_same(y != 0, mask)


@covers("attention", "attention_grad")
def a_query_that_may_look_nowhere_gets_and_gives_exactly_zero(
    backend: Backend, method: str
) -> None:
    for dtype in FLOATS:
        seen = np.array([[True, False], [False, False]])
        for mask in (seen, np.where(seen, 0, -np.inf).astype(dtype)):
            case = long((1, 1, 2, 2, 3, 3), dtype, mask, *PLAIN)
            y, logsumexp = call(backend, "attention", *case.inputs, *PLAIN)
            if method == "attention":
                assert_same(y[0, 0], np.stack([case.value.values[0, 0, 0], np.zeros(3, dtype)]))
                assert logsumexp[0, 0, 1] == -np.inf
                continue
            grads = call(backend, method, case.grad, *case.inputs, y, logsumexp, *PLAIN)
            assert (grads[0] == 0).all()  # one key: its weight is 1, whatever the query
            assert (grads[1] == 0).all()
            wanted = np.stack([case.grad.values[0, 0, 0], np.zeros(3, dtype)])
            assert_same(grads[2][0, 0], wanted, signed_zero=False)


@covers("attention")
def large_scores_do_not_overflow(backend: Backend) -> None:
    """The running maximum rises from block to block; the last key outweighs all others."""
    for dtype in FLOATS:
        key = np.arange(300, dtype=dtype).reshape(1, 1, 300, 1) * 16
        value = np.arange(300, dtype=dtype).reshape(1, 1, 300, 1)
        query = np.array([[[[1], [-1], [0.0]]]], dtype)
        y, logsumexp = call(backend, "attention", query, key, value, None, False, 64.0, 0.0, 0, 0)
        assert_same(y[0, 0, :2, 0], np.array([299, 0], dtype))
        assert_same(logsumexp[0, 0, :2], np.array([299 * 1024, 0], dtype))


@covers("attention")
def nan_and_infinity_spoil_the_queries_that_meet_them(backend: Backend, reference: Backend) -> None:
    """A NaN in a query its own row, one in a key or value those who look at it."""
    for dtype in FLOATS:
        made = long((1, 1, 3, 4, 2, 2), dtype, np.tri(3, 4, dtype=bool), *PLAIN)
        for place in range(3):
            for bad in (np.nan, np.inf):
                inputs = [np.abs(x.values) for x in (made.query, made.key, made.value)]
                inputs[place][0, 0, 1, 0] = bad
                args = (*inputs, None if place == 2 else made.mask, *PLAIN)  # values are all seen
                y, _ = call(backend, "attention", *args)
                want, _ = call(reference, "attention", *args)
                assert_same(np.isnan(y), np.isnan(want))
                assert_same(np.isinf(y), np.isinf(want))
                assert not np.isfinite(y).all()
