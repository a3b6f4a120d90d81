"""Your own operation: forward and backward in one class, checked and trained.

Mish is a smooth relu: x tanh(softplus(x)) (Misra 2019, arXiv:1908.08681). Below it is one node of
the graph that saves only its input, instead of the three nodes that the formula would make.

    python examples/04_your_own_op.py
"""

from __future__ import annotations

from typing import Any

import minidl
from minidl import Function, Tensor, nn, ops, optim


class Mish(Function):
    """y = x t with t = tanh(softplus(x)); dy/dx = t + x (1 - t^2) sigmoid(x)."""

    def forward(self, x: Any) -> Any:
        self.x = x  # an input, so gradients of gradients work too
        return x * self.backend.tanh(self.backend.softplus(x))

    def backward(self, grad: Any) -> Any:
        lib, x = self.backend, self.x  # a backend, or minidl.ops under create_graph
        t = lib.tanh(lib.softplus(x))
        return grad * (t + x * (1 - t * t) * lib.sigmoid(x))


def mish(x: Tensor) -> Tensor:
    """Mish of each element."""
    return minidl.apply(Mish(), x)


def main() -> None:
    x = minidl.tensor([-2.0, -0.5, 0.0, 1.0, 3.0], "float64", requires_grad=True)
    minidl.gradcheck(mish, x, order=2)
    print("gradcheck: first and second derivatives agree with finite differences")

    composed = x * ops.tanh(ops.softplus(x))
    print(f"one node or three, the same numbers: {(mish(x) == composed).all()}")

    class Activation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mish(x)

    minidl.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 16), Activation(), nn.Linear(16, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    inputs = minidl.arange(-3, 3, 0.1, "float32").reshape(-1, 1)
    for step in range(301):
        loss = ops.mse_loss(model(inputs), ops.sin(inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:3d}   mean squared distance from sin(x): {loss.item():.5f}")


if __name__ == "__main__":
    main()
