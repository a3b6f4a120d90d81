"""Reductions and the softmax family."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..running import Approx
from ..strategies import (
    BOUNDED,
    EXACT,
    FLOATS,
    RACES,
    Axes,
    Laid,
    Shape,
    arrays,
    axes_of,
    fill,
    seeds,
    shapes,
)
from ..tolerances import assert_close, assert_same, long_sum_bound, sum_bound

ALL_VALUES = ("integers", "normal", "special", "wide", "bits")
LARGE = ((70001,), (263, 301), (7, 10007), (10007, 7), (5, 67, 211))

SIDES = st.integers(1, 5)

Reduction = tuple[Laid, Axes, bool]  # an array, axes to reduce and keepdims


@st.composite
def reductions(
    draw: st.DrawFn, kinds: tuple[str, ...] = BOUNDED, sides: st.SearchStrategy[int] = SIDES
) -> Reduction:
    """An array, axes to reduce (none of them empty), and keepdims."""
    x = draw(arrays(st.lists(sides, max_size=4).map(tuple), kinds=kinds))
    return x, draw(axes_of(x.values.ndim)), draw(st.booleans())


def terms(x: np.ndarray, axis: Axes) -> int:
    """How many elements one result is made of."""
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return int(np.prod([x.shape[a] for a in axes], dtype=np.int64))


def summed(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    """Magnitudes added up, for bounds."""
    total: np.ndarray = np.abs(x.astype(np.float64)).sum(axis=axis, keepdims=keepdims)
    return total


@covers("sum")
@drawn(case=reductions(kinds=EXACT, sides=st.integers(0, 5)))
def sum_is_exact_on_exact_values(backend: Backend, case: Reduction) -> None:
    x, axis, keepdims = case
    expected = oracle.total(x.values, axis, keepdims).astype(x.dtype)
    assert_same(call(backend, "sum", x, axis, keepdims), expected, signed_zero=False)


@covers("sum", "mean")
@drawn(case=reductions())
def sums_agree_with_oracle(backend: Backend, method: str, case: Reduction) -> None:
    x, axis, keepdims = case
    function = oracle.total if method == "sum" else oracle.mean
    n = terms(x.values, axis)
    bound = sum_bound(summed(x.values, axis, keepdims), n, x.dtype) / (n if method == "mean" else 1)
    actual = call(backend, method, x, axis, keepdims)
    assert_close(actual, function(x.values, axis, keepdims), bound, x.dtype)


@covers("sum", "mean", "var")
@each("shape", LARGE)
def sums_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    """Along every axis of long, wide and deep arrays, in both memory orders."""
    function = getattr(np, method)
    for dtype, layout in itertools.product(FLOATS, ("contiguous", "fortran", "reversed")):
        x = Laid(fill(shape, dtype, "normal", 4), layout)
        for axis in (None, *range(len(shape)), tuple(range(1, len(shape)))):
            if method == "var":
                bound = running_var(x.values, axis, 0, False).bound
            else:
                n = terms(x.values, axis)
                bound = sum_bound(summed(x.values, axis, False), n, dtype)
                bound = bound / (n if method == "mean" else 1)
            expected = function(x.values.astype(np.longdouble), axis=axis).astype(np.float64)
            assert_close(call(backend, method, x, axis), expected, bound, dtype)


@covers("sum", "mean")
@each("shape", LARGE)
def exact_sums_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    """No element is left out: sums of eighths are exact in any order, and a mean rounds twice."""
    for dtype, layout in itertools.product(FLOATS, ("contiguous", "fortran", "reversed")):
        x = Laid(fill(shape, dtype, "eighths", 4), layout)
        for axis in (None, *range(len(shape)), tuple(range(1, len(shape)))):
            expected = np.asarray(getattr(np, method)(x.values.astype(np.float64), axis=axis))
            actual = call(backend, method, x, axis)
            if method == "sum":
                assert_same(actual, expected.astype(dtype), signed_zero=False)
            else:
                assert_close(actual, expected, sum_bound(np.abs(expected), 1, dtype), dtype)


@covers("sum")
def tall_columns_lose_nothing(backend: Backend) -> None:
    """Where threads share the rows, two that add to one total at a time would lose a term."""
    x = fill((2_000_003, 3), np.float32, "integers", 4)
    expected = x.sum(axis=0, dtype=np.float64).astype(np.float32)
    for _ in range(RACES):
        assert_same(call(backend, "sum", x, 0), expected, signed_zero=False)


@covers("sum", "mean")
def a_long_row_is_not_added_up_one_by_one(backend: Backend, method: str) -> None:
    """Equal elements round the same way for a long time, so such a sum drifts by percents."""
    n, dtype = 1 << 20, np.float32
    x = np.full((2, n), 0.1, dtype)
    row = np.float64(x[0, 0]) * (n if method == "sum" else 1)
    for values, axis, expected in ((x, 1, np.full(2, row)), (x[0], None, np.asarray(row))):
        bound = long_sum_bound(expected, n, dtype)
        assert_close(call(backend, method, values, axis), expected, bound, dtype)


@covers("sum", "cumsum")
@each("dtype", [np.bool_, np.int8, np.uint8, np.int32, np.int64])
def integers_add_up_in_int64(backend: Backend, method: str, dtype: type) -> None:
    x: np.ndarray = np.full((3, 70001), np.iinfo(dtype).max if dtype != np.bool_ else True, dtype)
    if dtype == np.int64:
        x >>= 20  # so that the sum fits
    for axis in (None, 0, 1) if method == "sum" else (0, 1):
        expected = np.asarray(getattr(np, method)(x.astype(np.int64), axis=axis))
        assert_same(call(backend, method, x, axis), expected)


@covers("mean")
@drawn(case=reductions(kinds=EXACT, sides=st.sampled_from((1, 2, 4, 8))))
def mean_of_a_power_of_two_elements_is_exact(backend: Backend, case: Reduction) -> None:
    x, axis, keepdims = case
    expected = oracle.mean(x.values, axis, keepdims).astype(x.dtype)
    assert_same(call(backend, "mean", x, axis, keepdims), expected, signed_zero=False)


def running_var(x: np.ndarray, axis: Axes, correction: float, keepdims: bool) -> Approx:
    """The two-pass formula with its rounding errors."""
    values = Approx(x, x.dtype)
    deviation = values - values.mean(axis)
    return (deviation * deviation).sum(axis, keepdims) / (terms(x, axis) - correction)


@covers("var")
@drawn(case=reductions(), correction=st.sampled_from((0, 1, 0.5)))
def var_agrees_with_oracle(backend: Backend, case: Reduction, correction: float) -> None:
    x, axis, keepdims = case
    if terms(x.values, axis) <= correction:
        return
    expected = oracle.var(x.values, axis, correction, keepdims)
    bound = running_var(x.values, axis, correction, keepdims).bound
    assert_close(call(backend, "var", x, axis, correction, keepdims), expected, bound, x.dtype)


@covers("var")
def var_of_values_far_from_zero(backend: Backend) -> None:
    """The mean of the squares less the square of the mean would cancel to nothing here."""
    for dtype, axis in itertools.product(FLOATS, (0, 1)):
        x = (2**12 + fill((9, 7), dtype, "normal", 2)).astype(dtype)
        running = running_var(x, axis, 1, False)
        assert_close(call(backend, "var", x, axis, 1), running.value, running.bound, dtype)


@covers("max", "min")
@drawn(case=reductions(kinds=ALL_VALUES))
def extremes_agree_with_oracle(backend: Backend, method: str, case: Reduction) -> None:
    x, axis, keepdims = case
    expected = oracle.extreme(x.values, axis, keepdims, method == "max")
    assert_same(call(backend, method, x, axis, keepdims), expected, signed_zero=False)


@covers("max", "min", "argmax", "argmin")
@each("shape", LARGE)
def extremes_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    """Ties, of which the first counts; one extreme, in the last element; a NaN in some lines."""
    for dtype, where in itertools.product((*FLOATS, np.int8, np.int64), ("ties", "last", "nan")):
        if where == "nan" and np.dtype(dtype).kind != "f":
            continue
        x = fill(shape, np.float64, "normal", 9)
        x = np.clip(np.round(16 * x), -40, 40).astype(dtype)
        if where == "last":
            x.reshape(-1)[-1] = 41 if method.endswith("max") else -41
        elif where == "nan":
            x.reshape(-1)[x.size // 2] = np.nan
        for axis in (None, *range(len(shape))):
            expected = np.asarray(getattr(np, method)(x, axis=axis))
            assert_same(call(backend, method, x, axis), expected, signed_zero=False)


@covers("argmax", "argmin")
@drawn(data=st.data())
def arg_finds_the_first(backend: Backend, method: str, data: st.DataObject) -> None:
    x = data.draw(arrays(shapes(min_side=1), kinds=("integers", "special", "bits")), label="x")
    ndim = x.values.ndim
    axis = data.draw(st.none() | st.integers(0, ndim - 1) if ndim else st.none(), label="axis")
    expected = oracle.arg(x.values, axis, method == "argmax")
    assert_same(call(backend, method, x, axis), expected)


Lines = tuple[list[Laid], int]  # arrays of one shape, and the axis along which their lines lie


@st.composite
def along_one_axis(draw: st.DrawFn, kinds: tuple[str, ...] = BOUNDED, count: int = 1) -> Lines:
    """Arrays of one shape with at least one axis, and an axis that is not empty."""
    shape = draw(shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(0, len(shape) - 1))
    if draw(st.integers(0, 5)) == 5:  # no rows at all
        shape = tuple(n if a == axis else 0 for a, n in enumerate(shape))
    dtype = draw(st.sampled_from(FLOATS))
    return [draw(arrays(shape, dtype, kinds)) for _ in range(count)], axis


@covers("cumsum")
@drawn(case=along_one_axis())
def cumsum_agrees_with_oracle(backend: Backend, case: Lines) -> None:
    (x,), axis = case
    magnitudes = np.cumsum(np.abs(x.values.astype(np.float64)), axis)
    bound = sum_bound(magnitudes, x.shape[axis], x.dtype)
    assert_close(call(backend, "cumsum", x, axis), oracle.cumsum(x.values, axis), bound, x.dtype)


@covers("cumsum")
def cumsum_of_many_elements_is_exact(backend: Backend) -> None:
    for dtype in FLOATS:
        x = fill((41, 1009), dtype, "eighths", 2)
        for axis in (0, 1):
            expected = np.cumsum(x.astype(np.float64), axis).astype(dtype)
            assert_same(call(backend, "cumsum", x, axis), expected, signed_zero=False)


def running_softmax(x: np.ndarray, axis: Axes) -> tuple[Approx, Approx, Approx]:
    """softmax, log_softmax and logsumexp (axis kept) with their rounding errors.

    The maximum is one of the elements, so it carries no error.
    """
    peak = x.max(axis=axis, keepdims=True).astype(np.float64)
    shifted = Approx(x, x.dtype) - peak
    powers = shifted.exp()
    total = powers.sum(axis)
    log_total = total.log()
    return powers / total, shifted - log_total, log_total + peak


@covers("logsumexp")
@drawn(case=reductions())
def logsumexp_agrees_with_oracle(backend: Backend, case: Reduction) -> None:
    x, axis, keepdims = case
    expected = oracle.logsumexp(x.values, axis, keepdims)
    bound = running_softmax(x.values, axis)[2].bound.reshape(expected.shape)
    assert_close(call(backend, "logsumexp", x, axis, keepdims), expected, bound, x.dtype)


@covers("softmax", "log_softmax")
@drawn(case=along_one_axis())
def softmax_agrees_with_oracle(backend: Backend, method: str, case: Lines) -> None:
    (x,), axis = case
    expected = getattr(oracle, method)(x.values, axis)
    bound: np.ndarray | float = 0.0
    if x.values.size:
        bound = running_softmax(x.values, axis)[method == "log_softmax"].bound
    assert_close(call(backend, method, x, axis), expected, bound, x.dtype)


@covers("softmax", "log_softmax", "logsumexp")
@each("shape", LARGE)
def softmax_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    position = ("softmax", "log_softmax", "logsumexp").index(method)
    for dtype, layout in itertools.product(FLOATS, ("contiguous", "fortran")):
        x = Laid(fill(shape, dtype, "normal", 6), layout)
        for axis in range(len(shape)):
            running = running_softmax(x.values, axis)[position]
            expected, bound = running.value, running.bound
            if method == "logsumexp":
                expected, bound = expected.squeeze(axis), bound.squeeze(axis)
            assert_close(call(backend, method, x, axis), expected, bound, dtype)


INF = float("inf")


@covers("softmax", "log_softmax", "logsumexp")
def softmax_of_large_and_infinite_values(backend: Backend, method: str) -> None:
    """Nothing overflows on the way, -inf has probability 0, and NaN spreads in its own row."""
    rows = [[1e30, 0.0, -1e30], [-1e30, -1e30, -1e30], [-INF, 0.0, 0.0], [np.nan, 0.0, -INF]]
    log2 = np.log(2.0)
    expected = {
        "softmax": [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5], [np.nan] * 3],
        "log_softmax": [[0, -1e30, -2e30], [-np.log(3)] * 3, [-INF, -log2, -log2], [np.nan] * 3],
        "logsumexp": [1e30, -1e30, log2, np.nan],
    }[method]
    for dtype in FLOATS:
        x = np.array(rows, dtype)
        running = running_softmax(x[:3].clip(-1e30), 1)
        position = ("softmax", "log_softmax", "logsumexp").index(method)
        bound = running[position].bound
        bound = np.concatenate([bound, bound[:1]])
        want = np.array(expected, dtype).astype(np.float64)
        bound = bound[:, 0] if method == "logsumexp" else bound
        assert_close(call(backend, method, x, 1), want, bound, dtype)


@covers("logsumexp")
def logsumexp_of_infinities_is_infinite(backend: Backend) -> None:
    """log(0) where every term is e^-inf, as a fully masked row has it."""
    for dtype in FLOATS:
        x = np.array([[-INF, -INF], [INF, 0.0], [INF, -INF]], dtype)
        expected = np.array([-INF, INF, INF], dtype)
        assert_same(call(backend, "logsumexp", x, 1), expected)


def running_softmax_grad(method: str, grad: np.ndarray, y: np.ndarray, axis: int) -> Approx:
    g, p = Approx(grad, grad.dtype), Approx(y, y.dtype)
    if method == "softmax_grad":
        return p * g - p * (g * p).sum(axis)
    return g - p.exp() * g.sum(axis)


@covers("softmax_grad", "log_softmax_grad")
@drawn(case=along_one_axis(kinds=("integers", "normal", "constant"), count=2))
def softmax_grads_agree_with_oracle(backend: Backend, method: str, case: Lines) -> None:
    (grad, x), axis = case
    forward = oracle.softmax if method == "softmax_grad" else oracle.log_softmax
    y = Laid(forward(x.values, axis).astype(x.dtype), grad.layout)
    expected = getattr(oracle, method)(grad.values, y.values, axis)
    if grad.layout == "broadcast":
        y = Laid(y.values)
    bound = running_softmax_grad(method, grad.values, y.values, axis).bound
    assert_close(call(backend, method, grad, y, axis), expected, bound, x.dtype)


@covers("softmax_grad", "log_softmax_grad")
@each("shape", LARGE)
def softmax_grads_of_many_elements(backend: Backend, method: str, shape: Shape) -> None:
    for dtype in FLOATS:
        grad = fill(shape, dtype, "normal", 1)
        for axis in range(len(shape)):
            softmax, log_softmax, _ = running_softmax(fill(shape, dtype, "normal", 2), axis)
            y = (softmax if method == "softmax_grad" else log_softmax).value.astype(dtype)
            running = running_softmax_grad(method, grad, y, axis)
            assert_close(call(backend, method, grad, y, axis), running.value, running.bound, dtype)


@covers("sum", "mean", "max", "min")
@drawn(seed=seeds)
def nan_reaches_exactly_its_own_result(backend: Backend, method: str, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.integers(-3, 4, (3, 4, 5)).astype(np.float32)
    x[tuple(rng.integers(0, n) for n in x.shape)] = np.nan
    for axis in (None, 0, 1, 2, (0, 2)):
        expected = np.isnan(getattr(np, method)(x, axis=axis))
        assert np.array_equal(np.isnan(call(backend, method, x, axis)), expected)
