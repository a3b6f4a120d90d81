"""Layer and batch normalisation: the bound follows the formula through its magnifications."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..running import Approx
from ..strategies import FLOATS, Laid, Shape, arrays, fill, float_dtypes
from ..tolerances import assert_close

EPS = st.sampled_from((1e-5, 1e-3, 0.5))


class Running:
    """Both normalisations with their rounding errors; x has the axes (N, C, L) or (N, D).

    Statistics are taken over `over` and weights lie along `along`.
    """

    def __init__(self, x: np.ndarray, weight: np.ndarray, along: int) -> None:
        self.x = Approx(x, x.dtype)
        self.along = along
        self.over = (1,) if x.ndim == 2 else (0, 2)
        self.spread = [-1 if axis == along else 1 for axis in range(x.ndim)]
        self.weight = Approx(weight, x.dtype).reshape(*self.spread)

    def forward(self, bias: np.ndarray, eps: float) -> tuple[Approx, Approx, Approx, Approx]:
        """-> y, mean, var, inv_std (reduced axes kept)."""
        mean = self.x.mean(self.over)
        deviation = self.x - mean
        var = (deviation * deviation).mean(self.over)
        inv_std = 1.0 / (var + eps).sqrt()
        y = deviation * inv_std * self.weight + bias.astype(np.float64).reshape(self.spread)
        return y, mean, var, inv_std

    def backward(self, grad: np.ndarray, mean: np.ndarray, inv_std: Approx) -> list[Approx]:
        """-> gradients of x, weight and bias."""
        g = Approx(grad, grad.dtype)
        x_hat = (self.x - mean.astype(np.float64)) * inv_std
        slope = g * self.weight
        x_grad = slope - slope.mean(self.over) - x_hat * (slope * x_hat).mean(self.over)
        others = tuple(a for a in range(grad.ndim) if a != self.along)
        return [x_grad * inv_std, (g * x_hat).sum(others, False), g.sum(others, False)]


@st.composite
def layer_norms(draw: st.DrawFn) -> list[Laid]:
    """grad, x (N, D), weight, bias (D,)."""
    rows, columns = draw(st.integers(0, 4)), draw(st.integers(1, 9))
    dtype = draw(float_dtypes)
    shapes = ((rows, columns), (rows, columns), (columns,), (columns,))
    return [draw(arrays(shape, dtype)) for shape in shapes]


@st.composite
def batch_norms(draw: st.DrawFn) -> list[Laid]:
    """grad, x (N, C, L), weight, bias (C,), with at least one element in a channel."""
    shape = tuple(draw(st.integers(1, n)) for n in (4, 3, 5))
    dtype = draw(float_dtypes)
    shapes = (shape, shape, shape[1:2], shape[1:2])
    return [draw(arrays(shape, dtype)) for shape in shapes]


def check_layer_norm(
    backend: Backend, x: Laid, weight: Laid, bias: Laid, eps: float,
    expected: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    y, mean, _, inv_std = Running(x.values, weight.values, 1).forward(bias.values, eps)
    actual = call(backend, "layer_norm", x, weight, bias, eps)
    for got, want, running in zip(actual, expected, (y, mean, inv_std), strict=True):
        assert_close(got, want, running.bound, x.dtype)


@covers("layer_norm")
@drawn(case=layer_norms(), eps=EPS)
def layer_norm_agrees_with_oracle(backend: Backend, case: list[Laid], eps: float) -> None:
    _, x, weight, bias = case
    expected = oracle.layer_norm(x.values, weight.values, bias.values, eps)
    check_layer_norm(backend, x, weight, bias, eps, expected)


@covers("layer_norm_grad")
@drawn(case=layer_norms(), eps=EPS)
def layer_norm_grad_agrees_with_oracle(backend: Backend, case: list[Laid], eps: float) -> None:
    """mean and inv_std are given, so they carry no error of their own here."""
    grad, x, weight, bias = case
    _, mean, inv_std = oracle.layer_norm(x.values, weight.values, bias.values, eps)
    mean, inv_std = mean.astype(x.dtype), inv_std.astype(x.dtype)
    expected = oracle.layer_norm_grad(grad.values, x.values, weight.values, mean, inv_std)
    running = Running(x.values, weight.values, 1)
    bounds = running.backward(grad.values, mean, Approx(inv_std, x.dtype))
    actual = call(backend, "layer_norm_grad", grad, x, weight, mean, inv_std)
    for got, want, bound in zip(actual, expected, bounds, strict=True):
        assert_close(got, want, bound.bound, x.dtype)


def check_batch_norm(
    backend: Backend, x: Laid, weight: Laid, bias: Laid, eps: float,
    expected: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    y, mean, var, _ = Running(x.values, weight.values, 1).forward(bias.values, eps)
    bounds = y.bound, mean.bound.reshape(-1), var.bound.reshape(-1)
    actual = call(backend, "batch_norm", x, weight, bias, eps)
    for got, want, bound in zip(actual, expected, bounds, strict=True):
        assert_close(got, want, bound, x.dtype)


@covers("batch_norm")
@drawn(case=batch_norms(), eps=EPS)
def batch_norm_agrees_with_oracle(backend: Backend, case: list[Laid], eps: float) -> None:
    _, x, weight, bias = case
    expected = oracle.batch_norm(x.values, weight.values, bias.values, eps)
    check_batch_norm(backend, x, weight, bias, eps, expected)


@covers("batch_norm_grad")
@drawn(case=batch_norms(), eps=EPS)
def batch_norm_grad_agrees_with_oracle(backend: Backend, case: list[Laid], eps: float) -> None:
    grad, x, weight, bias = case
    _, mean, var = oracle.batch_norm(x.values, weight.values, bias.values, eps)
    mean, var = mean.astype(x.dtype), var.astype(x.dtype)
    expected = oracle.batch_norm_grad(grad.values, x.values, weight.values, mean, var, eps)
    running = Running(x.values, weight.values, 1)
    inv_std = 1.0 / (Approx(var.reshape(1, -1, 1), x.dtype) + eps).sqrt()
    bounds = running.backward(grad.values, mean.reshape(1, -1, 1), inv_std)
    actual = call(backend, "batch_norm_grad", grad, x, weight, mean, var, eps)
    for got, want, bound in zip(actual, expected, bounds, strict=True):
        assert_close(got, want, bound.bound, x.dtype)


ROWS = ((513, 7), (3, 4099), (128, 128))
CHANNELS = ((64, 6, 196), (3, 129, 17), (257, 5, 1), (1, 2, 10007))


def many(shape: Shape, dtype: type, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """x, and a gradient that is made of 1, x_hat and noise.

    The first two make the gradients of bias and weight as large as their bounds assume, and cancel
    in the gradient of x. What remains there is the noise, so it must not come from x's seed.
    """
    x, noise = fill(shape, dtype, kind, 1), fill(shape, dtype, "normal", 4)
    grad: np.ndarray = noise + fill(shape, dtype, "normal", 1) + dtype(1)
    return x, grad


@covers("layer_norm", "layer_norm_grad")
@each("shape", ROWS)
def layer_norm_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    """The float64 values of the running analysis stand in for the loops; 1e-5 is the usual eps."""
    for dtype, kind in itertools.product(FLOATS, ("offset", "normal")):
        x, grad = many(shape, dtype, kind)
        weight, bias = (fill(shape[1:], dtype, "normal", seed) for seed in (2, 3))
        running = Running(x, weight, 1)
        y, mean, _, inv_std = running.forward(bias, 1e-5)
        args: tuple[Any, ...] = (x, weight, bias, 1e-5)
        bounds = [y, mean, inv_std]
        if method == "layer_norm_grad":
            given_mean, given_inv = mean.value.astype(dtype), inv_std.value.astype(dtype)
            args = (grad, x, weight, given_mean, given_inv)
            bounds = running.backward(grad, given_mean, Approx(given_inv, dtype))
        for got, bound in zip(call(backend, method, *args), bounds, strict=True):
            assert_close(got, bound.value, bound.bound, dtype)


@covers("batch_norm", "batch_norm_grad")
@each("shape", CHANNELS)
def batch_norm_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    """As above; mean and var are given to the gradient, so they carry no error there."""
    for dtype, kind in itertools.product(FLOATS, ("offset", "normal")):
        x, grad = many(shape, dtype, kind)
        weight, bias = (fill(shape[1:2], dtype, "normal", seed) for seed in (2, 3))
        running = Running(x, weight, 1)
        y, mean, var, _ = running.forward(bias, 1e-5)
        args: tuple[Any, ...] = (x, weight, bias, 1e-5)
        bounds = [y, mean, var]
        if method == "batch_norm_grad":
            given_mean, given_var = mean.value.astype(dtype), var.value.astype(dtype)
            inv_std = 1.0 / (Approx(given_var, dtype) + 1e-5).sqrt()
            args = (grad, x, weight, given_mean.reshape(-1), given_var.reshape(-1), 1e-5)
            bounds = running.backward(grad, given_mean, inv_std)
        for got, bound in zip(call(backend, method, *args), bounds, strict=True):
            flat = bound.reshape(*got.shape)
            assert_close(got, flat.value, flat.bound, dtype)


@covers("layer_norm", "batch_norm")
def nan_stays_in_its_own_row_or_channel(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        x = np.arange(24).astype(dtype).reshape((4, 6) if method == "layer_norm" else (2, 4, 3))
        x.reshape(-1)[7] = np.nan  # row 1, or channel 2
        size = x.shape[1]
        ones, zeros = np.ones(size, dtype), np.zeros(size, dtype)
        y, *statistics = call(backend, method, x, ones, zeros, 1e-5)
        lines = y if method == "layer_norm" else y.swapaxes(0, 1)
        expected = np.arange(len(lines)) == (1 if method == "layer_norm" else 2)
        for values in (lines, *statistics):
            found = np.isnan(values.reshape(len(lines), -1))
            assert np.array_equal(found.all(axis=1), expected)
            assert np.array_equal(found.any(axis=1), expected)
