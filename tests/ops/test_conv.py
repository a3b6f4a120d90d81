"""Convolution and its transpose, with every parameter, to the second derivative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import minidl
from minidl import ops
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, ShapeError
from minidl.ops.conv import output_size
from minidl.verify import oracle
from minidl.verify.gradients import check_order, eighths
from minidl.verify.operations.conv import CASES
from minidl.verify.strategies import convolutions
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


def test_third_derivatives(backend):
    """Not multilinear any more: the square of a convolution."""
    arrays = eighths(1, 1, 3, 3), eighths(1, 1, 2, 2, seed=1)
    xs = [minidl.tensor(a, requires_grad=True, backend=backend) for a in arrays]
    check_order(lambda x, w: ops.conv2d(x, w, padding=1) ** 3, xs, [0, 1], 2)
    check_order(lambda x, w: ops.conv2d(x, w) ** 2, xs, [0, 1], 3)


@settings(max_examples=15)
@given(drawn=convolutions(kinds=("eighths",)))
def test_any_parameters(backend, drawn):
    """Gradients through the graph are the oracle's, bit for bit: the values are exact."""
    arrays = [drawn.x, drawn.weight, *([] if drawn.bias is None else [drawn.bias])]
    xs = [minidl.tensor(a.values, requires_grad=True, backend=backend) for a in arrays]
    y = ops.conv2d(*xs[:2], xs[2] if drawn.bias is not None else None, *drawn.options)
    y.backward(minidl.tensor(drawn.grad.values, backend=backend))
    dtype, options = drawn.x.dtype, drawn.options
    x, w, grad = drawn.x.values, drawn.weight.values, drawn.grad.values
    expected = [
        oracle.conv2d_input_grad(grad, w, x.shape, *options),
        oracle.conv2d_weight_grad(grad, x, w.shape, *options),
        grad.sum(axis=(0, 2, 3)),
    ]
    for t, e in zip(xs, expected, strict=False):
        assert_same(t.grad.numpy(), e.astype(dtype), signed_zero=False)


def test_transposing_twice_restores_the_shape(backend):
    x = minidl.ones((1, 2, 7, 8), backend=backend)
    w = minidl.ones((3, 2, 3, 2), backend=backend)
    y = ops.conv2d(x, w, stride=(2, 3), padding=(1, 0))
    back = ops.conv_transpose2d(y, w, stride=(2, 3), padding=(1, 0))
    assert (y.shape, back.shape) == ((1, 3, 4, 3), (1, 2, 7, 8))


@pytest.mark.parametrize("extra", [(1, 0), (0, 1), (1, 1)])
def test_output_padding_may_reach_the_stride_on_one_axis(backend, extra):
    """Dilation allows it; the elements that it adds are seen by no window of x."""
    x, w = eighths(1, 1, 3, 2), eighths(1, 1, 2, 2, seed=1)
    y = ops.conv_transpose2d(
        *(minidl.tensor(a, backend=backend) for a in (x, w)), output_padding=extra, dilation=2
    )
    expected = oracle.conv2d_input_grad(x, w, (1, 1, 5, 4), (1, 1), (0, 0), (2, 2), 1)
    assert_same(y.numpy(), np.pad(expected, [(0, 0), (0, 0), *((0, e) for e in extra)]))


def test_transposing_may_leave_one_pixel(backend):
    y = ops.conv_transpose2d(ones(backend, 1, 1, 1, 1), ones(backend, 1, 1, 3, 3), padding=1)
    assert y.tolist() == [[[[1]]]]


def test_output_size_counts_the_windows():
    for size, kernel, stride, padding, dilation in np.ndindex(7, 3, 3, 2, 2):
        numbers = size, kernel + 1, stride + 1, padding, dilation + 1
        reach = numbers[4] * kernel + 1
        starts = range(0, size + 2 * padding - reach + 1, numbers[2])
        assert max(output_size(*numbers), 0) == len(starts)


def ones(backend, *shape, dtype="float32"):
    return minidl.ones(shape, dtype, backend=backend)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_bad_settings(backend, name):
    function = getattr(ops, name)
    x, w = ones(backend, 1, 2, 4, 4), ones(backend, 2, 2, 3, 3)
    for options in (
        {"stride": 0}, {"stride": (1, 0)}, {"stride": 1.5}, {"stride": (1, 2, 3)}, {"stride": None},
        {"padding": -1}, {"padding": "same"}, {"dilation": 0}, {"groups": 0}, {"groups": 1.0},
    ):  # fmt: skip
        ((setting, value),) = options.items()
        with pytest.raises(ArgumentError) as caught:
            function(x, w, **options)
        for words in (f"{name}: {setting}", "integer >= ", repr(value)):
            assert words in str(caught.value)


def test_bad_shapes(backend):
    x, w = ones(backend, 1, 2, 4, 4), ones(backend, 2, 2, 3, 3)
    for wrong_x, wrong_w, groups in (
        (x[0], w, 1),
        (x, w[0], 1),
        (x, ones(backend, 2, 3, 3, 3), 1),
        (x, w, 2),
        (ones(backend, 1, 4, 4, 4), ones(backend, 3, 2, 3, 3), 2),
    ):
        with pytest.raises(ShapeError, match=rf"conv2d: x .* groups = {groups} dividing C and O"):
            ops.conv2d(wrong_x, wrong_w, groups=groups)
    with pytest.raises(
        ShapeError, match=r"a kernel of \(3, 3\) \(dilation \(2, 2\)\) does not fit"
    ):
        ops.conv2d(x, w, dilation=2)
    for function in (ops.conv2d, ops.conv_transpose2d):
        with pytest.raises(ShapeError, match=r"bias must have shape \(2,\), got \(3,\)"):
            function(x, w, ones(backend, 3))
    for wrong_x, wrong_w, groups in ((x[0], w, 1), (x, w[0], 1), (x, w[:1], 1), (x, w, 3)):
        with pytest.raises(ShapeError, match=rf"conv_transpose2d: .* groups = {groups}"):
            ops.conv_transpose2d(wrong_x, wrong_w, groups=groups)
    with pytest.raises(ShapeError, match="padding 4 leaves nothing"):
        ops.conv_transpose2d(x, w, padding=4)
    with pytest.raises(ArgumentError, match="output_padding must be smaller"):
        ops.conv_transpose2d(x, w, stride=2, output_padding=2)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_bad_tensors(backend, other, name):
    function = getattr(ops, name)
    x, w = ones(backend, 1, 2, 4, 4), ones(backend, 2, 2, 3, 3)
    with pytest.raises(DTypeError, match=f"{name}: x is float32, but weight is float64"):
        function(x, w.astype("float64"))
    with pytest.raises(DTypeError, match=f"{name}: x is float32, but bias is float64"):
        function(x, w, ones(backend, 2, dtype="float64"))
    with pytest.raises(DTypeError, match=f"{name}: x must be floating, got int64"):
        function(x.astype("int64"), w)
    for foreign in ([1.0, 1.0], np.ones(2, np.float32)):
        with pytest.raises(DTypeError, match=f"{name}: bias must be a Tensor"):
            function(x, w, foreign)
    with pytest.raises(DTypeError, match=f"{name}: weight must be a Tensor"):
        function(x, w.numpy())
    with pytest.raises(BackendMismatch, match="Conv2d"):
        function(x, ones(other, 2, 2, 3, 3))
