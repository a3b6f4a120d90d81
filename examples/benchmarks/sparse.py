"""Three pruned layers of 1024 x 1024 with ReLU, sparse and dense: where sparse begins to pay.

Of the weights a tenth or another part is left, as single numbers or in blocks of 16 x 1. The dense
contestant multiplies by the zeros, too. PyTorch has its own sparse format (CSR), which knows no
blocks of this shape. `compress.sparsify` makes this comparison for the layers of a model.
"""

from __future__ import annotations

import numpy as np
from harness.workload import Arrays, Row

TITLE = "pruned MLP 1024-1024-1024-1024, inference"
DENSITIES = (0.5, 0.2, 0.1, 0.05)
ROWS = [
    Row(f"{form}, {density:.0%}, batch {n}", n, batch=n, density=density, height=height)
    for n in (1, 32)
    for form, height in (("numbers", 1), ("blocks of 16 x 1", 16))
    for density in DENSITIES
]
STEPS = 1
TOLERANCE = 1e-5  # float32 sums over up to a thousand numbers, in any order, three times
SIZE, LAYERS = 1024, 3


def given(batch: int, density: float, height: int) -> Arrays:
    random = np.random.default_rng(0)
    arrays: Arrays = {
        "x": random.standard_normal((batch, SIZE), "float32"), "height": np.array(height)
    }  # fmt: skip
    for i in range(LAYERS):
        kept = random.random((SIZE // height, SIZE)) < density
        weight = random.standard_normal((SIZE, SIZE), "float32") / np.sqrt(SIZE * density)
        arrays[f"weight{i}"] = np.float32(weight * np.repeat(kept, height, 0))
        arrays[f"bias{i}"] = random.standard_normal(SIZE, "float32")
    return arrays


def dense(given):
    from minidl import nn, tensor

    layers = []
    for i in range(LAYERS):
        linear = nn.Linear(SIZE, SIZE)
        weights = {name: tensor(given[f"{name}{i}"]) for name in ("weight", "bias")}
        linear.load_state_dict(weights)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def inference(model, given, compiled):
    import minidl

    x = minidl.tensor(given["x"])
    forward = compiled(lambda x: model(x))

    def step():
        with minidl.no_grad():
            return forward(x)

    return step


def in_minidl_dense(given, compiled):
    return inference(dense(given), given, compiled)


def in_minidl(given, compiled):
    from minidl.compress import SparseLinear

    model = dense(given)
    for i in range(0, len(model), 2):
        model[i] = SparseLinear(model[i], block=int(given["height"]))
    return inference(model, given, compiled)


def in_pytorch(given, compiled):
    """CSR times the transposed batch; the products that PyTorch is fastest with."""
    import warnings

    import torch

    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    x = torch.tensor(given["x"])
    weights = [torch.tensor(given[f"weight{i}"]).to_sparse_csr() for i in range(LAYERS)]
    biases = [torch.tensor(given[f"bias{i}"])[:, None] for i in range(LAYERS)]

    def step():
        with torch.no_grad():
            y = x.T
            for weight, bias in zip(weights, biases, strict=True):
                y = torch.relu(torch.addmm(bias, weight, y))
            return y.T

    return step
