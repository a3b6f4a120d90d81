"""From times to figures: medians, intervals, and whether two results may be compared at all."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np

CONFIDENCE = 0.95


def spread(values: list[float]) -> dict[str, Any]:
    """The median with the quartiles around it, and the best."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": middle, "quartiles": [low, high], "best": min(values), "all": values}


def ratio(theirs: list[float], ours: list[float]) -> dict[str, Any]:
    """How many times as fast ours is: the median over the rounds of the quotient within one.

    Both took their turn within the same second or two, so what the machine did then cancels.
    """
    quotients = sorted(t / o for t, o in zip(theirs, ours, strict=True))
    low, high = _median_interval(len(quotients))
    return {
        "ratio": statistics.median(quotients),
        "interval": [quotients[low], quotients[high]],
    }


def _median_interval(n: int) -> tuple[int, int]:
    """Places of two of n sorted values with the true median between them at 95 % confidence.

    Each value is below the median with probability 1/2, so the number of those below it is
    binomial: no assumption about the distribution is needed. Fewer than six values give their
    whole range, which is less certain. Source: Conover (1999), Practical Nonparametric
    Statistics, section 3.2.
    """
    low, outside = 0, 1 / 2**n  # the probability that at most `low` values are below
    while 2 * (outside + math.comb(n, low + 1) / 2**n) <= 1 - CONFIDENCE:
        low += 1
        outside += math.comb(n, low) / 2**n
    return low, n - 1 - low


def difference(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float) -> str:
    """Why two results disagree, in words; empty if they agree."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return f"shapes {[x.shape for x in ours]} and {[x.shape for x in theirs]}"
    for x, y in zip(ours, theirs, strict=True):
        x, y = x.astype("float64"), y.astype("float64")
        apart = np.abs(x - y)
        largest = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
        if not (apart <= tolerance * largest).all():  # "not <=" also refuses NaN
            worst = np.unravel_index(np.nan_to_num(apart, nan=np.inf).argmax(), apart.shape)
            return f"{x[worst]:.7g} here, {y[worst]:.7g} there"
    return ""


def memory_ratio(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """How many times as much memory as ours theirs takes, at the peak of a step.

    `ratio` counts what training adds to a process that has imported the library; `whole` counts
    all of it.
    """
    if theirs["memory_imported"] is None or ours["memory_imported"] is None:
        return {"refused": "this system does not tell how much memory is resident"}
    added = [x["memory_peak"] - x["memory_imported"] for x in (theirs, ours)]
    return {"ratio": added[0] / added[1], "whole": theirs["memory_peak"] / ours["memory_peak"]}
