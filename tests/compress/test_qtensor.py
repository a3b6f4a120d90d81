"""Codes and what they stand for: the laws of quantization, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl.compress import MinMax, QTensor, quantize, sqnr
from minidl.compress.packing import pack_int4, unpack_int4
from minidl.errors import ArgumentError, DTypeError, NonFiniteError, ShapeError
from minidl.verify.strategies import arrays, shapes
from minidl.verify.tolerances import assert_close, assert_same, quantization_bound

SCHEMES = (
    ("symmetric", None), ("affine", None), ("affine", "int8"), ("symmetric", "int4"),
    ("affine", "int4"),
)  # fmt: skip
schemes = st.sampled_from(SCHEMES)
KINDS = ("integers", "normal", "offset", "constant", "wide")


@st.composite
def quantizations(draw):
    """x, the scheme, an axis or None, and the size of groups or None."""
    x = draw(arrays(shapes(max_dims=3), kinds=KINDS, plain=True)).values
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1)) if x.ndim else None
    grouped = axis is None and x.ndim > 0
    return x, *draw(schemes), axis, draw(st.none() | st.integers(1, 4)) if grouped else None


def encoded(backend, x, scheme, dtype, axis, size=None) -> QTensor:
    return quantize(minidl.tensor(x, backend=backend), scheme, dtype, axis, group_size=size)


@given(case=quantizations())
def test_codes_scales_and_zero_points_are_the_same_bits_everywhere(backend, reference, case):
    here, there = encoded(backend, *case), encoded(reference, *case)
    assert_same(here.numpy(), there.numpy())
    assert_same(here.scale.numpy(), there.scale.numpy())
    assert_same(here.zero_point.numpy(), there.zero_point.numpy())


@given(case=quantizations())
def test_quantizing_twice_changes_nothing(backend, case):
    q = encoded(backend, *case)
    assert_same(quantize(q.dequantize(), like=q).numpy(), q.numpy())


@given(case=quantizations())
def test_error_is_at_most_half_a_step(backend, case):
    """The grid covers all of x. The quotient, the scale and the product round once each."""
    x = case[0]
    q = encoded(backend, *case)
    steps = np.broadcast_to(backend.to_numpy(q.along(q.scale)), x.shape).astype(np.float64)
    bound = quantization_bound(x, steps)
    assert_close(q.dequantize().numpy(), x.astype(np.float64), bound, x.dtype)


@given(case=quantizations())
def test_zero_has_a_code_of_its_own(backend, case):
    q = encoded(backend, *case)
    zeros = minidl.tensor(np.zeros_like(case[0]), backend=backend)
    assert_same(quantize(zeros, like=q).dequantize().numpy(), zeros.numpy(), signed_zero=False)


@given(case=quantizations())
def test_an_axis_means_a_grid_for_each_slice(backend, case):
    x, scheme, dtype, axis, _ = case
    if axis is None:
        return
    q = encoded(backend, *case)
    assert q.scale.shape == q.zero_point.shape == (x.shape[axis],)
    for i in range(x.shape[axis]):
        alone = encoded(backend, np.take(x, i, axis), scheme, dtype, None)
        assert_same(np.take(q.numpy(), i, axis), alone.numpy())
        assert q.scale.numpy()[i] == alone.scale.item()


@given(case=quantizations())
def test_moving_between_backends_changes_nothing(backend, reference, case):
    q = encoded(backend, *case)
    there = q.to(reference)
    for moved, target in ((there, reference), (there.to(backend), backend)):
        assert isinstance(moved, QTensor)
        assert moved.backend is moved.scale.backend is moved.zero_point.backend is target
        assert_same(moved.numpy(), q.numpy())
        assert_same(moved.dequantize().numpy(), q.dequantize().numpy())
        assert (moved.axis, moved.scheme) == (q.axis, q.scheme)
        assert moved.group_size == q.group_size


@given(case=quantizations())
def test_groups_are_runs_along_the_last_axis(backend, case):
    x, scheme, dtype, _, size = case
    if size is None:
        return
    q = encoded(backend, *case)
    assert q.scale.shape == (*x.shape[:-1], -(-x.shape[-1] // size))
    for row in np.ndindex(x.shape[:-1]):
        for i, start in enumerate(range(0, x.shape[-1], size)):
            group = (*row, slice(start, start + size))
            alone = encoded(backend, x[group], scheme, dtype, None)
            assert_same(q.numpy()[group], alone.numpy())
            assert q.scale.numpy()[(*row, i)] == alone.scale.item()


@given(case=quantizations())
def test_negative_numbers_have_the_negative_codes(backend, case):
    """Of a symmetric scheme, with 8 and with 4 bits."""
    x, scheme, *rest = case
    if scheme == "symmetric":
        assert_same(encoded(backend, -x, scheme, *rest).numpy(), -encoded(backend, *case).numpy())


@given(codes=st.lists(st.lists(st.integers(-8, 7), min_size=5, max_size=5), max_size=4))
def test_packing_4_bit_codes_loses_nothing(codes):
    for columns in (4, 5):
        plain = np.array(codes, np.int8).reshape(-1, 5)[:, :columns]
        packed = pack_int4(plain)
        assert packed.shape == (len(codes), (columns + 1) // 2)
        assert_same(unpack_int4(packed, columns), plain)


def test_a_chosen_range_takes_the_place_of_the_numbers_own(backend):
    x = minidl.tensor([[1.0, -2.0], [0.25, 9.0]], backend=backend)
    q = quantize(x, bounds=(-12.7, 12.7))
    assert q.tolist() == [[10, -20], [2, 90]]
    q = quantize(x, axis=0, bounds=([0.0, 0.0], [12.7, 1.27]))
    assert q.tolist() == [[10, -20], [25, 127]]
    seen = MinMax(axis=0)
    seen.observe(x)
    assert_same(quantize(x, axis=0, bounds=seen.bounds()).numpy(), quantize(x, axis=0).numpy())


@pytest.mark.parametrize(
    ("bounds", "error", "match"),
    [
        (1.0, ArgumentError, "a pair"),
        (([0.0], [1.0]), ShapeError, r"bounds have shape \(1,\)"),
        ((0.0, np.nan), NonFiniteError, "low <= high"),
        ((np.inf, -np.inf), NonFiniteError, "has the observer seen data"),
        ((1.0, 0.0), NonFiniteError, "low <= high"),
    ],
)
def test_a_range_that_is_none_is_refused(backend, bounds, error, match):
    with pytest.raises(error, match=match):
        quantize(minidl.ones((2, 3), backend=backend), bounds=bounds)


def test_symmetric_codes_span_the_larger_side(backend):
    q = quantize(minidl.tensor([-0.5, 0.0, 2.0], backend=backend))
    assert q.tolist() == [-32, 0, 127]
    assert q.dtype == np.int8
    assert q.zero_point.item() == 0


def test_affine_codes_span_the_range_and_zero(backend):
    x = minidl.tensor([1.0, 128.0, 255.0], backend=backend)
    assert quantize(x, "affine").tolist() == [1, 128, 255]
    assert quantize(-x, "affine").tolist() == [254, 127, 0]
    assert quantize(x, "affine", "int8").tolist() == [-127, 0, 127]


@pytest.mark.parametrize(
    ("scheme", "dtype", "ends"),
    [("symmetric", None, (-127, 127)), ("affine", None, (0, 255)), ("affine", "int8", (-128, 127))],
)
def test_numbers_beyond_a_given_grid_get_the_last_code(backend, scheme, dtype, ends):
    q = quantize(minidl.tensor([-1.0, 1.0], backend=backend), scheme, dtype)
    x = minidl.tensor([-100.0, 100.0, np.inf], backend=backend)
    assert quantize(x, like=q).tolist() == [ends[0], ends[1], ends[1]]


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((0, 2)), np.full(2, 1e-45, np.float32)])
def test_ranges_without_width_are_no_trouble(backend, x):
    q = quantize(minidl.tensor(np.float32(x), backend=backend), "affine")
    assert 0 < q.scale.item() < np.inf
    assert q.shape == x.shape


def test_zeros_alone_have_a_scale_of_one(backend):
    for scheme, zero in (("symmetric", 0), ("affine", 0)):
        q = quantize(minidl.zeros(3, backend=backend), scheme)
        assert (q.scale.item(), q.zero_point.item(), q.tolist()) == (1.0, zero, [zero] * 3)
    assert quantize(minidl.zeros(1, backend=backend), "affine", "int8").tolist() == [-128]


def test_repr_names_what_the_codes_mean():
    text = repr(quantize(minidl.tensor([[1.0], [2.0]]), axis=0))
    for part in ("QTensor([[127],", "dtype=int8", "scale=[0.0078", "zero_point=[0, 0]", "axis=0"):
        assert part in text
    text = repr(quantize(minidl.tensor(np.diag([1.0, 2, 3, 4, 5]) * 127), axis=0))
    assert "scale=[1., 2., ..., 4., 5.], zero_point=[0, 0, ..., 0, 0]" in text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_range_that_is_not_finite_is_refused(backend, bad):
    with pytest.raises(NonFiniteError, match="not finite"):
        quantize(minidl.tensor([1.0, bad], backend=backend))


def test_wrong_arguments_are_refused(backend):
    x = minidl.ones((2, 3), backend=backend)
    with pytest.raises(ArgumentError, match="symmetric, affine"):
        quantize(x, "asymmetric")
    with pytest.raises(ArgumentError, match="codes of int8 or int4, not uint8"):
        quantize(x, "symmetric", "uint8")
    with pytest.raises(ShapeError, match="axis 2"):
        quantize(x, axis=2)
    with pytest.raises(DTypeError, match="floating"):
        quantize(x.astype("int8"))
    with pytest.raises(DTypeError, match="like must be a QTensor, got float"):
        quantize(x, like=0.5)
    for other in (minidl.ones((4, 3), backend=backend), minidl.ones((), backend=backend)):
        with pytest.raises(ShapeError, match="like has 2 slices along axis 0"):
            quantize(other, like=quantize(x, axis=0))
    with pytest.raises(ShapeError, match="like has 4 slices of 2 numbers"):
        quantize(other, like=quantize(x, group_size=2))
    with pytest.raises(ArgumentError, match="leave out axis"):
        quantize(x, axis=0, group_size=2)
    with pytest.raises(ShapeError, match="0 axes"):
        quantize(other, group_size=2)
    with pytest.raises(ShapeError, match="like has 3 slices along axis 1"):
        quantize(other, like=quantize(x, axis=1))


def test_sqnr_needs_numbers_of_one_shape():
    with pytest.raises(ShapeError, match=r"sqnr: shapes \(1,\) and \(2,\) must be equal"):
        sqnr([1.0], [1.0, 2.0])
    with pytest.raises(DTypeError, match="sqnr: needs tensors or arrays"):
        sqnr("a", [1.0])


def test_sqnr_is_the_ratio_of_squares_in_decibels(backend):
    x = minidl.tensor([3.0, -4.0], backend=backend)
    assert sqnr(x, x) == np.inf
    assert sqnr(x, x * 0) == 0
    assert sqnr(x * 0, x) == -np.inf
    assert sqnr(x, x + minidl.tensor([0.0, 0.5], backend=backend)) == 20.0


def test_min_max_remembers_all_batches_and_a_nan(backend):
    seen = MinMax()
    for values in ([1.0, 2.0], [-3.0], []):
        seen.observe(minidl.tensor(np.array(values, np.float32), backend=backend))
    assert seen.bounds() == (-3.0, 2.0)
    seen.observe(minidl.tensor([np.nan], backend=backend))
    seen.observe(minidl.tensor([1.0], backend=backend))
    assert np.isnan(seen.bounds()).all()
