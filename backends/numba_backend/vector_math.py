"""Elementary functions of one number, for kernels whose loops they do not keep from vectorising.

    from .vector_math import exp

    for i in range(y.size):
        y[i] = exp(x[i])              # float32 and float64 have a text each, chosen by type

A call into the C library ends vectorisation. These are arithmetic only: no branch, no table, no
conversion, so LLVM computes one element per lane of a vector. Each function brings its argument
into a short interval and evaluates a polynomial there. `a if condition else b` computes both and
selects; a comparison with NaN is false, which is how NaN finds its way through.

| largest error in ULP | exp | log | log1p | softplus | sigmoid | tanh | erf |
|---|---|---|---|---|---|---|---|
| float32 | 1.04 | 0.83 | 1.03 | 1.70 | 2.34 | 2.50 | 2.43 |
| float64 | 0.98 | 0.79 | 0.92 | 1.58 | 1.82 | 2.48 | 1.46 |

(tests/backends/test_numba_vector_math.py measures them over all exponents.) Results below the
smallest normal number are rounded as they should be, not flushed to zero.

Sources: Cody & Waite (1980), "Software Manual for the Elementary Functions", chapters 5, 6 and 9
(reductions); Muller (2016), "Elementary Functions", 3rd edition, sections 3.2 (polynomials) and
11.2 (additive reduction); Sun's fdlibm (1993), e_log.c (how the terms of log are added).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import extending, types

from ..numpy_backend.activation import ERFC_SCALED
from .jit import numba

Scalar = Any  # np.float32 or np.float64
Function = Any  # Scalars in, Scalars out
overload: Any = extending.overload
INLINE = {"forceinline": True}


class Format(NamedTuple):
    """A floating-point format, and how many terms a series needs there."""

    real: Any
    whole: Any  # the integer of the same width
    digits: int  # of the significand, without the leading 1
    log2_digits: int  # of the upper part of log 2, few enough that n times it is exact
    exp_terms: int
    log_terms: int
    log1p_terms: int


SINGLE = Format(np.float32, np.int32, 23, 15, 8, 4, 7)
DOUBLE = Format(np.float64, np.int64, 52, 41, 14, 10, 16)
LOG2_TAIL = 2.319046813846299558e-17  # log 2 less its float64


def scalar(function: Any) -> Any:
    """Compile with fused multiply-add, and otherwise every operation as written.

    Reassociation would undo the reductions: (x + magic) - magic is not x.
    """
    return numba.njit(error_model="numpy", nogil=True, fastmath={"contract"}, **INLINE)(function)


def by_type(make: Callable[[Format], Function]) -> Function:
    """One name for the two forms that make builds; kernels get the one for their dtype."""
    single, double = make(SINGLE), make(DOUBLE)

    def function(x: Scalar) -> Scalar:  # without compilation
        return single(x) if isinstance(x, np.float32) else double(x)

    def choose(x):  # type: ignore[no-untyped-def]  # the lambdas must have the same signature
        return (lambda x: single(x)) if x == types.float32 else (lambda x: double(x))

    overload(function, jit_options=INLINE)(choose)
    function.__doc__ = make.__doc__
    return function


def polynomial(real: Any, coefficients: list[float]) -> Function:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    last, *rest = (real(c) for c in reversed(coefficients))
    terms = tuple(rest)

    @scalar
    def evaluate(x: Scalar) -> Scalar:
        y = last
        for term in terms:
            y = y * x + term
        return y

    return evaluate


def split_exp(f: Format) -> Function:
    """x -> e^r - 1, 2^h and 2^(n - h), where x = n log 2 + r, |r| <= log(2) / 2 and h = n // 2.

    Adding magic rounds to a whole number n, which then stands in the last bits. log 2 is two
    numbers: n times the first is exact, and so is its difference from x. A factor of 2^n alone
    would not reach the subnormal numbers nor infinity.
    """
    real, whole = f.real, f.whole
    magic, digits = real(1.5 * 2**f.digits), whole(f.digits)
    offset = whole(magic.view(whole))
    bias = whole(real(1).view(whole) >> digits)
    per_log2 = real(1 / math.log(2))
    upper = real(math.floor(math.log(2) * 2**f.log2_digits) / 2**f.log2_digits)
    lower = real(math.log(2) - float(upper) + LOG2_TAIL)
    series = polynomial(real, [1 / math.factorial(k) for k in range(2, f.exp_terms)])

    @scalar
    def split(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        shifted = x * per_log2 + magic
        n = shifted - magic
        r = (x - n * upper) - n * lower
        i = whole(real(shifted).view(whole) - offset)
        half = whole(i >> whole(1))
        first = whole(whole(half + bias) << digits).view(real)
        second = whole(whole(i - half + bias) << digits).view(real)
        return r + r * r * series(r), first, second

    return split


def make_exp(f: Format) -> Function:
    """e^x."""
    real, split, one = f.real, split_exp(f), f.real(1)
    info = np.finfo(f.real)
    highest = real(math.log(info.max) + 0.5)
    lowest = real(math.log(info.smallest_subnormal) - 1)

    @scalar
    def exp(x: Scalar) -> Scalar:
        x = highest if x > highest else x
        x = lowest if x < lowest else x
        p, first, second = split(x)
        return (one + p) * first * second

    return exp


def make_log(f: Format) -> Function:
    """The natural logarithm: x = 2^n m, with m between sqrt(1/2) and sqrt(2).

    With g = m - 1 and s = g / (2 + g), log m = 2 artanh s = g - g^2 / 2 + s (g^2 / 2 + R), where
    R = 2 (s^2 / 3 + s^4 / 5 + ...): the largest terms are exact.
    """
    real, whole = f.real, f.whole
    info = np.finfo(real)
    tiny, magic, digits = info.tiny, real(1.5 * 2**f.digits), whole(f.digits)
    offset, low_bits = whole(magic.view(whole)), whole(2**f.digits - 1)
    root = whole(real(math.sqrt(0.5)).view(whole))
    raise_by, raised = real(2.0**f.digits), real(f.digits)
    upper = real(math.floor(math.log(2) * 2**f.log2_digits) / 2**f.log2_digits)
    lower = real(math.log(2) - float(upper) + LOG2_TAIL)
    zero, half, one, two, infinity, nan = (real(v) for v in (0, 0.5, 1, 2, math.inf, math.nan))
    series = polynomial(real, [2 / (2 * k + 1) for k in range(1, f.log_terms + 1)])

    @scalar
    def log(x: Scalar) -> Scalar:
        subnormal = x < tiny
        i = whole(real(x * raise_by if subnormal else x).view(whole) - root)
        n = whole(whole(i >> digits) + offset).view(real) - magic
        n = n - raised if subnormal else n
        g = whole(whole(i & low_bits) + root).view(real) - one
        s = g / (two + g)
        z, square = s * s, half * g * g
        y = n * upper + (g - (square - (s * (square + z * series(z)) + n * lower)))
        y = y if x < infinity else x
        return y if x > zero or x != x else (-infinity if x == zero else nan)

    return log


def make_log1p(f: Format) -> Function:
    """log(1 + x) for 0 <= x <= 1 only: 2 artanh s = x - s (x - R), s = x / (2 + x) <= 1/3."""
    two = f.real(2)
    series = polynomial(f.real, [2 / (2 * k + 1) for k in range(1, f.log1p_terms + 1)])

    @scalar
    def log1p(x: Scalar) -> Scalar:
        s = x / (two + x)
        z = s * s
        return x - s * (x - z * series(z))

    return log1p


def with_sign(f: Format) -> Function:
    """y >= 0 with the sign of x, be it zero's."""
    real, whole = f.real, f.whole
    sign = whole(np.iinfo(whole).min)

    @scalar
    def signed(y: Scalar, x: Scalar) -> Scalar:
        return whole(real(y).view(whole) | whole(real(x).view(whole) & sign)).view(real)

    return signed


