"""Layer and batch normalisation in one launch each (the gradient of layer_norm takes two)."""

from __future__ import annotations

from ..interface import Array
from .common import Common
from .kernels import WARP, launchable, over_rows

FILE = "normalize.cu"
SLICES = 8  # of a block in layer_norm_param_grad; normalize.cu has the same number


class Normalization(Common):
    """Sums are taken within a block in a fixed order: the same bits on every run."""

    def layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not launchable(x):
            return super().layer_norm(x, weight, bias, eps)
        xp, dtype, (rows, features) = self.xp, x.dtype, x.shape
        x, weight, bias = (self._dense(a, dtype) for a in (x, weight, bias))
        y, mean, inv_std = xp.empty_like(x), xp.empty((rows, 1), dtype), xp.empty((rows, 1), dtype)
        args = [x, weight, bias, dtype.type(eps), y, mean, inv_std, features]
        self._kernels.launch(FILE, "layer_norm", dtype, over_rows(rows, features), args)
        return y, mean, inv_std

    def layer_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        if not launchable(x):
            return super().layer_norm_grad(grad, x, weight, mean, inv_std)
        xp, dtype, (rows, features) = self.xp, x.dtype, x.shape
        grad, x, weight, mean, inv_std = (
            self._dense(a, dtype) for a in (grad, x, weight, mean, inv_std)
        )
        grad_x, grad_weight, grad_bias = (
            xp.empty_like(x),
            xp.empty_like(weight),
            xp.empty_like(weight),
        )
        args = [grad, x, weight, mean, inv_std, grad_x, features]
        self._kernels.launch(FILE, "layer_norm_grad", dtype, over_rows(rows, features), args)
        columns = (-(-features // WARP),), (WARP, SLICES)
        args = [grad, x, mean, inv_std, grad_weight, grad_bias, rows, features]
        self._kernels.launch(FILE, "layer_norm_param_grad", dtype, columns, args)
        return grad_x, grad_weight, grad_bias

    def batch_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not launchable(x):
            return super().batch_norm(x, weight, bias, eps)
        xp, dtype, (n, channels, length) = self.xp, x.dtype, x.shape
        x, weight, bias = (self._dense(a, dtype) for a in (x, weight, bias))
        y, mean, var = xp.empty_like(x), xp.empty(channels, dtype), xp.empty(channels, dtype)
        args = [x, weight, bias, dtype.type(eps), y, mean, var, n * length, length]
        self._kernels.launch(FILE, "batch_norm", dtype, over_rows(channels, n * length), args)
        return y, mean, var

    def batch_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not launchable(x):
            return super().batch_norm_grad(grad, x, weight, mean, var, eps)
        xp, dtype, (n, channels, length) = self.xp, x.dtype, x.shape
        grad, x, weight, mean, var = (self._dense(a, dtype) for a in (grad, x, weight, mean, var))
        grad_x, grad_weight, grad_bias = (
            xp.empty_like(x),
            xp.empty_like(weight),
            xp.empty_like(weight),
        )
        args = [grad, x, weight, mean, var, dtype.type(eps), grad_x, grad_weight, grad_bias]
        grid = over_rows(channels, n * length)
        self._kernels.launch(FILE, "batch_norm_grad", dtype, grid, [*args, n * length, length])
        return grad_x, grad_weight, grad_bias
