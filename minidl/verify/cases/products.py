"""Matrix products, einsum and the linear layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import BOUNDED, EXACT, FLOATS, LAYOUTS, Laid, arrays, fill, float_dtypes
from ..tolerances import assert_close, assert_same, sum_bound


@st.composite
def products(draw: st.DrawFn, kinds: tuple[str, ...]) -> tuple[Laid, Laid]:
    """a (..., M, K) and b (..., K, N) whose leading axes broadcast; K and the others may be 0."""
    side = st.integers(0, 6)
    rows, inner, columns = draw(side), draw(side), draw(side)
    lead = draw(st.sampled_from(((), (2,), (3, 2), (0,))))
    left = tuple(n if draw(st.booleans()) else 1 for n in lead)
    right = tuple(n if draw(st.booleans()) else 1 for n in lead)[draw(st.integers(0, len(lead))) :]
    dtype = draw(float_dtypes)
    return (
        draw(arrays((*left, rows, inner), dtype, kinds)),
        draw(arrays((*right, inner, columns), dtype, kinds)),
    )


@covers("matmul")
@drawn(case=products(EXACT))
def matmul_is_exact_on_exact_values(backend: Backend, case: tuple[Laid, Laid]) -> None:
    a, b = case
    expected = oracle.matmul(a.values, b.values).astype(a.dtype)
    assert_same(call(backend, "matmul", a, b), expected, signed_zero=False)


@covers("matmul")
@drawn(case=products(BOUNDED))
def matmul_agrees_with_oracle(backend: Backend, case: tuple[Laid, Laid]) -> None:
    a, b = case
    magnitudes = oracle.matmul(np.abs(a.values), np.abs(b.values))
    bound = sum_bound(magnitudes, a.shape[-1], a.dtype)
    assert_close(call(backend, "matmul", a, b), oracle.matmul(a.values, b.values), bound, a.dtype)


@covers("matmul")
@drawn(case=products(EXACT))
def matmul_writes_where_it_is_told(backend: Backend, case: tuple[Laid, Laid]) -> None:
    """The memory may be a slice of something larger, and hold NaN before."""
    a, b = case
    expected = oracle.matmul(a.values, b.values).astype(a.dtype)
    memory = backend.full((expected.size + 2,), np.nan, a.dtype)
    out = backend.reshape(backend.getitem(memory, slice(1, expected.size + 1)), expected.shape)
    result = backend.matmul(backend.asarray(a.values), backend.asarray(b.values), out)
    assert result is out, "matmul must return out"
    assert_same(backend.to_numpy(out), expected, signed_zero=False)
    around = backend.to_numpy(memory)[[0, -1]]
    assert np.isnan(around).all(), "matmul wrote beside out"


# Sides around vector widths, block sizes and the sizes at which work is shared between threads.
SIZES = ((1, 300, 1), (17, 33, 65), (128, 784, 10), (257, 129, 31), (2, 2000, 3), (300, 260, 230))


@covers("matmul", "linear", "linear_relu")
@each("sizes", SIZES)
def matrices_as_networks_have_them(
    backend: Backend, method: str, sizes: tuple[int, int, int]
) -> None:
    rows, inner, columns = sizes
    for dtype, layout in itertools.product(FLOATS, LAYOUTS[:5]):
        x = Laid(fill((rows, inner), dtype, "integers", 1), layout)
        weight = Laid(fill((columns, inner), dtype, "integers", 2), layout)
        bias = fill((columns,), dtype, "integers", 3)
        expected = x.values.astype(np.float64) @ weight.values.T.astype(np.float64)
        if method != "matmul":
            actual = call(backend, method, x, weight, bias)
            expected += bias
            if method == "linear_relu":
                expected = np.maximum(expected, 0)
        else:
            actual = call(backend, "matmul", x, Laid(weight.values.T.copy(), layout))
        assert_same(actual, expected.astype(dtype), signed_zero=False)


@covers("matmul")
@each("sizes", SIZES)
def large_products_are_written_where_told(backend: Backend, sizes: tuple[int, int, int]) -> None:
    rows, inner, columns = sizes
    for dtype, order in itertools.product(FLOATS, ((0, 1), (1, 0))):
        a, b = (fill(s, dtype, "integers", 1) for s in ((rows, inner), (inner, columns)))
        shape = (rows, columns) if order == (0, 1) else (columns, rows)
        out = backend.transpose(backend.full(shape, np.nan, np.dtype(dtype)), order)
        result = backend.matmul(backend.asarray(a), backend.asarray(b), out)
        assert result is out, "matmul must return out"
        expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
        assert_same(backend.to_numpy(out), expected, signed_zero=False)


@covers("matmul")
def batched_matrices_as_attention_has_them(backend: Backend) -> None:
    for dtype in FLOATS:
        q = fill((2, 4, 33, 16), dtype, "integers", 4)
        k = fill((2, 4, 47, 16), dtype, "integers", 5)
        expected = np.einsum("bhtd,bhsd->bhts", q.astype(np.float64), k.astype(np.float64))
        kt = Laid(np.ascontiguousarray(k.swapaxes(-1, -2)), "fortran")
        assert_same(call(backend, "matmul", q, kt), expected.astype(dtype), signed_zero=False)


@covers("matmul", "linear", "linear_relu")
def nan_reaches_exactly_its_row(backend: Backend, method: str) -> None:
    """Zero times NaN is NaN: no product may be skipped because the other factor is 0."""
    for dtype in FLOATS:
        x = np.zeros((3, 4), dtype)
        x[1, 2] = np.nan
        other = np.zeros((5, 4), dtype)
        args = (other.T.copy(),) if method == "matmul" else (other, None)
        expected = np.zeros((3, 5), dtype)
        expected[1] = np.nan
        assert_same(call(backend, method, x, *args), expected)


Linear = tuple[Laid, Laid, Laid | None]  # x (N, D), weight (O, D), bias (O,)


@st.composite
def linears(draw: st.DrawFn, kinds: tuple[str, ...]) -> Linear:
    rows, inner, columns = (draw(st.integers(0, 7)) for _ in range(3))
    dtype = draw(float_dtypes)
    return (
        draw(arrays((rows, inner), dtype, kinds)),
        draw(arrays((columns, inner), dtype, kinds)),
        draw(st.none() | arrays((columns,), dtype, kinds)),
    )


def host(
    bias: Laid | None, function: Callable[[np.ndarray], np.ndarray] = lambda b: b
) -> np.ndarray | None:
    return None if bias is None else function(bias.values)


@covers("linear", "linear_relu")
@drawn(case=linears(EXACT))
def linear_is_exact_on_exact_values(backend: Backend, method: str, case: Linear) -> None:
    x, weight, bias = case
    expected = getattr(oracle, method)(x.values, weight.values, host(bias)).astype(x.dtype)
    assert_same(call(backend, method, *case), expected, signed_zero=False)


@covers("linear", "linear_relu")
@drawn(case=linears(BOUNDED))
def linear_agrees_with_oracle(backend: Backend, method: str, case: Linear) -> None:
    """relu magnifies no error, so both have the same bound."""
    x, weight, bias = case
    magnitudes = oracle.linear(np.abs(x.values), np.abs(weight.values), host(bias, np.abs))
    bound = sum_bound(magnitudes, x.shape[1] + 1, x.dtype)
    expected = getattr(oracle, method)(x.values, weight.values, host(bias))
    assert_close(call(backend, method, *case), expected, bound, x.dtype)


Gradients = tuple[Laid, Laid | None, Laid | None, Laid | None, bool]  # as linear_grad takes them


@st.composite
def gradients(draw: st.DrawFn, kinds: tuple[str, ...]) -> Gradients:
    rows, inner, columns = (draw(st.integers(0, 7)) for _ in range(3))
    dtype = draw(float_dtypes)
    x, weight, y = (
        draw(st.none() | arrays(shape, dtype, kinds))
        for shape in ((rows, inner), (columns, inner), (rows, columns))
    )
    bias = draw(st.booleans()) or (x is None and weight is None)
    return draw(arrays((rows, columns), dtype, kinds)), x, weight, y, bias


def all_three(case: Gradients, function: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """The oracle's gradients that are wanted, of the function of grad, x and weight."""
    grad, x, weight, y, bias = case
    (rows, columns), inner = grad.shape, next((a.shape[1] for a in (x, weight) if a), 0)
    factor = np.zeros((rows, inner)) if x is None else function(x.values)
    matrix = np.zeros((columns, inner)) if weight is None else function(weight.values)
    gate = None if y is None else y.values
    found = oracle.linear_grad(function(grad.values), factor, matrix, gate)
    wanted = zip(found, (weight is not None, x is not None, bias), strict=True)
    return [g for g, want in wanted if want]


