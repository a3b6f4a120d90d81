"""Recurrent networks over whole sequences: the bound follows the formulas through time and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..running import Approx, joined, saved
from ..strategies import BOUNDED, FLOATS, Laid, arrays, fill, float_dtypes, seeds
from ..tolerances import assert_close, assert_same

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
NONLINEARITIES = ("tanh", "relu")


@dataclass(frozen=True)
class Sequences:
    """A call: arrays in the order of the contract, lengths, settings, and a gradient to start
    from.
    """

    kind: str
    arrays: tuple[Any, ...]  # x, weight, bias, in gru another, h, in lstm c
    lengths: np.ndarray | None
    settings: tuple[Any, ...]  # reverse, in rnn the nonlinearity
    grad: Any

    @property
    def arguments(self) -> tuple[Any, ...]:
        return *self.arrays, self.lengths, *self.settings

    @property
    def host(self) -> Sequences:
        """The same with plain arrays."""
        plain = tuple(a.values if isinstance(a, Laid) else a for a in self.arrays)
        grad = self.grad.values if isinstance(self.grad, Laid) else self.grad
        return replace(self, arrays=plain, grad=grad)

    def after(self, saved_values: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        """The arguments of the gradient, given what the forward pass returned."""
        _, weight, *rest = self.arrays
        states = rest[2:] if self.kind == "gru" else rest[1:]
        return self.grad, *saved_values, weight, *states, self.lengths, *self.settings


def shapes(kind: str, steps: int, batch: int, units: int) -> list[tuple[int, ...]]:
    """Of the arrays of a call, and of its gradient."""
    wide, state = GATES[kind] * units, (batch, units)
    extra: list[tuple[int, ...]] = [state]
    if kind != "rnn":
        extra = [state, state] if kind == "lstm" else [(wide,), state]
    rows = steps + (2 if kind == "lstm" else 1)
    return [(steps, batch, wide), (wide, units), (wide,), *extra, (rows, *state)]


@st.composite
def sequences(draw: st.DrawFn, kind: str, kinds: tuple[str, ...] = BOUNDED) -> Sequences:
    steps, batch, units = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    dtype, sizes = draw(float_dtypes), shapes(kind, steps, batch, units)
    *inputs, grad = (draw(arrays(shape, dtype, kinds)) for shape in sizes)
    lengths = None
    if draw(st.booleans()):
        rng = np.random.Generator(np.random.PCG64(draw(seeds)))
        lengths = rng.integers(1, steps, batch, np.int64, endpoint=True)
    settings: tuple[Any, ...] = (draw(st.booleans()),)
    if kind == "rnn":
        settings = (*settings, draw(st.sampled_from(NONLINEARITIES)))
    return Sequences(kind, tuple(inputs), lengths, settings, grad)


def product(a: Approx, weight: np.ndarray | Approx) -> Approx:
    """a (N, D) @ weight (O, D) transposed."""
    return (a[:, None, :] * weight[None]).sum(2, False)


def parts(a: Approx, count: int) -> list[Approx]:
    """a's last axis in that many parts."""
    units = a.value.shape[-1] // count
    return [a[..., k * units : (k + 1) * units] for k in range(count)]


