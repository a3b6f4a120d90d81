"""Augmentation: a CNN that sees each of few digits shifted and turned a little, anew every epoch.

    python examples/03_augmentation.py --plot augmentation.png

The same network, seed and 300 images, once as they are and once augmented. It tests on 1,437
others.
"""

from __future__ import annotations

import argparse

import numpy as np

import minidl
from minidl import nn, ops, optim
from minidl.data import DataLoader, digits, split
from minidl.data import transforms as t

IMAGES = 300
PLAIN = t.ToFloat(16)
AUGMENTED = t.Compose(t.ToFloat(16), t.RandomShift(1), t.RandomRotation(15), t.GaussianNoise(0.05))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    with minidl.no_grad():
        right = sum(int((model(x).argmax(1) == y).numpy().sum()) for x, y in loader)
    model.train()
    return right / len(loader.dataset)


def train(name: str, loader: DataLoader, test: DataLoader, epochs: int, seed: int) -> list[float]:
    """Accuracy on the test images after each epoch."""
    minidl.manual_seed(seed)
    model = cnn()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    curve = []
    for _ in range(epochs):
        for x, y in loader:
            loss = ops.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        curve.append(accuracy(model, test))
        if len(curve) % 10 == 0:
            print(f"{name:10} epoch {len(curve):3d}   test accuracy {curve[-1]:.1%}")
    return curve


def draw(curves: dict[str, list[float]], images: np.ndarray, file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    shown = [AUGMENTED(images, minidl.Generator(seed)) for seed in range(5)]
    rows = [PLAIN(images, minidl.Generator(0)), *shown]
    left.imshow(np.vstack([np.hstack(r[:, 0]) for r in rows]), cmap="gray_r")
    left.set(title="first row as scanned, below as augmented", xticks=[], yticks=[])
    for name, curve in curves.items():
        right.plot(range(1, len(curve) + 1), [100 * a for a in curve], label=name)
    right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(80, 100))
    right.set_title(f"trained on {IMAGES} images")
    right.legend(loc="lower right")
    figure.savefig(file, dpi=120)
    print(f"picture: {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="FILE", help="save the picture (needs matplotlib)")
    options = parser.parse_args()
    minidl.use_backend(options.backend)

    everything = digits()
    rest, few = split(everything, IMAGES / len(everything), options.seed, stratify=True)
    test = DataLoader(rest, 512, transform=PLAIN)
    curves = {}
    for name, transform in (("plain", PLAIN), ("augmented", AUGMENTED)):
        loader = DataLoader(few, 32, shuffle=True, seed=options.seed, transform=transform)
        curves[name] = train(name, loader, test, options.epochs, options.seed)
    gain = curves["augmented"][-1] - curves["plain"][-1]
    print(f"augmentation changed the accuracy by {100 * gain:+.1f} points")
    if options.plot:
        draw(curves, np.stack([few[i][0] for i in range(0, 60, 6)]), options.plot)


if __name__ == "__main__":
    main()
