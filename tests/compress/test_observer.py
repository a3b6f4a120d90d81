"""Observers: batches in any number lead to the range that all their numbers together have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl.compress import Histogram, MinMax, MovingAverageMinMax, Percentile, mse_bounds, quantize
from minidl.compress.histogram import Counts
from minidl.errors import ArgumentError, DTypeError, NonFiniteError, ShapeError
from minidl.verify.strategies import arrays, shapes
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

KINDS = ("integers", "normal", "offset", "constant", "wide")
OBSERVERS = (MinMax, MovingAverageMinMax, Percentile, Histogram)
batches = st.lists(
    arrays(shapes(max_dims=2), np.float32, KINDS, plain=True).map(lambda x: x.values), max_size=5
)


def seen(observer, batches, backend):
    for batch in batches:
        observer.observe(minidl.tensor(batch, backend=backend))
    return observer


@given(batches=batches)
def test_the_order_of_batches_and_their_cuts_do_not_matter(backend, batches):
    whole = np.concatenate([np.ravel(b) for b in batches]) if batches else np.zeros(0, np.float32)
    for kind in (MinMax, Percentile, Histogram):
        ranges = {
            seen(kind(), order, backend).bounds() for order in (batches, batches[::-1], [whole])
        }
        assert len(ranges) == 1, kind


@given(batches=batches)
def test_bounds_are_the_same_on_every_backend(backend, reference, batches):
    for kind in OBSERVERS:
        here, there = (seen(kind(), batches, b).bounds() for b in (backend, reference))
        assert here == there


@given(batches=batches)
def test_counts_are_those_of_all_numbers_in_the_final_bins(batches):
    counted = Counts(32)
    for batch in batches:
        counted.add(batch)
    every = np.concatenate([np.ravel(b) for b in batches]) if batches else np.zeros(0)
    assert counted.counts.size <= 32
    assert counted.counts.sum() == every.size
    if every.size:
        edges = (counted.first + np.arange(counted.counts.size + 1)) * counted.width
        bins = np.searchsorted(edges, every.astype(np.float64), side="right") - 1
        assert_same(counted.counts, np.bincount(bins, minlength=counted.counts.size))


@given(batches=batches)
def test_a_narrower_range_lies_within_what_was_seen(batches):
    every = np.concatenate([np.zeros(1, np.float32), *(np.ravel(b) for b in batches)])
    for kind in (Percentile, Histogram):
        low, high = seen(kind(), [every], "numpy").bounds()
        assert every.min() <= low <= high <= every.max()


@pytest.mark.parametrize("kind", OBSERVERS)
def test_before_the_first_batch_and_after_a_nan_the_range_says_so(backend, kind):
    observer = seen(kind(), [np.zeros(0, np.float32)], backend)
    assert observer.bounds() == (np.inf, -np.inf)
    seen(observer, [np.float32([1.0, np.nan]), np.float32([1.0])], backend)
    assert np.isnan(observer.bounds()).all()


@pytest.mark.parametrize("kind", OBSERVERS)
def test_an_observer_wants_floating_tensors(kind):
    with pytest.raises(DTypeError, match=kind.__name__):
        kind().observe(minidl.arange(0, 3))


@pytest.mark.parametrize("how", [{"axis": 1}, {"axis": -1}, {"group_size": 2}])
def test_min_max_of_slices(backend, how):
    x = np.arange(24, dtype=np.float32).reshape(4, 6) - 7
    observer = seen(MinMax(**how), [x, -x], backend)
    doubled = minidl.tensor(np.stack([x, -x]), backend=backend)
    smaller = np.minimum(x, -x)
    low = smaller.min(0) if "axis" in how else smaller.reshape(4, 3, 2).min(2)
    assert_same(observer.bounds()[0], low.astype(np.float64))
    assert_same(observer.bounds()[1], -low.astype(np.float64))
    with pytest.raises(ShapeError, match="slices"):
        observer.observe(doubled[..., :4])


def test_a_moving_average_moves_by_its_constant(backend):
    observer = MovingAverageMinMax(0.25, axis=0)
    seen(observer, [np.float32([[0, 4], [-8, 2]]), np.float32([[4, 8], [0, 2]])], backend)
    assert_same(observer.bounds()[0], np.array([1.0, -6.0]))
    assert_same(observer.bounds()[1], np.array([5.0, 2.0]))


def test_a_percentile_is_numpys_to_a_bin(backend):
    x = minidl.randn(50_000, generator=minidl.Generator(3), backend=backend)
    observer = Percentile(98.0)
    seen(observer, [x.numpy()[:20_000], x.numpy()[20_000:]], backend)
    expected = np.percentile(x.numpy().astype(np.float64), [1, 99])
    assert_close(np.array(observer.bounds()), expected, observer.seen.width, np.float64)
    assert seen(Percentile(100), [x.numpy()], backend).bounds() == ends_of(x)


def ends_of(x) -> tuple[float, float]:
    return x.min().item(), x.max().item()


def test_a_histogram_clips_what_is_rare_and_not_what_is_even(backend):
    """One number in 100,000 is not worth 16 codes that are 25 times as coarse."""
    x = np.append(np.linspace(-1, 1, 100_000, dtype=np.float32), np.float32(50))
    step = np.ptp(x[:-1]) / 15
    for numbers in (x, x[:-1]):
        observer = seen(Histogram("affine", "int4"), [numbers], backend)
        assert_close(np.array(observer.bounds()), np.array([-1.0, 1.0]), step, np.float64)


def test_the_error_of_a_histogram_is_that_of_its_codes(backend):
    x = minidl.randn(20_000, generator=minidl.Generator(3), backend=backend)
    observer = seen(Histogram("affine", "int4"), [x.numpy()], backend)
    for low, high in ((-1.0, 2.0), (-3.0, 3.0)):
        back = quantize(x, "affine", "int4", bounds=(low, high)).dequantize()
        measured = float(np.sum((back.numpy().astype(np.float64) - x.numpy()) ** 2))
        # Lengths of errors differ by no more than centres are off (the triangle inequality).
        off = np.sqrt(x.size) * observer.seen.width / 2
        assert_close(np.sqrt(observer.error(low, high)), np.sqrt(measured), off, np.float64)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Percentile(0), "percentile must be above 0"),
        (lambda: Percentile(101), "percentile"),
        (lambda: Percentile(bins=3), "bins"),
        (lambda: Histogram(bins=256), "at least 1024"),
        (lambda: Histogram("symmetric", "uint8"), "codes of int8 or int4"),
        (lambda: MovingAverageMinMax(2), "averaging_constant"),
        (lambda: MinMax(axis=0.5), "axis must be an integer"),
        (lambda: MinMax(axis=0, group_size=2), "leave out axis"),
        (lambda: MinMax(group_size=0), "group_size"),
    ],
)
def test_wrong_settings_are_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


@given(x=arrays(shapes(1, 2, 1), np.float32, KINDS, plain=True))
def test_ranges_of_least_error_are_no_worse_than_the_full_ones(backend, x):
    t = minidl.tensor(x.values, backend=backend)
    for how in ({}, {"axis": 0}, {"group_size": 2}):
        full = quantize(t, "affine", "int4", **how)
        best = quantize(t, "affine", "int4", **how, bounds=mse_bounds(t, "affine", "int4", **how))
        errors = [
            np.sum((q.dequantize().numpy() - x.values.astype(np.float64)) ** 2)
            for q in (full, best)
        ]
        room = composed_bound(np.float32, *errors)
        assert errors[1] <= errors[0] * (1 + room)


def test_ranges_of_least_error_need_finite_floats(backend):
    with pytest.raises(NonFiniteError, match="mse_bounds"):
        mse_bounds(minidl.tensor([1.0, np.inf], backend=backend))
    with pytest.raises(DTypeError, match="mse_bounds"):
        mse_bounds(minidl.ones(3, "int8", backend=backend))