class Running:
    """The formulas with their rounding errors; `case` holds plain arrays."""

    def __init__(self, case: Sequences, dtype: Any = None) -> None:
        self.kind, self.case = case.kind, case
        self.dtype = np.dtype(dtype or case.arrays[0].dtype)
        x, self.weight, *rest = (Approx(a, self.dtype) for a in case.arrays)
        self.bias = rest.pop(0)
        self.own = rest.pop(0) if self.kind == "gru" else Approx(0.0, self.dtype)
        self.x, self.start = x, rest
        self.steps = len(x.value)
        self.order = range(self.steps)[:: -1 if case.settings[0] else 1]

    def valid(self, t: int) -> np.ndarray:
        lengths = self.case.lengths
        batch = self.x.value.shape[1]
        return np.ones((batch, 1), bool) if lengths is None else (lengths > t)[:, None]

    def step(self, x: Approx, state: list[Approx]) -> tuple[list[Approx], Approx]:
        """The new state, and what is kept for the gradient."""
        p = product(state[0], self.weight)
        if self.kind == "rnn":
            z = p + x + self.bias
            relu = z.where(z.value > 0, 0.0)
            return [z.tanh() if self.case.settings[1] == "tanh" else relu], z
        if self.kind == "lstm":
            i, f, g, o = parts(p + x + self.bias, 4)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * state[1] + i * g
            return [o * c.tanh(), c], joined([i, f, g, o], 1)
        (x_r, x_z, x_n), (p_r, p_z, q) = parts(x + self.bias, 3), parts(p + self.own, 3)
        r, z = (x_r + p_r).sigmoid(), (x_z + p_z).sigmoid()
        n = (x_n + r * q).tanh()
        return [(1.0 - z) * n + z * state[0]], joined([r, z, n, q], 1)

    def forward(self) -> list[Approx]:
        state = self.start
        rows: list[Any] = [None] * self.steps
        gates, cells = list(rows), list(rows)
        for t in self.order:
            new, kept = self.step(self.x[t], state)
            valid = self.valid(t)
            rows[t], gates[t] = new[0].where(valid, 0.0), kept.where(valid, 0.0)
            state = [n.where(valid, old) for n, old in zip(new, state, strict=True)]
            cells[t] = state[-1]
        found = [[*rows, *state], gates, cells][: {"rnn": 1, "gru": 2, "lstm": 3}[self.kind]]
        return [joined([row[None] for row in kept], 0) for kept in found]

    def step_grad(
        self, kept: list[Approx], t: int, before: list[Approx], grads: list[Approx]
    ) -> tuple[Approx, Approx, list[Approx]]:
        """Gradients of x[t], of the product with the weight, and of the state, but for what comes
        through that product.
        """
        dh = grads[0]
        if self.kind == "rnn":
            y = kept[0][t]
            relu = self.case.settings[1] == "relu"
            dz = dh.where(y.value > 0, 0.0) if relu else dh * (1.0 - y * y)
            return dz, dz, [dh * 0.0]
        if self.kind == "lstm":
            i, f, g, o = parts(kept[1][t], 4)
            y = kept[2][t].tanh()
            dc = grads[1] + dh * o * (1.0 - y * y)
            di, df = dc * g * i * (1.0 - i), dc * before[1] * f * (1.0 - f)
            wide = joined([di, df, dc * i * (1.0 - g * g), dh * y * o * (1.0 - o)], 1)
            return wide, wide, [dh * 0.0, dc * f]
        r, z, n, q = parts(kept[1][t], 4)
        dn = dh * (1.0 - z) * (1.0 - n * n)
        dr, dz = dn * q * r * (1.0 - r), dh * (before[0] - n) * z * (1.0 - z)
        return joined([dr, dz, dn], 1), joined([dr, dz, dn * r], 1), [dh * z]

    def backward(self, kept: list[Approx]) -> list[Approx]:
        """In the contract's order, given the results of the forward pass."""
        grad, steps = Approx(self.case.grad, self.dtype), self.steps
        grads = [grad[k] for k in range(steps, len(grad.value))]
        dx: list[Any] = [None] * steps
        dp, weight = list(dx), list(dx)
        for at in range(steps - 1, -1, -1):
            t, valid = self.order[at], self.valid(self.order[at])
            before = self.before(kept, at)
            given = [(grads[0] + grad[t]), *grads[1:]]
            dx_t, dp_t, rest = self.step_grad(kept, t, before, given)
            rest[0] = rest[0] + (dp_t[:, :, None] * self.weight[None]).sum(1, False)
            grads = [new.where(valid, old) for new, old in zip(rest, grads, strict=True)]
            dx[t], dp[t] = dx_t.where(valid, 0.0), dp_t.where(valid, 0.0)
            weight[t] = dp[t][:, :, None] * before[0][:, None, :]
        wide, inner, matrix = (joined([v[None] for v in rows], 0) for rows in (dx, dp, weight))
        biases = [wide.sum((0, 1), False)]
        biases += [inner.sum((0, 1), False)] if self.kind == "gru" else []
        return [wide, matrix.sum((0, 1), False), *biases, *grads]

    def before(self, kept: list[Approx], at: int) -> list[Approx]:
        """The state from which the at-th step in order started."""
        if at == 0:
            return self.start
        t = self.order[at - 1]
        ran = self.valid(t)
        found = [kept[0][t].where(ran, self.start[0])]
        return [*found, kept[2][t]] if self.kind == "lstm" else found


def check_forward(backend: Backend, case: Sequences, expected: Any) -> None:
    actual = call(backend, case.kind, *case.arguments)
    running = Running(case.host).forward()
    for got, want, bound in zip(tupled(actual), tupled(expected), running, strict=True):
        assert_close(got, want, bound.bound, running[0].dtype)


def check_backward(backend: Backend, case: Sequences, expected: Any = None) -> None:
    """What the forward pass kept is given: computed in float64, and rounded."""
    running = Running(case.host)
    kept = [saved(a, running.dtype) for a in Running(case.host, np.float64).forward()]
    bounds = running.backward(kept)
    given = tuple(a.value.astype(running.dtype) for a in kept)
    actual = call(backend, f"{case.kind}_grad", *case.after(given))
    for got, want, bound in zip(actual, expected or bounds, bounds, strict=True):
        wanted = want.value if isinstance(want, Approx) else want
        assert_close(got, wanted, bound.bound, running.dtype)


