"""The error function and the GELU made of it.

The other activations stay with NumPy: their exp and tanh are vectorised there. Nothing vectorises
erf, but the C library computes it in one step, where NumPy needs a dozen passes.
"""

from __future__ import annotations

import math

from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from ..numpy_backend.activation import FAR, SQRT_HALF
from .jit import Kernel, kernel
from .layout import flat, plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 11  # elements
DENSITY = 1 / math.sqrt(2 * math.pi)  # the normal density at 0


@kernel(exact=True)
def erf(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = math.erf(x[i])


@kernel(exact=True)
def gelu(x: Array, y: Array) -> None:
    real = x.dtype.type  # constants of x's dtype: a float64 would widen the arithmetic
    for i in prange(y.size):
        v = real(-FAR) if x[i] < -FAR else x[i]
        y[i] = v * (real(0.5) * (real(1) + math.erf(v * real(SQRT_HALF))))


@kernel(exact=True)
def gelu_grad(grad: Array, x: Array, x_grad: Array) -> None:
    real = x.dtype.type
    for i in prange(x_grad.size):
        v = real(-FAR) if x[i] < -FAR else x[i]
        v = real(FAR) if v > FAR else v
        cdf = real(0.5) * (real(1) + math.erf(v * real(SQRT_HALF)))
        density = math.exp(real(-0.5) * v * v) * real(DENSITY)
        x_grad[i] = grad[i] * (cdf + v * density)


def launch(loop: Kernel, *arrays: Array) -> Array:
    """Run loop over the elements of arrays and of a new one, which is the result."""
    y = empty(arrays[0].shape, arrays[0].dtype)
    loop.sized(y.size, PARALLEL_FROM)(*(flat(plain(x)) for x in arrays), flat(y))
    return y


class Activation(NumpyBackend):
    """Formulas and limits are the NumPy backend's."""

    def erf(self, x: Array) -> Array:
        return launch(erf, x) if suits(x) else super().erf(x)

    def gelu(self, x: Array, approximate: str) -> Array:
        if approximate != "none" or not suits(x):
            return super().gelu(x, approximate)
        return launch(gelu, x)

    def gelu_grad(self, grad: Array, x: Array, approximate: str) -> Array:
        if approximate != "none" or not suits(grad, x) or grad.shape != x.shape:
            return super().gelu_grad(grad, x, approximate)
        return launch(gelu_grad, grad, x)
