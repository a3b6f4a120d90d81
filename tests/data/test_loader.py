"""The order of batches, and that nothing but seed and epoch decides it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from backends import Backend
from minidl.data import ArrayDataset, DataLoader, Dataset, Subset
from minidl.data.transforms import Compose, GaussianNoise, RandomCrop, RandomFlip, ToFloat
from minidl.errors import ArgumentError, CheckpointError, DataError, DTypeError, UnknownBackend
from minidl.verify.tolerances import assert_same


def numbered(n: int = 10) -> ArrayDataset:
    return ArrayDataset(np.arange(n), np.arange(n) * 10)


def epoch(loader: DataLoader) -> list[list[int]]:
    return [x.tolist() for x, _ in loader]


def pictures() -> DataLoader:
    images = np.random.default_rng(0).integers(0, 256, (10, 2, 6, 5), np.uint8)
    steps = Compose(RandomCrop(4, padding=1), RandomFlip(), ToFloat(), GaussianNoise(0.1))
    return DataLoader(ArrayDataset(images, np.arange(10)), 4, shuffle=True, seed=2, transform=steps)


@given(n=st.integers(1, 40), size=st.integers(1, 45), drop=st.booleans(), shuffle=st.booleans())
def test_an_epoch_has_every_sample_once(n: int, size: int, drop: bool, shuffle: bool) -> None:
    if drop and size > n:
        with pytest.raises(DataError, match="full batch"):
            DataLoader(numbered(n), size, drop_last=True)
        return
    loader = DataLoader(numbered(n), size, shuffle, seed=1, drop_last=drop)
    batches = epoch(loader)
    assert len(batches) == len(loader)
    assert {len(b) for b in batches[:-1]} <= {size}
    seen = [v for b in batches for v in b]
    assert len(set(seen)) == len(seen) == (n // size * size if drop else n)
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_order_is_pinned() -> None:
    """The same order everywhere: these numbers are Philox's, and may never change."""
    loader = DataLoader(numbered(8), 8, shuffle=True, seed=7)
    orders = [epoch(loader)[0] for _ in range(2)]
    expected = [minidl.Generator(7).fork(e).permutation(8).tolist() for e in range(2)]
    assert orders == expected == PINNED


PINNED = [[7, 0, 1, 6, 2, 4, 3, 5], [1, 6, 2, 0, 3, 5, 4, 7]]


def test_epochs_and_seeds_differ() -> None:
    loader = DataLoader(numbered(30), 30, shuffle=True)
    orders = [epoch(loader)[0] for _ in range(3)] + [
        epoch(DataLoader(numbered(30), 30, shuffle=True, seed=1))[0]
    ]
    assert len({tuple(o) for o in orders}) == 4
    loader.set_epoch(1)
    assert epoch(loader)[0] == orders[1]


def test_default_generator_is_neither_used_nor_needed() -> None:
    state = minidl.default_generator.state
    first = epoch(pictures())
    assert minidl.default_generator.state == state
    minidl.manual_seed(11)
    assert epoch(pictures()) == first
    minidl.default_generator.state = state


def test_x_and_y_stay_together_and_batches_are_copies() -> None:
    data = numbered()
    for x, y in DataLoader(data, 3, shuffle=True):
        assert (y.numpy() == 10 * x.numpy()).all()
        x.fill_(0)
    assert data.arrays[0].tolist() == list(range(10))


def test_same_pixels_on_every_backend(backend: Backend) -> None:
    loader, reference = pictures(), pictures()
    loader.backend = backend
    for _ in range(2):
        for (x, y), (x0, y0) in zip(loader, reference, strict=True):
            assert x.backend is y.backend is backend
            assert_same(x.numpy(), x0.numpy())
            assert_same(y.numpy(), y0.numpy())


def test_default_backend_is_the_one_of_the_moment(backend: Backend) -> None:
    loader = DataLoader(numbered())
    with minidl.use_backend(backend):
        assert next(iter(loader))[0].backend is backend


