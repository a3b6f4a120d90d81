"""Products of matrices."""

from __future__ import annotations

from ..interface import Array
from .common import Common, quiet


class Linear(Common):
    """Left to the library's BLAS."""

    @quiet
    def matmul(self, a: Array, b: Array) -> Array:
        return self._array(self.xp.matmul(a, b))

    @quiet
    def einsum(self, subscripts: str, *operands: Array) -> Array:
        return self._array(self.xp.einsum(subscripts, *operands, optimize=len(operands) > 1))

    @quiet
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self.xp.matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y
