"""The noise of every quantizer, measured, against what theory says of it.

Let a grid have `steps` steps of size s, of which half, rounded, lie below 0, which has a code.
Inside of the last cells, which reach half a step beyond the last codes, the error is spread evenly
over a step: s^2 / 12. Beyond, it is the distance to the last code. For even numbers this is the
rule of 6.02 decibels a bit. Source: Widrow & Kollar (2008), "Quantization Noise". Ranges that touch
the largest number depend on the sample; what is expected of them follows from the distribution of
extremes (David & Nagaraja (2003), "Order Statistics", section 2.1).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl
from minidl.compress import Histogram, MinMax, mse_bounds, quantize, sqnr
from minidl.verify.tolerances import DECIBELS

QUANTIZERS = {
    ("symmetric", "int8"): 254, ("affine", "uint8"): 255, ("affine", "int8"): 255,
    ("symmetric", "int4"): 14, ("affine", "int4"): 15,
}  # fmt: skip
SHAPE = (256, 1024)
T = np.linspace(0.0, 8.0, 80_001)  # covers both distributions


def survival(distribution: str) -> np.ndarray:
    """P(|x| > t) for each t in T."""
    if distribution == "uniform":
        return np.maximum(1 - T, 0)
    return np.array([math.erfc(t / math.sqrt(2)) for t in T])


def density(distribution: str) -> np.ndarray:
    """Of x at each t in T."""
    if distribution == "uniform":
        return np.where(T <= 1, 0.5, 0.0)
    return np.exp(-T * T / 2) / math.sqrt(2 * math.pi)


def integral(values: np.ndarray) -> float:
    return float(np.sum((values[1:] + values[:-1]) / 2) * (T[1] - T[0]))


def power(distribution: str) -> float:
    return 1 / 3 if distribution == "uniform" else 1.0


def noise_of_step(distribution: str, steps: int, s: float) -> float:
    """Granular noise inside of the last cells, and the distance to the last code beyond them."""
    noise = 0.0
    for last in (round(steps / 2) * s, (steps - round(steps / 2)) * s):  # below 0, above it
        error = np.where(last + s / 2 < T, (T - last) ** 2, s * s / 12)
        noise += integral(error * density(distribution))
    return noise


def noise_of_extremes(distribution: str, scheme: str, steps: int, n: int) -> float:
    """s^2 / 12 for the step that covers n numbers, on average.

    symmetric: s = 2 max|x| / steps, and the number that sets it has no error. affine: s = (max -
    min) / steps, whose square has the mean 2 E[max^2] + 2 E[max]^2, the two ends being as good as
    independent.
    """
    tail = survival(distribution)
    if scheme == "symmetric":
        square = integral(2 * T * (1 - (1 - tail) ** n))
        return 4 * square / steps**2 / 12 * (1 - 1 / n)
    above = 1 - (1 - tail / 2) ** n  # P(max > t); below 0 it never is, with n >= 32
    mean, square = integral(above), integral(2 * T * above)
    return (2 * square + 2 * mean * mean) / steps**2 / 12


def decibels(distribution: str, noise: float) -> float:
    return 10 * math.log10(power(distribution) / noise)


def sample(distribution: str, backend) -> minidl.Tensor:
    source = minidl.Generator(7)
    if distribution == "normal":
        return minidl.randn(*SHAPE, generator=source, backend=backend)
    return minidl.rand(*SHAPE, generator=source, backend=backend) * 2 - 1


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("scheme", QUANTIZERS, ids=" ".join)
@pytest.mark.parametrize(
    ("how", "count"),
    [({}, math.prod(SHAPE)), ({"axis": 0}, SHAPE[1]), ({"axis": 1}, SHAPE[0]),
     ({"group_size": 32}, 32), ({"group_size": 128}, 128)],
    ids=["tensor", "channel", "column", "group of 32", "group of 128"],
)  # fmt: skip
def test_noise_of_the_full_range(backend, distribution, scheme, how, count):
    x = sample(distribution, backend)
    if how.get("axis") == 0:  # channels of different size: each has a grid of its own
        x = x * minidl.tensor(np.logspace(-2, 0, SHAPE[0], dtype=np.float32), backend=backend
                              ).reshape(-1, 1)  # fmt: skip
    measured = sqnr(x, quantize(x, *scheme, **how).dequantize())
    noise = noise_of_extremes(distribution, scheme[0], QUANTIZERS[scheme], count)
    assert abs(measured - decibels(distribution, noise)) < DECIBELS


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("scheme", QUANTIZERS, ids=" ".join)
def test_noise_of_the_range_of_least_error(backend, distribution, scheme):
    """By histogram over batches, and by search on the tensor, on each channel or group.

    Few numbers have no tail that would be worth clipping: their full range may be better.
    """
    x, steps, scheme_name = sample(distribution, backend), QUANTIZERS[scheme], scheme[0]
    clipped = min(
        noise_of_step(distribution, steps, 2 * c / steps) for c in np.linspace(0.5, 6, 551)
    )
    seen = Histogram(*scheme)
    for part in range(0, SHAPE[0], 64):
        seen.observe(x[part : part + 64])
    found = [(quantize(x, *scheme, bounds=seen.bounds()), x.size)]
    for how, count in (({}, x.size), ({"axis": 0}, SHAPE[1]), ({"group_size": 512}, 512)):
        q = quantize(x, *scheme, **how, bounds=mse_bounds(x, *scheme, **how))
        found.append((q, count))
    for q, count in found:
        full = noise_of_extremes(distribution, scheme_name, steps, count)
        expected = decibels(distribution, min(clipped, full))
        assert abs(sqnr(x, q.dequantize()) - expected) < DECIBELS, count


@pytest.mark.parametrize("scheme", QUANTIZERS, ids=" ".join)
def test_each_bit_of_a_grid_over_even_numbers_is_worth_6_decibels(backend, scheme):
    """SQNR = 20 log10(steps): 6.02 decibels for each doubling."""
    x, seen = sample("uniform", backend), MinMax()
    seen.observe(x)
    measured = sqnr(x, quantize(x, *scheme, bounds=seen.bounds()).dequantize())
    assert abs(measured - 20 * math.log10(QUANTIZERS[scheme])) < DECIBELS
