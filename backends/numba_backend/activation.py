"""Activations in one pass, where NumPy needs half a dozen, and the error function."""

from __future__ import annotations

import math

from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from ..numpy_backend.activation import FAR, GELU_CUBIC, SQRT_2_PI
from . import vector_math as vm
from .elementwise import launch
from .jit import kernel
from .layout import plain, suits

PARALLEL_FROM = 1 << 14  # elements
DENSITY = 1 / math.sqrt(2 * math.pi)  # the normal density at 0


@kernel(exact=True)
def erf(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.erf(x[i])


@kernel(exact=True)
def sigmoid(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.sigmoid(x[i])


@kernel(exact=True)
def softplus(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.softplus(x[i])


@kernel(exact=True)
def silu(x: Array, y: Array) -> None:
    far = x.dtype.type(-FAR)  # constants of x's dtype: a float64 would widen the arithmetic
    for i in prange(y.size):
        y[i] = (far if x[i] < far else x[i]) * vm.sigmoid(x[i])


@kernel(exact=True)
def silu_grad(grad: Array, x: Array, x_grad: Array) -> None:
    real = x.dtype.type
    far, one = real(FAR), real(1)
    for i in prange(x_grad.size):
        v = -far if x[i] < -far else x[i]
        v = far if v > far else v
        s = vm.sigmoid(x[i])
        x_grad[i] = grad[i] * (s + v * s * (one - s))


@kernel(exact=True)
def gelu(x: Array, y: Array) -> None:
    real = x.dtype.type
    far = real(-FAR)
    for i in prange(y.size):
        y[i] = (far if x[i] < far else x[i]) * vm.normal_cdf(x[i])


@kernel(exact=True)
def gelu_grad(grad: Array, x: Array, x_grad: Array) -> None:
    real = x.dtype.type
    far, minus_half, top = real(FAR), real(-0.5), real(DENSITY)
    for i in prange(x_grad.size):
        v = -far if x[i] < -far else x[i]
        v = far if v > far else v
        x_grad[i] = grad[i] * (vm.normal_cdf(x[i]) + v * (vm.exp(minus_half * v * v) * top))


@kernel(exact=True)
def gelu_tanh(x: Array, y: Array) -> None:
    """(1 + tanh z) / 2 = sigmoid(2 z)."""
    real = x.dtype.type
    far, slope, cubic = real(-FAR), real(2 * SQRT_2_PI), real(2 * SQRT_2_PI * GELU_CUBIC)
    for i in prange(y.size):
        v = far if x[i] < far else x[i]
        y[i] = v * vm.sigmoid(v * (slope + cubic * (v * v)))


@kernel(exact=True)
def gelu_tanh_grad(grad: Array, x: Array, x_grad: Array) -> None:
    real = x.dtype.type
    far, one, three = real(FAR), real(1), real(3)
    slope, cubic = real(2 * SQRT_2_PI), real(2 * SQRT_2_PI * GELU_CUBIC)
    for i in prange(x_grad.size):
        v = -far if x[i] < -far else x[i]
        v = far if v > far else v
        s = vm.sigmoid(v * (slope + cubic * (v * v)))
        density = s * (one - s) * (slope + three * cubic * (v * v))
        x_grad[i] = grad[i] * (s + v * density)


class Activation(NumpyBackend):
    """Formulas and limits are the NumPy backend's."""

    def erf(self, x: Array) -> Array:
        if not suits(x):
            return super().erf(x)
        return launch(erf, PARALLEL_FROM, plain(x))

    def sigmoid(self, x: Array) -> Array:
        if not suits(x):
            return super().sigmoid(x)
        return launch(sigmoid, PARALLEL_FROM, plain(x))

    def softplus(self, x: Array) -> Array:
        if not suits(x):
            return super().softplus(x)
        return launch(softplus, PARALLEL_FROM, plain(x))

    def silu(self, x: Array) -> Array:
        if not suits(x):
            return super().silu(x)
        return launch(silu, PARALLEL_FROM, plain(x))

    def silu_grad(self, grad: Array, x: Array) -> Array:
        if not suits(grad, x) or grad.shape != x.shape:
            return super().silu_grad(grad, x)
        return launch(silu_grad, PARALLEL_FROM, plain(grad), plain(x))

    def gelu(self, x: Array, approximate: str) -> Array:
        if not suits(x):
            return super().gelu(x, approximate)
        loop = gelu if approximate == "none" else gelu_tanh
        return launch(loop, PARALLEL_FROM, plain(x))

    def gelu_grad(self, grad: Array, x: Array, approximate: str) -> Array:
        if not suits(grad, x) or grad.shape != x.shape:
            return super().gelu_grad(grad, x, approximate)
        loop = gelu_grad if approximate == "none" else gelu_tanh_grad
        return launch(loop, PARALLEL_FROM, plain(grad), plain(x))
