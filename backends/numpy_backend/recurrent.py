"""Recurrent networks: a loop over time, and back again.

Sources: Elman (1990), "Finding structure in time", for `rnn`; Hochreiter & Schmidhuber (1997),
"Long short-term memory", with the forget gate of Gers, Schmidhuber & Cummins (2000), "Learning to
forget", for `lstm`; Cho et al. (2014), arXiv:1406.1078, for `gru`, whose reset gate acts after the
product with the weight, so that all gates are one product (Appleyard, Kocisky & Blunsom 2016,
arXiv:1604.01946, section 3). Gradients by backpropagation through time: Werbos (1990).
"""

from __future__ import annotations

from typing import Any

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Recurrent(Common):
    """`new if valid else old` for each sample is what lengths come to: who has ended stands still.

    Weights are the same at every step, so their gradients are one product over all steps at once.
    """

    @quiet
    def rnn(
        self, x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> Array:  # fmt: skip
        steps, xp = len(x), self.xp
        states = xp.empty((steps + 1, *h.shape), x.dtype)
        for t in order(steps, reverse):
            z = plus(x[t] + h @ weight.T, bias)
            new = xp.tanh(z) if nonlinearity == "tanh" else xp.maximum(z, 0)
            valid = running(t, lengths)
            states[t], h = self._either(valid, new, 0), self._either(valid, new, h)
        states[steps] = h
        return states

    @quiet
    def rnn_grad(
        self, grad: Array, states: Array, weight: Array, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        """tanh' = 1 - y^2, relu' = 1 where y > 0."""
        steps = len(grad) - 1
        h_grad, x_grad = grad[steps], self.xp.empty((steps, *h.shape), grad.dtype)
        for t in order(steps, not reverse):
            y, g, valid = states[t], h_grad + grad[t], running(t, lengths)
            z = g * (1 - y * y) if nonlinearity == "tanh" else self.relu_grad(g, y)
            x_grad[t] = self._either(valid, z, 0)
            h_grad = self._either(valid, z @ weight, h_grad)
        weight_grad = self._weight_grad(x_grad, states, h, lengths, reverse)
        return x_grad, weight_grad, x_grad.sum((0, 1)), h_grad

    @quiet
    def lstm(
        self, x: Array, weight: Array, bias: Array | None, h: Array, c: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        steps, xp = len(x), self.xp
        states = xp.empty((steps + 2, *h.shape), x.dtype)
        gates, cells = xp.empty(x.shape, x.dtype), xp.empty((steps, *h.shape), x.dtype)
        for t in order(steps, reverse):
            i, f, g, o = parts(plus(x[t] + h @ weight.T, bias), 4)
            i, f, g, o = self.sigmoid(i), self.sigmoid(f), xp.tanh(g), self.sigmoid(o)
            new_c = f * c + i * g
            new = o * xp.tanh(new_c)
            valid = running(t, lengths)
            states[t], h = self._either(valid, new, 0), self._either(valid, new, h)
            cells[t] = c = self._either(valid, new_c, c)
            gates[t] = self._either(valid, xp.concatenate([i, f, g, o], axis=1), 0)
        states[steps], states[steps + 1] = h, c
        return states, gates, cells

    @quiet
    def lstm_grad(
        self, grad: Array, states: Array, gates: Array, cells: Array, weight: Array, h: Array,
        c: Array, lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        """sigmoid' = s (1 - s) and tanh' = 1 - y^2, of the values that were saved."""
        steps, xp = len(cells), self.xp
        h_grad, c_grad, x_grad = grad[steps], grad[steps + 1], xp.empty(gates.shape, grad.dtype)
        for t in order(steps, not reverse):
            i, f, g, o = parts(gates[t], 4)
            y, first = xp.tanh(cells[t]), t == (steps - 1 if reverse else 0)
            old = c if first else cells[t + 1 if reverse else t - 1]
            dh = h_grad + grad[t]
            dc = c_grad + dh * o * (1 - y * y)
            z = [dc * g * i * (1 - i), dc * old * f * (1 - f), dc * i * (1 - g * g)]
            joined = xp.concatenate([*z, dh * y * o * (1 - o)], axis=1)
            valid = running(t, lengths)
            x_grad[t] = self._either(valid, joined, 0)
            h_grad = self._either(valid, joined @ weight, h_grad)
            c_grad = self._either(valid, dc * f, c_grad)
        weight_grad = self._weight_grad(x_grad, states, h, lengths, reverse)
        return x_grad, weight_grad, x_grad.sum((0, 1)), h_grad, c_grad

    @quiet
    def gru(
        self, x: Array, weight: Array, bias: Array | None, hidden_bias: Array | None, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array]:  # fmt: skip
        steps, xp, units = len(x), self.xp, h.shape[1]
        states = xp.empty((steps + 1, *h.shape), x.dtype)
        gates = xp.empty((steps, len(h), 4 * units), x.dtype)
        for t in order(steps, reverse):
            x_r, x_z, x_n = parts(plus(x[t], bias), 3)
            p_r, p_z, q = parts(plus(h @ weight.T, hidden_bias), 3)
            r, z = self.sigmoid(x_r + p_r), self.sigmoid(x_z + p_z)
            n = xp.tanh(x_n + r * q)
            new = (1 - z) * n + z * h
            valid = running(t, lengths)
            states[t], h = self._either(valid, new, 0), self._either(valid, new, h)
            gates[t] = self._either(valid, xp.concatenate([r, z, n, q], axis=1), 0)
        states[steps] = h
        return states, gates

    @quiet
    def gru_grad(
        self, grad: Array, states: Array, gates: Array, weight: Array, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        """p is what h brings to the gates: its gradient is x's, but for r in the last third."""
        steps, xp, units = len(gates), self.xp, h.shape[1]
        h_grad, x_grad = grad[steps], xp.empty((steps, len(h), 3 * units), grad.dtype)
        p_grad = xp.empty(x_grad.shape, grad.dtype)
        for t in order(steps, not reverse):
            r, z, n, q = parts(gates[t], 4)
            old = self._before(states, t, h, lengths, reverse)
            dh = h_grad + grad[t]
            dn = dh * (1 - z) * (1 - n * n)
            dr, dz = dn * q * r * (1 - r), dh * (old - n) * z * (1 - z)
            dx, dp = (xp.concatenate([dr, dz, last], axis=1) for last in (dn, dn * r))
            valid = running(t, lengths)
            x_grad[t], p_grad[t] = self._either(valid, dx, 0), self._either(valid, dp, 0)
            h_grad = self._either(valid, dh * z + dp @ weight, h_grad)
        weight_grad = self._weight_grad(p_grad, states, h, lengths, reverse)
        sums = x_grad.sum((0, 1)), p_grad.sum((0, 1))
        return x_grad, weight_grad, *sums, h_grad

    def _either(self, valid: Array | None, new: Array, old: Any) -> Array:
        return new if valid is None else self.xp.where(valid, new, old)

    def _before(
        self, states: Array, t: int, h: Array, lengths: Array | None, reverse: bool
    ) -> Array:
        """The state that step t started from; behind the end of a sequence `states` holds 0."""
        if not reverse:
            return states[t - 1] if t else h
        if t == len(states) - 2:
            return h
        return self._either(running(t + 1, lengths), states[t + 1], h)

    def _weight_grad(
        self, grad: Array, states: Array, h: Array, lengths: Array | None, reverse: bool
    ) -> Array:
        """The sum over steps of grad' times the state that the step started from.

        At a sample's first step that is h, else the row of states beside it: one large product, and
        a small one. Behind the end of a sequence grad is 0.
        """
        steps, units = len(grad), h.shape[1]
        first = grad[steps - 1 if reverse else 0]
        if reverse and lengths is not None:
            first = grad[lengths - 1, self.xp.arange(len(h))]
        later = grad[:-1] if reverse else grad[1:]
        before = states[1:steps] if reverse else states[: steps - 1]
        total = self.matmul(first.T, h)
        total += self.matmul(later.reshape(-1, later.shape[2]).T, before.reshape(-1, units))
        return total


def order(steps: int, reverse: bool) -> range:
    """The steps in the order in which they are run.

    >>> list(order(3, True))
    [2, 1, 0]
    """
    return range(steps - 1, -1, -1) if reverse else range(steps)


def running(t: int, lengths: Array | None) -> Array | None:
    """Which samples have not ended before step t, as a column; None for all."""
    return None if lengths is None else (lengths > t)[:, None]


def plus(z: Array, bias: Array | None) -> Array:
    return z if bias is None else z + bias


def parts(gates: Array, count: int) -> list[Array]:
    """Gates that lie side by side, one by one."""
    units = gates.shape[1] // count
    return [gates[:, i * units : (i + 1) * units] for i in range(count)]
