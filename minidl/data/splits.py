"""Splitting a data set into parts that share no sample; the same parts for the same seed
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..engine.arguments import instance, number
from ..engine.random import Generator
from ..errors import ArgumentError, DTypeError
from .dataset import Dataset, Subset


def random_split(dataset: Dataset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Parts of the given lengths, or fractions that add up to 1, drawn at random.

    With fractions, what rounding down leaves over goes to the first parts, one sample each.
    Raises: ArgumentError if lengths do not add up to the data set.

    >>> from minidl.data import ArrayDataset
    >>> [len(part) for part in random_split(ArrayDataset(np.arange(10)), [0.75, 0.25])]
    [8, 2]
    """
    instance("random_split", "dataset", dataset, Dataset)
    instance("random_split", "lengths", lengths, Iterable)
    counts = _counts(len(dataset), [number("random_split", "a length", v) for v in lengths])
    order = Generator(seed).permutation(len(dataset))
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - n : end]) for n, end in zip(counts, ends, strict=True)]


def _counts(n: int, lengths: list[float]) -> list[int]:
    if all(isinstance(v, int) for v in lengths) and sum(lengths) == n:
        counts = [int(v) for v in lengths]
    elif abs(sum(lengths) - 1) < 1e-6:
        counts = [int(v * n) for v in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        raise ArgumentError(
            f"random_split: lengths must add up to {n} (samples) or to 1 (fractions), got {lengths}"
        )
    if min(counts) < 0:
        raise ArgumentError(f"random_split: a length is negative: {lengths}")
    return counts


def split(
    dataset: Dataset, fraction: float = 0.2, seed: int = 0, stratify: bool = False
) -> tuple[Subset, Subset]:
    """(rest, held out): a fraction of the samples, rounded, is held out at random; both keep their
    order.

    With stratify every class has the same share in both, up to one sample: the samples are sorted
    by label, at random within a label, and taken at equal distances. Source: Madow & Madow (1944),
    "On the theory of systematic sampling".

    Raises: ArgumentError if fraction is outside (0, 1) or leaves a part empty; DTypeError if
    stratify finds no integer labels.

    >>> from minidl.data import ArrayDataset
    >>> data = ArrayDataset(np.zeros(10), np.array([0] * 5 + [1] * 5))
    >>> rest, held_out = split(data, 0.4, stratify=True)
    >>> held_out.targets().tolist(), len(rest)
    ([0, 0, 1, 1], 6)
    """
    instance("split", "dataset", dataset, Dataset)
    n = len(dataset)
    fraction = number("split", "fraction", fraction, 0, 1, above=True, below=True)
    taken = round(fraction * n)
    if not 0 < taken < n:
        raise ArgumentError(
            f"split: fraction {fraction} of {n} samples leaves a part empty; choose one in (0, 1)"
        )
    order = Generator(seed).permutation(n)
    if stratify:
        order = order[np.argsort(_labels(dataset)[order], kind="stable")]
    chosen = np.zeros(n, bool)
    chosen[order[np.arange(taken) * n // taken]] = True
    return Subset(dataset, np.flatnonzero(~chosen)), Subset(dataset, np.flatnonzero(chosen))


def _labels(dataset: Dataset) -> np.ndarray:
    labels = dataset.targets()
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DTypeError(
            f"split: stratify needs one integer label per sample, got {labels.dtype} "
            f"{labels.shape}; use stratify=False"
        )
    return labels
