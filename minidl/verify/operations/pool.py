"""Pooling: cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import Case, case, spread

Pair = tuple[int, int]

# (image, kernel, stride, padding)
WINDOWS: dict[str, tuple[Any, ...]] = {
    "side by side": ((2, 2, 4, 4), 2, None, 0),
    "overlapping": ((1, 1, 4, 5), 3, 1, 0),
    "padded": ((1, 1, 4, 4), 3, 2, 1),
    "by axis": ((1, 2, 5, 4), (3, 2), (1, 2), (1, 0)),
    "gaps": ((1, 1, 5, 5), 2, 3, 0),
    "everything": ((1, 2, 3, 3), 3, None, 0),
}


def pair(n: int | Pair) -> Pair:
    return (n, n) if isinstance(n, int) else n


Geometry = tuple[Pair, Pair, Pair]


def geometry(kernel: int | Pair, stride: int | Pair | None, padding: int | Pair) -> Geometry:
    return pair(kernel), pair(kernel if stride is None else stride), pair(padding)


def pooling_cases() -> list[Case]:
    found = []
    for label, (shape, *rest) in WINDOWS.items():
        x, g = spread(*shape), geometry(*rest)
        found.append(
            case(f"max_pool2d: {label}", lambda x, r=rest: ops.max_pool2d(x * x, *r),
                 lambda x, g=g: oracle.max_pool2d(x * x, *g)[0].astype(np.float64), x)
        )  # fmt: skip
        found += [
            case(f"avg_pool2d: {label} {include}",
                 lambda x, r=rest, i=include: ops.avg_pool2d(x * x, *r, count_include_pad=i),
                 lambda x, g=g, i=include: oracle.avg_pool2d(x * x, *(*g, i)), x)
            for include in (True, False)
        ]  # fmt: skip
    return found


def gradient_cases() -> list[Case]:
    """The gradients as operations of their own, which are differentiated again."""
    shape, *rest = WINDOWS["overlapping"]
    g = geometry(*rest)
    y, index = oracle.max_pool2d(spread(*shape), *g)
    return [
        case("max_pool2d_grad", lambda t, i: ops.max_pool2d_grad(t * t, i, shape),
             lambda t, i: oracle.max_pool2d_grad(t * t, i, shape), spread(*y.shape),
             index.astype(np.int64)),
        case("avg_pool2d_grad", lambda t: ops.avg_pool2d_grad(t * t, shape, *g, False),
             lambda t: oracle.avg_pool2d_grad(t * t, shape, *g, False), spread(*y.shape)),
    ]  # fmt: skip


def adaptive(x: np.ndarray, size: int | Pair, function: Callable[..., Any]) -> np.ndarray:
    """Window i of count reaches from floor(i n / count) to ceil((i + 1) n / count)."""
    height, width = pair(size)
    y = np.empty((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        top, bottom = i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height)
        left, right = j * x.shape[3] // width, -(-(j + 1) * x.shape[3] // width)
        y[:, :, i, j] = function(x[:, :, top:bottom, left:right], axis=(2, 3))
    return y


def adaptive_cases() -> list[Case]:
    found = []
    for shape, size in itertools.product([(2, 1, 3, 5), (1, 2, 2, 4)], [1, 2, (3, 1), (2, 5), 6]):
        for name, function in (("avg", np.mean), ("max", np.max)):
            found.append(
                case(f"adaptive_{name}_pool2d: {shape[2:]} to {size}",
                     lambda x, n=name, s=size: getattr(ops, f"adaptive_{n}_pool2d")(x * x, s),
                     lambda x, s=size, f=function: adaptive(x * x, s, f), spread(*shape))
            )  # fmt: skip
    return found


CASES = (*pooling_cases(), *gradient_cases(), *adaptive_cases())
