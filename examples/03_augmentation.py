"""Augmentation: a CNN that sees each of few digits moved by up to a pixel, anew every epoch.

    python examples/03_augmentation.py --plot augmentation.png

The same network, seed and 300 images, once as they are and once augmented. Each is tested on 1,497
other images as they were scanned, and on the same ones moved. What to expect: without augmentation
the network has learned where digits are as well as what they look like, and fails on the moved
ones; with it the network is steadier, and pays for that with a few points on the centred images.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

import minidl
from minidl import nn, ops, optim
from minidl.cli.options import picture, positive, seed, working_backend
from minidl.data import ArrayDataset, DataLoader, digits, split
from minidl.data import transforms as t
from minidl.training import write_bytes

IMAGES = 300
PLAIN = t.ToFloat(16)
MOVED = t.Compose(t.ToFloat(16), t.RandomShift(1))


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


def train(
    name: str, loader: DataLoader, tests: dict[str, DataLoader], epochs: int
) -> dict[str, list[float]]:
    """Accuracy on each set of test images after each epoch."""
    model = cnn()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    curves: dict[str, list[float]] = {kind: [] for kind in tests}
    for epoch in range(1, epochs + 1):
        for x, y in loader:
            loss = ops.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        for kind, test in tests.items():
            curves[kind].append(accuracy(model, test))
        if epoch % 10 == 0 or epoch == epochs:
            now = "   ".join(f"{kind} {curve[-1]:.1%}" for kind, curve in curves.items())
            print(f"{name:10} epoch {epoch:3d}   {now}")
    return curves


def draw(curves: dict[str, dict[str, list[float]]], images: np.ndarray, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    rows = [PLAIN(images, minidl.Generator(0))]
    rows += [MOVED(images, minidl.Generator(seed)) for seed in range(5)]
    left.imshow(np.vstack([np.hstack(r[:, 0]) for r in rows]), cmap="gray_r")
    left.set(title="first row as scanned, below as augmented", xticks=[], yticks=[])
    for (name, tests), colour in zip(curves.items(), ("#4c72b0", "#dd8452"), strict=True):
        for (kind, curve), line in zip(tests.items(), ("-", "--"), strict=True):
            percent = [100 * a for a in curve]
            epochs = range(1, len(percent) + 1)
            right.plot(epochs, percent, line, color=colour, label=f"{name}, tested {kind}")
    right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(20, 100))
    right.set_title(f"trained on {IMAGES} images")
    right.legend(loc="lower right", fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format=file.suffix[1:], dpi=120)
    write_bytes(file, image.getvalue())
    print(f"picture: {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", type=working_backend, default="numpy")
    parser.add_argument("--epochs", type=positive, default=40)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save the picture (needs matplotlib)"
    )
    options = parser.parse_args()
    minidl.use_backend(options.backend)

    everything = digits()
    rest, few = split(everything, IMAGES / len(everything), options.seed, stratify=True)
    images, labels = (np.stack(part) for part in zip(*rest, strict=True))
    moved = ArrayDataset(MOVED(images, minidl.Generator(options.seed)), labels)
    tests = {"as scanned": DataLoader(rest, 512, transform=PLAIN), "moved": DataLoader(moved, 512)}
    curves = {}
    for name, transform in (("plain", PLAIN), ("augmented", MOVED)):
        minidl.manual_seed(options.seed)
        loader = DataLoader(few, 32, shuffle=True, seed=options.seed, transform=transform)
        curves[name] = train(name, loader, tests, options.epochs)
    for kind in tests:
        gain = curves["augmented"][kind][-1] - curves["plain"][kind][-1]
        print(f"augmentation changed the accuracy on images {kind} by {100 * gain:+.1f} points")
    if options.plot:
        draw(curves, np.stack([few[i][0] for i in range(0, 60, 6)]), options.plot)


if __name__ == "__main__":
    main()
