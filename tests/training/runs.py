"""A small training with everything in it that could make a resumed run differ."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np

import minidl
from backends import Backend
from minidl import nn, ops, optim
from minidl.data import ArrayDataset
from minidl.data.transforms import Compose, GaussianNoise, RandomShift, ToFloat
from minidl.training import Callback, Trainer

SAMPLES, BATCH, EPOCHS = 44, 8, 3
STEPS = -(-SAMPLES // BATCH)


def dataset(seed: int = 0, samples: int = SAMPLES) -> ArrayDataset:
    """uint8 images of 4 x 4 pixels whose brighter half is their label."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, samples)
    images = random.integers(0, 128, (samples, 1, 4, 4))
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 2] += 100
    return ArrayDataset(images.astype(np.uint8), labels)


def trainer(
    backend: Backend, loss: Any = ops.cross_entropy, callbacks: tuple[Callback, ...] = (),
    optimizer: Any = optim.Adam, **settings: Any,
) -> Trainer:  # fmt: skip
    """Convolution, batch statistics, two dropouts (one with its own generator), augmentation."""
    minidl.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(12, 6), nn.Dropout(0.3, generator=minidl.Generator(8)), nn.Linear(6, 2),
    ).to(backend)  # fmt: skip
    made = optimizer(model.parameters(), lr=0.01)
    transform = Compose(RandomShift(1), ToFloat(), GaussianNoise(0.1))
    return Trainer(
        model, made, loss, callbacks=callbacks, batch_size=BATCH, seed=3, transform=transform,
        **settings,
    )  # fmt: skip


class InterruptedLoss:
    """Cross-entropy that presses Ctrl-C while the given steps (from 1, over all epochs) run."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.calls = steps, 0

    def __call__(self, output: minidl.Tensor, target: minidl.Tensor) -> minidl.Tensor:
        if output.requires_grad:  # not while evaluating
            self.calls += 1
            if self.calls in self.steps:
                signal.raise_signal(signal.SIGINT)
        return ops.cross_entropy(output, target)


def state(trained: Trainer) -> dict[str, np.ndarray]:
    """Copies of weights, buffers and the optimizer's state."""
    tensors = {
        **trained.model.state_dict(),
        **{f"optimizer.{k}": v for k, v in trained.optimizer.state_dict()["tensors"].items()},
    }
    return {name: np.array(x.numpy()) for name, x in tensors.items()}