def make_tanh(f: Format) -> Function:
    """-q / (2 + q), where q = e^-2|x| - 1 is added up without cancellation: 2^n p + (2^n - 1)."""
    real, split, signed = f.real, split_exp(f), with_sign(f)
    one, two, minus_two, far = real(1), real(2), real(-2), real(-2 * f.digits)

    @scalar
    def tanh(x: Scalar) -> Scalar:
        t = minus_two * abs(x)
        t = far if t < far else t
        p, first, second = split(t)
        scale = first * second
        q = scale * p + (scale - one)
        return signed(abs(q / (two + q)), x)

    return tanh


def make_sigmoid(f: Format) -> Function:
    """1 / (1 + e^-x) for x >= 0, else e^x / (1 + e^x): no exponent is positive."""
    zero, one, exp = f.real(0), f.real(1), make_exp(f)

    @scalar
    def sigmoid(x: Scalar) -> Scalar:
        e = exp(-abs(x))
        return (one if x >= zero else e) / (one + e)

    return sigmoid


def make_softplus(f: Format) -> Function:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    zero, exp, log1p = f.real(0), make_exp(f), make_log1p(f)

    @scalar
    def softplus(x: Scalar) -> Scalar:
        return (x if x > zero else zero) + log1p(exp(-abs(x)))

    return softplus


