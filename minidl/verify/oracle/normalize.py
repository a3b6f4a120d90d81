"""Layer and batch normalisation: statistics of a list, gradients by the whole Jacobian."""

from __future__ import annotations

import math

import numpy as np


def _statistics(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def _input_grad(slope: list[float], x_hat: list[float], inv_std: float) -> list[float]:
    """slope times dx_hat_j/dx_i = inv_std (delta_ij - 1/n - x_hat_i x_hat_j / n)."""
    n = len(slope)
    return [
        math.fsum(
            slope[j] * inv_std * ((i == j) - 1 / n - x_hat[i] * x_hat[j] / n) for j in range(n)
        )
        for i in range(n)
    ]


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, weight, bias = (np.asarray(a, np.float64) for a in (x, weight, bias))
    rows, columns = x.shape
    y, means, inv_stds = np.empty(x.shape), np.empty((rows, 1)), np.empty((rows, 1))
    for n in range(rows):
        mean, var = _statistics(x[n].tolist())
        means[n, 0], inv_stds[n, 0] = mean, 1 / math.sqrt(var + eps)
        for d in range(columns):
            y[n, d] = (x[n, d] - mean) / math.sqrt(var + eps) * weight[d] + bias[d]
    return y, means, inv_stds


def layer_norm_grad(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inv_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grad, x, weight, mean, inv_std = (
        np.asarray(a, np.float64) for a in (grad, x, weight, mean, inv_std)
    )
    rows, columns = x.shape
    x_hat, grad_x = np.empty(x.shape), np.empty(x.shape)
    for n in range(rows):
        for d in range(columns):
            x_hat[n, d] = (x[n, d] - mean[n, 0]) * inv_std[n, 0]
        slope = [grad[n, d] * weight[d] for d in range(columns)]
        grad_x[n] = _input_grad(slope, x_hat[n].tolist(), float(inv_std[n, 0]))
    grad_weight = [math.fsum(grad[n, d] * x_hat[n, d] for n in range(rows)) for d in range(columns)]
    grad_bias = [math.fsum(grad[:, d].tolist()) for d in range(columns)]
    return grad_x, np.array(grad_weight), np.array(grad_bias)


def batch_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, weight, bias = (np.asarray(a, np.float64) for a in (x, weight, bias))
    channels = x.shape[1]
    y, means, variances = np.empty(x.shape), np.empty(channels), np.empty(channels)
    for c in range(channels):
        means[c], variances[c] = _statistics(x[:, c].ravel().tolist())
        for n, i in np.ndindex(x.shape[0], x.shape[2]):
            x_hat = (x[n, c, i] - means[c]) / math.sqrt(variances[c] + eps)
            y[n, c, i] = x_hat * weight[c] + bias[c]
    return y, means, variances


def batch_norm_grad(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    grad, x, weight, mean, var = (np.asarray(a, np.float64) for a in (grad, x, weight, mean, var))
    grad_x = np.empty(x.shape)
    grad_weight, grad_bias = np.empty(x.shape[1]), np.empty(x.shape[1])
    for c in range(x.shape[1]):
        inv_std = 1 / math.sqrt(var[c] + eps)
        g = grad[:, c].ravel().tolist()
        x_hat = [(v - mean[c]) * inv_std for v in x[:, c].ravel().tolist()]
        slope = [v * weight[c] for v in g]
        grad_x[:, c] = np.reshape(_input_grad(slope, x_hat, inv_std), grad_x[:, c].shape)
        grad_weight[c] = math.fsum(a * b for a, b in zip(g, x_hat, strict=True))
        grad_bias[c] = math.fsum(g)
    return grad_x, grad_weight, grad_bias
