"""Dropout: random zeros while training."""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.random import Generator, source_of
from ..engine.tensor import Tensor
from . import check


class Dropout(Function):
    """y = x mask / (1 - p), mask 0 with probability p; dL/dx = g mask / (1 - p).

    Source: Srivastava et al. (2014), "Dropout", JMLR 15, section 4 (here scaled in training, not in
    testing).
    """

    def __init__(self, p: float, seed: int, counter: int) -> None:
        self.p, self.seed, self.counter = p, seed, counter

    def forward(self, x: Any) -> Any:
        y, self.mask = self.backend.dropout(x, self.p, self.seed, self.counter)
        return y

    def backward(self, grad: Any) -> Any:
        return self.backend.where(self.mask, grad * (1 / (1 - self.p)), 0.0)


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """x with each element zeroed with probability p and the others divided by 1 - p; x itself if
    not training.

    The mask depends only on the generator's state, so it is the same on every backend.
    Raises: ArgumentError, DTypeError.

    >>> from minidl import Generator, ones
    >>> sorted(set(dropout(ones(100), 0.5, generator=Generator(0)).tolist()))
    [0.0, 2.0]
    """
    check.floating("dropout", x=x)
    p = check.number("dropout", "p", p, 0, 1)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    source = source_of("dropout", generator)
    return apply(Dropout(float(p), source.seed, source.reserve(x.size)), x)
