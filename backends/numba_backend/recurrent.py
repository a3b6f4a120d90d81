"""Recurrent networks: a whole sequence, forward or back, in one launch.

A thread owns some samples for all steps and waits for no other. A step is a small product by the
micro-kernel, with the weight cut into panels once for all steps, and then the gates, whose rows are
still in the first cache. What the input brings to the gates, and the gradient of the weights, are
large products over all steps at once, made outside. Source of this division: Appleyard, Kocisky &
Blunsom (2016), arXiv:1604.01946, section 3.

Forward and backward of LSTM, 64 steps of 32 samples, 128 units, on one core with AVX-512: 1.4 and
1.5 ms, of which 1.1 are the products. Every element of a product is summed in one order, whichever
samples are beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..interface import Array
from ..numpy_backend import NumpyBackend
from . import recurrent_loops as loops
from .jit import Kernel
from .layout import flat, plain, suits
from .memory import empty
from .microkernel import PANEL, micro, pack, transpose_block
from .outline import tasks
from .recurrent_loops import SAMPLES

PARALLEL_FROM = 1 << 18  # multiply-adds in the products of all steps; below, one thread


@tasks(calls=[transpose_block], exact=True)
def cut(weight: Array, step: int, column: int, columns: int, panels: Array, part: int) -> None:
    """panels[part, k] = weight[k * step + j * column], for that piece of the columns j."""
    width = PANEL // weight.itemsize
    depth, count = panels.shape[1] // width, min(width, columns - part * width)
    pack(weight, part * width * column, step, column, depth, count, panels[part])


def panelled(weight: Array, transposed: bool) -> Array:
    """weight, or its transpose, in pieces as wide as the micro-kernel takes them."""
    rows, columns = weight.shape
    steps = (columns, 1)
    if transposed:
        rows, columns, steps = columns, rows, (1, columns)
    width = PANEL // weight.itemsize
    panels = empty((-(-columns // width), rows * width), weight.dtype)
    cut.sized(weight.size, PARALLEL_FROM)(len(panels), flat(plain(weight)), *steps, columns, panels)
    return panels


@tasks(calls=[micro])
def rnn_forward(x: Array, panels: Array, bias: Array, h: Array, lengths: Array, reverse: bool,
                rectified: bool, states: Array, part: int) -> None:  # fmt: skip
    loops.rnn_forward(part, x, panels, bias, h, lengths, reverse, rectified, states)


@tasks(calls=[micro])
def rnn_backward(grad: Array, states: Array, panels: Array, lengths: Array, reverse: bool,
                 rectified: bool, x_grad: Array, bias_grad: Array,
                 h_grad: Array, part: int) -> None:  # fmt: skip
    loops.rnn_backward(part, grad, states, panels, lengths, reverse, rectified, x_grad,
                       bias_grad, h_grad)  # fmt: skip


@tasks(calls=[micro])
def lstm_forward(x: Array, panels: Array, bias: Array, h: Array, c: Array, lengths: Array,
                 reverse: bool, states: Array, gates: Array, cells: Array,
                 part: int) -> None:  # fmt: skip
    loops.lstm_forward(part, x, panels, bias, h, c, lengths, reverse, states, gates, cells)


@tasks(calls=[micro])
def lstm_backward(grad: Array, gates: Array, cells: Array, panels: Array, c: Array, lengths: Array,
                  reverse: bool, x_grad: Array, bias_grad: Array, h_grad: Array,
                  c_grad: Array, part: int) -> None:  # fmt: skip
    loops.lstm_backward(part, grad, gates, cells, panels, c, lengths, reverse, x_grad,
                        bias_grad, h_grad, c_grad)  # fmt: skip


@tasks(calls=[micro])
def gru_forward(x: Array, panels: Array, bias: Array, hidden_bias: Array, h: Array, lengths: Array,
                reverse: bool, states: Array, gates: Array, part: int) -> None:  # fmt: skip
    loops.gru_forward(part, x, panels, bias, hidden_bias, h, lengths, reverse, states, gates)


@tasks(calls=[micro])
def gru_backward(grad: Array, states: Array, gates: Array, panels: Array, h: Array, lengths: Array,
                 reverse: bool, x_grad: Array, p_grad: Array, bias_grad: Array,
                 h_grad: Array, part: int) -> None:  # fmt: skip
    loops.gru_backward(part, grad, states, gates, panels, h, lengths, reverse, x_grad, p_grad,
                       bias_grad, h_grad)  # fmt: skip


class Recurrent(NumpyBackend):
    """The weight's gradient is the NumPy backend's text, over this one's products."""

    def rnn(
        self, x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> Array:  # fmt: skip
        if not suits(x, weight, bias, h):
            return super().rnn(x, weight, bias, h, lengths, reverse, nonlinearity)
        states = empty((len(x) + 1, *h.shape), x.dtype)
        sized(rnn_forward, x, h)(
            plain(x), panelled(weight, True), shift(bias, x), plain(h), ends(lengths, x), reverse,
            nonlinearity == "relu", states,
        )  # fmt: skip
        return states

    def rnn_grad(
        self, grad: Array, states: Array, weight: Array, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        if not suits(grad, states, weight, h):
            return super().rnn_grad(grad, states, weight, h, lengths, reverse, nonlinearity)
        x_grad, h_grad = empty((len(grad) - 1, *h.shape), h.dtype), empty(h.shape, h.dtype)
        bias_grad = np.empty((-(-len(h) // SAMPLES), h.shape[1]), h.dtype)
        sized(rnn_backward, x_grad, h)(
            plain(grad), plain(states), panelled(weight, False), ends(lengths, x_grad), reverse,
            nonlinearity == "relu", x_grad, bias_grad, h_grad,
        )  # fmt: skip
        weight_grad = self._weight_grad(x_grad, states, h, lengths, reverse)
        return x_grad, weight_grad, bias_grad.sum(0), h_grad

    def lstm(
        self, x: Array, weight: Array, bias: Array | None, h: Array, c: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        if not suits(x, weight, bias, h, c):
            return super().lstm(x, weight, bias, h, c, lengths, reverse)
        states, gates = empty((len(x) + 2, *h.shape), x.dtype), empty(x.shape, x.dtype)
        cells = empty((len(x), *h.shape), x.dtype)
        sized(lstm_forward, x, h)(
            plain(x), panelled(weight, True), shift(bias, x), plain(h), plain(c), ends(lengths, x),
            reverse, states, gates, cells,
        )  # fmt: skip
        return states, gates, cells

    def lstm_grad(
        self, grad: Array, states: Array, gates: Array, cells: Array, weight: Array, h: Array,
        c: Array, lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        if not suits(grad, states, gates, cells, weight, h, c):
            return super().lstm_grad(grad, states, gates, cells, weight, h, c, lengths, reverse)
        x_grad = empty(gates.shape, h.dtype)
        h_grad, c_grad = empty(h.shape, h.dtype), empty(h.shape, h.dtype)
        bias_grad = np.empty((-(-len(h) // SAMPLES), gates.shape[2]), h.dtype)
        sized(lstm_backward, x_grad, h)(
            plain(grad), plain(gates), plain(cells), panelled(weight, False), plain(c),
            ends(lengths, x_grad), reverse, x_grad, bias_grad, h_grad, c_grad,
        )  # fmt: skip
        weight_grad = self._weight_grad(x_grad, states, h, lengths, reverse)
        return x_grad, weight_grad, bias_grad.sum(0), h_grad, c_grad

    def gru(
        self, x: Array, weight: Array, bias: Array | None, hidden_bias: Array | None, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array]:  # fmt: skip
        if not suits(x, weight, bias, hidden_bias, h):
            return super().gru(x, weight, bias, hidden_bias, h, lengths, reverse)
        states = empty((len(x) + 1, *h.shape), x.dtype)
        gates = empty((len(x), len(h), 4 * h.shape[1]), x.dtype)
        sized(gru_forward, x, h)(
            plain(x), panelled(weight, True), shift(bias, x), shift(hidden_bias, x), plain(h),
            ends(lengths, x), reverse, states, gates,
        )  # fmt: skip
        return states, gates

    def gru_grad(
        self, grad: Array, states: Array, gates: Array, weight: Array, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        if not suits(grad, states, gates, weight, h):
            return super().gru_grad(grad, states, gates, weight, h, lengths, reverse)
        shape = (len(gates), len(h), len(weight))
        x_grad, p_grad, h_grad = (empty(s, h.dtype) for s in (shape, shape, h.shape))
        bias_grad = np.empty((-(-len(h) // SAMPLES), 2, len(weight)), h.dtype)
        sized(gru_backward, x_grad, h)(
            plain(grad), plain(states), plain(gates), panelled(weight, False), plain(h),
            ends(lengths, x_grad), reverse, x_grad, p_grad, bias_grad, h_grad,
        )  # fmt: skip
        weight_grad = self._weight_grad(p_grad, states, h, lengths, reverse)
        return x_grad, weight_grad, *bias_grad.sum(0), h_grad


def sized(loop: Kernel, x: Array, h: Array) -> Callable[..., Any]:
    """The form of loop that pays for gates x (T, N, .) and h (N, D), for all parts of the batch."""
    return partial(loop.sized(x.size * h.shape[1], PARALLEL_FROM), -(-len(h) // SAMPLES))


def shift(bias: Array | None, x: Array) -> Array:
    """A bias as kernels take it: zeros for none."""
    return np.zeros(x.shape[2], x.dtype) if bias is None else plain(bias)


def ends(lengths: Array | None, x: Array) -> Array:
    """Lengths as kernels take them: all steps for None."""
    return np.full(x.shape[1], len(x)) if lengths is None else plain(lengths)
