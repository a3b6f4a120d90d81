"""Small models and data for the tests of compression, the same values on every backend."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import minidl
from backends import Backend
from minidl import nn
from minidl.engine.random import Generator


def mlp(backend: Backend, seed: int = 0, sizes: tuple[int, ...] = (7, 9, 5)) -> nn.Sequential:
    g = Generator(seed)
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m, backend=backend, generator=g), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(backend: Backend, seed: int = 0) -> nn.Sequential:
    """Images (N, 2, 6, 6) -> (N, 3): a padded, a grouped and a linear layer, one without a bias."""
    options = {"backend": backend, "generator": Generator(seed)}
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, **options),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False, **options),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(24, 3, **options),
    )


def images(backend: Backend, count: int = 5, seed: int = 1) -> minidl.Tensor:
    return minidl.randn(count, 2, 6, 6, generator=Generator(seed), backend=backend)


def vectors(backend: Backend, count: int = 5, seed: int = 1) -> minidl.Tensor:
    return minidl.randn(count, 7, generator=Generator(seed), backend=backend)


def state(model: nn.Module) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of the model down to the bit, with the order of names."""
    arrays = {name: np.ascontiguousarray(x.numpy()) for name, x in model.state_dict().items()}
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}


def learn(
    model: nn.Module, optimizer: minidl.optim.Optimizer, x: minidl.Tensor, steps: int
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()
