"""Layer and batch normalisation.

Sources: Ba, Kiros & Hinton (2016), arXiv:1607.06450, section 3; Ioffe & Szegedy (2015),
arXiv:1502.03167, algorithm 1. The gradient, the same for both, with g = dL/dy * weight:
dL/dx = inv_std * (g - mean(g) - x_hat * mean(g * x_hat)).
"""

from __future__ import annotations

from ..interface import Array
from ..quiet import quiet
from .common import Common


class Normalize(Common):
    """The variance is the mean of squared distances: E[x^2] - E[x]^2 would cancel."""

    @quiet
    def layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        mean = x.sum(axis=1, keepdims=True) / x.shape[1]
        y = x - mean
        inv_std = 1 / self.xp.sqrt((y * y).sum(axis=1, keepdims=True) / x.shape[1] + eps)
        y *= inv_std
        y *= weight
        y += bias
        return y, mean, inv_std

    @quiet
    def layer_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        columns = x.shape[1]
        x_hat = x - mean
        x_hat *= inv_std
        weight_grad = (grad * x_hat).sum(axis=0)
        g = grad * weight
        shift = g.sum(axis=1, keepdims=True) / columns
        slope = (g * x_hat).sum(axis=1, keepdims=True) / columns
        x_hat *= slope
        g -= shift
        g -= x_hat
        g *= inv_std
        return g, weight_grad, grad.sum(axis=0)

    @quiet
    def batch_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        count = x.shape[0] * x.shape[2]
        mean = x.sum(axis=(0, 2)) / count
        y = x - mean[:, None]
        var = (y * y).sum(axis=(0, 2)) / count
        y *= (weight / self.xp.sqrt(var + eps))[:, None]
        y += bias[:, None]
        return y, mean, var

    @quiet
    def batch_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """weight is constant along a channel, so it leaves the means as a factor."""
        count = x.shape[0] * x.shape[2]
        inv_std = 1 / self.xp.sqrt(var + eps)
        x_hat = x - mean[:, None]
        x_hat *= inv_std[:, None]
        weight_grad = (grad * x_hat).sum(axis=(0, 2))
        bias_grad = grad.sum(axis=(0, 2))
        x_hat *= (weight_grad / count)[:, None]
        x_grad = grad - (bias_grad / count)[:, None]
        x_grad -= x_hat
        x_grad *= (weight * inv_std)[:, None]
        return x_grad, weight_grad, bias_grad
