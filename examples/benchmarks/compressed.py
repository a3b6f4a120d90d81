"""Half the channels, 8-bit integers, and both: what a network loses, weighs and takes.

    python examples/benchmarks/compressed.py --model lenet
    python examples/benchmarks/compressed.py --model resnet8 --tuning 16

The network is trained here; a copy loses half of its channels and learns from the whole one; then
both are computed in integers. What to expect: a tenth of a point lost or two, a quarter of the
bytes in integers, and three times the throughput or more; half the channels pay more the wider the
layers are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import resnet8

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the examples' own modules are

from images import lenet, load

import minidl
from minidl import compress, nn, optim
from minidl.cli.options import positive, seed, working_backend
from minidl.data import DataLoader
from minidl.training import Trainer

RATE = 2e-3


def lenet_wide(size: int) -> nn.Module:
    """LeNet with 20 and 50 kernels and 500 hidden units, as Han et al. (2015) compressed it."""
    border = 0 if size == 28 else 2  # 8x8 images need one
    left = ((size + 2 * border - 4) // 2 + 2 * border - 4) // 2
    return nn.Sequential(
        nn.Conv2d(1, 20, 5, padding=border), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, padding=border), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * left * left, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def resnet(size: int) -> nn.Module:
    """ResNet-8 on grey images of any size."""
    model = resnet8.model(nn)
    model[0] = nn.Conv2d(1, 16, 3, padding=1, bias=False)
    return model


MODELS = {"lenet": (lenet, "mnist"), "lenet_wide": (lenet_wide, "mnist"),
          "resnet8": (resnet, "fashion_mnist")}  # fmt: skip


def fit(
    model: nn.Module, loader: DataLoader, epochs: int, teacher: nn.Module | None = None
) -> nn.Module:
    optimizer = optim.Adam(model.parameters(), lr=RATE)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    if teacher is None:
        Trainer(model, optimizer, scheduler=schedule).fit(loader, epochs)
    else:
        options = {"temperature": 2.0, "alpha": 0.7, "scheduler": schedule}
        compress.Distiller(model, teacher, optimizer, **options).fit(loader, epochs)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(MODELS), default="lenet")
    parser.add_argument("--data", choices=("digits", "mnist", "fashion_mnist"))
    parser.add_argument("--epochs", type=positive, default=6, help="of the whole network")
    parser.add_argument("--tuning", type=positive, default=10, help="epochs of the half")
    parser.add_argument("--backend", type=working_backend, default="numba")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=seed, default=0)
    options = parser.parse_args()
    minidl.use_backend(options.backend)
    minidl.set_num_threads(options.threads)
    minidl.manual_seed(options.seed)
    make, name = MODELS[options.model]
    name = options.data or name
    train, test, transform = load(name, options.seed)
    loader = DataLoader(train, 64, shuffle=True, seed=options.seed, transform=transform)
    tests = DataLoader(test, 500, transform=transform)
    calibration = [x for _, (x, _) in zip(range(8), loader, strict=False)]

    whole = fit(make(train[0][0].shape[-1]), loader, options.epochs)
    half = compress.structured.prune_channels(whole, calibration[0], 0.5).train()
    fit(half, loader, options.tuning, whole)
    stages = {"float32": whole, "half": half}
    for stage in tuple(stages):
        program = compress.quantize_model(stages[stage], calibration)
        stages[f"{stage}, int8".removeprefix("float32, ")] = program
    print(f"{options.model} on {name}\n\n{compress.report(stages, tests)}")


if __name__ == "__main__":
    main()
