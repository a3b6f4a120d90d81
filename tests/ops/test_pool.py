"""Pooling: against windows cut out one by one."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.operations.pool import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


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
    for kernel in ((5, 1), (1, 5)):
        with pytest.raises(ShapeError, match=rf"{name}: a kernel of .*\(4, 4\)"):
            function(x, kernel)
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
