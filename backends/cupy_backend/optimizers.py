"""Optimizer steps: one launch over all parameters, bit for bit the reference's result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..interface import Array
from .common import Common
from .kernels import launchable, over_items


class Optimizers(Common):
    """Arrays that a kernel cannot take (empty, strided, float16) go the reference's way."""

    def sgd_step(
        self, param: Array, grad: Array, velocity: Array | None, lr: float, momentum: float,
        dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        if not _flat(param, grad, velocity):
            super().sgd_step(
                param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov, first
            )
            return
        state = [param if velocity is None else velocity, int(velocity is not None)]
        factors = _rounded(param, lr, momentum, 1 - dampening, weight_decay)
        self._step("sgd", [param, grad, *state, *factors, int(nesterov), int(first)])

    def rmsprop_step(
        self, param: Array, grad: Array, square: Array, velocity: Array | None,
        lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        if not _flat(param, grad, square, velocity):
            super().rmsprop_step(
                param, grad, square, velocity, lr, alpha, eps, weight_decay, momentum
            )
            return
        state = [square, param if velocity is None else velocity, int(velocity is not None)]
        factors = _rounded(param, lr, alpha, 1 - alpha, eps, weight_decay, momentum)
        self._step("rmsprop", [param, grad, *state, *factors])

    def adagrad_step(
        self, param: Array, grad: Array, square: Array, lr: float, eps: float, weight_decay: float
    ) -> None:
        if not _flat(param, grad, square):
            super().adagrad_step(param, grad, square, lr, eps, weight_decay)
            return
        self._step("adagrad", [param, grad, square, *_rounded(param, lr, eps, weight_decay)])

    def adam_step(
        self, param: Array, grad: Array, mean: Array, square: Array, step: int, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        if not _flat(param, grad, mean, square):
            super().adam_step(
                param, grad, mean, square, step, lr, beta1, beta2, eps, weight_decay, decoupled
            )
            return
        shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
        unbias, rate = 1 / math.sqrt(1 - beta2**step), lr / (1 - beta1**step)
        betas = beta1, 1 - beta1, beta2, 1 - beta2
        factors = _rounded(param, shrink, decay, *betas, unbias, eps, rate)
        self._step("adam", [param, grad, mean, square, *factors])

    def _step(self, name: str, args: list[Any]) -> None:
        param = args[0]
        grid = over_items(param.size)
        args = [*args, np.int64(param.size)]
        self._kernels.launch("optimizers.cu", name, param.dtype, grid, args)


def _flat(*arrays: Array | None) -> bool:
    """Whether all of these can be written to as they lie in memory, as arrays of one dtype."""
    given = [x for x in arrays if x is not None]
    alike = all(x.dtype == given[0].dtype and x.flags.c_contiguous for x in given)
    return alike and launchable(*given)


def _rounded(param: Array, *factors: float) -> list[Any]:
    """Factors in the dtype of the parameters, as NumPy rounds a Python float beside an array."""
    return [param.dtype.type(factor) for factor in factors]
