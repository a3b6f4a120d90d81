"""Products with weights that are held as codes: dequantize, then multiply."""

from __future__ import annotations

from ..interface import Array
from ..quiet import quiet
from .linear import Linear


class WeightOnly(Linear):
    """Source: Frantar et al. (2023), arXiv:2210.17323, section 4, "practical speedups"."""

    @quiet
    def weight_only_linear(
        self, x: Array, weight: Array, scale: Array, zero_point: Array, bias: Array | None,
        group_size: int,
    ) -> Array:  # fmt: skip
        return self.linear(
            x, self._decoded(x.shape[1], weight, scale, zero_point, group_size), bias
        )

    def _decoded(
        self, columns: int, weight: Array, scale: Array, zero_point: Array, group_size: int
    ) -> Array:
        """The weight (O, columns) that codes of 8 bits, or packed ones of 4, stand for."""
        xp = self.xp
        if weight.dtype == xp.uint8:
            pairs = xp.stack([weight & 15, weight >> 4], axis=-1)
            weight = pairs.reshape(weight.shape[0], -1)[:, :columns].astype(xp.int32) - 8
        group = xp.arange(columns) // group_size
        steps = weight - xp.take(zero_point, group, axis=1)
        return steps.astype(scale.dtype) * xp.take(scale, group, axis=1)
