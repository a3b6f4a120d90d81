"""Dropout as a module."""

from __future__ import annotations

from .. import ops
from ..engine.random import Generator, source_of
from ..engine.tensor import Tensor
from .module import Module


class Dropout(Module):
    """Zeroes each element with probability p while training; see `ops.dropout`.

    Masks come from generator, or from the default one (`minidl.manual_seed`).
    Raises: ArgumentError.

    >>> import minidl
    >>> Dropout(0.5).eval()(minidl.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.p = ops.check.number("Dropout", "p", p, 0, 1)
        source_of("Dropout", generator)
        self.generator = generator

    def extra_repr(self) -> str:
        """The probability, also where it is the default."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training, self.generator)
