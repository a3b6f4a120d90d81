"""How time grows with the work: over the batch for the MLP of `mlp.py`, and over the depth.

The time per sample should fall with the batch and then stay flat, and so should the time per layer
with the depth: where it rises, something costs more than the work.
"""

from __future__ import annotations

import math

import mlp
import training
from harness.workload import Row

TITLE = "growth of a training step"
CONTESTANTS = ("minidl numpy", "minidl numba", "minidl numba, compiled", "PyTorch")
BATCHES = [Row(f"MLP, batch {n}", n, of=mlp, batch=n) for n in (16, 32, 64, 128, 256, 512, 1024)]
DEPTHS = [Row(f"{n} layers of 128, batch 64", 64, depth=n) for n in (1, 2, 4, 8, 16, 32, 64)]
ROWS = BATCHES + DEPTHS
RATE = 1e-5  # through 64 layers a larger step would magnify rounding beyond comparison


def model(depth):
    def build(nn):
        layers = [layer for _ in range(depth) for layer in (nn.Linear(128, 128), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(128, 10))

    return build


def given(depth):
    """Weights as He et al. (2015), arXiv:1502.01852, draw them, or little passes 64 layers."""
    arrays = training.classified(model(depth), 64, 128)
    gain = math.sqrt(6)
    return {k: v * gain if k.endswith("weight") else v for k, v in arrays.items()}


def depth_of(given):
    return sum(name.endswith("weight") for name in given) - 1


def in_minidl(given, compiled):
    from minidl import nn

    return training.in_minidl(model(depth_of(given))(nn), given, compiled, rate=RATE)


def in_pytorch(given, compiled):
    from torch import nn

    return training.in_pytorch(model(depth_of(given))(nn), given, compiled, rate=RATE)