def test_batch_does_not_depend_on_what_was_loaded_before() -> None:
    expected = [x.numpy() for x, _ in pictures()]
    other = pictures()
    for k in (2, 0, 1):
        assert_same(other.load(0, k)[0].numpy(), expected[k])
    for _ in range(3):
        epoch(other)
    assert_same(other.load(0, 1)[0].numpy(), expected[1])


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 4, 6])
def test_restart_anywhere(batches: int) -> None:
    whole, first, second = pictures(), pictures(), pictures()
    expected = [x.numpy() for _ in range(3) for x, _ in whole]
    taken = 0
    while taken < batches:
        for _ in first:
            taken += 1
            if taken == batches:
                break
    second.load_state_dict(first.state_dict())
    found = [x.numpy() for _ in range(3) for x, _ in second][: len(expected) - batches]
    assert len(found) == len(expected) - batches
    for a, b in zip(found, expected[batches:], strict=True):
        assert_same(a, b)


def test_a_loop_that_was_left_early_does_not_shorten_the_next() -> None:
    loader = DataLoader(numbered(), 2, shuffle=True)
    next(iter(loader))
    assert len(epoch(loader)) == 5
    assert loader.epoch == 2


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"batch_size": 3}, {"shuffle": False}, {"drop_last": True}, {"samples": 9}],
)
def test_state_of_another_order_is_refused(other: dict[str, Any]) -> None:
    settings = {"batch_size": 2, "shuffle": True, "seed": 0, "drop_last": False}
    state = DataLoader(numbered(), **settings).state_dict()
    loader = DataLoader(numbered(other.pop("samples", 10)), **{**settings, **other})
    with pytest.raises(CheckpointError, match="its batches differ"):
        loader.load_state_dict(state)


def test_transform_gets_only_x() -> None:
    seen = []

    def double(x: np.ndarray, generator: minidl.Generator) -> np.ndarray:
        seen.append(generator.seed)
        return x * 2

    (x, y), *_ = DataLoader(numbered(), 5, transform=double)
    assert x.tolist() == [0, 2, 4, 6, 8]
    assert y.tolist() == [0, 10, 20, 30, 40]
    assert len(set(seen)) == 2  # each batch has a generator of its own


def test_array_data_are_not_touched_sample_by_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Dataset, index: int) -> Any:
        raise AssertionError("one sample at a time")

    monkeypatch.setattr(ArrayDataset, "__getitem__", fail)
    assert epoch(DataLoader(Subset(numbered(), [5, 2, 3]), 2)) == [[5, 2], [3]]


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None, True])
def test_bad_batch_size(size: Any) -> None:
    with pytest.raises(ArgumentError, match="batch_size must be an integer >= 1"):
        DataLoader(numbered(), size)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: DataLoader(None), DTypeError, "dataset must be a Dataset, got NoneType"),
        (lambda: DataLoader(np.ones(3)), DTypeError, "ArrayDataset"),
        (lambda: DataLoader(numbered(), seed="a"), ArgumentError, "seed"),
        (lambda: DataLoader(numbered(), seed=-1), ArgumentError, "seed"),
        (lambda: DataLoader(numbered(), backend="abacus"), UnknownBackend, "abacus"),
        (lambda: DataLoader(numbered(), transform=3), DTypeError, "transform must be callable"),
        (
            lambda: DataLoader(numbered(), transform=lambda x: x),
            DTypeError,
            r"as transform\(batch, generator\)",
        ),
        (lambda: DataLoader(numbered()).load_state_dict(None), DTypeError, "must be a Mapping"),
    ],
)
def test_what_a_loader_refuses_when_it_is_built(make: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        make()


def test_numpy_integers_make_the_same_loader() -> None:
    """Its state is saved as JSON."""
    loader = DataLoader(numbered(), np.int64(4), np.bool_(True), seed=np.int64(3))
    assert epoch(loader) == epoch(DataLoader(numbered(), 4, True, seed=3))
    assert json.loads(json.dumps(loader.state_dict()))["seed"] == 3


def test_no_such_batch_and_no_samples() -> None:
    with pytest.raises(ArgumentError, match="batches 0 to 4, got 5"):
        DataLoader(numbered(), 2).load(0, 5)
    with pytest.raises(DataError, match="0 samples"):
        DataLoader(Subset(numbered(), []))
