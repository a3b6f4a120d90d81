"""Your own backend: inherit the reference, override what you want to compute differently.

This one counts the floating-point operations of every matrix product and is otherwise NumPy. A
backend over another array library with NumPy's names would set `xp` to that library instead.

    python examples/05_your_own_backend.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import backends
import minidl
from backends.numpy_backend import NumpyBackend
from minidl import nn, ops


class CountingBackend(NumpyBackend):
    """NumPy that keeps an account of its matrix products."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        self.operations += 2 * a.size * b.shape[-1]
        return super().matmul(a, b, out)

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        self.operations += 2 * x.size * weight.shape[0]
        return super().linear(x, weight, bias)


def train_one_step(backend: str) -> tuple[nn.Module, float]:
    """The gradients of a small network, with the same seed on any backend."""
    with minidl.use_backend(backend):
        minidl.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        x, labels = minidl.randn(128, 64), minidl.arange(128).astype("float32") * 0
        loss = ops.cross_entropy(model(x), labels.astype("int64"))
        loss.backward()
        return model, loss.item()


def main() -> None:
    # An installed package would use the entry point group "minidl.backends" instead of this line.
    backends.register("counting", CountingBackend)
    print("known backends:", ", ".join(backends.names()))

    counted, loss = train_one_step("counting")
    plain, expected = train_one_step("numpy")
    same = all(
        np.array_equal(p.grad.numpy(), q.grad.numpy())
        for p, q in zip(counted.parameters(), plain.parameters(), strict=True)
    )
    print(f"loss {loss:.6f}, on NumPy {expected:.6f}; all gradients equal: {same}")
    print(f"operations in matrix products: {backends.get('counting').operations:,}")
    print("by hand, 6 x 128 x (64 x 32 + 32 x 10) less the unneeded input gradient:", end=" ")
    print(f"{6 * 128 * (64 * 32 + 32 * 10) - 2 * 128 * 64 * 32:,}")


if __name__ == "__main__":
    main()