@covers("linear_grad")
@drawn(case=gradients(EXACT))
def linear_grad_is_exact_on_exact_values(backend: Backend, case: Gradients) -> None:
    found, dtype = call(backend, "linear_grad", *case), case[0].dtype
    for actual, expected in zip(found, all_three(case, lambda a: a), strict=True):
        assert_same(actual, expected.astype(dtype), signed_zero=False)


@covers("linear_grad")
@drawn(case=gradients(BOUNDED))
def linear_grad_agrees_with_oracle(backend: Backend, case: Gradients) -> None:
    found, (grad, *_) = call(backend, "linear_grad", *case), case
    checks = zip(found, all_three(case, lambda a: a), all_three(case, np.abs), strict=True)
    for actual, expected, magnitudes in checks:
        bound = sum_bound(magnitudes, max(grad.shape), grad.dtype)
        assert_close(actual, expected, bound, grad.dtype)


@covers("linear_grad")
@each("sizes", SIZES)
def gradients_of_layers_as_networks_have_them(
    backend: Backend, sizes: tuple[int, int, int]
) -> None:
    """In memory that was given and in new memory, with and without a relu."""
    rows, inner, columns = sizes
    for dtype, layout, relu in itertools.product(FLOATS, LAYOUTS[:5], (False, True)):
        g, x, weight = (
            Laid(fill(shape, dtype, "integers", i), layout)
            for i, shape in enumerate(((rows, columns), (rows, inner), (columns, inner)))
        )
        y = Laid(fill((rows, columns), dtype, "integers", 3), layout) if relu else None
        passed = g.values.astype(np.float64) * (y.values > 0 if y else 1)
        expected = (passed @ weight.values, passed.T @ x.values, passed.sum(0))
        for array, want in zip(call(backend, "linear_grad", g, x, weight, y, True), expected,
                               strict=True):  # fmt: skip
            assert_same(array, want.astype(dtype), signed_zero=False)
        out = [backend.full(e.shape, np.nan, np.dtype(dtype)) for e in expected[1:]]
        gate = None if y is None else backend.asarray(y.values)
        native = backend.asarray(g.values), backend.asarray(x.values)
        result = backend.linear_grad(*native, None, gate, True, (out[0], out[1]))
        assert result[0] is out[0], "linear_grad must return out"
        assert result[1] is out[1], "linear_grad must return out"
        for array, want in zip(out, expected[1:], strict=True):
            assert_same(backend.to_numpy(array), want.astype(dtype), signed_zero=False)


