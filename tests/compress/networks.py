"""Networks with everything that graphs must understand, fixed ones and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import minidl
from backends import Backend
from minidl import nn
from minidl.engine.random import Generator

relu = nn.functional.relu


class Unit(nn.Module):
    """conv, bn and relu."""

    def __init__(
        self, old: int, new: int, kernel: int = 3, stride: int = 1, groups: int = 1, **o: Any
    ):
        super().__init__()
        self.conv = nn.Conv2d(old, new, kernel, stride, kernel // 2, groups=groups, bias=False, **o)
        self.bn = nn.BatchNorm2d(new, backend=o["backend"])

    def forward(self, x):
        return relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """relu(x + conv(unit(x))), with a projection where the number of channels changes."""

    def __init__(self, old: int, new: int, stride: int = 1, **o: Any):
        super().__init__()
        self.unit = Unit(old, new, 3, stride, **o)
        self.conv = nn.Conv2d(new, new, 3, padding=1, **o)
        self.shortcut = nn.Identity()
        if old != new or stride > 1:
            self.shortcut = nn.Conv2d(old, new, 1, stride, bias=False, **o)

    def forward(self, x):
        return relu(self.conv(self.unit(x)) + self.shortcut(x))


class Inception(nn.Module):
    """Two branches side by side, and x itself."""

    def __init__(self, old: int, left: int, right: int, **o: Any):
        super().__init__()
        self.left, self.right = Unit(old, left, 1, **o), Unit(old, right, 3, **o)

    def forward(self, x):
        return minidl.ops.concatenate([self.left(x), x, self.right(x)], 1)


class Halves(nn.Module):
    """The channels in two halves, one of which is worked on: they change places."""

    def __init__(self, channels: int, **o: Any):
        super().__init__()
        self.half = channels // 2
        self.unit = Unit(channels - self.half, channels - self.half, **o)

    def forward(self, x):
        return minidl.ops.concatenate([self.unit(x[:, self.half :]), x[:, : self.half]], 1)


class Twice(nn.Module):
    """One module, used twice."""

    def __init__(self, channels: int, **o: Any):
        super().__init__()
        self.unit = Unit(channels, channels, **o)

    def forward(self, x):
        return self.unit(self.unit(x))


class Gated(nn.Module):
    """Squeeze and excitation: channels scaled by what all of them say."""

    def __init__(self, channels: int, **o: Any):
        super().__init__()
        self.down, self.up = nn.LinearReLU(channels, 3, **o), nn.Linear(3, channels, **o)

    def forward(self, x):
        scale = self.up(self.down(x.mean((2, 3)))).sigmoid()
        return x * scale.reshape(*scale.shape, 1, 1)


class Tokens(nn.Module):
    """An encoder over tokens, and the mean of what it says."""

    def __init__(self, first: bool, norm_first: bool, **o: Any):
        super().__init__()
        self.first = first
        self.embedding = nn.Embedding(11, 8, 0, **o)
        self.position = nn.PositionalEncoding(8, 20, batch_first=first, backend=o["backend"])
        layer = nn.TransformerEncoderLayer(
            8, 4, 12, batch_first=first, norm_first=norm_first, activation="gelu", **o
        )
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3, **o)

    def forward(self, x):
        return self.head(self.encoder(self.position(self.embedding(x))).mean(int(self.first)))


class Crossed(nn.Module):
    """Attention of one input to another; two results."""

    def __init__(self, **o: Any):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **o)

    def forward(self, x, y):
        out, weights = self.attention(x, y, y)
        return {"out": out, "weights": (weights, None)}


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **o: Any):
        super().__init__()
        self.rnn = kind(5, 4, 2, batch_first=True, bidirectional=True, **o)
        self.head = nn.Linear(8, 2, **o)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def images(
    backend: Backend, channels: int = 3, size: int = 6, count: int = 3, seed: int = 1
) -> Any:
    g = Generator(seed)
    return minidl.randn(count, channels, size, size, generator=g, backend=backend)


def options(backend: Backend, seed: int = 0) -> dict[str, Any]:
    return {"backend": backend, "generator": Generator(seed)}


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model as if trained: every statistic, scale and bias has a value of its own."""
    g = Generator(seed + 100)
    with minidl.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                shape, backend = module.running_mean.shape, module.running_mean.backend
                draw = [minidl.randn(*shape, generator=g, backend=backend) for _ in range(4)]
                module.running_mean.copy_(draw[0] * 0.5)
                module.running_var.copy_(draw[1].abs() + 0.5)
                module.weight.copy_(draw[2] * 0.5 + 1)
                module.bias.copy_(draw[3] * 0.5)
    return model


