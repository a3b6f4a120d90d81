"""conv2d, its gradients, im2col and col2im: against loops, exactly where arithmetic is exact."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import BOUNDED, EXACT, FLOATS, Convolution, Laid, Shape, convolutions, fill
from ..tolerances import assert_close, assert_same, sum_bound


def run(
    method: str, case: Convolution, backend: Backend | None = None, absolute: bool = False
) -> np.ndarray:
    """One of the three convolutions of a case: on a backend, or by the oracle (of magnitudes)."""
    x, weight, bias, grad = case.x, case.weight, case.bias, case.grad
    args: tuple[Laid | Shape | None, ...] = {
        "conv2d": (x, weight, bias),
        "conv2d_input_grad": (grad, weight, case.x.shape),
        "conv2d_weight_grad": (grad, x, case.weight.shape),
    }[method]
    if backend is not None:
        y: np.ndarray = call(backend, method, *args, *case.options)
    else:
        host = [a.values if isinstance(a, Laid) else a for a in args]
        if absolute:
            host = [np.abs(a) if isinstance(a, np.ndarray) else a for a in host]
        y = getattr(oracle, method)(*host, *case.options)
    return y


def terms(method: str, case: Convolution) -> int:
    """The most products that one element of the result adds up, bias included."""
    outputs, depth, *kernel = case.weight.shape
    batch, _, *windows = case.grad.shape
    taps = int(np.prod(kernel))
    return {
        "conv2d": depth * taps + 1,
        "conv2d_input_grad": outputs // case.groups * taps,
        "conv2d_weight_grad": batch * int(np.prod(windows)),
    }[method]


METHODS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


@covers(*METHODS)
@drawn(case=convolutions(kinds=EXACT))
def convolution_is_exact_on_exact_values(backend: Backend, method: str, case: Convolution) -> None:
    expected = run(method, case).astype(case.x.dtype)
    assert_same(run(method, case, backend), expected, signed_zero=False)


@covers(*METHODS)
@drawn(case=convolutions(kinds=("normal", "offset")))
def convolution_agrees_with_oracle(backend: Backend, method: str, case: Convolution) -> None:
    dtype = case.x.dtype
    bound = sum_bound(run(method, case, absolute=True), terms(method, case), dtype)
    assert_close(run(method, case, backend), run(method, case), bound, dtype)


# Layers as networks have them: wide enough for blocked, vectorised and threaded paths. Integers, so
# that float64 products in one einsum are exact and may stand in for the loops.
# (batch, inputs, outputs, side, kernel, stride, padding, dilation, groups)
LAYERS = (
    (4, 1, 6, 28, 5, 1, 2, 1, 1),
    (3, 6, 16, 14, 5, 1, 0, 1, 1),
    (2, 32, 64, 14, 3, 1, 1, 1, 1),
    (2, 33, 17, 13, 3, 2, 1, 1, 1),
    (2, 64, 48, 9, 1, 1, 0, 1, 1),
    (2, 24, 24, 11, 3, 1, 1, 1, 24),
    (2, 16, 32, 12, 3, 1, 2, 2, 4),
    (5, 3, 8, 17, 7, 2, 3, 1, 1),
)


def layer(numbers: tuple[int, ...], dtype: type) -> Convolution:
    n, c, o, side, k, s, p, d, groups = numbers
    windows = oracle.output_size(side, k, s, p, d)
    shapes = ((n, c, side, side), (o, c // groups, k, k), (o,), (n, o, windows, windows))
    x, weight, bias, grad = (Laid(fill(a, dtype, "integers", i)) for i, a in enumerate(shapes))
    return Convolution(x, weight, bias, grad, (s, s), (p, p), (d, d), groups)


def _patches(case: Convolution) -> np.ndarray:
    """(N, G, C / G, kh, kw, OH, OW) of x in float64, by slicing the framed image."""
    x, (kh, kw), (sh, sw), (ph, pw), (dh, dw) = case.x.values.astype(np.float64), *case.window
    oh, ow = case.grad.shape[2:]
    framed = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.empty((*x.shape[:2], kh, kw, oh, ow))
    for i, j in np.ndindex(kh, kw):
        rows, columns = slice(i * dh, i * dh + sh * oh, sh), slice(j * dw, j * dw + sw * ow, sw)
        y[:, :, i, j] = framed[:, :, rows, columns][:, :, :oh, :ow]
    return y.reshape(x.shape[0], case.groups, -1, kh, kw, oh, ow)


@covers(*METHODS)
@each("numbers", LAYERS)
def layers_as_networks_have_them(backend: Backend, method: str, numbers: tuple[int, ...]) -> None:
    """Products of windows and weights in one einsum stand in for the loops; to the bit."""
    for dtype in FLOATS:
        case = layer(numbers, dtype)
        o, depth, kh, kw = case.weight.shape
        weight = case.weight.values.astype(np.float64).reshape(case.groups, -1, depth, kh, kw)
        grad = case.grad.values.astype(np.float64)
        grad = grad.reshape(len(grad), case.groups, o // case.groups, *grad.shape[2:])
        patches = _patches(case)
        if method == "conv2d":
            assert case.bias is not None
            y = np.einsum("ngcklhw,gockl->ngohw", patches, weight).reshape(case.grad.shape)
            expected = y + case.bias.values.reshape(-1, 1, 1)
        elif method == "conv2d_weight_grad":
            expected = np.einsum("ngcklhw,ngohw->gockl", patches, grad).reshape(case.weight.shape)
        else:
            columns = np.einsum("ngohw,gockl->ngcklhw", grad, weight)
            columns = columns.reshape(len(grad), -1, grad.shape[-2] * grad.shape[-1])
            expected = oracle.col2im(columns, case.x.shape, *case.window)
        assert_same(run(method, case, backend), expected.astype(dtype), signed_zero=False)


@covers("im2col")
@drawn(case=convolutions(kinds=BOUNDED), value=st.sampled_from((0, -1.5, float("-inf"))))
def im2col_moves_every_bit(backend: Backend, case: Convolution, value: float) -> None:
    expected = oracle.im2col(case.x.values, *case.window, value)
    assert_same(call(backend, "im2col", case.x, *case.window, value), expected)


@covers("im2col")
def im2col_of_integers(backend: Backend) -> None:
    x = np.arange(-16, 16, dtype=np.int8).reshape(1, 2, 4, 4)
    window = ((3, 2), (1, 2), (1, 1), (1, 1))
    expected = oracle.im2col(x, *window, -7)
    assert_same(call(backend, "im2col", x, *window, value=-7), expected)


@covers("col2im")
@drawn(case=convolutions(kinds=EXACT))
def col2im_adds_every_tap_back(backend: Backend, case: Convolution) -> None:
    kernel, stride, padding, dilation = case.window
    shape = oracle.im2col(case.x.values, *case.window, 0).shape
    cols = fill(shape, case.x.dtype.type, "eighths", 11)
    expected = oracle.col2im(cols, case.x.shape, *case.window).astype(cols.dtype)
    actual = call(backend, "col2im", cols, case.x.shape, kernel, stride, padding, dilation)
    assert_same(actual, expected, signed_zero=False)


@covers("conv2d")
def nan_and_infinity_reach_exactly_the_windows_they_are_in(backend: Backend) -> None:
    x = np.ones((1, 1, 5, 5), np.float32)
    x[0, 0, 0, 0], x[0, 0, 4, 4] = np.nan, np.inf
    weight = np.full((1, 1, 2, 2), 0.5, np.float32)
    y = call(backend, "conv2d", x, weight, None, (1, 1), (0, 0), (1, 1), 1)
    expected = np.full((1, 1, 4, 4), 2, np.float32)
    expected[0, 0, 0, 0], expected[0, 0, 3, 3] = np.nan, np.inf
    assert_same(y, expected)
