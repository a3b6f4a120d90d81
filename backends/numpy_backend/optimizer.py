"""Optimizer steps in place on flat arrays, with one or two temporaries each; limiting gradients."""

from __future__ import annotations

import math

import numpy as np

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Optimizer(Common):
    """Sources are given at each step; `decay` below is the gradient with L2 decay added."""

    @quiet
    def sgd_step(
        self, param: Array, grad: Array, velocity: Array | None, lr: float, momentum: float,
        dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        """Sutskever, Martens, Dahl & Hinton (2013), section 2."""
        step = self._decayed(param, grad, weight_decay)
        if velocity is not None:
            if first:
                velocity[...] = step
            else:
                velocity *= momentum
                velocity += (1 - dampening) * step
            step = step + momentum * velocity if nesterov else velocity
        param -= lr * step

    @quiet
    def rmsprop_step(
        self, param: Array, grad: Array, square: Array, velocity: Array | None,
        lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        """Tieleman & Hinton (2012), lecture 6.5."""
        g = self._decayed(param, grad, weight_decay)
        self._average_square(square, g, alpha)
        step = self.xp.sqrt(square)
        step += eps
        self.xp.divide(g, step, out=step)
        if velocity is not None:
            velocity *= momentum
            velocity += step
            step = velocity
        param -= lr * step

    @quiet
    def adagrad_step(
        self, param: Array, grad: Array, square: Array, lr: float, eps: float, weight_decay: float
    ) -> None:
        """Duchi, Hazan & Singer (2011), figure 1, with a diagonal matrix."""
        g = self._decayed(param, grad, weight_decay)
        square += g * g
        step = self.xp.sqrt(square)
        step += eps
        self.xp.divide(g, step, out=step)
        step *= lr
        param -= step

    @quiet
    def adam_step(
        self, param: Array, grad: Array, mean: Array, square: Array, step: int, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """Kingma & Ba (2015), algorithm 1; decoupled: Loshchilov & Hutter (2019), algorithm 2."""
        if decoupled:
            param *= 1 - lr * weight_decay
        g = grad if decoupled else self._decayed(param, grad, weight_decay)
        mean *= beta1
        mean += (1 - beta1) * g
        self._average_square(square, g, beta2)
        change = self.xp.sqrt(square)
        change *= 1 / math.sqrt(1 - beta2**step)
        change += eps
        self.xp.divide(mean, change, out=change)
        change *= lr / (1 - beta1**step)
        param -= change

    def _decayed(self, param: Array, grad: Array, weight_decay: float) -> Array:
        """The gradient of the loss plus weight_decay / 2 * |param|^2."""
        return grad + weight_decay * param if weight_decay else grad

    def _average_square(self, square: Array, g: Array, beta: float) -> None:
        """In place: square = beta * square + (1 - beta) * g^2."""
        square *= beta
        term = g * g
        term *= 1 - beta
        square += term

    @quiet
    def norm(self, x: Array) -> Array:
        wide = self.astype(x, np.dtype(np.float64))
        return self._array(self.xp.sqrt(self.xp.sum(wide * wide))).astype(x.dtype)

    @quiet
    def scale(self, x: Array, factor: Array) -> None:
        x *= factor.astype(x.dtype)

    @quiet
    def limit(self, x: Array, bound: float) -> None:
        x[...] = self.xp.clip(x, -bound, bound)
