"""Distillation: a student with a tenth of its teacher's parameters, alone and with the teacher.

    python examples/07_distillation.py --plot distillation.png
    python examples/07_distillation.py --data fashion_mnist --backend numba --plot distillation.png

The teacher sees all training images, the student a tenth of them: soft targets carry so much more
than labels that a student needs fewer (Hinton et al. 2015, section 6). Each seed trains the same
student twice, from the same weights on the same batches in the same order: once on the labels, once
on the teacher's distribution as well. So the gain is a difference within a pair, and its 95 %
interval is that of Student's t over the seeds. What to expect: a gain of about a point on
Fashion-MNIST, its interval above 0. On the few digits of 8x8 pixels the interval is wide.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from statistics import mean, stdev

import minidl
from minidl import compress, data, nn, optim
from minidl.cli.options import picture, positive, seed, working_backend
from minidl.data import DataLoader
from minidl.data import transforms as t
from minidl.training import Trainer, write_bytes

EPOCHS = {"digits": 30, "mnist": 4, "fashion_mnist": 8}  # of the teacher
STUDENT_EPOCHS = {"digits": 120, "mnist": 30, "fashion_mnist": 50}
SHARE = {"digits": 0.5, "mnist": 0.1, "fashion_mnist": 0.1}  # of the images, for the student
SEEDS = 5
TEMPERATURE, ALPHA = 2.0, 0.9


def load(name: str) -> tuple[data.Dataset, data.Dataset, t.Transform]:
    if name == "digits":
        return *data.split(data.digits(), 0.2, 0, stratify=True), t.ToFloat(16)
    return *(data.mnist() if name == "mnist" else data.fashion_mnist()), t.ToFloat()


def cnn(size: int, channels: int, width: int) -> nn.Module:
    """Two convolutions of `channels` and twice as many kernels, then a hidden layer."""
    side = size // 4
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * channels * side * side, width), nn.ReLU(),
        nn.Linear(width, 10),
    )  # fmt: skip


def student(size: int) -> nn.Module:
    """A tenth of the teacher's parameters, or a little less."""
    return cnn(size, 6, 50) if size == 28 else cnn(size, 8, 24)


def interval(gains: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean: m ± t s / sqrt(n). Source: Student (1908), Biometrika 6(1)."""
    from scipy.stats import t as student

    if len(gains) < 2:
        return -math.inf, math.inf
    reach = student.ppf(0.975, len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))
    return mean(gains) - reach, mean(gains) + reach


def fit(trainer: Trainer, loader: DataLoader, test: DataLoader, epochs: int) -> float:
    """Train with a rate that falls along a cosine; returns the test accuracy in percent."""
    trainer.scheduler = optim.CosineAnnealingLR(trainer.optimizer, epochs)
    trainer.fit(loader, epochs, progress=False)
    return 100 * trainer.evaluate(test)["accuracy"]


def compare(options: argparse.Namespace) -> tuple[float, list[tuple[float, float]]]:
    """The teacher's accuracy, and (alone, distilled) of the student for each seed."""
    train, test, transform = load(options.data)
    size, epochs = train[0][0].shape[-1], options.epochs or STUDENT_EPOCHS[options.data]
    _, few = data.split(train, SHARE[options.data], 0, stratify=True)
    tests = DataLoader(test, 500, transform=transform)

    def batches(images: data.Dataset, seed: int) -> DataLoader:
        return DataLoader(images, 64, shuffle=True, seed=seed, transform=transform)

    minidl.manual_seed(options.seed)
    teacher = cnn(size, 24, 128)
    adam = optim.Adam(teacher.parameters(), lr=2e-3)
    taught = fit(Trainer(teacher, adam), batches(train, options.seed), tests, EPOCHS[options.data])
    pupil = student(size)
    counts = [nn.summary(m, (1, 1, size, size)).parameters for m in (teacher, pupil)]
    print(f"teacher: {counts[0]:,} parameters, {taught:.2f} %; student: {counts[1]:,} parameters")

    pairs = []
    for k in range(options.seeds):
        minidl.manual_seed(options.seed + k)
        alone = student(size)
        distilled = compress.clone(alone)
        adam = optim.Adam(alone.parameters(), lr=3e-3)
        without = fit(Trainer(alone, adam), batches(few, k), tests, epochs)
        adam = optim.Adam(distilled.parameters(), lr=3e-3)
        distiller = compress.Distiller(
            distilled, teacher, adam, temperature=TEMPERATURE, alpha=ALPHA
        )
        pairs.append((without, fit(distiller, batches(few, k), tests, epochs)))
        print(f"seed {k}: alone {without:.2f} %, distilled {pairs[-1][1]:.2f} %", flush=True)
    return taught, pairs


def draw(teacher: float, pairs: list[tuple[float, float]], title: str, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8, 3.4), width_ratios=(3, 2), constrained_layout=True
    )
    for pair in pairs:
        left.plot((0, 1), pair, "o-", color="#4c72b0", alpha=0.7)
    left.axhline(teacher, color="#c44e52", linestyle="--", linewidth=1)
    left.annotate("teacher", (0.5, teacher), xytext=(0, 4), textcoords="offset points",
                  ha="center", color="#c44e52", fontsize=9)  # fmt: skip
    left.set_xticks((0, 1), ("student alone", "with its teacher"))
    left.set(xlim=(-0.3, 1.3), ylabel="test accuracy (%)")
    left.set_title(title, fontsize=10)
    left.margins(y=0.15)
    gains = [b - a for a, b in pairs]
    low, high = interval(gains)
    right.axvline(0, color="gray", linewidth=1)
    right.plot(gains, [1] * len(gains), "o", color="#4c72b0", alpha=0.7, label="each seed")
    if math.isfinite(low):
        right.errorbar(mean(gains), 0.6, xerr=(high - low) / 2, fmt="s", capsize=4,
                       color="#55a868", label="mean and 95 % interval")  # fmt: skip
    right.set(ylim=(0.2, 1.7), yticks=[], xlabel="gain by distillation (points)")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format=file.suffix[1:], dpi=120)
    write_bytes(file, image.getvalue())
    print(f"picture: {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", type=working_backend, default="numpy")
    parser.add_argument("--data", choices=tuple(EPOCHS), default="digits")
    parser.add_argument(
        "--epochs", type=positive, help=f"of the student; default: {STUDENT_EPOCHS}"
    )
    parser.add_argument("--seeds", type=positive, default=SEEDS, help="pairs of students")
    parser.add_argument("--seed", type=seed, default=0, help="of the teacher, and the first pair's")
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save the picture (needs matplotlib)"
    )
    options = parser.parse_args()
    try:
        minidl.use_backend(options.backend)
        teacher, pairs = compare(options)
    except minidl.errors.MinidlError as error:
        raise SystemExit(f"07_distillation.py: {error}") from None
    gains = [b - a for a, b in pairs]
    low, high = interval(gains)
    print(
        f"gain by distillation: {mean(gains):+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    )
    if options.plot:
        draw(teacher, pairs, f"{options.data}, {len(pairs)} seeds", options.plot)


if __name__ == "__main__":
    main()
