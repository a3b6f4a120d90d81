"""Products of matrices."""

from __future__ import annotations

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Linear(Common):
    """Left to the library's BLAS."""

    @quiet
    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        return self._array(self.xp.matmul(a, b, out=out))

    @quiet
    def einsum(self, subscripts: str, *operands: Array) -> Array:
        return self._array(self.xp.einsum(subscripts, *operands, optimize=len(operands) > 1))

    @quiet
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self.xp.matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y

    @quiet
    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self.linear(x, weight, bias)
        return self.xp.maximum(y, 0, out=y)

    @quiet
    def linear_grad(
        self, grad: Array, x: Array | None, weight: Array | None, y: Array | None, bias: bool,
        out: tuple[Array | None, Array | None] = (None, None),
    ) -> tuple[Array, ...]:  # fmt: skip
        g = grad if y is None else self.relu_grad(grad, y)
        found = [] if weight is None else [self.matmul(g, weight)]
        found += [] if x is None else [self.matmul(g.T, x, out[0])]
        found += [self._array(self.xp.sum(g, axis=0, out=out[1]))] if bias else []
        return tuple(found)
