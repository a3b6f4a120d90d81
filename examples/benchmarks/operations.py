"""Single operations on every backend of minidl: what a change of a kernel is judged by.

Inputs come from minidl's own generator, which draws the same numbers on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness.workload import Arrays, Row

import minidl
from minidl import nn, ops, optim

TITLE = "one operation"
CONTESTANTS = ("minidl numpy", "minidl numba", "minidl cupy")
STEPS = 1
TOLERANCE = 1e-4  # float32 sums over up to a million numbers, in any order
ROWS: list[Row] = []
Work = Callable[[], Any]  # does the work once; returns an array to compare
MAKERS: dict[str, Callable[[], Work]] = {}


def given(name: str) -> Arrays:
    return {"name": np.array(name)}


def in_minidl(given: Arrays, compiled: Any) -> Work:
    return MAKERS[str(given["name"])]()


def row(name: str) -> Callable[[Callable[[], Work]], Callable[[], Work]]:
    def add(make: Callable[[], Work]) -> Callable[[], Work]:
        MAKERS[name] = make
        ROWS.append(Row(name, 1, name=name))
        return make

    return add


def draw(*shape: int) -> minidl.Tensor:
    return minidl.randn(*shape, generator=minidl.Generator(sum(shape)))


def both_ways(function: Callable[..., minidl.Tensor], *inputs: minidl.Tensor) -> Work:
    """Forward and backward of an operation."""
    leaves = [x.requires_grad_() if x.dtype.kind == "f" else x for x in inputs]
    # Not a constant and not like the input: gradients of softmax or layer norm would cancel to 0.
    seed = minidl.randn(*function(*leaves).shape, generator=minidl.Generator(1))

    def work() -> Any:
        wanted = [x for x in leaves if x.requires_grad]
        return minidl.grad(function(*leaves), wanted, seed)[0].data

    return work


@row("add 1000x1000")
def _add() -> Work:
    a, b = draw(1000, 1000).data, draw(1000, 1000).data
    return lambda: minidl.get_backend().add(a, b)


@row("exp 1000x1000")
def _exp() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().exp(x)


@row("sum of rows 1000x1000")
def _sum() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().sum(x, 1)


@row("matmul 64x784x256")
def _matmul_small() -> Work:
    a, b = draw(64, 784).data, draw(784, 256).data
    return lambda: minidl.get_backend().matmul(a, b)


@row("matmul 1024x1024x1024")
def _matmul_large() -> Work:
    a, b = draw(1024, 1024).data, draw(1024, 1024).data
    return lambda: minidl.get_backend().matmul(a, b)


@row("int8 matmul 64x1024x1024")
def _int8() -> Work:
    a, b = ((ops.clip(draw(n, 1024), -3, 3) * 40).astype("int8").data for n in (64, 1024))
    return lambda: minidl.get_backend().int8_matmul(a, b)


@row("tanh 64x1024, both ways")
def _tanh() -> Work:
    return both_ways(ops.tanh, draw(64, 1024))


@row("gelu 64x1024, both ways")
def _gelu() -> Work:
    return both_ways(ops.gelu, draw(64, 1024))


@row("softmax 256x1000, both ways")
def _softmax() -> Work:
    return both_ways(lambda x: ops.softmax(x, 1), draw(256, 1000))


@row("cross entropy 256x1000, both ways")
def _cross_entropy() -> Work:
    labels = minidl.arange(256)
    return both_ways(lambda x: ops.cross_entropy(x, labels, reduction="none"), draw(256, 1000))


@row("layer norm 256x512, both ways")
def _layer_norm() -> Work:
    return both_ways(lambda x: ops.layer_norm(x, 512), draw(256, 512))


@row("batch norm 32x32x28x28, both ways")
def _batch_norm() -> Work:
    return both_ways(lambda x: ops.batch_norm(x, None, None, training=True), draw(32, 32, 28, 28))


@row("conv 3x3 32->64 28x28, batch 8, both ways")
def _conv() -> Work:
    return both_ways(
        lambda x, w: ops.conv2d(x, w, padding=1), draw(8, 32, 28, 28), draw(64, 32, 3, 3)
    )


@row("max pool 2x2 32x32x28x28, both ways")
def _max_pool() -> Work:
    return both_ways(lambda x: ops.max_pool2d(x, 2), draw(32, 32, 28, 28))


@row("embedding 5000x64, 64x128 words, both ways")
def _embedding() -> Work:
    words = minidl.tensor(minidl.Generator(1).integers(0, 5000, 64 * 128)).reshape(64, 128)
    return both_ways(lambda table: ops.embedding(table, words), draw(5000, 64))


@row("dropout 1000x1000")
def _dropout() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().dropout(x, 0.5, 1, 0)[0]


@row("Adam, 235k parameters")
def _adam() -> Work:
    weight = nn.Parameter(draw(235146))
    optimizer = optim.Adam([weight], lr=1e-6)
    weight.grad = draw(235146)

    def work() -> Any:
        optimizer.step()
        return weight.data

    return work


@row("clip the norm of 235k gradients")
def _clip() -> Work:
    weight = nn.Parameter(draw(235146))
    optim.SGD([weight], lr=1.0)
    weight.grad = draw(235146)
    return lambda: optim.clip_grad_norm_([weight], 1.0).data
