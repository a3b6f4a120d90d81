"""Linear layers with sparse weights: every row of blocks filled up to the longest.

Source of the layout (ELLPACK): Kincaid et al. (1982), "ITPACK 2C", section 2.
"""

from __future__ import annotations

from typing import Any

from ..interface import Array, SparseWeight
from ..quiet import quiet
from .common import Common


class Sparse(Common):
    """Inputs are gathered for all rows of blocks at once, and multiplied as a stack of matrices."""

    def sparse_pack(self, weight: SparseWeight) -> Any:
        """table (rows, K): the numbers of each row's blocks, then B, which stands for no block."""
        xp, starts = self.xp, weight.starts
        counts = starts[1:] - starts[:-1]
        longest = int(counts.max()) if counts.size else 0
        k = xp.arange(longest)
        none = weight.values.shape[0]
        return self._array(xp.where(k < counts[:, None], starts[:-1, None] + k, none))

    @quiet
    def sparse_linear(
        self, x: Array, weight: SparseWeight, packed: Any, bias: Array | None, relu: bool
    ) -> Array:
        xp, (outputs, inputs) = self.xp, weight.shape
        nothing = xp.zeros((1, weight.values.shape[1]), x.dtype)
        values = xp.concatenate([weight.values, nothing])[packed]  # (rows, K, R)
        no_input = xp.full(1, inputs, weight.indices.dtype)
        indices = xp.concatenate([weight.indices, no_input])[packed]  # (rows, K)
        columns = xp.concatenate([x.T, xp.zeros((1, x.shape[0]), x.dtype)])[indices]  # (.., K, N)
        y = xp.matmul(xp.swapaxes(values, 1, 2), columns)  # (rows, R, N)
        y = y.reshape(y.shape[0] * y.shape[1], x.shape[0])[:outputs].T
        y = y + (0 if bias is None else bias)
        return self._array(xp.maximum(y, 0) if relu else y)
