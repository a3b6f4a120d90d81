"""Layer and batch normalisation in two or three passes over each row or channel.

The formulas are the NumPy backend's. Sums along a row or channel are kept in float64, whatever the
dtype: they cost no more beside the memory traffic, and long rows lose nothing.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 13  # elements of x
PARTS = 16  # into how many tasks the sums over rows are split, whatever the number of threads
# Positions per channel, below which a loop over them is too short for vectors. At 49, forward and
# backward together, it took 15 % longer; at 4, NumPy took 20 times as long.
SHORT = 64
STRIPE = 64  # columns, about, of a task of short channels


@kernel()
def rows_forward(x: Array, weight: Array, bias: Array, eps: float, y: Array, mean: Array,
                 inv_std: Array) -> None:  # fmt: skip
    """x (N, D), weight and bias (D,) -> y (N, D), mean and inv_std (N, 1)."""
    columns = x.shape[1]
    for n in prange(x.shape[0]):
        row, out = x[n], y[n]
        total = 0.0
        for d in range(columns):
            total += row[d]
        mean[n, 0] = total / columns
        m = mean[n, 0]
        squares = 0.0
        for d in range(columns):
            squares += np.float64(row[d] - m) ** 2
        inv_std[n, 0] = 1 / np.sqrt(squares / columns + eps)
        scale = inv_std[n, 0]
        for d in range(columns):
            out[d] = (row[d] - m) * scale * weight[d] + bias[d]


@kernel()
def rows_backward(grad: Array, x: Array, weight: Array, mean: Array, inv_std: Array,
                  x_grad: Array, partial: Array) -> None:  # fmt: skip
    """partial (P, 2, D): the gradients of weight and bias, summed over each part of the rows."""
    rows, columns = x.shape
    parts = partial.shape[0]
    for part in prange(parts):
        weight_grad, bias_grad = partial[part, 0], partial[part, 1]
        weight_grad[:] = 0
        bias_grad[:] = 0
        for n in range(part * rows // parts, (part + 1) * rows // parts):
            g, row, out = grad[n], x[n], x_grad[n]
            m, scale = mean[n, 0], inv_std[n, 0]
            shift = slope = 0.0
            for d in range(columns):
                x_hat = (row[d] - m) * scale
                weight_grad[d] += g[d] * x_hat
                bias_grad[d] += g[d]
                shift += g[d] * weight[d]
                slope += g[d] * weight[d] * x_hat
            a, b = x.dtype.type(shift / columns), x.dtype.type(slope / columns)
            for d in range(columns):
                out[d] = (g[d] * weight[d] - a - (row[d] - m) * scale * b) * scale


@kernel()
def channels_forward(x: Array, weight: Array, bias: Array, eps: float, y: Array, mean: Array,
                     var: Array) -> None:  # fmt: skip
    """x (N, C, L), weight and bias (C,) -> y (N, C, L), mean and var (C,)."""
    samples, _, length = x.shape
    count = samples * length
    for c in prange(x.shape[1]):
        total = 0.0
        for n in range(samples):
            row = x[n, c]
            for i in range(length):
                total += row[i]
        mean[c] = total / count
        m = mean[c]
        squares = 0.0
        for n in range(samples):
            row = x[n, c]
            for i in range(length):
                squares += np.float64(row[i] - m) ** 2
        var[c] = squares / count
        scale = x.dtype.type(weight[c] / np.sqrt(var[c] + eps))
        shift = bias[c]
        for n in range(samples):
            row, out = x[n, c], y[n, c]
            for i in range(length):
                out[i] = (row[i] - m) * scale + shift


@kernel()
def channels_backward(grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float,
                      x_grad: Array, weight_grad: Array, bias_grad: Array) -> None:  # fmt: skip
    """Gradients of `channels_forward`."""
    samples, _, length = x.shape
    count = samples * length
    for c in prange(x.shape[1]):
        m, inv_std = mean[c], x.dtype.type(1 / np.sqrt(var[c] + eps))
        slope = shift = 0.0
        for n in range(samples):
            g, row = grad[n, c], x[n, c]
            for i in range(length):
                slope += g[i] * ((row[i] - m) * inv_std)
                shift += g[i]
        weight_grad[c], bias_grad[c] = slope, shift
        a, b = x.dtype.type(shift / count), x.dtype.type(slope / count)
        scale = weight[c] * inv_std
        for n in range(samples):
            g, row, out = grad[n, c], x[n, c], x_grad[n, c]
            for i in range(length):
                out[i] = (g[i] - a - (row[i] - m) * inv_std * b) * scale


@kernel()
def stripes_forward(x: Array, weight: Array, bias: Array, eps: float, length: int, y: Array,
                    mean: Array, var: Array) -> None:  # fmt: skip
    """`channels_forward` for x (N, C * L) with a small length L, in stripes of some channels.

    Each loop runs over all columns of a stripe, so it fills vectors even if L is 1.
    """
    samples, channels, real = x.shape[0], mean.size, x.dtype.type
    step = max(STRIPE // length, 1)
    for stripe in prange((channels + step - 1) // step):
        first, last = stripe * step, min((stripe + 1) * step, channels)
        start, stop = first * length, last * length
        sums, count = np.zeros(stop - start), samples * length
        centre, scale, shift = np.empty((3, stop - start), x.dtype)
        for n in range(samples):
            row = x[n, start:stop]
            for i in range(row.size):
                sums[i] += row[i]
        for c in range(first, last):
            part = slice((c - first) * length, (c - first + 1) * length)
            mean[c] = sums[part].sum() / count
            centre[part] = mean[c]
        sums[:] = 0
        for n in range(samples):
            row = x[n, start:stop]
            for i in range(row.size):
                sums[i] += np.float64(row[i] - centre[i]) ** 2
        for c in range(first, last):
            part = slice((c - first) * length, (c - first + 1) * length)
            var[c] = sums[part].sum() / count
            scale[part] = real(weight[c] / np.sqrt(var[c] + eps))
            shift[part] = bias[c]
        for n in range(samples):
            row, out = x[n, start:stop], y[n, start:stop]
            for i in range(row.size):
                out[i] = (row[i] - centre[i]) * scale[i] + shift[i]


@kernel()
def stripes_backward(grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float,
                     length: int, x_grad: Array, weight_grad: Array,
                     bias_grad: Array) -> None:  # fmt: skip
    """Gradients of `stripes_forward`."""
    samples, channels, real = x.shape[0], mean.size, x.dtype.type
    step = max(STRIPE // length, 1)
    for stripe in prange((channels + step - 1) // step):
        first, last = stripe * step, min((stripe + 1) * step, channels)
        start, stop = first * length, last * length
        slopes, shifts = np.zeros((2, stop - start))
        centre, inv_std, scale, a, b = np.empty((5, stop - start), x.dtype)
        for c in range(first, last):
            part = slice((c - first) * length, (c - first + 1) * length)
            centre[part], inv_std[part] = mean[c], real(1 / np.sqrt(var[c] + eps))
        for n in range(samples):
            g, row = grad[n, start:stop], x[n, start:stop]
            for i in range(row.size):
                slopes[i] += g[i] * ((row[i] - centre[i]) * inv_std[i])
                shifts[i] += g[i]
        for c in range(first, last):
            part = slice((c - first) * length, (c - first + 1) * length)
            slope, shift = slopes[part].sum(), shifts[part].sum()
            weight_grad[c], bias_grad[c] = slope, shift
            a[part], b[part] = shift / (samples * length), slope / (samples * length)
            scale[part] = weight[c]
        for i in range(scale.size):
            scale[i] *= inv_std[i]
            b[i] *= inv_std[i]
        for n in range(samples):
            g, row, out = grad[n, start:stop], x[n, start:stop], x_grad[n, start:stop]
            for i in range(row.size):
                out[i] = (g[i] - a[i] - (row[i] - centre[i]) * b[i]) * scale[i]


def rows(x: Array) -> Array:
    """x (N, C, L) as (N, C * L)."""
    return x.reshape(x.shape[0], -1)


class Normalize(NumpyBackend):
    """Where x has another dtype than weight, or nothing in it, the NumPy backend computes."""

    def layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not suits(x, weight, bias):
            return super().layer_norm(x, weight, bias, eps)
        y = empty(x.shape, x.dtype)
        mean, inv_std = np.empty((2, x.shape[0], 1), x.dtype)
        rows_forward.sized(x.size, PARALLEL_FROM)(
            plain(x), plain(weight), plain(bias), eps, y, mean, inv_std
        )
        return y, mean, inv_std

    def layer_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        if not suits(grad, x, weight, mean, inv_std):
            return super().layer_norm_grad(grad, x, weight, mean, inv_std)
        x_grad = empty(x.shape, x.dtype)
        partial = np.empty((min(x.shape[0], PARTS), 2, x.shape[1]), x.dtype)
        rows_backward.sized(x.size, PARALLEL_FROM)(
            plain(grad), plain(x), plain(weight), plain(mean), plain(inv_std), x_grad, partial
        )
        weight_grad, bias_grad = partial.sum(axis=0)
        return x_grad, weight_grad, bias_grad

    def batch_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not suits(x, weight, bias):
            return super().batch_norm(x, weight, bias, eps)
        y = empty(x.shape, x.dtype)
        mean, var = np.empty((2, x.shape[1]), x.dtype)
        if x.shape[2] < SHORT:
            stripes_forward.sized(x.size, PARALLEL_FROM)(
                rows(plain(x)), plain(weight), plain(bias), eps, x.shape[2], rows(y), mean, var
            )
            return y, mean, var
        channels_forward.sized(x.size, PARALLEL_FROM)(
            plain(x), plain(weight), plain(bias), eps, y, mean, var
        )
        return y, mean, var

    def batch_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not suits(grad, x, weight, mean, var):
            return super().batch_norm_grad(grad, x, weight, mean, var, eps)
        x_grad = empty(x.shape, x.dtype)
        weight_grad, bias_grad = np.empty((2, x.shape[1]), x.dtype)
        if x.shape[2] < SHORT:
            stripes_backward.sized(x.size, PARALLEL_FROM)(
                rows(plain(grad)), rows(plain(x)), plain(weight), plain(mean), plain(var), eps,
                x.shape[2], rows(x_grad), weight_grad, bias_grad,
            )  # fmt: skip
            return x_grad, weight_grad, bias_grad
        channels_backward.sized(x.size, PARALLEL_FROM)(
            plain(grad), plain(x), plain(weight), plain(mean), plain(var), eps,
            x_grad, weight_grad, bias_grad,
        )  # fmt: skip
        return x_grad, weight_grad, bias_grad
