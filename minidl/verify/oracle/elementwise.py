"""Functions of one and two numbers, by the math library, and their values at infinity and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

INF, NAN = math.inf, math.nan


def map1(function: Callable[[float], float], x: np.ndarray) -> np.ndarray:
    """function of every element of x, as float64."""
    y = np.empty(x.shape, np.float64)
    for index in np.ndindex(x.shape):
        y[index] = function(float(x[index]))
    return y


def map2(function: Callable[[float, float], float], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """function of every pair of elements of a and b, whose shapes broadcast."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    y = np.empty(shape, np.float64)
    for index in np.ndindex(shape):
        y[index] = function(float(a[index]), float(b[index]))
    return y


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return INF


def _log(x: float) -> float:
    if x == 0:
        return -INF
    return NAN if x < 0 else math.log(x)


def _sqrt(x: float) -> float:
    return NAN if x < 0 else math.sqrt(x)


def _finite_only(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda x: NAN if math.isinf(x) else function(x)


def _sign(x: float) -> float:
    if math.isnan(x):
        return NAN
    return float((x > 0) - (x < 0))


def _sigmoid(x: float) -> float:
    if x >= 0 or math.isnan(x):
        return 1 / (1 + _exp(-x))
    return _exp(x) / (1 + _exp(x))


def _softplus(x: float) -> float:
    if math.isnan(x):
        return NAN
    return max(x, 0.0) + math.log1p(_exp(-abs(x)))


def _relu(x: float) -> float:
    if math.isnan(x):
        return NAN
    return x if x > 0 else 0.0


def _silu(x: float) -> float:
    """x sigmoid(x); at -inf its limit, 0, instead of infinity times zero."""
    return 0.0 if x == -INF else x * _sigmoid(x)


UNARY: dict[str, Callable[[float], float]] = {
    "negative": lambda x: -x,
    "abs": abs,
    "sign": _sign,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "sin": _finite_only(math.sin),
    "cos": _finite_only(math.cos),
    "tanh": math.tanh,
    "erf": math.erf,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "relu": _relu,
    "silu": _silu,
}


def _divide(a: float, b: float) -> float:
    if b == 0:
        sign = math.copysign(1, a) * math.copysign(1, b)
        return NAN if a == 0 or math.isnan(a) else sign * INF
    return a / b


def _pow(a: float, b: float) -> float:
    """C99's pow: math.pow raises where C returns an infinity or NaN."""
    try:
        return math.pow(a, b)
    except OverflowError:
        odd = b == int(b) and int(b) % 2 == 1
        return -INF if a < 0 and odd else INF
    except ValueError:
        if a != 0:
            return NAN  # a negative base to a fractional power
        odd = math.isfinite(b) and b == int(b) and int(b) % 2 == 1
        return math.copysign(INF, a) if odd else INF


def _maximum(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return NAN
    return a if a >= b else b


def _minimum(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return NAN
    return a if a <= b else b


BINARY: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": _divide,
    "pow": _pow,
    "maximum": _maximum,
    "minimum": _minimum,
}


def leaky_relu(x: float, slope: float) -> float:
    return x if x > 0 or math.isnan(x) else slope * x


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))  # erfc keeps the digits of the left tail


def gelu(x: float, approximate: str) -> float:
    """x Phi(x), or its tanh form: Hendrycks & Gimpel (2016), arXiv:1606.08415, section 2."""
    if x == -INF:
        return 0.0  # the limit, instead of infinity times zero
    if approximate == "none":
        return x * _normal_cdf(x)
    return x * _sigmoid(_tanh_form(x))


def _tanh_form(x: float) -> float:
    """u with sigmoid(u) = (1 + tanh(u / 2)) / 2, the tanh form of Phi."""
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


def gelu_grad(x: float, approximate: str) -> float:
    """d gelu / dx by the product rule, and its limits 0 and 1 at the infinities."""
    if math.isinf(x):
        return float(x > 0)
    if approximate == "none":
        return _normal_cdf(x) + x * _exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    s, rest = _sigmoid(_tanh_form(x)), _sigmoid(-_tanh_form(x))
    inner = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return s + (x * s * rest * inner if s and rest else 0.0)


def silu_grad(x: float) -> float:
    """d (x s(x)) / dx = s + x s (1 - s), and its limits 0 and 1 at the infinities."""
    if math.isinf(x):
        return float(x > 0)
    return _sigmoid(x) + x * _sigmoid(x) * _sigmoid(-x)
