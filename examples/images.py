"""What the examples that look at images share: the data, and LeNet-5."""

from __future__ import annotations

from typing import Any

from minidl import data, nn
from minidl.data import transforms as t


def load(name: str, seed: int) -> tuple[Any, Any, t.Transform]:
    """Training part, test part, and how bytes become numbers around 0."""
    if name == "digits":
        train, test = data.split(data.digits(), 0.2, seed, stratify=True)
        return train, test, t.Compose(t.ToFloat(16), t.Normalize(0.31, 0.38))
    train, test = data.mnist() if name == "mnist" else data.fashion_mnist()
    return train, test, t.Compose(t.ToFloat(), t.Normalize(0.13, 0.31))


def lenet(size: int) -> nn.Module:
    """LeNet-5 with relu and max pooling. Source: LeCun et al. (1998), Proc. IEEE 86(11), 2."""
    narrow = 0 if size == 28 else 2  # 8x8 images need their border
    left = (size // 2 + 2 * narrow - 4) // 2
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=narrow), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * left * left, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
