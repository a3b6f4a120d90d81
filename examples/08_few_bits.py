"""LeNet-5 with 8, 4, 3 and 2 bits a weight: rounded after training, and trained with the rounding.

    python examples/08_few_bits.py
    python examples/08_few_bits.py --data mnist --backend numba

A network is trained, and for each number of bits made into an integer program in four ways: each
weight rounded to the nearest code; rounded up or down, whichever harms the outputs less (Nagel et
al. 2020), which needs some images and no labels; rounded after some more training in float; and
after as much training that feels the rounding (quantization-aware training, QAT: Jacob et al.
2018). The third is there to be fair, since QAT must not win by training longer. What to expect: at
8 bits all are alike, and the simplest will do. With 2 bits, weights of -1, 0 and 1 times a scale,
what was rounded to the nearest is useless, choosing the side gives most of it back, and QAT more.
It takes a minute, and finds on MNIST

    weights   nearest   up or down   trained on, nearest      QAT
    float32    99.07%                             99.08%
    8 bits     99.08%       99.07%                99.09%   99.08%
    4 bits     98.99%       99.07%                99.01%   99.00%
    3 bits     98.88%       99.12%                98.85%   99.03%
    2 bits     30.31%       97.54%                23.80%   98.43%

where the 95 % intervals reach 0.2 points to both sides: LeNet on MNIST needs nobody's care above 2
bits.
"""

from __future__ import annotations

import argparse
from itertools import islice

from images import lenet, load

import backends
import minidl
from minidl import compress, nn, optim
from minidl.cli.options import positive, seed, working_backend
from minidl.compress.measure import right_of, wilson
from minidl.data import DataLoader
from minidl.training import Trainer

EPOCHS = {"digits": 30, "mnist": 3, "fashion_mnist": 5}
MORE = {"digits": 10, "mnist": 1, "fashion_mnist": 2}  # epochs, in float or with the rounding
BITS = 8, 4, 3, 2


def fit(model: nn.Module, loader: DataLoader, epochs: int, lr: float) -> nn.Module:
    """Train with Adam, the learning rate falling along a cosine to nearly nothing."""
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, epochs * len(loader))
    trainer = Trainer(model, optimizer, scheduler=schedule, scheduler_step="step")
    trainer.fit(loader, epochs, progress=False)
    return model


def score(model: nn.Module, tests: DataLoader) -> str:
    right, total = right_of(model, tests)
    low, high = wilson(right, total)
    return f"{right / total:.2%} ({100 * low:.1f}-{100 * high:.1f})"


def compare(options: argparse.Namespace) -> None:
    train, test, transform = load(options.data, options.seed)
    loader = DataLoader(train, 64, shuffle=True, seed=options.seed, transform=transform)
    tests = DataLoader(test, 500, transform=transform)
    print(f"{options.data}: {len(train):,} images to train on, {len(test):,} to test on")
    model = fit(lenet(train[0][0].shape[-1]), loader, options.epochs or EPOCHS[options.data], 2e-3)
    sample = [x for x, _ in islice(loader, 8)]  # to find the ranges of values
    more = min(MORE[options.data], options.epochs or 99)
    longer = fit(compress.clone(model), loader, more, 5e-4)

    print(
        f"\nright of the test images, and the 95 % interval; {more} more epochs in the last columns"
    )
    columns = "{:8}" + 4 * "{:>23}"
    print(columns.format("weights", "nearest", "up or down", "trained on, nearest", "QAT"))
    print(columns.format("float32", score(model, tests), "", score(longer, tests), ""))
    for bits in BITS:
        models = model, compress.ada_round(model, sample, bits), longer
        rounded = [compress.quantize_model(m, sample, weight_bits=bits) for m in models]
        aware = fit(compress.prepare_qat(model, sample, weight_bits=bits), loader, more, 5e-4)
        found = [score(m, tests) for m in (*rounded, compress.convert(aware))]
        print(columns.format(f"{bits} bits", *found), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    working = backends.available()
    parser.add_argument(
        "--backend", type=working_backend, default="numba" if "numba" in working else "numpy",
        help=f"to compute on (works: {', '.join(working)})",
    )  # fmt: skip
    parser.add_argument("--data", choices=tuple(EPOCHS), default="digits")
    parser.add_argument("--epochs", type=positive, help=f"of the first training; default: {EPOCHS}")
    parser.add_argument("--seed", type=seed, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    try:
        minidl.use_backend(options.backend)
        minidl.manual_seed(options.seed)
        compare(options)
    except minidl.errors.MinidlError as error:
        raise SystemExit(f"08_few_bits.py: {error}") from None


if __name__ == "__main__":
    main()
