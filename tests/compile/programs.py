"""Random small programs on integers, on which float32 is exact: eager and compiled must agree to
the last bit on every backend, whatever the order of their sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import minidl
from minidl import Tensor, ops
from minidl.verify.tolerances import assert_same

SIDE = 4  # all values are SIDE x SIDE, so that any operation follows any other
LARGEST = 2  # of the elements, cut off after each operation


def pooled(a: Tensor, b: Tensor) -> Tensor:
    small = ops.max_pool2d(a.reshape(1, 1, SIDE, SIDE), 2).reshape(2, 2)
    return ops.concatenate([ops.concatenate([small, b[:2, :2]], 1), b[2:]], 0)


def convolved(a: Tensor, b: Tensor) -> Tensor:
    image, weight = a.reshape(1, 1, SIDE, SIDE), b[:3, :3].reshape(1, 1, 3, 3)
    return ops.conv2d(image, weight, padding=1).reshape(SIDE, SIDE)


def read_twice(a: Tensor, b: Tensor) -> Tensor:
    y = ops.linear(a, b)
    return y.relu() - y


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "scale": lambda a, b: a * 2.0 - 1.0,
    "relu": lambda a, b: a.relu(),
    "maximum": ops.maximum,
    "where": lambda a, b: ops.where(a > b, a, -b),
    "abs": lambda a, b: a.abs(),
    "matmul": lambda a, b: a @ b,
    "linear": lambda a, b: ops.linear(a, b, b[0]),
    "linear relu": lambda a, b: ops.linear(a, b, b[1]).relu(),
    "relu matmul": lambda a, b: a.relu() @ b,
    "read twice": read_twice,
    "transpose": lambda a, b: a.transpose(1, 0) + b,
    "reshape": lambda a, b: a.reshape(2, 2 * SIDE).transpose(1, 0).reshape(SIDE, SIDE),
    "concatenate": lambda a, b: ops.concatenate([a[1:], b[:1]], 0),
    "columns": lambda a, b: ops.concatenate([a[:, ::2], b[:, 1::2]], 1),
    "row": lambda a, b: a + b[0],
    "sums": lambda a, b: a.sum(0, True) + b.sum(1, True),
    "dropout": lambda a, b: ops.dropout(a, 0.5),
    "pool": pooled,
    "convolution": convolved,
}
Names = Sequence[tuple[str, int, int]]  # operations, and how far back each finds its operands


def program(names: Names) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A step that returns its last value and its loss, and leaves gradients in its arguments."""

    def step(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        values = [x, w]
        for name, first, second in names:
            a, b = values[-1 - first % len(values)], values[-1 - second % len(values)]
            y = OPERATIONS[name](a, b)
            values.append(ops.minimum(ops.maximum(y, -LARGEST), LARGEST))
        loss = (values[-1] * x).sum() + (values[-1] * w).sum()
        loss.backward()
        return values[-1], loss

    return step


def run(step: Callable[..., tuple[Tensor, Tensor]], calls: int) -> list[np.ndarray]:
    """All that so many calls make, each with other numbers."""
    random = np.random.default_rng(0)
    minidl.manual_seed(0)
    made = []
    for _ in range(calls):
        numbers = random.integers(-1, 2, (2, SIDE, SIDE)).astype("float32")
        x, w = (minidl.tensor(part, requires_grad=True) for part in numbers)
        made += [*step(x, w), x.grad, w.grad]
    return [value.numpy() for value in made]


def assert_compiled_is_eager(names: Names) -> None:
    """Three calls, of which the first is recorded and two are replayed."""
    step = program(names)
    compiled = minidl.compile(step, fullgraph=True)
    for eager, replayed in zip(run(step, 3), run(compiled, 3), strict=True):
        assert_same(replayed, eager)
    assert sum(map(len, compiled.recordings.values())) == 1, "it replays"
