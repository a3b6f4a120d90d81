"""What one thread does in a recurrent network: some samples, all steps, forward or back.

A step is a product with the weight, cut into panels beforehand, and then the gates of one sample
after the other, whose rows are still in the first cache.

These are helpers, and the kernels in `recurrent.py` only call them: in a parallel kernel Numba
turns array expressions (x[:] = 0) into loops of their own, and has moved them past a helper that
writes to x.
"""

from __future__ import annotations

import numpy as np

from ..interface import Array
from .jit import helper
from .microkernel import PANEL, tile_rows
from .vector_math import sigmoid, tanh

SAMPLES = 8  # of a task: 8, 11 and 16 ran equally fast on two threads, and 8 keep more of them busy


@helper
def times(a: Array, panels: Array, y: Array, add: bool) -> None:
    """y (+)= a @ the matrix in panels; y has columns for all of the last panel."""
    rows, depth = a.shape
    width, line = PANEL // y.itemsize, y.shape[1]
    a, y, b = a.reshape(-1), y.reshape(-1), panels.reshape(-1)
    for p in range(panels.shape[0]):
        tile_rows(y, p * width, line, a, 0, depth, 1, b, p * width * depth, width, rows, depth, add)


@helper
def share(part: int, batch: int) -> tuple[int, int]:
    """The samples of a task."""
    return part * SAMPLES, min((part + 1) * SAMPLES, batch)


@helper
def scratch(rows: int, panels: Array) -> Array:
    """Room for a product with the matrix in panels."""
    width = PANEL // panels.itemsize
    return np.empty((rows, panels.shape[0] * width), panels.dtype)


@helper
def rnn_forward(part: int, x: Array, panels: Array, bias: Array, h: Array, lengths: Array,
                reverse: bool, rectified: bool, states: Array) -> None:  # fmt: skip
    steps, batch, units = x.shape
    start, stop = share(part, batch)
    hidden, z = h[start:stop].copy(), scratch(stop - start, panels)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        times(hidden, panels, z, False)
        for n in range(start, stop):
            out, row, zs, xs = states[t, n], hidden[n - start], z[n - start], x[t, n]
            if t >= lengths[n]:
                out[:] = 0
            elif rectified:
                for d in range(units):
                    v = zs[d] + xs[d] + bias[d]
                    out[d] = row[d] = 0 if v <= 0 else v
            else:
                for d in range(units):
                    out[d] = row[d] = tanh(zs[d] + xs[d] + bias[d])
    states[steps, start:stop] = hidden


@helper
def rnn_backward(part: int, grad: Array, states: Array, panels: Array, lengths: Array,
                 reverse: bool, rectified: bool, x_grad: Array, bias_grad: Array,
                 h_grad: Array) -> None:  # fmt: skip
    steps, batch, units = x_grad.shape
    start, stop = share(part, batch)
    dh, total = scratch(stop - start, panels), bias_grad[part]
    dh[:, :units] = grad[steps, start:stop]
    total[:] = 0
    for s in range(steps):
        t = s if reverse else steps - 1 - s
        for n in range(start, stop):
            g, y, out, row = grad[t, n], states[t, n], x_grad[t, n], dh[n - start]
            if t >= lengths[n]:
                out[:] = 0
                continue
            if rectified:
                for d in range(units):
                    out[d] = 0 if y[d] <= 0 else row[d] + g[d]
            else:
                for d in range(units):
                    out[d] = (row[d] + g[d]) * (1 - y[d] * y[d])
            for d in range(units):
                total[d] += out[d]
            row[:] = 0
        times(x_grad[t, start:stop], panels, dh, True)
    h_grad[start:stop] = dh[:, :units]


