"""One block of a transformer: attention and a feed-forward network. One training step.

Layer norm comes before each half (pre-LN, Xiong et al., 2020, arXiv:2002.04745); GELU between.
"""

from __future__ import annotations

import numpy as np
import training
from harness.workload import Row

TITLE = "transformer block, d = 128, 4 heads, T = 128, pre-LN, GELU, Adam, training step"
ROWS = [Row("batch 8", 8, batch=8)]


def model(nn):
    """The same text is a model of minidl and of PyTorch."""
    return nn.TransformerEncoderLayer(
        128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def given(batch):
    """The target is noise, which so few weights cannot learn by heart."""
    x, target = np.random.default_rng(0).standard_normal((2, batch, 128, 128), "float32")
    return {"x": x, "target": target} | training.weights(training.shapes(model))


def in_minidl(given, compiled):
    from minidl import nn

    return training.in_minidl(model(nn), given, compiled, loss="mse_loss")


def in_pytorch(given, compiled):
    """In training mode this layer calls scaled_dot_product_attention."""
    from torch import nn

    return training.in_pytorch(model(nn), given, compiled, loss="mse_loss")


def in_jax(given, compiled):
    import jax

    def norm(w, name, x):
        centred = x - x.mean(-1, keepdims=True)
        x_hat = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return w[f"{name}.weight"] * x_hat + w[f"{name}.bias"]

    def attention(w, x):
        joint = x @ w["self_attn.in_proj_weight"] + w["self_attn.in_proj_bias"]
        q, k, v = (part.reshape(*x.shape[:2], 4, 32) for part in jax.numpy.split(joint, 3, -1))
        y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        return y @ w["self_attn.out_proj.weight"] + w["self_attn.out_proj.bias"]

    def feed_forward(w, x):
        hidden = jax.nn.gelu(x @ w["linear1.weight"] + w["linear1.bias"], approximate=False)
        return hidden @ w["linear2.weight"] + w["linear2.bias"]

    def model(w, x):
        x = x + attention(w, norm(w, "norm1", x))
        return x + feed_forward(w, norm(w, "norm2", x))

    def mse_loss(y, target):
        return ((y - target) ** 2).mean()

    return training.in_jax(model, given, compiled, loss=mse_loss)
