"""Max and average pooling with their gradients."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import BOUNDED, EXACT, FLOATS, Laid, Pair, Pooling, Shape, fill, poolings
from ..tolerances import assert_close, assert_same, sum_bound

# Ties in abundance, also of infinities, NaN and zeros of either sign.
SELECTED = ("integers", "constant", "special", "bits")


@covers("max_pool2d")
@drawn(case=poolings(SELECTED))
def max_pool_selects_the_first_of_the_largest(backend: Backend, case: Pooling) -> None:
    expected, position = oracle.max_pool2d(case.x.values, *case.window)
    y, index = call(backend, "max_pool2d", case.x, *case.window)
    assert_same(index, position)
    assert_same(y, expected, signed_zero=False)


@covers("max_pool2d")
def max_pool_at_minus_infinity_and_nan(backend: Backend) -> None:
    """-inf in x still beats the padding, so the position is inside x; the first NaN wins."""
    for dtype in FLOATS:
        x = np.full((1, 1, 3, 3), -np.inf, dtype)
        y, index = call(backend, "max_pool2d", x, (2, 2), (1, 1), (1, 1))
        expected, position = oracle.max_pool2d(x, (2, 2), (1, 1), (1, 1))
        assert_same(y, expected)
        assert_same(index, position)
        x[0, 0, 0, 1] = x[0, 0, 1, 0] = np.nan
        x[0, 0, 0, 0] = np.inf
        _, index = call(backend, "max_pool2d", x, (2, 2), (2, 2), (0, 0))
        assert index.tolist() == [[[[1]]]]


@covers("max_pool2d_grad")
@drawn(case=poolings(EXACT))
def max_pool_grad_adds_at_the_positions(backend: Backend, case: Pooling) -> None:
    _, position = oracle.max_pool2d(case.x.values, *case.window)
    expected = oracle.max_pool2d_grad(case.grad.values, position, case.x.shape)
    actual = call(backend, "max_pool2d_grad", case.grad, position, case.x.shape)
    assert_same(actual, expected.astype(case.x.dtype), signed_zero=False)


@covers("avg_pool2d", "avg_pool2d_grad")
@drawn(case=poolings(BOUNDED), include=st.booleans())
def avg_pool_agrees_with_oracle(
    backend: Backend, method: str, case: Pooling, include: bool
) -> None:
    """Each result is a sum divided once, or a sum of quotients: two roundings more than a sum."""
    args = (case.x,) if method == "avg_pool2d" else (case.grad, case.x.shape)
    host = [a.values if isinstance(a, Laid) else a for a in args]
    magnitudes = [np.abs(host[0]), *host[1:]]
    function = getattr(oracle, method)
    bound = sum_bound(
        function(*magnitudes, *case.window, include), int(np.prod(case.kernel)) + 2, case.x.dtype
    )
    actual = call(backend, method, *args, *case.window, include)
    assert_close(actual, function(*host, *case.window, include), bound, case.x.dtype)


Network = tuple[Shape, Pair, Pair, Pair]  # (N, C, H, W), kernel, stride, padding

NETWORKS: tuple[Network, ...] = (
    ((4, 6, 28, 28), (2, 2), (2, 2), (0, 0)),
    ((3, 17, 15, 13), (3, 3), (2, 2), (1, 1)),
    ((2, 5, 9, 31), (3, 2), (1, 1), (0, 1)),
    ((64, 3, 7, 7), (7, 7), (7, 7), (0, 0)),
)


def network(numbers: Network, dtype: type) -> Pooling:
    shape, *window = numbers
    sides = zip(shape[2:], *window, strict=True)
    out = (*shape[:2], *(oracle.output_size(*s) for s in sides))
    x, grad = (Laid(fill(s, dtype, "integers", i)) for i, s in enumerate((shape, out)))
    return Pooling(x, grad, *window)


@covers("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
@each("numbers", NETWORKS)
def pools_as_networks_have_them(backend: Backend, method: str, numbers: Network) -> None:
    for dtype in FLOATS:
        case = network(numbers, dtype)
        x, grad, taps = case.x.values, case.grad.values, int(np.prod(case.kernel)) + 2
        if method == "max_pool2d":
            for actual, expected in zip(
                call(backend, method, case.x, *case.window),
                oracle.max_pool2d(x, *case.window),
                strict=True,
            ):
                assert_same(actual, expected, signed_zero=False)
        elif method == "max_pool2d_grad":
            position = oracle.max_pool2d(x, *case.window)[1]
            expected = oracle.max_pool2d_grad(grad, position, x.shape).astype(dtype)
            actual = call(backend, method, case.grad, position, x.shape)
            assert_same(actual, expected, signed_zero=False)
        else:
            args = (x,) if method == "avg_pool2d" else (grad, x.shape)
            function = getattr(oracle, method)
            magnitudes = function(np.abs(args[0]), *args[1:], *case.window, False)
            expected = function(*args, *case.window, False)
            actual = call(backend, method, *args, *case.window, False)
            assert_close(actual, expected, sum_bound(magnitudes, taps, dtype), dtype)