def tupled(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


@covers("rnn")
@drawn(case=sequences("rnn"), biased=st.booleans())
def rnn_agrees_with_oracle(backend: Backend, case: Sequences, biased: bool) -> None:
    compare(backend, case, biased)


@covers("lstm")
@drawn(case=sequences("lstm"), biased=st.booleans())
def lstm_agrees_with_oracle(backend: Backend, case: Sequences, biased: bool) -> None:
    compare(backend, case, biased)


@covers("gru")
@drawn(case=sequences("gru"), biased=st.booleans())
def gru_agrees_with_oracle(backend: Backend, case: Sequences, biased: bool) -> None:
    compare(backend, case, biased)


def compare(backend: Backend, case: Sequences, biased: bool) -> None:
    """Without a bias the results are those of zeros."""
    if not biased:
        nothing = [np.zeros(a.shape, a.dtype) if len(a.shape) == 1 else a for a in case.arrays]
        expected = getattr(oracle, case.kind)(*replace(case, arrays=tuple(nothing)).host.arguments)
        running = Running(replace(case, arrays=tuple(nothing)).host).forward()
        none = tuple(None if len(a.shape) == 1 else a for a in case.arrays)
        actual = call(backend, case.kind, *replace(case, arrays=none).arguments)
        for got, want, bound in zip(tupled(actual), tupled(expected), running, strict=True):
            assert_close(got, want, bound.bound, running[0].dtype)
        return
    check_forward(backend, case, getattr(oracle, case.kind)(*case.host.arguments))


@covers("rnn_grad")
@drawn(case=sequences("rnn"))
def rnn_grad_agrees_with_oracle(backend: Backend, case: Sequences) -> None:
    compare_grad(backend, case)


@covers("lstm_grad")
@drawn(case=sequences("lstm"))
def lstm_grad_agrees_with_oracle(backend: Backend, case: Sequences) -> None:
    compare_grad(backend, case)


@covers("gru_grad")
@drawn(case=sequences("gru"))
def gru_grad_agrees_with_oracle(backend: Backend, case: Sequences) -> None:
    compare_grad(backend, case)


def compare_grad(backend: Backend, case: Sequences) -> None:
    plain = case.host
    expected = getattr(oracle, f"{case.kind}_grad")(plain.grad, *plain.arguments)
    check_backward(backend, case, expected)


@covers("rnn")
@drawn(case=sequences("rnn", ("integers",)))
def rectified_sums_are_exact_on_integers(backend: Backend, case: Sequences) -> None:
    case = replace(case, settings=(case.settings[0], "relu"))
    expected = oracle.rnn(*case.host.arguments).astype(case.grad.dtype)
    assert_same(call(backend, "rnn", *case.arguments), expected, signed_zero=False)


# Around what a thread takes at a time, and the widths of vectors; the last two use all threads.
SIZES = ((9, 2, 5), (2, 17, 33), (2, 19, 64), (2, 9, 130))


@covers("rnn", "rnn_grad", "lstm", "lstm_grad", "gru", "gru_grad")
@each("sizes", SIZES)
def many_samples_and_units(backend: Backend, method: str, sizes: tuple[int, int, int]) -> None:
    """The float64 values of the running analysis stand in for the loops."""
    kind = method.partition("_")[0]
    ends = np.arange(sizes[1]) % sizes[0] + 1
    for dtype, reverse, lengths in itertools.product(FLOATS, (False, True), (None, ends)):
        *inputs, grad = (fill(s, dtype, "normal", k) for k, s in enumerate(shapes(kind, *sizes)))
        inputs[1] /= dtype(sizes[2])
        settings = (reverse, "tanh") if kind == "rnn" else (reverse,)
        case = Sequences(kind, tuple(inputs), lengths, settings, grad)
        if method == kind:
            check_forward(backend, case, tuple(a.value for a in Running(case).forward()))
        else:
            check_backward(backend, case)


@covers("rnn", "lstm", "gru")
@each("reverse", (False, True))
def nan_stays_in_its_own_sequence(backend: Backend, method: str, reverse: bool) -> None:
    """It reaches all later steps, and none from behind the end."""
    for dtype, nonlinearity in itertools.product(FLOATS, NONLINEARITIES):
        *inputs, _ = (fill(s, dtype, "normal", k) for k, s in enumerate(shapes(method, 4, 3, 2)))
        settings = (reverse, nonlinearity) if method == "rnn" else (reverse,)
        x, lengths = inputs[0], np.array([4, 2, 4])
        x[1, 2] = x[3, 1] = np.nan
        states = call(backend, method, *inputs, lengths, *settings)
        states = tupled(states)[0]
        expected = np.zeros(states.shape, bool)
        expected[: 2 if reverse else None, 2] = True
        expected[0 if reverse else 1 : 2 if reverse else 4, 2] = True
        expected[4:, 2] = True
        if not reverse:
            expected[0, 2] = False
        assert np.array_equal(np.isnan(states), expected), method
