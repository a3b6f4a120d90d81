"""ResNet-8: the smallest of the residual networks for 32 x 32 images. One training step.

Source: He et al. (2015), arXiv:1512.03385, section 4.2, with one block in each of three stages, and
projections where the size changes (their option B).
"""

from __future__ import annotations

import training
from harness.workload import Row

TITLE = "ResNet-8 on 32 x 32 x 3, Adam, training step"
ROWS = [Row("batch 32", 32, batch=32)]
# Batch norm divides by what it measures: it hands on each rounding error to a whole channel.
TOLERANCE = 1e-3


def model(nn):
    """The same text is a model of minidl and of PyTorch."""
    relu = nn.functional.relu

    class Block(nn.Module):
        def __init__(self, old, new, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(old, new, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(new)
            self.conv2 = nn.Conv2d(new, new, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(new)
            self.shortcut = nn.Identity()
            if stride > 1:
                projection = nn.Conv2d(old, new, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(new))

        def forward(self, x):
            y = relu(self.bn1(self.conv1(x)))
            return relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def given(batch):
    return training.classified(model, batch, 3, 32, 32)


def in_minidl(given, compiled):
    from minidl import nn

    return training.in_minidl(model(nn), given, compiled)


def in_pytorch(given, compiled):
    from torch import nn

    def make(channels_last):
        return training.in_pytorch(model(nn), given, compiled, channels_last=channels_last)

    return training.better(make)


def in_jax(given, compiled):
    from jax import lax
    from jax import numpy as jnp
    from jax.nn import relu

    def conv(x, weight, stride=1):
        pad = weight.shape[2] // 2
        return lax.conv_general_dilated(x, weight, (stride, stride), [(pad, pad)] * 2)

    def norm(w, name, x):
        """Running statistics are not kept: they are no part of training."""
        centred = x - x.mean((0, 2, 3), keepdims=True)
        x_hat = centred * lax.rsqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-5)
        return w[f"{name}.weight"][:, None, None] * x_hat + w[f"{name}.bias"][:, None, None]

    def block(w, name, x, stride):
        y = relu(norm(w, f"{name}.bn1", conv(x, w[f"{name}.conv1.weight"], stride)))
        y = norm(w, f"{name}.bn2", conv(y, w[f"{name}.conv2.weight"]))
        if stride > 1:
            x = norm(w, f"{name}.shortcut.1", conv(x, w[f"{name}.shortcut.0.weight"], stride))
        return relu(y + x)

    def model(w, x):
        x = relu(norm(w, "1", conv(x, w["0.weight"])))
        for name, stride in (("3", 1), ("4", 2), ("5", 2)):
            x = block(w, name, x, stride)
        return jnp.mean(x, (2, 3)) @ w["8.weight"] + w["8.bias"]

    return training.in_jax(model, given, compiled)
