"""Accuracy in 8-bit integers beside PyTorch's: one model, one set of weights, one calibration.

    python examples/benchmarks/quantized_accuracy.py --data mnist --epochs 3

Needs PyTorch (`pip install "minidl[peers]"`). LeNet-5 is trained here, its weights are copied to
PyTorch, and both quantize it after training on the same 512 images: `compress.quantize_model`, and
torch.ao's fx mode with the x86 settings. What to expect: both lose some hundredths of a point, and
differ by no more.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import lenet
import numpy as np

import minidl
from minidl import compress, data, nn, optim
from minidl.cli.options import positive, working_backend
from minidl.data import DataLoader
from minidl.data import transforms as t
from minidl.training import Trainer

PLAIN = t.Compose(t.ToFloat(), t.Normalize(0.13, 0.31))


def trained(train: data.Dataset, epochs: int) -> nn.Module:
    minidl.manual_seed(0)
    model = lenet.model(nn)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    loader = DataLoader(train, 64, shuffle=True, seed=0, transform=PLAIN)
    Trainer(model, optimizer, scheduler=schedule).fit(loader, epochs)
    return model.eval()


def in_torch(model: nn.Module, images: list[np.ndarray]) -> tuple[Any, Any]:
    """The same network in PyTorch, and its integer form calibrated with images."""
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    twin = lenet.model(torch.nn).eval()
    state = {name: torch.tensor(x.numpy()) for name, x in model.state_dict().items()}
    twin.load_state_dict(state)
    batches = [torch.tensor(x) for x in images]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated in favour of a package of its own
        prepared = prepare_fx(twin, get_default_qconfig_mapping("x86"), (batches[0],))
        for x in batches:
            prepared(x)
        return twin, convert_fx(prepared)


def right(call: Any, tests: DataLoader) -> float:
    """The share of labels that are the largest output, in percent."""
    found = [np.argmax(call(x.numpy()), 1) == y.numpy() for x, y in tests]
    return 100 * float(np.concatenate(found).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", type=working_backend, default="numba")
    parser.add_argument("--data", choices=("mnist", "fashion_mnist"), default="mnist")
    parser.add_argument("--epochs", type=positive, default=3)
    options = parser.parse_args()
    minidl.use_backend(options.backend)
    train, test = data.mnist() if options.data == "mnist" else data.fashion_mnist()
    model = trained(train, options.epochs)
    tests = DataLoader(test, 500, transform=PLAIN)
    calibration = DataLoader(train, 64, transform=PLAIN)
    images = [x.numpy() for _, (x, _) in zip(range(8), calibration, strict=False)]
    program = compress.quantize_model(model, [minidl.tensor(x) for x in images])

    import torch

    twin, quantized = in_torch(model, images)

    def ours(network: nn.Module) -> Any:
        return lambda x: network(minidl.tensor(x)).numpy()

    def theirs(network: Any) -> Any:
        return lambda x: network(torch.tensor(x)).numpy()

    with minidl.no_grad(), torch.no_grad():
        rows = [
            ("minidl", right(ours(model), tests), right(ours(program), tests)),
            ("torch.ao", right(theirs(twin), tests), right(theirs(quantized), tests)),
        ]
    print(f"{'':10}{'float32':>10}{'int8':>10}")
    for name, float32, int8 in rows:
        print(f"{name:10}{float32:>9.2f}%{int8:>9.2f}%")


if __name__ == "__main__":
    main()
