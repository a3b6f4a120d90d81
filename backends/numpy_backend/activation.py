"""Activation functions and the error function, element by element."""

from __future__ import annotations

import math

from ..interface import Array
from ..quiet import quiet
from .common import Common

SQRT_HALF = math.sqrt(0.5)
SQRT_2_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715  # Hendrycks & Gimpel (2016), section 2
FAR = 800  # e^-800 is 0 in float64: beyond it silu and gelu have reached their limits

# 2 / sqrt(pi) times the sum of (-1)^k x^2k / (k! (2k + 1)): 18 terms are enough up to x = 1.
ERF_SERIES = [
    2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(18)
]
# e^(x^2) erfc(x) on [1, 6] as a polynomial in s = 14.4 / (x + 3) - 2.6, which runs over [-1, 1]:
# it meets the function at the 15 Chebyshev points, computed with 60 digits. Absolute error 1e-16.
ERFC_SCALED = [
    0.20798329133342885, 0.15436117429436919, 0.04969844540339464, 0.012713147695692198,
    0.002479314697078186, 0.0003316029605764125, 1.9563583246137112e-05, -2.4255574719050315e-06,
    -5.541274478467714e-07, 4.526700764248741e-09, 1.1339538061744706e-08, 2.6381508985080735e-10,
    -2.571511429603255e-10, -6.047405945991704e-12, 6.0857915906870915e-12,
]  # fmt: skip


class Activation(Common):
    """Every formula holds for large |x|, infinity and NaN, without overflow on the way."""

    @quiet
    def erf(self, x: Array) -> Array:
        """In float64: up to |x| = 1 the series, Abramowitz & Stegun 7.1.5; else 1 - e^-x^2 q(s)."""
        xp = self.xp
        size = xp.asarray(xp.minimum(xp.abs(x), 6), dtype=xp.float64)  # erf(6) rounds to 1
        y = xp.asarray(size * _horner(ERF_SERIES, size * size))
        large = size > 1
        size = size[large]
        y[large] = 1 - xp.exp(-size * size) * _horner(ERFC_SCALED, 14.4 / (size + 3) - 2.6)
        y = xp.copysign(y, x, out=y)
        return y.astype(x.dtype, copy=False) if x.dtype.kind == "f" else y

    @quiet
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x) for x > 0, else e^x / (1 + e^x): no exponent is positive."""
        xp = self.xp
        return self._array(xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x))))

    @quiet
    def softplus(self, x: Array) -> Array:
        """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
        xp = self.xp
        return self._array(xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))))

    def relu(self, x: Array) -> Array:
        return self._array(self.xp.maximum(x, 0))

    def relu_grad(self, grad: Array, y: Array) -> Array:
        return self._keep(grad, ~(y <= 0))  # NaN is not <= 0

    @quiet
    def leaky_relu(self, x: Array, slope: float) -> Array:
        xp = self.xp
        return self._array(xp.maximum(x, 0) + slope * xp.minimum(x, 0))

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


def _horner(coefficients: list[float], x: Array) -> Array:
    """The polynomial with these coefficients, lowest power first."""
    y = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        y *= x
        y += coefficient
    return y
