"""Linear layers, and layers that only change the shape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import ops
from ..engine.creation import Where, zeros
from ..engine.dtypes import float32
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ShapeError
from . import init
from .module import Module, Parameter


class Linear(Module):
    """x @ weight^T + bias; see `ops.linear`.

    Shapes: x (..., in_features) -> (..., out_features); weight (out_features, in_features).
    Raises: ArgumentError for sizes below 1.

    >>> import minidl
    >>> Linear(3, 2)(minidl.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        init.positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros((out_features, in_features), dtype, backend=backend))
        self.bias = Parameter(zeros(out_features, dtype, backend=backend)) if bias else None
        init.linear_(self.weight, self.bias, generator)

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def forward_relu(self, x: Tensor) -> Tensor:
        """relu(forward(x)) in one pass."""
        return ops.linear_relu(x, self.weight, self.bias)


class Identity(Module):
    """x itself: a place to put something else later; takes and ignores any arguments.

    >>> import minidl
    >>> Identity()(minidl.tensor([2.0]))
    Tensor([2.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """The axes from start_dim to end_dim merged into one.

    >>> import minidl
    >>> Flatten()(minidl.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = ops.check.integer("Flatten", "start_dim", start_dim)
        self.end_dim = ops.check.integer("Flatten", "end_dim", end_dim)

    def forward(self, x: Tensor) -> Tensor:
        first = ops.check.axis("Flatten", self.start_dim, x.ndim)
        end = ops.check.axis("Flatten", self.end_dim, x.ndim) + 1
        if end <= first:
            raise ShapeError(
                f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} in x "
                f"{x.shape}"
            )
        return x.reshape(*x.shape[:first], math.prod(x.shape[first:end]), *x.shape[end:])


class Unflatten(Module):
    """The axis dim split into several.

    >>> import minidl
    >>> Unflatten(1, (3, 4))(minidl.ones((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = ops.check.integer("Unflatten", "dim", dim)
        ops.check.instance("Unflatten", "unflattened_size", unflattened_size, Iterable)
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        axis = ops.check.axis("Unflatten", self.dim, x.ndim)
        return x.reshape(*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :])
