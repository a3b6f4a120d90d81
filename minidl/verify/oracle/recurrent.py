"""Recurrent networks, one sample after the other; gradients by complex steps.

A function that is analytic takes x + 1e-30 i to f(x) + 1e-30 f'(x) i, without a difference that
cancels. So each element of each argument is disturbed once, and no gradient has a formula here.
Source: Squire & Trapp (1998), "Using complex variables to estimate derivatives of real functions".
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STEP = 1e-30
Row = list[complex]


def _sigmoid(z: complex) -> complex:
    if z.real < 0:
        return cmath.exp(z) / (1 + cmath.exp(z))
    return 1 / (1 + cmath.exp(-z))


def _relu(z: complex) -> complex:
    return z if z.real > 0 else 0j


def _dot(a: Row, b: Row) -> complex:
    products = [x * y for x, y in zip(a, b, strict=True)]
    return complex(math.fsum(p.real for p in products), math.fsum(p.imag for p in products))


def _rows(a: Any) -> Any:
    return np.asarray(a, np.complex128).tolist()


def _shift(bias: Any, size: int) -> Row:
    return [0j] * size if bias is None else list(_rows(bias))


def _steps(n: int, steps: int, lengths: np.ndarray | None, reverse: bool) -> range:
    """The steps of sample n, in the order in which they are run."""
    end = steps if lengths is None else int(lengths[n])
    return range(end - 1, -1, -1) if reverse else range(end)


def _rnn(x: Any, weight: Any, bias: Any, h: Any, lengths: Any, reverse: bool, kind: str) -> Any:
    steps, batch, units = x.shape
    states = np.zeros((steps + 1, batch, units), np.complex128)
    matrix, shift = _rows(weight), _shift(bias, units)
    function = cmath.tanh if kind == "tanh" else _relu
    for n in range(batch):
        state = _rows(h[n])
        for t in _steps(n, steps, lengths, reverse):
            row = _rows(x[t, n])
            state = [function(row[d] + shift[d] + _dot(matrix[d], state)) for d in range(units)]
            states[t, n] = state
        states[steps, n] = state
    return (states,)


def _lstm(x: Any, weight: Any, bias: Any, h: Any, c: Any, lengths: Any, reverse: bool) -> Any:
    steps, (batch, units) = len(x), h.shape
    states = np.zeros((steps + 2, batch, units), np.complex128)
    gates, cells = (
        np.zeros((steps, batch, 4 * units), np.complex128),
        np.zeros((steps, batch, units), np.complex128),
    )
    matrix, shift = _rows(weight), _shift(bias, 4 * units)
    for n in range(batch):
        state, cell = _rows(h[n]), _rows(c[n])
        cells[:, n] = cell
        for t in _steps(n, steps, lengths, reverse):
            row = _rows(x[t, n])
            z = [row[k] + shift[k] + _dot(matrix[k], state) for k in range(4 * units)]
            i, f, g, o = (z[k * units : (k + 1) * units] for k in range(4))
            i, f, o = ([_sigmoid(v) for v in gate] for gate in (i, f, o))
            g = [cmath.tanh(v) for v in g]
            cell = [f[d] * cell[d] + i[d] * g[d] for d in range(units)]
            state = [o[d] * cmath.tanh(cell[d]) for d in range(units)]
            states[t, n], gates[t, n] = state, [*i, *f, *g, *o]
            for later in range(t + 1) if reverse else range(t, steps):
                cells[later, n] = cell  # it stays, until the next step or behind the end
        states[steps, n], states[steps + 1, n] = state, cell
    return states, gates, cells


def _gru(x: Any, weight: Any, bias: Any, own: Any, h: Any, lengths: Any, reverse: bool) -> Any:
    steps, (batch, units) = len(x), h.shape
    states = np.zeros((steps + 1, batch, units), np.complex128)
    gates = np.zeros((steps, batch, 4 * units), np.complex128)
    matrix, shift, inner = _rows(weight), _shift(bias, 3 * units), _shift(own, 3 * units)
    for n in range(batch):
        state = _rows(h[n])
        for t in _steps(n, steps, lengths, reverse):
            row = _rows(x[t, n])
            a = [row[k] + shift[k] for k in range(3 * units)]
            p = [inner[k] + _dot(matrix[k], state) for k in range(3 * units)]
            r, z = ([_sigmoid(a[k + d] + p[k + d]) for d in range(units)] for k in (0, units))
            q = p[2 * units :]
            new = [cmath.tanh(a[2 * units + d] + r[d] * q[d]) for d in range(units)]
            state = [(1 - z[d]) * new[d] + z[d] * state[d] for d in range(units)]
            states[t, n], gates[t, n] = state, [*r, *z, *new, *q]
        states[steps, n] = state
    return states, gates


def _real(found: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(a.real) for a in found)


def rnn(*args: Any) -> np.ndarray:
    """Arguments and result are `Backend.rnn`'s."""
    return _real(_rnn(*args))[0]


def lstm(*args: Any) -> tuple[np.ndarray, ...]:
    """Arguments and results are `Backend.lstm`'s."""
    return _real(_lstm(*args))


def gru(*args: Any) -> tuple[np.ndarray, ...]:
    """Arguments and results are `Backend.gru`'s."""
    return _real(_gru(*args))


def _gradients(function: Callable[..., Any], grad: np.ndarray, args: Any, count: int) -> Any:
    """Of the sum of grad times states, with respect to the first `count` arguments."""
    grad, found = np.asarray(grad, np.float64), []
    for k in range(count):
        slopes = np.zeros(np.shape(args[k]))
        for at in np.ndindex(slopes.shape):
            disturbed = np.asarray(args[k], np.complex128).copy()
            disturbed[at] += STEP * 1j
            states = function(*args[:k], disturbed, *args[k + 1 :])[0]
            slopes[at] = math.fsum((grad * (states.imag / STEP)).ravel().tolist())
        found.append(slopes)
    return tuple(found)


def rnn_grad(grad: np.ndarray, *args: Any) -> tuple[np.ndarray, ...]:
    """Gradients with respect to x, weight, bias and h; args are those of `rnn`, with a bias."""
    return tuple(_gradients(_rnn, grad, args, 4))


def lstm_grad(grad: np.ndarray, *args: Any) -> tuple[np.ndarray, ...]:
    """Gradients with respect to x, weight, bias, h and c; args are those of `lstm`, with a bias."""
    return tuple(_gradients(_lstm, grad, args, 5))


def gru_grad(grad: np.ndarray, *args: Any) -> tuple[np.ndarray, ...]:
    """Gradients with respect to x, weight, both biases and h; args are those of `gru`."""
    return tuple(_gradients(_gru, grad, args, 5))
