"""Three interleaved spirals, told apart by a small network; draws the regions that it learned.

    python examples/02_spiral.py --plot spiral.png

A linear classifier gets about half of the points right. Two hidden layers get all of them.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

import minidl
from minidl import nn, optim
from minidl.cli.options import picture, positive, seed, working_backend
from minidl.training import write_bytes

ARMS, POINTS = 3, 200


def spirals(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (ARMS * POINTS, 2) on noisy spiral arms, and the arm of each."""
    noise = minidl.Generator(seed).normal((ARMS, POINTS))
    radius = np.linspace(0.05, 1, POINTS)
    arm = np.arange(ARMS)[:, None]
    angle = 2 * np.pi * arm / ARMS + 4.5 * radius + 0.2 * noise
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return points.reshape(-1, 2).astype("float32"), np.repeat(np.arange(ARMS), POINTS)


def train(x: minidl.Tensor, y: minidl.Tensor, steps: int) -> nn.Module:
    model = nn.Sequential(
        nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, ARMS)
    )
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps + 1):
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        if step % (steps // 5) == 0:
            right = (logits.argmax(1) == y).numpy().mean()
            print(f"step {step:4d}   loss {loss.item():.4f}   accuracy {right:.1%}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def draw(model: nn.Module, points: np.ndarray, labels: np.ndarray, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axis = np.linspace(-1.15, 1.15, 300, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    with minidl.no_grad():
        regions = model(minidl.tensor(grid.reshape(-1, 2))).argmax(1).numpy().reshape(300, 300)
    figure, axes = plt.subplots(figsize=(5, 5), constrained_layout=True)
    colours = ["#4c72b0", "#dd8452", "#55a868"]
    axes.contourf(axis, axis, regions, levels=np.arange(ARMS + 1) - 0.5, colors=colours, alpha=0.4)
    for arm, colour in enumerate(colours):
        mine = points[labels == arm]
        axes.scatter(*mine.T, color=colour, edgecolors="black", linewidths=0.4, s=16)
    axes.set(title="What the network calls which spiral", xlabel="x", ylabel="y", aspect="equal")
    image = io.BytesIO()
    figure.savefig(image, format=file.suffix[1:], dpi=120)
    write_bytes(file, image.getvalue())
    print(f"picture: {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", type=working_backend, default="numpy")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--steps", type=positive, default=500)
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save the picture (needs matplotlib)"
    )
    options = parser.parse_args()
    minidl.use_backend(options.backend)
    minidl.manual_seed(options.seed)
    points, labels = spirals(options.seed)
    model = train(minidl.tensor(points), minidl.tensor(labels), options.steps)
    if options.plot:
        draw(model, points, labels, options.plot)


if __name__ == "__main__":
    main()