def body(kinds: str, draw: random.Random, **o: Any) -> Iterator[nn.Module]:
    """Blocks on images with 3 channels of 6 x 6 pixels; the last has the number of channels."""
    channels = 3
    for kind in kinds:
        new = draw.choice([4, 6])
        if kind == "r":
            yield Residual(channels, new, draw.choice([1, 2]), **o)
        elif kind == "c":
            yield Inception(channels, 2, 3, **o)
            new = channels + 5
        elif kind == "g":
            groups = next(n for n in (3, 2, 1) if channels % n == new % n == 0)
            yield Unit(channels, new, groups=groups, **o)
        elif kind == "d":
            yield Unit(channels, channels, groups=channels, **o)
            new = channels
        elif kind == "h":
            yield Halves(channels, **o)
            new = channels
        elif kind == "t":
            yield Twice(channels, **o)
            new = channels
        elif kind == "s":
            yield Gated(channels, **o)
            new = channels
        else:
            yield Unit(channels, new, draw.choice([1, 3]), **o)
        channels = new
    yield nn.Conv2d(channels, 5, 1, **o)


KINDS = "ucrgdhts"


def cnn(kinds: str, flat: bool, backend: Backend, seed: int = 0) -> nn.Module:
    """A network of blocks, one for each letter, with a flattened or an averaged end."""
    o, draw = options(backend, seed), random.Random(seed)
    layers = list(body(kinds, draw, **o))
    size = 2 if flat else 1
    pool = nn.AdaptiveAvgPool2d(size) if draw.random() < 0.5 else nn.AdaptiveMaxPool2d(size)
    features = 5 * size * size
    model = nn.Sequential(
        *layers, pool, nn.Flatten(), nn.Linear(features, 7, **o),
        nn.BatchNorm1d(7, backend=backend), nn.ReLU(), nn.LinearReLU(7, 6, **o),
        nn.LayerNorm(6, backend=backend), nn.Dropout(), nn.Linear(6, 4, **o),
    )  # fmt: skip
    return settled(model, seed)


def sequences(backend: Backend) -> Any:
    return minidl.randn(3, 6, 5, generator=Generator(1), backend=backend)


def tokens(backend: Backend) -> Any:
    return minidl.tensor([[1, 2, 3, 0, 10], [4, 5, 6, 7, 8]], backend=backend)


def _fixed() -> dict[str, Callable[[Backend], tuple[nn.Module, tuple[Any, ...], int]]]:
    """name -> (model, example, its batch axis)."""
    found: dict[str, Any] = {
        "identity": lambda b: (nn.Identity(), (sequences(b),), 0),
        "crossed": lambda b: (
            Crossed(**options(b)),
            (minidl.randn(3, 4, 8, backend=b), minidl.randn(3, 5, 8, backend=b)), 0,
        ),
        "groups": lambda b: (
            nn.Sequential(nn.GroupNorm(2, 4, backend=b), nn.ConvTranspose2d(4, 2, 2, **options(b))),
            (images(b, 4),), 0,
        ),
    }  # fmt: skip
    for first in (False, True):
        for norm in (False, True):
            found[f"tokens-{first}-{norm}"] = lambda b, first=first, norm=norm: (
                Tokens(first, norm, **options(b)), (tokens(b),), int(not first),
            )  # fmt: skip
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        found[kind.__name__] = lambda b, kind=kind: (
            Recurrent(kind, **options(b)), (sequences(b),), 0,
        )  # fmt: skip
    return found


FIXED = _fixed()
