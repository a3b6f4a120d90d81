"""Automatic differentiation in forty lines, checked against the engine.

A `Scalar` is a number that remembers what it was computed from. `backward` walks that record from
the result to the inputs and applies the chain rule: this is all that `minidl.engine` does, for
arrays.

    python examples/01_scalar_autograd.py
"""

from __future__ import annotations

import math

import minidl


class Scalar:
    """A number, the scalars it came from, and its derivative with respect to each of them."""

    def __init__(self, value: float, parents: tuple[tuple[Scalar, float], ...] = ()) -> None:
        self.value, self.parents, self.grad = value, parents, 0.0

    def __add__(self, other: Scalar) -> Scalar:
        return Scalar(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: Scalar) -> Scalar:
        return Scalar(self.value * other.value, ((self, other.value), (other, self.value)))

    def tanh(self) -> Scalar:
        y = math.tanh(self.value)
        return Scalar(y, ((self, 1 - y * y),))

    def backward(self) -> None:
        self.grad = 1.0
        for node in reversed(self._inputs_first()):
            for parent, slope in node.parents:
                parent.grad += slope * node.grad  # the chain rule; += because paths add up

    def _inputs_first(self) -> list[Scalar]:
        order: list[Scalar] = []
        todo, seen = [(self, False)], set()
        while todo:
            node, done = todo.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                todo += [(node, True), *((parent, False) for parent, _ in node.parents)]
        return order


def main() -> None:
    w, x, b = Scalar(0.5), Scalar(-2.0), Scalar(3.0)
    y = (w * x + b).tanh() * w
    y.backward()

    tw, tx, tb = (minidl.tensor(s.value, "float64", requires_grad=True) for s in (w, x, b))
    ty = (tw * tx + tb).tanh() * tw
    ty.backward()

    print("y = tanh(w x + b) w at w = 0.5, x = -2, b = 3\n")
    print(f"{'':8}{'by hand':>20}{'engine':>20}")
    print(f"{'y':8}{y.value:20.15f}{ty.item():20.15f}")
    for name, scalar, tensor in (("dy/dw", w, tw), ("dy/dx", x, tx), ("dy/db", b, tb)):
        print(f"{name:8}{scalar.grad:20.15f}{tensor.grad.item():20.15f}")

    # What forty lines do not have: the derivative of the derivative.
    (slope,) = minidl.grad((tw * tx + tb).tanh() * tw, tw, create_graph=True)
    (curvature,) = minidl.grad(slope, tw)
    print(f"\nand, from the engine alone, d2y/dw2 = {curvature.item():.15f}")


if __name__ == "__main__":
    main()
