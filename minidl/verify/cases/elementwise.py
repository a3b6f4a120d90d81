"""Elementwise methods: against the oracle, at special values, across dtypes, layouts and sizes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import FLOATS, Laid, arrays, broadcastable, fill, special_values
from ..tolerances import assert_close, assert_same, elementary_bound, ulps

EXACT_UNARY = ("negative", "abs", "sign", "sqrt", "relu")
BOUNDED_UNARY = ("exp", "log", "sin", "cos", "tanh", "erf", "sigmoid", "softplus", "silu")
ROUNDED_BINARY = ("add", "subtract", "multiply", "divide")
ALL_VALUES = ("normal", "special", "wide", "bits")
MANY = (263, 307)  # beyond 2^16 elements, from which backends share the work between threads


def as_dtype(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The oracle's float64 rounded once; for + - * / sqrt that is the correctly rounded result.

    Rounding twice does no harm because float64 has more than twice float32's digits: Figueroa
    (1995), "When is double rounding innocuous?".
    """
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def check_unary(backend: Backend, method: str, x: Laid) -> None:
    expected = oracle.map1(oracle.UNARY[method], x.values)
    actual = call(backend, method, x)
    if method in EXACT_UNARY:
        assert_same(actual, as_dtype(expected, x.dtype), signed_zero=method != "relu")
    else:
        bound = elementary_bound(method, x.values, expected, x.dtype)
        assert_close(actual, expected, bound, x.dtype)


@covers(*EXACT_UNARY, *BOUNDED_UNARY)
@drawn(x=arrays(kinds=ALL_VALUES))
def unary_agrees_with_oracle(backend: Backend, method: str, x: Laid) -> None:
    check_unary(backend, method, x)


