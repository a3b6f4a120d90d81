"""Pooling: against windows cut out one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify import oracle
from minidl.verify.tolerances import assert_same

from .cases import Case, OperationCases, case, spread

# (image, kernel, stride, padding)
WINDOWS = {
    "side by side": ((2, 2, 4, 4), 2, None, 0),
    "overlapping": ((1, 1, 4, 5), 3, 1, 0),
    "padded": ((1, 1, 4, 4), 3, 2, 1),
    "by axis": ((1, 2, 5, 4), (3, 2), (1, 2), (1, 0)),
    "gaps": ((1, 1, 5, 5), 2, 3, 0),
    "everything": ((1, 2, 3, 3), 3, None, 0),
}


def pair(n):
    return (n, n) if isinstance(n, int) else n


def geometry(kernel, stride, padding):
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
                 lambda x, g=g, i=include: oracle.avg_pool2d(x * x, *g, i), x)
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


def adaptive(x: np.ndarray, size, function) -> np.ndarray:
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


class TestCases(OperationCases):
    cases = (*pooling_cases(), *gradient_cases(), *adaptive_cases())


def test_the_first_of_equal_maxima_gets_the_gradient(backend):
    x = minidl.tensor([[[[1, 3, 3], [3, 0, 3]]]], "float32", requires_grad=True, backend=backend)
    ops.max_pool2d(x, (2, 3)).sum().backward()
    assert_same(x.grad.numpy(), np.array([[[[0, 1, 0], [0, 0, 0]]]], np.float32))


def test_equal_maxima_share_in_adaptive_pooling(backend):
    """It is made of `ops.max`, which shares."""
    x = minidl.ones((1, 1, 2, 2), requires_grad=True, backend=backend)
    ops.adaptive_max_pool2d(x, 1).sum().backward()
    assert_same(x.grad.numpy(), np.full((1, 1, 2, 2), 0.25, np.float32))


def test_nan_wins_and_negatives_beat_the_padding(backend):
    x = minidl.tensor([[[[-5.0, np.nan], [-7.0, -6.0]]]], requires_grad=True, backend=backend)
    y = ops.max_pool2d(x, 2, 1, 1)
    expected = np.array([[-5, np.nan, np.nan], [-5, np.nan, np.nan], [-7, -6, -6]], np.float32)
    assert_same(y.numpy()[0, 0], expected)
    y.sum().backward()
    assert_same(x.grad.numpy()[0, 0], np.array([[2, 4], [1, 2]], np.float32))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_bad_settings(backend, name):
    function, x = getattr(ops, name), minidl.ones((1, 1, 4, 4), backend=backend)
    for arguments, setting in (
        ((0,), "kernel_size"), ((1.5,), "kernel_size"), (((2, 2, 2),), "kernel_size"),
        ((None,), "kernel_size"), ((2, 0), "stride"), ((2, "a"), "stride"), ((2, 1, -1), "padding"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=rf"{name}: {setting} must be an integer"):
            function(x, *arguments)
    with pytest.raises(ArgumentError, match=rf"{name}: padding 2 may be at most half the kernel 3"):
        function(x, 3, 1, 2)
    with pytest.raises(ShapeError, match=rf"{name}: a kernel of \(5, 5\).*\(4, 4\)"):
        function(x, 5)
    with pytest.raises(ShapeError, match=rf"{name}: x must be \(N, C, H, W\), got \(1, 4, 4\)"):
        function(x[0], 2)
    with pytest.raises(DTypeError, match=f"{name}: x must be floating"):
        function(x.astype("int32"), 2)


@pytest.mark.parametrize("name", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_bad_adaptive_settings(backend, name):
    function, x = getattr(ops, name), minidl.ones((1, 1, 4, 4), backend=backend)
    for size in (0, (1, -1), 1.5, (1, 1, 1), None):
        with pytest.raises(ArgumentError, match=rf"{name}: output_size must be an integer >= 1"):
            function(x, size)
    for wrong in (x[0], x[:, :, :0]):
        with pytest.raises(ShapeError, match=rf"{name}: x must be \(N, C, H, W\) with pixels"):
            function(wrong, 1)
    with pytest.raises(DTypeError, match=f"{name}: x must be floating"):
        function(x.astype("int32"), 1)
