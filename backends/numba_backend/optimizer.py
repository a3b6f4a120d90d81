"""Optimizer steps in one pass: every array is read and written once; limiting gradients.

The operations and their order are the NumPy backend's, each rounded on its own, so the bits agree.
Constants are rounded to the dtype first, as NumPy rounds a Python number that meets an array.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from ..quiet import quiet
from .jit import Kernel, kernel
from .layout import flat, plain, suits

PARALLEL_FROM = 1 << 14  # elements
NORM_PARALLEL_FROM = 1 << 16  # elements
PARTS = 16  # into how many a norm's sum is split, whatever the number of threads


@kernel(exact=True)
def sgd(param: Array, grad: Array, lr: float, weight_decay: float) -> None:
    """Without momentum."""
    for i in prange(param.size):
        param[i] -= lr * (grad[i] + weight_decay * param[i] if weight_decay else grad[i])


@kernel(exact=True)
def sgd_momentum(param: Array, grad: Array, velocity: Array, lr: float, weight_decay: float,
                 momentum: float, rest: float, nesterov: bool, first: bool) -> None:  # fmt: skip
    """With momentum; rest = 1 - dampening."""
    for i in prange(param.size):
        g = grad[i] + weight_decay * param[i] if weight_decay else grad[i]
        v = g if first else velocity[i] * momentum + rest * g
        velocity[i] = v
        param[i] -= lr * (g + momentum * v if nesterov else v)


@kernel(exact=True)
def rmsprop(param: Array, grad: Array, square: Array, lr: float, weight_decay: float,
            alpha: float, rest: float, eps: float) -> None:  # fmt: skip
    """Without momentum; rest = 1 - alpha."""
    for i in prange(param.size):
        g = grad[i] + weight_decay * param[i] if weight_decay else grad[i]
        s = square[i] * alpha + g * g * rest
        square[i] = s
        param[i] -= lr * (g / (np.sqrt(s) + eps))


@kernel(exact=True)
def rmsprop_momentum(param: Array, grad: Array, square: Array, velocity: Array, lr: float,
                     weight_decay: float, alpha: float, rest: float, eps: float,
                     momentum: float) -> None:  # fmt: skip
    """With momentum; rest = 1 - alpha."""
    for i in prange(param.size):
        g = grad[i] + weight_decay * param[i] if weight_decay else grad[i]
        s = square[i] * alpha + g * g * rest
        square[i] = s
        v = velocity[i] * momentum + g / (np.sqrt(s) + eps)
        velocity[i] = v
        param[i] -= lr * v


@kernel(exact=True)
def adagrad(param: Array, grad: Array, square: Array, lr: float, weight_decay: float,
            eps: float) -> None:  # fmt: skip
    for i in prange(param.size):
        g = grad[i] + weight_decay * param[i] if weight_decay else grad[i]
        s = square[i] + g * g
        square[i] = s
        param[i] -= g / (np.sqrt(s) + eps) * lr


@kernel(exact=True)
def adam(param: Array, grad: Array, mean: Array, square: Array, rate: float, correction: float,
         beta1: float, rest1: float, beta2: float, rest2: float, eps: float,
         keep: float, weight_decay: float) -> None:  # fmt: skip
    """rate = lr / (1 - beta1^step), correction = 1 / sqrt(1 - beta2^step), rest = 1 - beta.

    keep is the factor of decoupled decay (1 for none), weight_decay that of the coupled one.
    """
    for i in prange(param.size):
        p = param[i] * keep
        g = grad[i] + weight_decay * p if weight_decay else grad[i]
        m = mean[i] * beta1 + rest1 * g
        s = square[i] * beta2 + g * g * rest2
        mean[i] = m
        square[i] = s
        param[i] = p - m / (np.sqrt(s) * correction + eps) * rate


@kernel()
def square_norm(x: Array, parts: Array, norm: Array) -> None:
    """norm (1,) of x (n,), as many stretches of which as parts has room for are added up apart."""
    count = parts.size
    for p in prange(count):
        stretch = x[p * x.size // count : (p + 1) * x.size // count]
        total = 0.0
        for i in range(stretch.size):
            total += np.float64(stretch[i]) * np.float64(stretch[i])
        parts[p] = total
    total = 0.0
    for p in range(count):
        total += parts[p]
    norm[0] = math.sqrt(total)


@kernel(exact=True)
def scale(x: Array, factor: Array) -> None:
    """x *= factor (1,); nothing is touched if that is 1, as it is where a limit was kept."""
    if factor[0] != 1:
        for i in prange(x.size):
            x[i] *= factor[0]


@kernel(exact=True)
def limit(x: Array, bound: float) -> None:
    for i in prange(x.size):
        v = bound if x[i] > bound else x[i]  # NaN compares false and stays
        x[i] = -bound if v < -bound else v


class Optimizer(NumpyBackend):
    """Arrays that are not contiguous float32 or float64 go to the NumPy backend."""

    def sgd_step(
        self, param: Array, grad: Array, velocity: Array | None, lr: float, momentum: float,
        dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        arrays = (param, grad) if velocity is None else (param, grad, velocity)
        if not in_place(arrays):
            super().sgd_step(
                param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov, first
            )
        elif velocity is None:
            launch(sgd, arrays, (lr, weight_decay))
        else:
            constants = (lr, weight_decay, momentum, 1 - dampening)
            launch(sgd_momentum, arrays, constants, nesterov, first)

    def rmsprop_step(
        self, param: Array, grad: Array, square: Array, velocity: Array | None,
        lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        constants = (lr, weight_decay, alpha, 1 - alpha, eps)
        arrays = (param, grad, square) if velocity is None else (param, grad, square, velocity)
        if not in_place(arrays):
            super().rmsprop_step(
                param, grad, square, velocity, lr, alpha, eps, weight_decay, momentum
            )
        elif velocity is None:
            launch(rmsprop, arrays, constants)
        else:
            launch(rmsprop_momentum, arrays, (*constants, momentum))

    def adagrad_step(
        self, param: Array, grad: Array, square: Array, lr: float, eps: float, weight_decay: float
    ) -> None:
        if not in_place((param, grad, square)):
            super().adagrad_step(param, grad, square, lr, eps, weight_decay)
        else:
            launch(adagrad, (param, grad, square), (lr, weight_decay, eps))

    def adam_step(
        self, param: Array, grad: Array, mean: Array, square: Array, step: int, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        arrays = (param, grad, mean, square)
        if not in_place(arrays):
            super().adam_step(
                param, grad, mean, square, step, lr, beta1, beta2, eps, weight_decay, decoupled
            )
            return
        launch(adam, arrays, adam_constants(step, lr, beta1, beta2, eps, weight_decay, decoupled))

    def norm(self, x: Array) -> Array:
        if not suits(x):
            return super().norm(x)
        norm = np.empty(1, x.dtype)
        square_norm.sized(x.size, NORM_PARALLEL_FROM)(flat(plain(x)), np.empty(PARTS), norm)
        return norm.reshape(())

    def scale(self, x: Array, factor: Array) -> None:
        if not suits(x) or not x.flags.carray:
            super().scale(x, factor)
            return
        scale.sized(x.size, NORM_PARALLEL_FROM)(flat(x), factor.astype(x.dtype).reshape(1))

    @quiet
    def limit(self, x: Array, bound: float) -> None:
        if not suits(x) or not x.flags.carray:
            super().limit(x, bound)
            return
        limit.sized(x.size, NORM_PARALLEL_FROM)(flat(x), x.dtype.type(bound))


def adam_constants(
    step: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    decoupled: bool,
) -> tuple[float, ...]:  # fmt: skip
    """What the kernel `adam` takes after the arrays."""
    rate, correction = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    keep, coupled = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    return rate, correction, beta1, 1 - beta1, beta2, 1 - beta2, eps, keep, coupled


def in_place(arrays: tuple[Array, ...]) -> bool:
    """Whether a kernel can write to these arrays where they are."""
    if not suits(*arrays):
        return False
    for x in arrays:  # written out, as the loop of a generator takes 0.5 us more
        if x.ndim == 1 and x.flags.carray:
            continue
        return False
    return True


def launch(
    update: Kernel, arrays: tuple[Array, ...], constants: tuple[float, ...], *rest: bool
) -> None:
    """Launch an update, its constants rounded to the dtype of the parameters."""
    run = update if arrays[0].size >= PARALLEL_FROM else update.serial
    run(*arrays, *np.array(constants, arrays[0].dtype), *rest)
