"""What a graph consists of: values, and the operations that make and read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine.function import Function
from ..engine.tensor import Tensor
from ..ops import broadcast_to
from .tracing import mapped


@dataclass(frozen=True)
class Size:
    """A number that grows with the batch: slope * batch + start."""

    slope: int
    start: int

    def at(self, batch: int) -> int:
        """The number for a batch of that size.

        >>> Size(2, 1).at(10)
        21
        """
        return self.slope * batch + self.start


@dataclass(eq=False)
class Value:
    """A tensor of the graph. kind is "input", "parameter" or "buffer" (which have a `path` in the
    model), "constant", or "result" (which has a `producer`).
    """

    index: int  # in the order in which they took part
    kind: str
    shape: tuple[int, ...]  # for the example's batch
    dtype: np.dtype[Any]
    path: str = ""
    tensor: Tensor | None = None  # of a parameter, buffer or constant
    producer: Node | None = None
    consumers: list[Node] = field(default_factory=list)
    sizes: tuple[int | Size, ...] = ()  # the shape for any batch

    def at(self, batch: int) -> Tensor:
        """A parameter, buffer or constant as it takes part in a batch of that size."""
        assert self.tensor is not None
        if self.kind != "constant" or self.sizes == self.shape:
            return self.tensor
        return broadcast_to(self.tensor, resolved(self.sizes, batch))

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"constant{self.shape}"
        return self.path or f"%{self.index}"

    __repr__ = __str__


@dataclass(eq=False)
class Node:
    """One operation. `function` has its settings (`function.geometry` of a convolution, say) for
    the example's batch; inputs are Values, numbers (a Size, if it grows with the batch) or None, in
    the order of its `forward`.
    """

    index: int
    function: Function
    inputs: tuple[Any, ...]
    output: Value
    module: str  # the path of the innermost module in which it ran
    settings: dict[str, Any]  # what `function` was made with, for any batch

    @property
    def op(self) -> str:
        """The name of the operation's class."""
        return type(self.function).__name__

    def at(self, batch: int) -> Function:
        """A new instance of the operation, for a batch of that size."""
        return made(type(self.function), resolved(self.settings, batch))

    def __str__(self) -> str:
        return f"{self.output} = {self.op}({', '.join(map(str, self.inputs))})"

    __repr__ = __str__


def resolved(template: Any, batch: int) -> Any:
    """A template's numbers for a batch of that size."""
    return mapped(template, lambda size: size.at(batch), Size)


def made(kind: type[Function], settings: dict[str, Any]) -> Function:
    """An operation with these settings; `__init__` would want them under other names."""
    function = kind.__new__(kind)
    vars(function).update(settings)
    return function
