"""A trained network made smaller and faster, one technique after another, and what each one gave.

    python examples/compress_digits.py --plot frontier.png
    python examples/compress_digits.py --data mnist --backend numba --plot frontier.png

Half of the channels go for good, the rest learns again from the first network, then 60 % of its
weights become zero, and in the end everything is computed in 8-bit integers. What to expect: every
stage weighs less than the one before; a masked network is not faster, and the report says so;
channels that are gone and integers are, where layers are large enough to pay for the calls. On
MNIST the last stage loses a few tenths of a point.
"""

from __future__ import annotations

import argparse
import json

from images import load

import backends
import minidl
from minidl import compress, nn, ops, optim
from minidl.cli.options import new_file, picture, positive, seed, working_backend
from minidl.compress.recipe import Distil, FineTune, Prune, Quantize, Shrink
from minidl.data import DataLoader
from minidl.training import Trainer, write_bytes

EPOCHS = {"digits": 30, "mnist": 4, "fashion_mnist": 6}


def lenet(size: int) -> nn.Module:
    """LeNet with 20 and 50 kernels and 500 hidden units, as Han et al. (2015) compressed it."""
    side = (size // 2 - 4 * (size == 28)) // 2
    narrow = 0 if size == 28 else 2
    return nn.Sequential(
        nn.Conv2d(1, 20, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, padding=narrow), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * side * side, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def mlp(size: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size * size, 512), nn.ReLU(),
        nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip


def smooth(logits: minidl.Tensor, labels: minidl.Tensor) -> minidl.Tensor:
    """Cross entropy that asks for 95 % certainty and no more (Szegedy et al. 2015, section 7)."""
    return ops.cross_entropy(logits, labels, label_smoothing=0.05)


def trained(options: argparse.Namespace, train: DataLoader, size: int, epochs: int) -> nn.Module:
    model = lenet(size) if options.model == "lenet" else mlp(size)
    print(nn.summary(model, (1, 1, size, size)))
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    Trainer(model, optimizer, smooth, scheduler=schedule).fit(train, epochs)
    return model


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    working = backends.available()
    parser.add_argument(
        "--backend", type=working_backend, default="numba" if "numba" in working else "numpy",
        help=f"to compute on (works: {', '.join(working)})",
    )  # fmt: skip
    parser.add_argument("--model", choices=("lenet", "mlp"), default="lenet")
    parser.add_argument("--data", choices=tuple(EPOCHS), default="digits")
    parser.add_argument("--epochs", type=positive, help=f"of each training; default: {EPOCHS}")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--checkpoints", metavar="FOLDER", help="go on there after interruptions")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="save the report as JSON")
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save the picture (needs matplotlib)"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    epochs = options.epochs or EPOCHS[options.data]
    plan = compress.recipe([
        ("half the channels", Shrink(0.5)), ("distilled", Distil(epochs, 2e-3, temperature=2.0)),
        ("60 % masked", Prune(0.6)), ("tuned", FineTune(max(epochs // 2, 1))), ("int8", Quantize()),
    ])  # fmt: skip
    try:
        minidl.use_backend(options.backend)
        minidl.manual_seed(options.seed)
        train, test, transform = load(options.data, options.seed)
        loader = DataLoader(train, 64, shuffle=True, seed=options.seed, transform=transform)
        print(f"{options.data}: {len(train):,} images to train on, {len(test):,} to test on")
        model = trained(options, loader, train[0][0].shape[-1], epochs)
        tests = DataLoader(test, 500, transform=transform)
        cooked = plan.run(model, loader, tests, loss=smooth, checkpoint_dir=options.checkpoints)
    except minidl.errors.MinidlError as error:
        raise SystemExit(f"compress_digits.py: {error}") from None
    print(f"\n{cooked.report}")
    if options.json:
        write_bytes(options.json, json.dumps(cooked.report.to_dict(), indent=1).encode())
        print(f"\nfigures: {options.json}")
    if options.plot:
        cooked.report.plot(options.plot)
        print(f"picture: {options.plot}")


if __name__ == "__main__":
    main()
