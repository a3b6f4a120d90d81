"""Patterns of pruning: a criterion scores every weight, a pattern says which may go together.

Scores are arrays in the shapes of the weights: the higher, the more a weight is worth, and -1
where it is masked already. Ties go by position, so every backend prunes the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..ops import check


class Blocks(NamedTuple):
    """Blocks of outputs x inputs stay or go as a whole; of one weight each, "unstructured".

    A weight of more than two axes is seen as a matrix (outputs, the rest). Blocks at its ends may
    be smaller. A block is worth the root mean square of its scores, which ranks blocks of one size
    by their norm.
    """

    rows: int
    columns: int

    def masks(self, scores: Sequence[np.ndarray], amount: float) -> list[np.ndarray]:
        """For each tensor a mask; round(amount * n) of all n blocks go, the ones of least worth."""
        worths = [self._worth(_matrix(score)) for score in scores]
        ranks = np.concatenate([worth.ravel() for worth in worths])
        count = max(round(amount * ranks.size), int((ranks < 0).sum()))
        kept = np.ones(ranks.size, bool)
        kept[np.argsort(ranks, kind="stable")[:count]] = False
        ends = np.cumsum([worth.size for worth in worths])[:-1]
        return [
            self._spread(mask.reshape(worth.shape), score) & (score != -1)
            for mask, worth, score in zip(np.split(kept, ends), worths, scores, strict=True)
        ]

    def _worth(self, matrix: np.ndarray) -> np.ndarray:
        """One number for each block, -1 where all of it is masked."""
        if self == (1, 1):
            return matrix
        rows, columns = matrix.shape
        missing = (0, -rows % self.rows), (0, -columns % self.columns)
        tiles = np.pad(matrix, missing, constant_values=-1)
        tiles = tiles.reshape(-(-rows // self.rows), self.rows, -1, self.columns)
        sizes = np.outer(
            np.minimum(rows - np.arange(0, rows, self.rows), self.rows),
            np.minimum(columns - np.arange(0, columns, self.columns), self.columns),
        )
        worth = np.sqrt((np.maximum(tiles, 0) ** 2).sum((1, 3)) / sizes)
        return np.where((tiles == -1).all((1, 3)), -1.0, worth)

    def _spread(self, kept: np.ndarray, score: np.ndarray) -> np.ndarray:
        """The blocks' mask for every weight."""
        rows, columns = _matrix(score).shape
        mask = np.repeat(np.repeat(kept, self.rows, 0), self.columns, 1)
        return mask[:rows, :columns].reshape(score.shape)

    def checked(self, operation: str, amount: float | None) -> float:
        """The fraction to remove. Raises: ArgumentError unless it is in [0, 1)."""
        amount = check.number(operation, "amount", amount)
        if not 0 <= amount < 1:
            raise ArgumentError(
                f"{operation}: amount is the fraction of weights to remove, from 0 to below 1; got"
                f" {amount!r}" + (f". Did you mean {amount / 100:g}?" if 1 <= amount < 100 else "")
            )
        return amount


def _matrix(score: np.ndarray) -> np.ndarray:
    """As (outputs, the rest)."""
    outputs = score.shape[0] if score.ndim else 1
    return score.reshape(outputs, score.size // max(outputs, 1))


class OfEach(NamedTuple):
    """N of each M neighbours along the input axis (the second one) stay, as in 2:4.

    Fewer than M at the end of the axis keep N, or all of them. Source: Mishra et al. (2021),
    arXiv:2104.08378, section 3.
    """

    kept: int
    group: int

    def masks(self, scores: Sequence[np.ndarray], amount: float) -> list[np.ndarray]:
        """For each tensor a mask; the amount follows from the pattern."""
        return [self._mask(score) for score in scores]

    def _mask(self, score: np.ndarray) -> np.ndarray:
        stays: np.ndarray = score != -1
        if score.ndim < 2:
            return stays
        inputs_last = np.moveaxis(score, 1, -1)
        length = inputs_last.shape[-1]
        missing = [(0, 0)] * (score.ndim - 1) + [(0, -length % self.group)]
        groups = np.pad(inputs_last, missing, constant_values=-2)
        groups = groups.reshape(*inputs_last.shape[:-1], -1, self.group)
        ranks = np.argsort(np.argsort(groups, axis=-1, kind="stable"), axis=-1, kind="stable")
        mask = (ranks >= self.group - self.kept).reshape(*inputs_last.shape[:-1], -1)
        stays &= np.moveaxis(mask[..., :length], -1, 1)
        return stays

    def checked(self, operation: str, amount: float | None) -> float:
        """What the pattern removes. Raises: ArgumentError for any other amount."""
        removed = 1 - self.kept / self.group
        if amount is not None and check.number(operation, "amount", amount) != removed:
            raise ArgumentError(
                f"{operation}: the pattern {self.kept}:{self.group} removes {removed:g} of the"
                f" weights, not {amount!r}; leave amount out"
            )
        return removed


Pattern = Blocks | OfEach


def parse(operation: str, pattern: str) -> Pattern:
    """The pattern that a text names. Raises: ArgumentError.

    >>> parse("magnitude", "16x1"), parse("magnitude", "2:4")
    (Blocks(rows=16, columns=1), OfEach(kept=2, group=4))
    """
    if pattern == "unstructured":
        return Blocks(1, 1)
    found = re.fullmatch(r"([1-9]\d*)([x:])([1-9]\d*)", pattern) if type(pattern) is str else None
    if found and found[2] == "x":
        return Blocks(int(found[1]), int(found[3]))
    if found and int(found[1]) < int(found[3]):
        return OfEach(int(found[1]), int(found[3]))
    raise ArgumentError(
        f"{operation}: pattern must be 'unstructured', 'N:M' with N < M such as '2:4' (N of M"
        f" inputs stay), or outputs x inputs such as '16x1' (blocks); got {pattern!r}"
    )
