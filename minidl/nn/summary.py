"""What a model consists of: shapes, parameters and multiply-adds of every module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..engine.creation import as_shape, zeros
from ..engine.dtypes import float32
from ..engine.function import Function
from ..engine.modes import no_grad, observe
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..ops import check
from .module import Module

Count = Callable[[Function, tuple[Any, ...], Tensor], int]


def _einsum(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    lengths: dict[str, int] = {
        c: n
        for term, x in zip(function.terms, inputs, strict=True)
        for c, n in zip(term, x.shape, strict=True)
    }
    return math.prod(lengths.values()) * (len(inputs) - 1)


def _recurrent(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    """Those of the states: what the input brings (T, N, gates) is a product of its own."""
    size: int = math.prod(inputs[0].shape) * inputs[1].shape[1]
    return size


# Multiply-adds of one call, by the operation's name; an operation that is not here counts as 0.
# Whoever writes an operation that multiplies matrices adds a line.
MULTIPLY_ADDS: dict[str, Count] = {
    "MatMul": lambda _, inputs, result: result.size * inputs[0].shape[-1],
    "Linear": lambda _, inputs, result: result.size * inputs[1].shape[1],
    "LinearRelu": lambda _, inputs, result: result.size * inputs[1].shape[1],
    "Conv2d": lambda _, inputs, result: result.size * math.prod(inputs[1].shape[1:]),
    "Conv2dInputGrad": lambda _, inputs, result: inputs[0].size * math.prod(inputs[1].shape[1:]),
    "Einsum": _einsum,
    **dict.fromkeys(("RNN", "LSTM", "GRU"), _recurrent),
}


@dataclass
class Row:
    """One module: only what is its own, not what the modules inside it have."""

    name: str  # its path, "" for the model itself
    kind: str  # its class
    output_shape: tuple[int, ...] | None = None  # of its last call; None if it was not called
    parameters: int = 0
    multiply_adds: int = 0


@dataclass
class Summary:
    """The rows of a model and their totals; printing it shows a table."""

    rows: list[Row]
    parameters: int
    trainable: int
    multiply_adds: int

    def __str__(self) -> str:
        cells = [("layer", "output shape", "parameters", "multiply-adds")]
        for row in self.rows:
            depth = row.name.count(".") + bool(row.name)
            label = f"{'  ' * depth}{row.name.rpartition('.')[2]} {row.kind}".rstrip()
            label = label if row.name else row.kind
            shape = "-" if row.output_shape is None else str(row.output_shape)
            cells.append((label, shape, f"{row.parameters:,}", f"{row.multiply_adds:,}"))
        cells.append(("total", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__


def summary(model: Module, x: Tensor | tuple[int, ...]) -> Summary:
    """Call model once on x, in eval mode, and report what each module does.

    x is an input, or the shape of one, batch included: then zeros of the parameters' dtype and
    backend are used. Shared parameters count once, with their first owner. Multiply-adds are those
    of the operations that really ran, for the whole of x; a transposed convolution counts every
    product, also those that fall outside. Raises: ArgumentError if x is neither.

    >>> from minidl import nn
    >>> summary(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
    layer       output shape  parameters  multiply-adds
    ---------------------------------------------------
    Sequential  (2, 3)                 0              0
      0 Linear  (2, 3)                15             24
      1 ReLU    (2, 3)                 0              0
    ---------------------------------------------------
    total                             15             24
    """
    check.instance("summary", "model", model, Module)
    rows = {id(m): Row(name, type(m).__name__) for name, m in model.named_modules()}
    trainable = 0
    counted: set[int] = set()
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if id(p) not in counted:
                counted.add(id(p))
                rows[id(module)].parameters += p.size
                trainable += p.size if p.requires_grad else 0
    _measure(model, x if isinstance(x, Tensor) else _zeros(model, x), rows)
    table = list(rows.values())
    totals = (sum(row.parameters for row in table), sum(row.multiply_adds for row in table))
    return Summary(table, totals[0], trainable, totals[1])


def _zeros(model: Module, shape: Any) -> Tensor:
    if not isinstance(shape, (tuple, list)):
        raise ArgumentError(f"summary: needs an input or its shape, got {type(shape).__name__}")
    like = next(model.parameters(), None)
    where = (float32, None) if like is None else (like.dtype, like.backend)
    return zeros(as_shape(shape), where[0], backend=where[1])


def _measure(model: Module, x: Tensor, rows: dict[int, Row]) -> None:
    """Run the model, and fill in output shapes and multiply-adds."""
    running: list[Row] = []  # the innermost module that is running comes last

    def enter(module: Module, args: Any) -> None:
        running.append(rows[id(module)])

    def leave(module: Module, args: Any, result: Any) -> None:
        row = running.pop()
        row.output_shape = result.shape if isinstance(result, Tensor) else None

    def count(phase: str, function: Function, inputs: tuple[Any, ...], result: Any) -> None:
        if phase == "forward" and running and function.name in MULTIPLY_ADDS:
            running[-1].multiply_adds += MULTIPLY_ADDS[function.name](function, inputs, result)

    modes = [(m, m.training) for m in model.modules()]
    removes = [m.register_forward_pre_hook(enter) for m, _ in modes]
    removes += [m.register_forward_hook(leave) for m, _ in modes]
    try:
        with no_grad(), observe(count):
            model.eval()(x)
    finally:
        for remove in removes:
            remove()
        for module, training in modes:
            module.training = training
