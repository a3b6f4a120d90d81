"""Fake quantization: numbers moved to the nearest one that has a code, and the way back.

Sources: Jacob et al. (2018), arXiv:1712.05877, section 3; the straight-through gradient is Bengio,
Leonard & Courville (2013), arXiv:1308.3432, the gradient of the scale Esser et al. (2020),
arXiv:1902.08153, equation 3.
"""

from __future__ import annotations

from ..interface import Array
from ..quiet import quiet
from .common import Common


class FakeQuantize(Common):
    """With z for the zero point: y = scale * (clip(rint(x / scale) + z, low, high) - z)."""

    @quiet
    def fake_quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        _, steps, _ = self._steps(x, scale, zero_point, low, high)
        return steps * scale[:, None]

    @quiet
    def fake_quantize_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        _, _, inside = self._steps(x, scale, zero_point, low, high)
        return self.xp.where(inside, grad, 0)

    @quiet
    def fake_quantize_scale_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        ratio, steps, inside = self._steps(x, scale, zero_point, low, high)
        slope = steps - self.xp.where(inside, ratio, 0)
        return (grad * slope).sum(axis=(0, 2))

    def _steps(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> tuple[Array, Array, Array]:
        """x / scale, the number of steps between 0 and y, and where x has a code; (N, C, L)."""
        xp = self.xp
        zero = zero_point.astype(x.dtype)[:, None]
        ratio = x / scale[:, None]
        code = xp.rint(ratio) + zero
        nearest = xp.clip(code, low, high)
        return ratio, nearest - zero, code == nearest  # NaN has no code
