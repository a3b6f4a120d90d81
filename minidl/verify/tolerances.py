"""The one table of tolerances, and the comparisons that use it.

Every bound in the suite follows from three things: the unit roundoff of the dtype, the number of
roundings that an operation makes, and how far the operation magnifies an error in its input. A sum
of n products is off by at most gamma(n) * sum |a||b|, in whatever order it is added up; a
transcendental function by the units in the last place (ULP) listed in ULPS; anything composed of
these by the running error analysis in `running.py`. Source: Higham (2002), "Accuracy and Stability
of Numerical Algorithms", sections 2.2, 3.1 and 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .record import watching

ULPS = {
    # Elementary functions. CUDA's mathematical functions and NumPy's vector loops promise 4 or
    # fewer; polynomials fitted for speed are held to the same, also close to a root at 0.
    "exp": 4,
    "log": 4,
    "sin": 4,
    "cos": 4,
    "tanh": 4,
    "erf": 4,
    "pow": 8,  # exp(b * log(a)): the product magnifies what rounding the logarithm does
    # Two elementary functions, a division and an addition.
    "sigmoid": 8,
    "softplus": 8,
    "silu": 8,
    "gelu": 8,
    "gelu_grad": 16,  # Phi(x) + x phi(x): two products and a sum more than gelu
    "silu_grad": 16,
    "leaky_relu": 2,  # the slope rounds to the dtype, and so does the product
    # Box & Muller's logarithm and cosine, each from its own series, against the math library's.
    "normal": 4,
}

# What the Numba backend's own polynomials promise: the worst that a sweep over all exponents found,
# rounded up.
KERNEL_ULPS = {
    "exp": 2, "log": 2, "log1p": 2, "softplus": 3, "sigmoid": 3, "tanh": 3, "erf": 3,
    "normal_cdf": 1,  # units of 1: it is multiplied by x and compared with x
}  # fmt: skip

# Backends may group the terms of a composed formula differently from the text that was analysed
# (say x * s + t with t = -mean * s for (x - mean) * s); each such step rounds once or twice more.
REGROUPING = 4

# Probability that an honest generator fails one statistical check; with a pinned seed, a constant.
FALSE_ALARM = 1e-6

# Relative difference of two backends' losses over 100 steps of training from the same seed: a
# promise, not an analysis. Rounding differs, and training magnifies it from step to step.
LOSS_CURVE = 1e-3


# How far a quantizer's measured noise may be from theory, over a quarter of a million numbers: a
# promise. Theory takes the error as spread evenly over a step, and the ends as independent.
DECIBELS = 0.5


def unit_roundoff(dtype: np.dtype | type) -> float:
    """The largest relative error of rounding to dtype: 2^-24 for float32, 2^-53 for float64."""
    return float(np.finfo(dtype).eps) / 2


def gamma(roundings: int, dtype: np.dtype | type) -> float:
    """Relative error of `roundings` roundings in a row (Higham 2002, lemma 3.1).

    Two are added for the oracle, which rounds to float64 and is the other side of the comparison.
    """
    nu = (roundings + 2) * unit_roundoff(dtype)
    return nu / (1 - nu)


def spacing(x: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """One unit in the last place of each x, were x of that dtype; of the largest one beyond it."""
    largest = float(np.finfo(dtype).max)
    magnitude = np.minimum(np.abs(np.nan_to_num(np.asarray(x, np.float64), nan=0.0)), largest)
    smallest = float(np.finfo(dtype).smallest_subnormal)
    exponent = np.frexp(magnitude)[1] - 1  # magnitude is in [2^exponent, 2^(exponent + 1))
    unit: np.ndarray = np.maximum(np.ldexp(2 * unit_roundoff(dtype), exponent), smallest)
    return unit


def ulps(method: str, expected: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """The budget of method in units in the last place of expected.

    The smallest normal number comes on top: a result below it may be flushed to zero, which vector
    units and GPUs do for speed.
    """
    return ULPS[method] * spacing(expected, dtype) + float(np.finfo(dtype).tiny)


def elementary_bound(
    method: str, x: np.ndarray, expected: np.ndarray, dtype: np.dtype | type
) -> np.ndarray:
    """The bound of an elementwise function of x, with the condition of its own formula.

    x sigmoid(x) multiplies what may be flushed to zero by x. gelu takes 1 + erf(x / sqrt 2), which
    cancels left of 0: the error is a few roundings of 1 times |x|, until erf is -1 to the last
    digit (beyond |x| = 10, in both dtypes) and the result 0. Their derivatives add terms of size
    |x| exp(-x^2 / 2) and x sigmoid(x) (1 - sigmoid(x)) to that, the latter until |x| = 50;
    x^3 exp(-x^2 / 2) < 1.2 bounds what rounding the exponent does.
    """
    bound = ulps(method, expected, dtype)
    if method not in ("silu", "silu_grad", "gelu", "gelu_grad"):
        return bound
    reach = np.abs(np.nan_to_num(np.asarray(x, np.float64), nan=0.0, posinf=0.0, neginf=0.0))
    bound = bound + reach * float(np.finfo(dtype).tiny)
    if method == "silu":
        return bound
    near = np.minimum(reach, 50 if method == "silu_grad" else 10)
    return bound + ULPS[method] * unit_roundoff(dtype) * (1 + near)


def sum_bound(magnitudes: np.ndarray | float, terms: int, dtype: np.dtype | type) -> np.ndarray:
    """The bound of a sum of `terms` products whose absolute values add up to magnitudes.

    One rounding each for the product, and terms - 1 additions in any order.
    """
    floor = float(np.finfo(dtype).tiny) * max(terms, 1)
    return gamma(terms + 1, dtype) * np.asarray(magnitudes, np.float64) + floor


def long_sum_bound(
    magnitudes: np.ndarray | float, terms: int, dtype: np.dtype | type
) -> np.ndarray:
    """The bound of a sum along a row of adjacent elements, which no backend adds up one by one.

    In blocks of b terms each element takes part in b + terms / b additions, fewest at b =
    sqrt(terms); pairwise sums and float64 totals do better. Source: Higham (2002), section 4.2.
    """
    return sum_bound(magnitudes, 2 * math.ceil(math.sqrt(terms)), dtype)


@dataclass(frozen=True)
class Comparison:
    """Where two arrays differ most, relative to what is allowed there."""

    ulps: float  # error of the worst element in units in the last place
    fraction: float  # error of the worst element as a fraction of its bound; above 1 fails
    index: tuple[int, ...]
    actual: float
    expected: float
    bound: float

    def __str__(self) -> str:
        return (
            f"worst element {self.index}: got {self.actual!r}, expected {self.expected!r}, "
            f"off by {abs(self.actual - self.expected):.3g} = {self.ulps:.3g} ULP = "
            f"{self.fraction:.3g} of the bound {self.bound:.3g}"
        )


def compare(actual: np.ndarray, expected: np.ndarray, bound: np.ndarray | float) -> Comparison:
    """Find the worst element of actual against expected (float64) under bound.

    NaN meets NaN and an infinity meets itself with error 0; any other pair with one of them is
    infinitely wrong, except that a value within its bound of overflow may have overflowed.

    >>> compare(np.float32([1, 2]), np.array([1.0, 2.5]), 0.25).fraction
    2.0
    """
    got, want, allowed = np.broadcast_arrays(
        np.asarray(actual, np.float64), np.asarray(expected, np.float64), np.asarray(bound, float)
    )
    if not np.isfinite(allowed).all():
        raise ValueError("a bound is infinite or NaN, so this comparison would decide nothing")
    if not got.size:
        return Comparison(0.0, 0.0, (), 0.0, 0.0, 0.0)
    largest = float(np.finfo(actual.dtype).max)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.abs(got - want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        overflowed = np.isinf(got) & (got * want > 0) & (np.abs(want) + allowed >= largest)
        error = np.where(same | overflowed, 0.0, np.where(np.isnan(error), np.inf, error))
        fraction = np.where(error == 0, 0.0, error / allowed)
    worst = np.unravel_index(int(np.argmax(fraction)), fraction.shape)
    return Comparison(
        ulps=float(error[worst] / spacing(want[worst], actual.dtype)),
        fraction=float(fraction[worst]),
        index=tuple(int(i) for i in worst),
        actual=float(got[worst]),
        expected=float(want[worst]),
        bound=float(allowed[worst]),
    )


def assert_close(
    actual: np.ndarray,
    expected: np.ndarray,
    bound: np.ndarray | float,
    dtype: np.dtype | type | None = None,
) -> Comparison:
    """Fail unless actual has expected's shape and the given dtype and lies within bound of it."""
    actual = np.asarray(actual)
    for record in watching:
        record.comparing(actual, expected, bound, dtype=dtype)
    if dtype is not None:
        assert actual.dtype == dtype, f"dtype is {actual.dtype}, expected {np.dtype(dtype)}"
    assert actual.shape == np.shape(expected), (
        f"shape is {actual.shape}, expected {np.shape(expected)}"
    )
    result = compare(actual, expected, bound)
    for record in watching:
        record.measured(result)
    assert result.fraction <= 1, str(result)
    for record in watching:
        record.agreed()
    return result


