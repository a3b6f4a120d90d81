"""The main job: train a network on handwritten digits, prune it, quantize it, and compare backends.

    python examples/digits.py
    python examples/digits.py --data mnist --model lenet --backend numba --epochs 3 --plot mnist.png

What to expect: LeNet reaches about 98 % on the held-out fifth of the 8x8 digits, and 99 % on MNIST.
With 80 % of its weights pruned, or in 8-bit integers, it loses a few tenths of a point and its
file shrinks to about a quarter. The table shows accuracy, bytes on disk and latency on every
backend found.
"""

from __future__ import annotations

import argparse
import io
import json
import time

from images import lenet, load

import backends
import minidl
from minidl import compress, nn, ops, optim
from minidl.cli.options import new_file, picture, positive, seed, working_backend
from minidl.data import DataLoader
from minidl.training import Trainer, write_bytes

EPOCHS = {"digits": 30, "mnist": 3, "fashion_mnist": 5}
PRUNED = 0.8  # the fraction of weights set to zero
FINE_TUNING = {"digits": 30, "mnist": 1, "fashion_mnist": 1}  # epochs after pruning


def mlp(size: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size * size, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def smooth(logits: minidl.Tensor, labels: minidl.Tensor) -> minidl.Tensor:
    """Cross entropy that asks for 91 % certainty and no more (Szegedy et al. 2015, section 7)."""
    return ops.cross_entropy(logits, labels, label_smoothing=0.1)


def fit(model: nn.Module, loader: DataLoader, test: DataLoader, epochs: int, lr: float) -> None:
    """Train with Adam, the learning rate falling along a cosine to nearly nothing."""
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, epochs * len(loader))
    trainer = Trainer(model, optimizer, smooth, scheduler=schedule, scheduler_step="step")
    started = time.perf_counter()
    history = trainer.fit(loader, epochs)
    taken = time.perf_counter() - started
    found = trainer.evaluate(test)
    print(
        f"{epochs} epochs in {taken:.1f} s: loss {history[-1]['loss']:.4f}, "
        f"test accuracy {found['accuracy']:.2%}"
    )


def stages(options: argparse.Namespace) -> tuple[dict[str, nn.Module], DataLoader]:
    """The trained network and its three compressed forms."""
    train, test, transform = load(options.data, options.seed)
    size = train[0][0].shape[-1]
    loader = DataLoader(train, 64, shuffle=True, seed=options.seed, transform=transform)
    tests = DataLoader(test, 500, transform=transform)
    print(f"{options.data}: {len(train):,} images to train on, {len(test):,} to test on")
    model = lenet(size) if options.model == "lenet" else mlp(size)
    print(nn.summary(model, (1, 1, size, size)))
    print(f"\ntraining {options.model} on {options.backend}")
    fit(model, loader, tests, options.epochs or EPOCHS[options.data], lr=3e-3)

    pruned = compress.prune.magnitude(compress.clone(model), PRUNED)
    print(f"\n{compress.prune.sparsity(pruned):.0%} of the weights set to zero; training the rest")
    fit(pruned, loader, tests, min(FINE_TUNING[options.data], options.epochs or 99), lr=3e-3)

    sample = [
        x for _, (x, _) in zip(range(8), loader, strict=False)
    ]  # to find the ranges of values
    return {
        "float32": model,
        "pruned": pruned,
        "int8": compress.quantize_model(model, sample),
        "pruned+int8": compress.quantize_model(pruned, sample),
    }, tests


def compare(models: dict[str, nn.Module], tests: DataLoader) -> list[compress.Stage]:
    """Measure every stage on every backend that works here, one backend after another."""
    found: list[compress.Stage] = []
    for name in backends.available():
        here = {stage: compress.clone(model).to(name) for stage, model in models.items()}
        time.sleep(0.2)  # until the threads of the backend before have gone to sleep
        report = compress.report(here, tests)
        print(f"\n{report}")
        found += report
    return found


def draw(found: list[compress.Stage], options: argparse.Namespace) -> None:
    """Three panels: accuracy and file size of each stage, latency on each backend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(s.name for s in found))
    groups = {
        b: [s for s in found if s.backend == b] for b in dict.fromkeys(s.backend for s in found)
    }
    first = next(iter(groups.values()))
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    colours = ["#4c72b0", "#dd8452", "#55a868", "#c44e52"]
    accuracy = [100 * s.accuracy for s in first]
    for panel, title, values, form in (
        (panels[0], "test accuracy (%)", accuracy, "%.2f"),
        (panels[1], "file (kB)", [s.bytes / 1000 for s in first], "%.0f"),
    ):
        panel.bar_label(panel.bar(names, values, color=colours), fmt=form, padding=2, fontsize=8)
        panel.set_title(title)
        panel.margins(y=0.12)
    panels[0].set_ylim(min(accuracy) - 2, max(accuracy) + 1)
    width = 0.8 / len(groups)
    for k, (backend, rows) in enumerate(groups.items()):
        places = [i + (k - (len(groups) - 1) / 2) * width for i in range(len(rows))]
        bars = panels[2].bar(places, [s.p50_ms for s in rows], width, label=backend)
        panels[2].bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    panels[2].set_xticks(range(len(names)), names)
    panels[2].set_title("one image (ms, median)")
    panels[2].margins(y=0.25)  # room for the legend above the bars
    panels[2].legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
    for panel in panels:
        panel.tick_params(axis="x", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{options.model} on {options.data}, trained on {options.backend}", fontsize=10)
    image = io.BytesIO()
    figure.savefig(image, format=options.plot.suffix[1:], dpi=120)
    write_bytes(options.plot, image.getvalue())
    print(f"picture: {options.plot}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    working = backends.available()
    default = "numba" if "numba" in working else "numpy"
    parser.add_argument(
        "--backend",
        type=working_backend,
        default=default,
        help=f"to train on (works: {', '.join(working)})",
    )
    parser.add_argument("--model", choices=("lenet", "mlp"), default="lenet")
    parser.add_argument("--data", choices=tuple(EPOCHS), default="digits")
    parser.add_argument("--epochs", type=positive, help=f"default: {EPOCHS}")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="save the table as JSON")
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save the picture (needs matplotlib)"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    try:
        minidl.use_backend(options.backend)
        minidl.manual_seed(options.seed)
        models, tests = stages(options)
    except minidl.errors.MinidlError as error:
        raise SystemExit(f"digits.py: {error}") from None
    found = compare(models, tests)
    if options.json:
        about = {key: getattr(options, key) for key in ("backend", "data", "model", "seed")}
        rows = [stage.to_dict() for stage in found]
        write_bytes(options.json, json.dumps(about | {"stages": rows}, indent=1).encode())
        print(f"\nfigures: {options.json}")
    if options.plot:
        draw(found, options)


if __name__ == "__main__":
    main()
