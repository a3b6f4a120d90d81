"""Activation functions and the error function, element by element."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from ..interface import Array
from .common import Common, quiet

SQRT_HALF = math.sqrt(0.5)
SQRT_2_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715  # Hendrycks & Gimpel (2016), section 2
FAR = 800  # e^-800 is 0 in float64: beyond it silu and gelu have reached their limits


class Activation(Common):
    """Every formula holds for large |x|, infinity and NaN, without overflow on the way."""

    @quiet
    def erf(self, x: Array) -> Array:
        """In float64: x * p(x^2) up to |x| = 1, else 1 - exp(q(1 / |x|) - x^2)."""
        xp = self.xp
        size = xp.asarray(xp.minimum(xp.abs(x), 6), dtype=xp.float64)  # erf(6) rounds to 1
        near, far = erf_polynomials()
        large = size > 1
        y = xp.asarray(size * _horner(near, size * size))
        size = size[large]
        y[large] = 1 - xp.exp(_horner(far, 1 / size) - size * size)
        return xp.copysign(y, x, out=y).astype(x.dtype)

    @quiet
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x) = e^x / (1 + e^x): the form whose exponent is negative."""
        xp = self.xp
        e = xp.exp(-xp.abs(x))
        return self._array(xp.where(x < 0, e, 1) / (1 + e))

    @quiet
    def softplus(self, x: Array) -> Array:
        """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
        xp = self.xp
        return self._array(xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))))

    def relu(self, x: Array) -> Array:
        return self._array(self.xp.maximum(x, 0))

    def relu_grad(self, grad: Array, y: Array) -> Array:
        return self._array(self.xp.where(y <= 0, 0, grad))

    @quiet
    def leaky_relu(self, x: Array, slope: float) -> Array:
        return self._array(self.xp.where(x > 0, x, slope * x))

    @quiet
    def silu(self, x: Array) -> Array:
        """Ramachandran, Zoph & Le (2017), "Searching for activation functions"."""
        return self._array(self.xp.maximum(x, -FAR) * self.sigmoid(x))

    @quiet
    def silu_grad(self, grad: Array, x: Array) -> Array:
        """s + x s (1 - s), s = sigmoid(x)."""
        s = self.sigmoid(x)
        return self._array(grad * (s + self.xp.clip(x, -FAR, FAR) * s * (1 - s)))

    @quiet
    def gelu(self, x: Array, approximate: str) -> Array:
        """Hendrycks & Gimpel (2016), section 2."""
        x = self.xp.maximum(x, -FAR)
        return self._array(x * self._normal_cdf(x, approximate))

    @quiet
    def gelu_grad(self, grad: Array, x: Array, approximate: str) -> Array:
        """Phi(x) + x Phi'(x); exactly, Phi' is the normal density."""
        xp = self.xp
        x = xp.clip(x, -FAR, FAR)
        cdf = self._normal_cdf(x, approximate)
        if approximate == "tanh":  # d/dz (1 + tanh z) / 2 = 2 Phi (1 - Phi)
            density = 2 * cdf * (1 - cdf) * (SQRT_2_PI * (1 + 3 * GELU_CUBIC * x * x))
        else:
            density = xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return self._array(grad * (cdf + x * density))

    def _normal_cdf(self, x: Array, approximate: str) -> Array:
        if approximate == "tanh":
            return 0.5 * (1 + self.xp.tanh(SQRT_2_PI * (x + GELU_CUBIC * x * x * x)))
        return 0.5 * (1 + self.erf(self._array(x * SQRT_HALF)))


@cache
def erf_polynomials() -> tuple[list[float], list[float]]:
    """Coefficients of p and q in `erf`, highest power first.

    p interpolates erf(x) / x in x^2 on [0, 1], q interpolates log(erfc(x)) + x^2 in 1 / x on
    [1, 6], both at Chebyshev points, from the accurate scalar functions of Python's `math`.
    """

    def near(squares: np.ndarray) -> np.ndarray:
        return np.array([math.erf(x) / x for x in np.sqrt(squares)])

    def far(inverses: np.ndarray) -> np.ndarray:
        return np.array([math.log(math.erfc(1 / t)) + 1 / t**2 for t in inverses])

    p = Chebyshev.interpolate(near, 11, (0, 1)).convert(kind=Polynomial)
    q = Chebyshev.interpolate(far, 18, (1 / 6, 1)).convert(kind=Polynomial)
    return p.coef[::-1].tolist(), q.coef[::-1].tolist()


def _horner(coefficients: list[float], x: Array) -> Array:
    y = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        y *= x
        y += coefficient
    return y