def assert_same(actual: np.ndarray, expected: np.ndarray, signed_zero: bool = True) -> None:
    """Fail unless dtype, shape and every element agree; any NaN equals any other.

    With signed_zero, -0.0 and 0.0 differ: on arithmetic that rounds correctly they are pinned too.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    for record in watching:
        record.comparing(actual, expected, signed_zero=signed_zero)
    assert actual.dtype == expected.dtype, f"dtype is {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"shape is {actual.shape}, expected {expected.shape}"
    wrong = actual != expected
    if actual.dtype.kind == "f":
        wrong &= ~(np.isnan(actual) & np.isnan(expected))
        if signed_zero:
            zero = (actual == 0) & (expected == 0)
            wrong |= zero & (np.signbit(actual) != np.signbit(expected))
    assert not wrong.any(), _first_difference(actual, expected, wrong)
    for record in watching:
        record.agreed()


def _first_difference(actual: np.ndarray, expected: np.ndarray, wrong: np.ndarray) -> str:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {index}: "
        f"got {actual[index]!r}, expected {expected[index]!r}"
    )


def rounded_bound(magnitude: float, dtype: np.dtype | type) -> float:
    """What one rounding of a number of up to that magnitude changes, and the oracle's own."""
    return gamma(1, dtype) * magnitude


