"""Layer and batch normalisation in two or three passes over each row or channel.

The formulas are the NumPy backend's. Sums are kept in float64, whatever the dtype: they cost no
more beside the memory traffic, and long rows lose nothing.
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
SHORT = 8  # positions per channel, below which NumPy's strided sums are as fast


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
        partial = np.empty((min(x.shape[0], PARTS), 2, x.shape[1]))
        rows_backward.sized(x.size, PARALLEL_FROM)(
            plain(grad), plain(x), plain(weight), plain(mean), plain(inv_std), x_grad, partial
        )
        weight_grad, bias_grad = partial.sum(axis=0).astype(x.dtype)
        return x_grad, weight_grad, bias_grad

    def batch_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not suits(x, weight, bias) or x.shape[2] < SHORT:
            return super().batch_norm(x, weight, bias, eps)
        y = empty(x.shape, x.dtype)
        mean, var = np.empty((2, x.shape[1]), x.dtype)
        channels_forward.sized(x.size, PARALLEL_FROM)(
            plain(x), plain(weight), plain(bias), eps, y, mean, var
        )
        return y, mean, var

    def batch_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not suits(grad, x, weight, mean, var) or x.shape[2] < SHORT:
            return super().batch_norm_grad(grad, x, weight, mean, var, eps)
        x_grad = empty(x.shape, x.dtype)
        weight_grad, bias_grad = np.empty((2, x.shape[1]), x.dtype)
        channels_backward.sized(x.size, PARALLEL_FROM)(
            plain(grad), plain(x), plain(weight), plain(mean), plain(var), eps,
            x_grad, weight_grad, bias_grad,
        )  # fmt: skip
        return x_grad, weight_grad, bias_grad