@covers("linear_grad")
def a_relu_passes_gradients_where_its_result_is_nan(backend: Backend) -> None:
    for dtype in FLOATS:
        y = np.array([[0, -0.0, 1, np.nan, np.inf]], dtype)
        grad = np.array([[np.nan, np.inf, 2, 3, np.nan]], dtype)
        x = np.ones((1, 1), dtype)
        weight_grad, bias_grad = call(backend, "linear_grad", grad, x, None, y, True)
        assert_same(bias_grad, np.array([0, 0, 2, 3, np.nan], dtype))
        assert_same(weight_grad, bias_grad.reshape(5, 1))


SUBSCRIPTS = (
    "ij,jk->ik", "ij,kj->ik", "bij,bjk->bik", "bhtd,bhsd->bhts", "ij->ji", "ij->", "ij->j",
    "i,j->ij", "i,i->", "ij,ij->ij", "bi,oi,o->bo", "abc,cd->abd", "ij,jk,kl->il", "ii->i", "ii->",
)  # fmt: skip


Einsum = tuple[str, dict[str, int], list[Laid]]  # subscripts, the size of each letter, operands


@st.composite
def einsums(draw: st.DrawFn, kinds: tuple[str, ...]) -> Einsum:
    subscripts = draw(st.sampled_from(SUBSCRIPTS))
    terms = subscripts.split("->")[0].split(",")
    size = {c: draw(st.integers(0, 3)) for c in sorted(set("".join(terms)))}
    dtype = draw(float_dtypes)
    shapes = [tuple(size[c] for c in term) for term in terms]
    return subscripts, size, [draw(arrays(shape, dtype, kinds)) for shape in shapes]


@covers("einsum")
@drawn(case=einsums(EXACT))
def einsum_is_exact_on_exact_values(backend: Backend, case: Einsum) -> None:
    subscripts, _, operands = case
    expected = oracle.einsum(subscripts, *(x.values for x in operands))
    actual = call(backend, "einsum", subscripts, *operands)
    assert_same(actual, np.asarray(expected, operands[0].dtype), signed_zero=False)


@covers("einsum")
@drawn(case=einsums(BOUNDED))
def einsum_agrees_with_oracle(backend: Backend, case: Einsum) -> None:
    subscripts, size, operands = case
    dtype = operands[0].dtype
    magnitudes = oracle.einsum(subscripts, *(np.abs(x.values) for x in operands))
    summed = set(size) - set(subscripts.split("->")[1])
    terms = int(np.prod([size[c] for c in summed])) + len(operands)
    expected = oracle.einsum(subscripts, *(x.values for x in operands))
    bound = sum_bound(magnitudes, terms, dtype)
    assert_close(call(backend, "einsum", subscripts, *operands), expected, bound, dtype)