def quantization_bound(x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Half a step of the grid; the quotient, the scale and the product round once each."""
    magnitude = np.abs(x).astype(np.float64) + steps
    bound: np.ndarray = steps / 2 + gamma(3, x.dtype) * magnitude
    return bound


def sampling_bound(image: np.ndarray, dtype: np.dtype | type) -> float:
    """The bound of an image (..., H, W) sampled between its pixels.

    A coordinate is rounded three times at the size of the longer side, and a pixel changes by up to
    twice the largest value when a coordinate moves by 1; then come four products and their sum.
    """
    largest, side = float(np.abs(image).max(initial=0)), float(max(image.shape[-2:]))
    return largest * (2 * 2 * gamma(3, dtype) * side + gamma(8, dtype))


def normal_quantile(probability: float) -> float:
    """How many standard deviations a normal variable exceeds, on either side, with probability."""
    return NormalDist().inv_cdf(1 - probability / 2)


# The step at which a central difference's two errors, h^2 and u / h, are about equal.
DIFFERENCE_STEP: float = unit_roundoff(np.float64) ** (1 / 3)


def slope_bound(terms: int) -> float:
    """The error of a central difference of a sum of `terms` smooth functions of order one.

    h^2 / 6 times a third derivative and u / h, both u^(2/3), for each term; a factor of 10 stands
    for derivatives and values above one in the small cases that use it.
    """
    return 10 * terms * DIFFERENCE_STEP**2


def chi_square_limit(freedom: int) -> float:
    """What a chi-square variable exceeds with a probability of at most FALSE_ALARM.

    With t = -log(FALSE_ALARM), k + 2 sqrt(k t) + 2 t: Laurent & Massart (2000), "Adaptive
    estimation of a quadratic functional by model selection", lemma 1.
    """
    t = -float(np.log(FALSE_ALARM))
    return freedom + 2 * float(np.sqrt(freedom * t)) + 2 * t


# Roundings in the longest formula of the tests of operations, each no larger than a rounding of its
# largest input, result or gradient: their inputs are of size about 1 and well conditioned.
COMPOSED = 64


def composed_bound(dtype: np.dtype | type, *values: np.ndarray) -> float:
    """The bound of a formula of at most COMPOSED roundings that starts and ends with these values.

    The floor is one: results that cancel to zero keep the roundings of what they came from.
    """
    largest = [np.abs(v).max(initial=1) for v in values if np.asarray(v).dtype.kind == "f"]
    return gamma(COMPOSED, dtype) * float(max(largest, default=1))


# How far two ways to compute one network in float64 may be apart, relative to its largest result: a
# promise, not an analysis. Hundreds of roundings make 1e-13, and layer norms of random networks
# magnify that; wrong algebra shows in the first digits.
NETWORK = 1e-9


def network_bound(*results: np.ndarray) -> float:
    """The bound for a network's float64 results, given those of another way to compute it."""
    return NETWORK * float(max(np.abs(y).max(initial=1) for y in results))


def difference_bound(
    coarse: np.ndarray, fine: np.ndarray, magnitude: float, step: float
) -> np.ndarray:
    """How far (4 fine - coarse) / 3 may be off, central float64 differences with step and step / 2.

    Richardson's extrapolation removes the error step^2 f''' / 6, of which |fine - coarse| is three
    quarters; the next term is smaller by about step^2. The function itself, of which magnitude is
    the size, has COMPOSED roundings, and the difference divides them by step. Source: Nocedal &
    Wright (2006), "Numerical Optimization", section 8.1.
    """
    rounding = 4 * gamma(COMPOSED, np.float64) * max(magnitude, 1) / step
    bound: np.ndarray = np.abs(fine - coarse) + rounding
    return bound
