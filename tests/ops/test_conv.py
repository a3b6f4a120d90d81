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
from minidl.verify.strategies import convolutions
from minidl.verify.tolerances import assert_same

from .cases import Case, OperationCases, case, check_order, eighths

Pair = tuple[int, int]

# (x, weight, stride, padding, dilation, groups)
SETTINGS = {
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


def convolution(stride, padding, dilation, groups):
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
    arrays = eighths(1, 2, 3, 3), eighths(2, 1, 2, 2, seed=1), eighths(2, seed=2)
    found.append(case("conv2d: bias", *convolution(1, 0, 1, 2), *arrays))
    found.append(case("conv2d: only x", *convolution(1, 0, 1, 2), *arrays, constant=(1, 2)))
    found.append(case("conv2d: only bias", *convolution(1, 0, 1, 2), *arrays, constant=(0, 1)))
    return found


# (x, weight, stride, padding, output_padding, groups, dilation)
TRANSPOSED = {
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


def transposed(x, w, b, stride, padding, extra, groups, dilation) -> np.ndarray:
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


class TestCases(OperationCases):
    cases = (*conv_cases(), *transposed_cases(), *gradient_cases())


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
