"""One step of each optimizer on Python floats; returns the new state instead of writing in place.

The update rules are those of the papers: Sutskever et al. (2013) for momentum, Hinton's lecture 6e
for RMSprop, Duchi et al. (2011) for Adagrad, Kingma & Ba (2015) for Adam, Loshchilov & Hutter
(2019) for AdamW, with PyTorch's placement of eps, dampening and weight decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def _each(function: Callable[..., tuple[float, ...]], *arrays: np.ndarray) -> list[np.ndarray]:
    """function of the i-th element of every array; it returns them again, but for the gradient."""
    rows = [function(*(float(a[i]) for a in arrays)) for i in range(len(arrays[0]))]
    return [np.array([row[k] for row in rows], np.float64) for k in range(len(arrays) - 1)]


def sgd_step(
    param: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None, lr: float, momentum: float,
    dampening: float, weight_decay: float, nesterov: bool, first: bool,
) -> list[np.ndarray]:  # fmt: skip
    """-> [param] or [param, velocity]."""

    def one(p: float, g: float, v: float = 0.0) -> tuple[float, ...]:
        g = g + weight_decay * p
        if velocity is None:
            return (p - lr * g,)
        v = g if first else momentum * v + (1 - dampening) * g
        return p - lr * (g + momentum * v if nesterov else v), v

    return _each(one, param, grad, *([] if velocity is None else [velocity]))


def rmsprop_step(
    param: np.ndarray, grad: np.ndarray, square: np.ndarray, velocity: np.ndarray | None,
    lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
) -> list[np.ndarray]:  # fmt: skip
    """-> [param, square] or [param, square, velocity]."""

    def one(p: float, g: float, s: float, v: float = 0.0) -> tuple[float, ...]:
        g = g + weight_decay * p
        s = alpha * s + (1 - alpha) * g * g
        step = g / (math.sqrt(s) + eps)
        if velocity is None:
            return p - lr * step, s
        v = momentum * v + step
        return p - lr * v, s, v

    return _each(one, param, grad, square, *([] if velocity is None else [velocity]))


def adagrad_step(
    param: np.ndarray, grad: np.ndarray, square: np.ndarray, lr: float, eps: float,
    weight_decay: float,
) -> list[np.ndarray]:  # fmt: skip
    """-> [param, square]."""

    def one(p: float, g: float, s: float) -> tuple[float, ...]:
        g = g + weight_decay * p
        s = s + g * g
        return p - lr * g / (math.sqrt(s) + eps), s

    return _each(one, param, grad, square)


def adam_step(
    param: np.ndarray, grad: np.ndarray, mean: np.ndarray, square: np.ndarray, step: int,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> list[np.ndarray]:  # fmt: skip
    """-> [param, mean, square]."""

    def one(p: float, g: float, m: float, s: float) -> tuple[float, ...]:
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        m_hat, s_hat = m / (1 - beta1**step), s / (1 - beta2**step)
        return p - lr * m_hat / (math.sqrt(s_hat) + eps), m, s

    return _each(one, param, grad, mean, square)


def norm(x: np.ndarray) -> np.ndarray:
    """Square root of the sum of squares, which math.fsum rounds once; NaN and infinity pass."""
    squares = [float(v) * float(v) for v in x.ravel()]
    finite = all(math.isfinite(s) for s in squares)
    return np.array(math.sqrt(math.fsum(squares) if finite else sum(squares)))


def scale(x: np.ndarray, factor: float) -> np.ndarray:
    return np.array([float(v) * factor for v in x.ravel()], np.float64).reshape(x.shape)


def limit(x: np.ndarray, bound: float) -> np.ndarray:
    """Comparisons with NaN are false, so it stays."""
    limited = [bound if v > bound else -bound if v < -bound else float(v) for v in x.ravel()]
    return np.array(limited, np.float64).reshape(x.shape)
