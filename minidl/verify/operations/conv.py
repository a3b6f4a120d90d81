"""Convolution and its transpose, with every parameter, to the second derivative: cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from .. import oracle
from ..gradients import Case, case, eighths

Pair = tuple[int, int]

# (x, weight, stride, padding, dilation, groups)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "plain": ((1, 1, 4, 3), (1, 1, 2, 2), 1, 0, 1, 1),
    "channels": ((2, 2, 3, 3), (3, 2, 2, 2), 1, 0, 1, 1),
    "1 x 1": ((2, 3, 2, 2), (2, 3, 1, 1), 1, 0, 1, 1),
    "stride": ((1, 1, 5, 5), (1, 1, 2, 2), 2, 0, 1, 1),
    "padding": ((1, 1, 3, 3), (1, 1, 3, 3), 1, 1, 1, 1),
    "dilation": ((1, 1, 5, 5), (1, 1, 2, 2), 1, 0, 2, 1),
    "all, by axis": ((1, 2, 5, 6), (2, 2, 2, 3), (2, 1), (0, 2), (1, 2), 1),
    "groups": ((1, 4, 3, 3), (4, 2, 2, 2), 1, 0, 1, 2),
    "depthwise": ((1, 3, 3, 3), (6, 1, 2, 2), 1, 1, 1, 3),
    "remainder": ((1, 1, 6, 4), (1, 1, 3, 2), 2, 0, 1, 1),
}


def pair(n: int | Pair) -> Pair:
    return (n, n) if isinstance(n, int) else n


def convolution(
    stride: int | Pair, padding: int | Pair, dilation: int | Pair, groups: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    rest = pair(stride), pair(padding), pair(dilation), groups
    return (
        lambda x, w, b=None: ops.conv2d(x, w, b, stride, padding, dilation, groups),
        lambda x, w, b=None: oracle.conv2d(x, w, b, *rest),
    )


def conv_cases() -> list[Case]:
    found = []
    for label, (x, w, *rest) in SETTINGS.items():
        arrays = eighths(*x), eighths(*w, seed=1)
        found.append(case(f"conv2d: {label}", *convolution(*rest), *arrays))
    three = eighths(1, 2, 3, 3), eighths(2, 1, 2, 2, seed=1), eighths(2, seed=2)
    found.append(case("conv2d: bias", *convolution(1, 0, 1, 2), *three))
    found.append(case("conv2d: only x", *convolution(1, 0, 1, 2), *three, constant=(1, 2)))
    found.append(case("conv2d: only bias", *convolution(1, 0, 1, 2), *three, constant=(0, 1)))
    return found


# (x, weight, stride, padding, output_padding, groups, dilation)
TRANSPOSED: dict[str, tuple[Any, ...]] = {
    "plain": ((1, 1, 2, 3), (1, 1, 2, 2), 1, 0, 0, 1, 1),
    "channels": ((2, 2, 2, 2), (2, 3, 2, 2), 1, 0, 0, 1, 1),
    "stride": ((1, 1, 2, 2), (1, 1, 2, 2), 2, 0, 0, 1, 1),
    "padding": ((1, 1, 3, 3), (1, 1, 3, 3), 1, 1, 0, 1, 1),
    "output padding": ((1, 1, 2, 2), (1, 1, 2, 2), 2, 0, (1, 0), 1, 1),
    "dilation": ((1, 1, 2, 2), (1, 1, 2, 2), 1, 0, 0, 1, 2),
    "output padding beyond the stride": ((1, 1, 2, 3), (1, 1, 2, 2), 1, 1, (2, 1), 1, 3),
    "groups": ((1, 4, 2, 2), (4, 2, 2, 2), 1, 0, 0, 2, 1),
    "all, by axis": ((1, 2, 3, 2), (2, 1, 3, 2), (2, 3), (1, 0), (1, 2), 2, (1, 2)),
}


def transposed(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: int | Pair, padding: int | Pair,
    extra: int | Pair, groups: int, dilation: int | Pair,
) -> np.ndarray:  # fmt: skip
    """Each pixel of x spreads the kernel, times its value, over the output; then the frame goes."""
    (sh, sw), (ph, pw), (eh, ew), (dh, dw) = map(pair, (stride, padding, extra, dilation))
    n, channels, height, width = x.shape
    _, per_group, kh, kw = w.shape
    full_h, full_w = (height - 1) * sh + dh * (kh - 1) + 1, (width - 1) * sw + dw * (kw - 1) + 1
    y = np.zeros((n, per_group * groups, full_h + eh, full_w + ew))
    for c, o, i, j, u, v in np.ndindex(channels, per_group, height, width, kh, kw):
        out = c // (channels // groups) * per_group + o
        y[:, out, i * sh + u * dh, j * sw + v * dw] += x[:, c, i, j] * w[c, o, u, v]
    y = y[:, :, ph : y.shape[2] - ph, pw : y.shape[3] - pw]
    return y if b is None else y + b[:, None, None]


def transposed_cases() -> list[Case]:
    found = []
    for label, (x, w, *rest) in TRANSPOSED.items():
        for bias in (False, True):
            arrays = [eighths(*x), eighths(*w, seed=1)]
            arrays += [eighths(w[1] * rest[3], seed=2)] if bias else []
            found.append(
                case(f"conv_transpose2d: {label} {bias}",
                     lambda x, w, b=None, r=rest: ops.conv_transpose2d(x, w, b, *r),
                     lambda x, w, b=None, r=rest: transposed(x, w, b, *r), *arrays)
            )  # fmt: skip
    return found


def gradient_cases() -> list[Case]:
    """The two gradients as operations of their own, differentiated twice."""
    found = []
    for label in ("channels", "all, by axis", "depthwise"):
        x, w, *rest = SETTINGS[label]
        rest = [*map(pair, rest[:3]), rest[3]]
        y = oracle.conv2d(np.zeros(x), np.zeros(w), None, *rest).shape
        found += [
            case(f"conv2d_input_grad: {label}",
                 lambda g, w, x=x, r=rest: ops.conv2d_input_grad(g, w, x, *r),
                 lambda g, w, x=x, r=rest: oracle.conv2d_input_grad(g, w, x, *r),
                 eighths(*y), eighths(*w, seed=1)),
            case(f"conv2d_weight_grad: {label}",
                 lambda g, x, w=w, r=rest: ops.conv2d_weight_grad(g, x, w, *r),
                 lambda g, x, w=w, r=rest: oracle.conv2d_weight_grad(g, x, w, *r),
                 eighths(*y), eighths(*x, seed=1)),
        ]  # fmt: skip
    return found


CASES = (*conv_cases(), *transposed_cases(), *gradient_cases())