@covers(*EXACT_UNARY, *BOUNDED_UNARY)
def unary_at_special_values(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        check_unary(backend, method, Laid(special_values(dtype)))


@covers(*EXACT_UNARY, *BOUNDED_UNARY)
def unary_on_many_elements(backend: Backend, method: str) -> None:
    """Enough for every path: vector bodies, their remainders, and several threads."""
    for dtype, layout in itertools.product(FLOATS, ("contiguous", "fortran")):
        check_unary(backend, method, Laid(3 * fill(MANY, dtype, "normal", 5), layout))


def check_binary(backend: Backend, method: str, a: Laid, b: Laid) -> None:
    dtype = np.result_type(a.dtype, b.dtype)
    expected = oracle.map2(oracle.BINARY[method], a.values, b.values)
    actual = call(backend, method, a, b)
    if method == "pow":
        assert_close(actual, expected, ulps(method, expected, dtype), dtype)
    else:
        signed = method in ROUNDED_BINARY
        assert_same(actual, as_dtype(expected, dtype), signed_zero=signed)


@covers(*ROUNDED_BINARY, "pow", "maximum", "minimum")
@drawn(pair=broadcastable(kinds=("integers", *ALL_VALUES)))
def binary_agrees_with_oracle(backend: Backend, method: str, pair: tuple[Laid, Laid]) -> None:
    check_binary(backend, method, *pair)


@covers(*ROUNDED_BINARY, "pow", "maximum", "minimum")
def binary_at_special_values(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        x = special_values(dtype)
        check_binary(backend, method, Laid(x[:, None]), Laid(x))


@covers(*ROUNDED_BINARY, "pow", "maximum", "minimum")
def binary_on_many_elements(backend: Backend, method: str) -> None:
    for dtype in FLOATS:
        a = Laid(np.abs(fill(MANY, dtype, "normal", 7)))
        for shape in (MANY, MANY[1:], (MANY[0], 1), ()):
            check_binary(backend, method, a, Laid(fill(shape, dtype, "normal", 8)))


@covers(*ROUNDED_BINARY, "maximum", "minimum")
def dtypes_promote(backend: Backend, method: str) -> None:
    kinds: tuple[type, ...] = (np.bool_, np.int8, np.uint8, np.int32, np.int64, *FLOATS)
    function = getattr(np, method)
    for first, second in itertools.product(kinds, kinds):
        a: np.ndarray = np.array([5, 0, 1], first)
        b: np.ndarray = np.array([[2], [1 if method == "divide" else 0]], second)
        if method == "subtract" and first == second == np.bool_:
            continue  # NumPy refuses to subtract booleans
        assert_same(call(backend, method, a, b), function(a, b), signed_zero=False)


@covers(*ROUNDED_BINARY, "pow", "maximum", "minimum")
@each("dtype", FLOATS)
def python_scalar_does_not_widen(backend: Backend, method: str, dtype: type) -> None:
    x = np.abs(fill((16, 17), dtype, "normal", 3))
    for scalar in (2, 3, 0.5, 0.1):
        expected = getattr(np, method)(x, scalar)
        assert expected.dtype == dtype
        actual = call(backend, method, x, scalar)
        if method == "pow":
            assert_close(actual, expected, ulps("pow", expected, dtype), dtype)
        else:
            assert_same(actual, expected, signed_zero=method in ROUNDED_BINARY)


@covers("pow")
def integer_pow_is_exact(backend: Backend) -> None:
    a, b = np.arange(-5, 6, dtype=np.int64), np.arange(5, dtype=np.int64)[:, None]
    assert_same(call(backend, "pow", a, b), a**b)


@covers("where")
@drawn(case=broadcastable(count=3, kinds=ALL_VALUES))
def where_selects_bit_for_bit(backend: Backend, case: tuple[Laid, Laid, Laid]) -> None:
    mask, a, b = case
    condition = Laid(mask.values > 0, mask.layout)
    shape = np.broadcast_shapes(mask.shape, a.shape, b.shape)
    c, p, q = (np.broadcast_to(v, shape) for v in (condition.values, a.values, b.values))
    expected = np.empty(shape, a.dtype)
    for index in np.ndindex(shape):
        expected[index] = p[index] if c[index] else q[index]
    assert_same(call(backend, "where", condition, a, b), expected)


@covers("where")
def where_takes_nothing_from_the_other_side(backend: Backend) -> None:
    """What is not chosen may be NaN or infinite; the sign of a zero that is chosen stays."""
    for dtype in FLOATS:
        x = special_values(dtype)
        chosen = np.arange(x.size) % 2 == 0
        expected = np.array([a if c else b for c, a, b in zip(chosen, x, x[::-1], strict=True)])
        assert_same(call(backend, "where", chosen, x, Laid(x[::-1].copy(), "reversed")), expected)


@covers("where")
def where_promotes(backend: Backend) -> None:
    condition = np.array([True, False])
    a, b = np.array([1, 2], np.int32), np.array([0.5, 1.5], np.float32)
    assert_same(call(backend, "where", condition, a, b), np.where(condition, a, b))


@covers("clip")
@drawn(
    x=arrays(kinds=ALL_VALUES),
    low=st.sampled_from((None, -1.5, 0.0)),
    high=st.sampled_from((None, 0.0, 2.25)),
)
def clip_keeps_nan_and_limits_the_rest(
    backend: Backend, x: Laid, low: float | None, high: float | None
) -> None:
    check_clip(backend, x, low, high)


@covers("clip")
def clip_at_special_values(backend: Backend) -> None:
    for dtype, low, high in itertools.product(FLOATS, (None, -1.5), (None, 2.25)):
        check_clip(backend, Laid(special_values(dtype)), low, high)


def check_clip(backend: Backend, x: Laid, low: float | None, high: float | None) -> None:
    expected = x.values.copy()
    for index in np.ndindex(x.shape):
        if low is not None and expected[index] < low:
            expected[index] = low
        if high is not None and expected[index] > high:
            expected[index] = high
    assert_same(call(backend, "clip", x, low, high), expected, signed_zero=False)


@covers("relu_grad")
@drawn(data=st.data())
def relu_grad_is_zero_where_y_is_zero(backend: Backend, data: st.DataObject) -> None:
    grad = data.draw(arrays(kinds=ALL_VALUES), label="grad")
    x = data.draw(arrays(grad.shape, grad.dtype.type, ("integers", "special")), label="x")
    y = Laid(np.maximum(x.values, 0), x.layout)
    expected = grad.values.copy()
    for index in np.ndindex(grad.shape):
        if y.values[index] == 0:
            expected[index] = 0
    assert_same(call(backend, "relu_grad", grad, y), expected, signed_zero=False)


@covers("relu_grad")
def relu_grad_passes_where_y_is_nan(backend: Backend) -> None:
    """NaN spreads: in y the gradient goes on, and in the gradient it stays."""
    for dtype in FLOATS:
        y = np.array([np.nan, np.nan, 0, 1, 0, np.inf, 1], dtype)
        grad = np.array([2, np.nan, np.nan, np.nan, -np.inf, 3, np.inf], dtype)
        expected = np.array([2, np.nan, 0, np.nan, 0, 3, np.inf], dtype)
        assert_same(call(backend, "relu_grad", grad, y), expected, signed_zero=False)


@covers("relu_grad")
def relu_grad_on_many_elements(backend: Backend) -> None:
    for dtype in FLOATS:
        grad = fill(MANY, dtype, "normal", 1)
        y = np.maximum(fill(MANY, dtype, "normal", 2), 0)
        expected = np.where(y > 0, grad, dtype(0))
        for layout in ("contiguous", "fortran"):
            assert_same(call(backend, "relu_grad", Laid(grad, layout), y), expected, False)


def check_activation(backend: Backend, method: str, x: Laid, grad: Laid, *options: Any) -> None:
    """leaky_relu, gelu, gelu_grad, silu_grad: a function of x, times grad if there is one."""
    function = getattr(oracle, method)
    with_grad = method.endswith("_grad")
    slope = oracle.map1(lambda v: function(v, *options), x.values)
    scale = grad.values.astype(np.float64) if with_grad else np.ones(x.shape)
    bound = np.abs(scale) * elementary_bound(method, x.values, slope, x.dtype)
    actual = call(backend, method, *((grad, x) if with_grad else (x,)), *options)
    assert_close(actual, scale * slope, bound, x.dtype)


OPTIONS: dict[str, tuple[tuple[str | float, ...], ...]] = {
    "gelu": (("none",), ("tanh",)),
    "gelu_grad": (("none",), ("tanh",)),
    "silu_grad": ((),),
    "leaky_relu": ((0.01,), (0.125,), (0.2,), (0.0,)),
}


@covers(*OPTIONS)
@drawn(data=st.data())
def activations_agree_with_oracle(backend: Backend, method: str, data: st.DataObject) -> None:
    x = data.draw(arrays(kinds=ALL_VALUES), label="x")
    if method == "leaky_relu":  # 0 * infinity is NaN in one form and 0 in the other
        x = Laid(np.where(np.isinf(x.values), x.dtype.type(1), x.values), x.layout)
    grad = data.draw(arrays(x.shape, x.dtype.type, ("normal", "integers")), label="grad")
    options = data.draw(st.sampled_from(OPTIONS[method]), label="options")
    check_activation(backend, method, x, grad, *options)


@covers(*OPTIONS)
def activations_at_special_values(backend: Backend, method: str) -> None:
    for dtype, options in itertools.product(FLOATS, OPTIONS[method]):
        if options != (0.0,):
            x = special_values(dtype)
            check_activation(backend, method, Laid(x), Laid(np.ones_like(x)), *options)


@covers(*OPTIONS)
def activations_on_many_elements(backend: Backend, method: str) -> None:
    for dtype, options in itertools.product(FLOATS, OPTIONS[method]):
        x, grad = (Laid(3 * fill(MANY, dtype, "normal", s)) for s in (3, 4))
        check_activation(backend, method, x, grad, *options)
