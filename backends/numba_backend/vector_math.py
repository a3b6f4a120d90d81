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
from numba import extending

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
        return single(x) if isinstance(x, (np.float32, np.int32)) else double(x)

    def choose(x):  # type: ignore[no-untyped-def]  # the lambdas must have the same signature
        return (lambda x: single(x)) if x.bitwidth == 32 else (lambda x: double(x))

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
    """x -> e^r - 1 and the whole number n, where x = n log 2 + r and |r| <= log(2) / 2.

    Adding magic rounds to a whole number, which then stands in the last bits. log 2 is two numbers:
    n times the first is exact, and so is its difference from x.
    """
    real, whole = f.real, f.whole
    magic = real(1.5 * 2**f.digits)
    offset = whole(magic.view(whole))
    per_log2 = real(1 / math.log(2))
    upper = real(math.floor(math.log(2) * 2**f.log2_digits) / 2**f.log2_digits)
    lower = real(math.log(2) - float(upper) + LOG2_TAIL)
    series = polynomial(real, [1 / math.factorial(k) for k in range(2, f.exp_terms)])

    @scalar
    def split(x: Scalar) -> tuple[Scalar, Any]:
        shifted = x * per_log2 + magic
        n = shifted - magic
        r = (x - n * upper) - n * lower
        return r + r * r * series(r), whole(real(shifted).view(whole) - offset)

    return split


def make_power(f: Format) -> Function:
    """2^n for whole numbers n of which the result is a normal number."""
    whole, real, digits = f.whole, f.real, f.whole(f.digits)
    bias = whole(real(1).view(whole) >> digits)

    @scalar
    def power(n: Any) -> Scalar:
        return whole(whole(n + bias) << digits).view(real)

    return power


def make_exp(f: Format, positive: bool = True) -> Function:
    """e^x; without positive for x <= 0 only.

    One factor 2^n would not reach the subnormal numbers nor infinity, so there are two.
    """
    real, whole, one, split, power = f.real, f.whole, f.real(1), split_exp(f), make_power(f)
    info = np.finfo(f.real)
    highest = real(math.log(info.max) + 0.5 if positive else math.inf)
    lowest = real(math.log(info.smallest_subnormal) - 1)

    @scalar
    def exp(x: Scalar) -> Scalar:
        x = highest if x > highest else x
        x = lowest if x < lowest else x
        p, n = split(x)
        half = whole(n >> whole(1))
        return (one + p) * power(half) * power(whole(n - half))

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
    real, split, power, signed = f.real, split_exp(f), make_power(f), with_sign(f)
    one, two, minus_two, far = real(1), real(2), real(-2), real(-2 * f.digits)

    @scalar
    def tanh(x: Scalar) -> Scalar:
        t = minus_two * abs(x)
        t = far if t < far else t
        p, n = split(t)
        scale = power(n)
        q = scale * p + (scale - one)
        return signed(abs(q / (two + q)), x)

    return tanh


def make_sigmoid(f: Format) -> Function:
    """1 / (1 + e^-x) for x >= 0, else e^x / (1 + e^x): no exponent is positive."""
    zero, one, exp = f.real(0), f.real(1), make_exp(f, positive=False)

    @scalar
    def sigmoid(x: Scalar) -> Scalar:
        e = exp(-abs(x))
        return (one if x >= zero else e) / (one + e)

    return sigmoid


def make_softplus(f: Format) -> Function:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    zero, exp, log1p = f.real(0), make_exp(f, positive=False), make_log1p(f)

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
    real, split, power, signed = f.real, split_exp(f), make_power(f), with_sign(f)
    one, single = real(1), f is SINGLE
    limit = real(4 if single else 6)  # from where erf is 1
    near = polynomial(real, ERF_NEAR if single else ERF_NEAR_DOUBLE)
    far = polynomial(real, ERF_FAR if single else ERFC_SCALED)
    slope, pole, shift = real(14.4), real(3), real(-2.6)

    @scalar
    def erf_single(x: Scalar) -> Scalar:
        size = abs(x)
        size = limit if size > limit else size
        p, n = split(size * far(size))
        small, large = size * near(size * size), one - (one + p) * power(n)
        return signed(large if size > one else small, x)

    @scalar
    def erf_double(x: Scalar) -> Scalar:
        size = abs(x)
        size = limit if size > limit else size
        p, n = split(-size * size)
        rest = (one + p) * power(n) * far(slope / (size + pole) + shift)
        small, large = size * near(size * size), one - rest
        return signed(large if size > one else small, x)

    return erf_single if single else erf_double


# log(1 - erf(x)) / x on [0, 4]; the error is 5e-8 of erf(x).
ERFC = [
    -1.128379388781476, -0.6366087271115674, -0.10286205004531454, 0.019402622335078293,
    -0.00019481944435194016, -0.0014037605628788815, 0.0005354752423954263,
    -0.00010554070435964095, 1.1312982686559857e-05, -5.200050299628608e-07,
]  # fmt: skip


def make_normal_cdf(f: Format) -> Function:
    """(1 + erf(x / sqrt 2)) / 2, with an absolute error of a unit in the last place of 1."""
    real, split, power, erf = f.real, split_exp(f), make_power(f), make_erf(f)
    zero, half, one, limit, root = (real(v) for v in (0, 0.5, 1, 4, math.sqrt(0.5)))
    series = polynomial(real, ERFC)

    @scalar
    def cdf_single(x: Scalar) -> Scalar:
        size = abs(x) * root
        size = limit if size > limit else size
        p, n = split(size * series(size))
        tail = (half + half * p) * power(n)
        tail = zero if size >= limit else tail
        return one - tail if x > zero else tail

    @scalar
    def cdf_double(x: Scalar) -> Scalar:
        return half * (one + erf(x * root))

    return cdf_single if f is SINGLE else cdf_double


def make_rank(f: Format) -> Function:
    """An integer that orders numbers as they are ordered, NaN beyond infinity on either side.

    Loops for the largest of some numbers vectorise in integers, and not where NaN may occur.
    """
    real, whole = f.real, f.whole
    sign, magnitude = whole(8 * real(0).itemsize - 1), whole(np.iinfo(whole).max)

    @scalar
    def rank(x: Scalar) -> Scalar:
        i = whole(real(x).view(whole))
        return whole(i ^ whole(whole(i >> sign) & magnitude))

    return rank


def make_unrank(f: Format) -> Function:
    """The number of that rank."""
    real, whole = f.real, f.whole
    sign, magnitude = whole(8 * real(0).itemsize - 1), whole(np.iinfo(whole).max)

    @scalar
    def unrank(i: Any) -> Scalar:
        return whole(i ^ whole(whole(i >> sign) & magnitude)).view(real)

    return unrank


exp = by_type(make_exp)
log = by_type(make_log)
log1p = by_type(make_log1p)
tanh = by_type(make_tanh)
sigmoid = by_type(make_sigmoid)
softplus = by_type(make_softplus)
erf = by_type(make_erf)
normal_cdf = by_type(make_normal_cdf)
rank = by_type(make_rank)
unrank = by_type(make_unrank)