# erf(x) / x up to 1 as a polynomial in x^2, in float32 and in float64. It meets the function at the
# Chebyshev points, computed with 60 digits; the error is 1e-9 and 7e-18.
ERF_NEAR = [
    1.1283791658483509, -0.37612626666720334, 0.11283594715160218, -0.026854212010626412,
    0.005189087423433974, -0.000801686428716587, 7.875875062685488e-05,
]  # fmt: skip
ERF_NEAR_DOUBLE = [
    1.1283791670955126, -0.37612638903183543, 0.11283791670945006, -0.02686617064323777,
    0.0052239776071164225, -0.0008548325975389692, 0.00012055294904839707, -1.492473690741966e-05,
    1.6447424703317362e-06, -1.6208483801871705e-07, 1.3720064546777686e-08, -7.795898827002142e-10,
]  # fmt: skip
# log(1 - erf(x)) / x on [1, 4], found in the same way; the error is 2e-8 of erf(x).
ERF_FAR = [
    -1.1289572433855557, -0.6339714475892645, -0.10809191262559006, 0.02530860119477926,
    -0.004373922624821658, 0.0005157455638198312, -3.6593011820437695e-05, 1.1660325004599572e-06,
]  # fmt: skip


def make_erf(f: Format) -> Function:
    """The error function: x P(x^2) up to 1; beyond, 1 - e^(x Q(x)); in float64 NumPy's."""
    real, exp, signed = f.real, make_exp(f), with_sign(f)
    one, single = real(1), f is SINGLE
    limit = real(4 if single else 6)  # from where erf is 1
    near = polynomial(real, ERF_NEAR if single else ERF_NEAR_DOUBLE)
    far = polynomial(real, ERF_FAR if single else ERFC_SCALED)
    slope, pole, shift = real(14.4), real(3), real(-2.6)

    @scalar
    def erf_single(x: Scalar) -> Scalar:
        size = abs(x)
        size = limit if size > limit else size
        small, large = size * near(size * size), one - exp(size * far(size))
        return signed(large if size > one else small, x)

    @scalar
    def erf_double(x: Scalar) -> Scalar:
        size = abs(x)
        size = limit if size > limit else size
        small = size * near(size * size)
        large = one - exp(-size * size) * far(slope / (size + pole) + shift)
        return signed(large if size > one else small, x)

    return erf_single if single else erf_double


exp = by_type(make_exp)
log = by_type(make_log)
log1p = by_type(make_log1p)
tanh = by_type(make_tanh)
sigmoid = by_type(make_sigmoid)
softplus = by_type(make_softplus)
erf = by_type(make_erf)
