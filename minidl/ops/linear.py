"""Products of matrices, and Einstein sums."""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

from ..engine.apply import apply
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import check
from .activation import relu
from .shape import reshape, transpose, unsqueeze


def _mT(lib: Any, x: Any) -> Any:  # noqa: N802  (NumPy's name)
    n = len(x.shape)
    return lib.transpose(x, (1, 0) if n == 2 else (*range(n - 2), n - 1, n - 2))


class MatMul(Function):
    """y = a b; dL/da = g b^T, dL/db = a^T g. Source: Giles (2008), "Collected matrix derivative
    results", 2.2.
    """

    fresh = True

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return self.backend.matmul(a, b)

    def backward(self, grad: Any) -> Any:
        lib = self.backend
        return (
            lib.matmul(grad, _mT(lib, self.b)) if self.needs[0] else None,
            lib.matmul(_mT(lib, self.a), grad) if self.needs[1] else None,
        )


class Linear(Function):
    """y = x W^T + b; dL/dx = g W, dL/dW = g^T x, dL/db = sum of g over rows."""

    fresh = True
    y: Any = None  # the result, where a relu follows

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        self.x, self.weight = x, weight
        return self.backend.linear(x, weight, bias)

    def backward(self, grad: Any) -> Any:
        for_x, for_weight, for_bias = self.needs
        found = self.backend.linear_grad(
            grad, self.x if for_weight else None, self.weight if for_x else None, self.y, for_bias,
            self.into(1, 2),
        )  # fmt: skip
        wanted = iter(found)
        return tuple([next(wanted) if need else None for need in self.needs])

    def definition(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = matmul(x, transpose(weight))
        return y if bias is None else y + bias


class LinearRelu(Linear):
    """y = max(x W^T + b, 0); g passes where y > 0, and then as through `Linear`."""

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        self.x, self.weight = x, weight
        self.y = self.backend.linear_relu(x, weight, bias)
        return self.y

    def definition(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return relu(super().definition(x, weight, bias))


class Einsum(Function):
    """An Einstein sum is linear in each operand: its gradient is the sum of g with all the others.

    An index that only one operand has is summed away, so its gradient is repeated along it.
    """

    def __init__(self, inputs: list[str], output: str) -> None:
        self.terms, self.output = inputs, output
        self.view = len(inputs) == 1  # "ij->ji" copies nothing

    def forward(self, *operands: Any) -> Any:
        for i, x in enumerate(operands):  # one attribute each, so that the graph finds them
            setattr(self, f"operand{i}", x)
        return self.backend.einsum(f"{','.join(self.terms)}->{self.output}", *operands)

    def backward(self, grad: Any) -> Any:
        return tuple(self._for(i, grad) if need else None for i, need in enumerate(self.needs))

    def _for(self, i: int, grad: Any) -> Any:
        others = [j for j in range(len(self.terms)) if j != i]
        known = set(self.output).union(*(self.terms[j] for j in others))
        term = self.terms[i]
        reached = "".join(c for c in term if c in known)
        parts = [getattr(self, f"operand{j}") for j in others]
        spec = ",".join([self.output, *(self.terms[j] for j in others)]) + "->" + reached
        result = self.backend.einsum(spec, grad, *parts)
        if reached == term:
            return result
        shape = getattr(self, f"operand{i}").shape
        kept = tuple(n if c in known else 1 for c, n in zip(term, shape, strict=True))
        return self.backend.broadcast_to(self.backend.reshape(result, kept), shape)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product over the last two axes; the axes before them broadcast; a vector is a row or a
    column.

    Shapes: (..., N, D) @ (..., D, O) -> (..., N, O). Raises: ShapeError.

    >>> from minidl import tensor
    >>> matmul(tensor([[1.0, 2.0]]), tensor([[3.0], [4.0]]))
    Tensor([[11.]])
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        a, b = check.operands("matmul", a, b)
        check.tensors("matmul", a=a, b=b)
    m, n = len(a.data.shape), len(b.data.shape)
    if 0 in (m, n) or a.data.shape[-1] != b.data.shape[-2 if n > 1 else 0]:
        raise ShapeError(
            f"matmul: the last axis of a {a.shape} must be as long as the "
            f"{'second to last' if n > 1 else 'only'} axis of b {b.shape}"
        )
    if m == n == 2:
        return apply(MatMul(), a, b)
    row, column = m == 1, n == 1
    left, right = unsqueeze(a, 0) if row else a, unsqueeze(b, 1) if column else b
    check.broadcast("matmul", left.shape[:-2], right.shape[:-2])
    y = apply(MatMul(), left, right)
    if row or column:
        y = reshape(
            y, (*y.shape[:-2], *([] if row else [y.shape[-2]]), *([] if column else [y.shape[-1]]))
        )
    return y


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight^T + bias.

    Shapes: x (..., D), weight (O, D), bias (O,) -> (..., O). Raises: ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> linear(tensor([[1.0, 2.0]]), tensor([[3.0, 4.0]]), tensor([0.5]))
    Tensor([[11.5]])
    """
    return _linear("linear", Linear(), x, weight, bias)


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """relu(x @ weight^T + bias) in one operation, which keeps only its result for the gradient.

    Shapes: x (..., D), weight (O, D), bias (O,) -> (..., O). Raises: ShapeError, DTypeError.

    >>> from minidl import tensor
    >>> linear_relu(tensor([[1.0, 2.0]]), tensor([[3.0, 4.0], [-3.0, -4.0]]), tensor([0.5, 0.5]))
    Tensor([[11.5,  0. ]])
    """
    return _linear("linear_relu", LinearRelu(), x, weight, bias)


def _linear(
    operation: str, function: Linear, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    check.layer(operation, x, weight, bias)
    shape, size = x.data.shape, weight.data.shape
    if len(size) != 2 or not shape or shape[-1] != size[1]:
        raise ShapeError(
            f"{operation}: x {shape} must end in an axis as long as the last of weight {size}"
        )
    check.shape_is(operation, "bias", bias, size[:1])
    if len(shape) == 2:
        return apply(function, x, weight, bias)
    rows = reshape(x, (math.prod(shape[:-1]), shape[-1]))
    y = apply(function, rows, weight, bias)
    return reshape(y, (*shape[:-1], size[0]))


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """Einstein summation: a letter names an axis; letters that the output lacks are summed over.

    Not here: "..." and a letter twice in one operand. Raises: ArgumentError, ShapeError.

    >>> from minidl import ones
    >>> einsum("ij,kj->ik", ones((2, 3)), ones((4, 3))).shape
    (2, 4)
    """
    if not isinstance(subscripts, str):
        raise ArgumentError(f"einsum: starts with a text such as 'ij,jk->ik', got {subscripts!r}")
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = "".join(terms)
    if not arrow:  # NumPy's rule: letters that occur once, in alphabetical order
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(terms) != len(operands) or not set(letters + output) <= set(ascii_letters):
        raise ArgumentError(
            f"einsum: {subscripts!r} must name, by letters a to Z, {len(operands)} operand(s)"
        )
    if any(len(set(t)) != len(t) for t in (*terms, output)) or not set(output) <= set(letters):
        raise ArgumentError(
            f"einsum: {subscripts!r} repeats a letter in one term or outputs an unknown one"
        )
    lengths: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        check.tensors("einsum", operand=x)
        if len(term) != x.ndim or any(
            lengths.setdefault(c, n) != n for c, n in zip(term, x.shape, strict=True)
        ):
            shapes = " and ".join(str(o.shape) for o in operands)
            raise ShapeError(f"einsum: shapes {shapes} do not fit {subscripts!r}")
    return apply(Einsum(terms, output), *operands)