@helper
def lstm_forward(part: int, x: Array, panels: Array, bias: Array, h: Array, c: Array,
                 lengths: Array, reverse: bool, states: Array, gates: Array,
                 cells: Array) -> None:  # fmt: skip
    steps, batch, _ = cells.shape
    start, stop = share(part, batch)
    hidden, cell = h[start:stop].copy(), c[start:stop].copy()
    z = scratch(stop - start, panels)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        times(hidden, panels, z, False)
        for n in range(start, stop):
            row, now = hidden[n - start], cell[n - start]
            if t >= lengths[n]:
                states[t, n] = 0
                gates[t, n] = 0
            else:
                lstm_step(z[n - start], x[t, n], bias, gates[t, n], now, row)
                states[t, n] = row
            cells[t, n] = now
    states[steps, start:stop] = hidden
    states[steps + 1, start:stop] = cell


@helper
def lstm_step(z: Array, x: Array, bias: Array, gates: Array, c: Array, h: Array) -> None:
    """The gates i, f, g, o of one sample, and its c and h from those before."""
    d = c.size
    i, f, g, o = gates[:d], gates[d : 2 * d], gates[2 * d : 3 * d], gates[3 * d :]
    for j in range(2 * d):
        gates[j] = sigmoid(z[j] + x[j] + bias[j])
    z, x, bias = z[2 * d :], x[2 * d :], bias[2 * d :]
    for j in range(d):
        g[j] = tanh(z[j] + x[j] + bias[j])
    z, x, bias = z[d:], x[d:], bias[d:]
    for j in range(d):
        o[j] = sigmoid(z[j] + x[j] + bias[j])
    for j in range(d):
        c[j] = f[j] * c[j] + i[j] * g[j]
        h[j] = o[j] * tanh(c[j])


@helper
def lstm_backward(part: int, grad: Array, gates: Array, cells: Array, panels: Array, c: Array,
                  lengths: Array, reverse: bool, x_grad: Array, bias_grad: Array,
                  h_grad: Array, c_grad: Array) -> None:  # fmt: skip
    steps, batch, units = cells.shape
    start, stop = share(part, batch)
    dh, dc = scratch(stop - start, panels), c_grad[start:stop]
    dh[:, :units] = grad[steps, start:stop]
    dc[:] = grad[steps + 1, start:stop]
    bias_grad[part] = 0
    for s in range(steps):
        t = s if reverse else steps - 1 - s
        before = t + 1 if reverse else t - 1
        for n in range(start, stop):
            out = x_grad[t, n]
            if t >= lengths[n]:
                out[:] = 0
                continue
            old = cells[before, n] if 0 <= before < steps else c[n]
            lstm_step_grad(grad[t, n], gates[t, n], cells[t, n], old, dh[n - start],
                           dc[n - start], out)  # fmt: skip
            total = bias_grad[part]
            for j in range(total.size):
                total[j] += out[j]
        times(x_grad[t, start:stop], panels, dh, True)
    h_grad[start:stop] = dh[:, :units]


@helper
def lstm_step_grad(grad: Array, gates: Array, c: Array, old: Array, dh: Array, dc: Array,
                   z_grad: Array) -> None:  # fmt: skip
    """One sample's gates' gradients; dc becomes that of the cell before, dh what the weight adds
    to.
    """
    d = c.size
    i, f, g, o = gates[:d], gates[d : 2 * d], gates[2 * d : 3 * d], gates[3 * d :]
    di, df, dg, do = z_grad[:d], z_grad[d : 2 * d], z_grad[2 * d : 3 * d], z_grad[3 * d :]
    for j in range(d):
        y, total = tanh(c[j]), dh[j] + grad[j]
        dh[j] = 0
        do[j] = total * y * o[j] * (1 - o[j])
        dc[j] += total * o[j] * (1 - y * y)
    for j in range(d):
        v = dc[j]
        di[j] = v * g[j] * i[j] * (1 - i[j])
        df[j] = v * old[j] * f[j] * (1 - f[j])
        dg[j] = v * i[j] * (1 - g[j] * g[j])
        dc[j] = v * f[j]


@helper
def gru_forward(part: int, x: Array, panels: Array, bias: Array, hidden_bias: Array, h: Array,
                lengths: Array, reverse: bool, states: Array,
                gates: Array) -> None:  # fmt: skip
    steps, batch, _ = x.shape
    start, stop = share(part, batch)
    hidden, z = h[start:stop].copy(), scratch(stop - start, panels)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        times(hidden, panels, z, False)
        for n in range(start, stop):
            if t >= lengths[n]:
                states[t, n] = 0
                gates[t, n] = 0
            else:
                gru_step(z[n - start], x[t, n], bias, hidden_bias, gates[t, n],
                         hidden[n - start])  # fmt: skip
                states[t, n] = hidden[n - start]
    states[steps, start:stop] = hidden


@helper
def gru_step(p: Array, x: Array, bias: Array, hidden_bias: Array, gates: Array, h: Array) -> None:
    """The gates r, z, n, q of one sample, and its h from the one before."""
    d = h.size
    for j in range(2 * d):
        gates[j] = sigmoid(x[j] + bias[j] + p[j] + hidden_bias[j])
    r, z, n, q = gates[:d], gates[d : 2 * d], gates[2 * d : 3 * d], gates[3 * d :]
    x_n, b_n, p_n, own = x[2 * d :], bias[2 * d :], p[2 * d :], hidden_bias[2 * d :]
    for j in range(d):
        q[j] = p_n[j] + own[j]
        n[j] = tanh(x_n[j] + b_n[j] + r[j] * q[j])
    for j in range(d):
        h[j] = (1 - z[j]) * n[j] + z[j] * h[j]


@helper
def gru_backward(part: int, grad: Array, states: Array, gates: Array, panels: Array, h: Array,
                 lengths: Array, reverse: bool, x_grad: Array, p_grad: Array, bias_grad: Array,
                 h_grad: Array) -> None:  # fmt: skip
    """bias_grad (parts, 2, 3 D): of the bias, and of the hidden one."""
    steps, batch, _ = gates.shape
    units = h.shape[1]
    start, stop = share(part, batch)
    dh = scratch(stop - start, panels)
    dh[:, :units] = grad[steps, start:stop]
    bias_grad[part] = 0
    for s in range(steps):
        t = s if reverse else steps - 1 - s
        before = t + 1 if reverse else t - 1
        for n in range(start, stop):
            dx, dp = x_grad[t, n], p_grad[t, n]
            if t >= lengths[n]:
                dx[:] = 0
                dp[:] = 0
                continue
            old = states[before, n] if 0 <= before < lengths[n] else h[n]
            gru_step_grad(grad[t, n], gates[t, n], old, dh[n - start], dx, dp)
            total, own = bias_grad[part, 0], bias_grad[part, 1]
            for j in range(total.size):
                total[j] += dx[j]
                own[j] += dp[j]
        times(p_grad[t, start:stop], panels, dh, True)
    h_grad[start:stop] = dh[:, :units]


@helper
def gru_step_grad(grad: Array, gates: Array, old: Array, dh: Array, x_grad: Array,
                  p_grad: Array) -> None:  # fmt: skip
    """One sample's gates' gradients; dh becomes what z lets through."""
    d = old.size
    r, z, n, q = gates[:d], gates[d : 2 * d], gates[2 * d : 3 * d], gates[3 * d :]
    dr, dz, dn = x_grad[:d], x_grad[d : 2 * d], x_grad[2 * d :]
    last = p_grad[2 * d :]
    for j in range(d):
        total = dh[j] + grad[j]
        dh[j] = total * z[j]
        dz[j] = total * (old[j] - n[j]) * z[j] * (1 - z[j])
        dn[j] = total * (1 - z[j]) * (1 - n[j] * n[j])
    for j in range(d):
        dr[j] = dn[j] * q[j] * r[j] * (1 - r[j])
        last[j] = dn[j] * r[j]
    p_grad[: 2 * d] = x_grad[: 2 * d]
