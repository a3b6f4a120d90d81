"""Data sets and how they are split."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl.data import (
    ArrayDataset,
    Dataset,
    Subset,
    TensorDataset,
    digits,
    idx_dataset,
    parse_idx,
    random_split,
    split,
)
from minidl.errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError


class Ragged(Dataset):
    """Sample i has i elements."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return np.zeros(index), index


def numbered(n: int) -> ArrayDataset:
    return ArrayDataset(np.arange(n), np.arange(n) % 3)


def test_arrays_are_shared_and_keep_their_type() -> None:
    x, y = np.zeros((3, 2), np.uint8), np.array([0, 1, 2])
    data = ArrayDataset(x, y)
    assert data.arrays[0] is x
    x[1] = 7
    assert data[1][0].tolist() == [7, 7]
    batch = data.batch(np.array([1, 1, 0]))
    assert batch[0].dtype == np.uint8
    assert batch[1].tolist() == [1, 1, 0]
    batch[0][:] = 9  # a batch is a copy
    assert x[0].tolist() == [0, 0]
    assert len(list(data)) == 3
    assert repr(data) == "ArrayDataset(uint8[3, 2], int64[3])"


def test_tensors_come_to_the_host(backend: minidl.get_backend) -> None:
    data = TensorDataset(minidl.ones((2, 3), backend=backend))
    assert isinstance(data.arrays[0], np.ndarray)


def test_own_data_set_batches_its_samples() -> None:
    class Own(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Any, ...]:
            return np.full(2, index, np.float32), index % 2

    x, y = Own().batch(np.array([3, 1]))
    assert x.tolist() == [[3, 3], [1, 1]]
    assert y.tolist() == [1, 1]
    assert Own().targets().tolist() == [0, 1, 0, 1]
    assert len(list(Own())) == 4


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ArrayDataset(np.zeros(2), np.zeros(3)), ShapeError, r"\(2,\), \(3,\)"),
        (lambda: ArrayDataset(), ShapeError, "none"),
        (lambda: ArrayDataset(np.float32(1)), ShapeError, "equal length"),
        (lambda: ArrayDataset(np.array(["a"])), DTypeError, "<U1"),
        (lambda: numbered(3)[3], IndexRangeError, "sample 3 of a data set with 3"),
        (lambda: Subset(numbered(3), [0, 3]), IndexRangeError, "sample 3"),
        (lambda: Subset(numbered(3), [0, 2])[2], IndexRangeError, "2 samples"),
        (lambda: Subset(numbered(3), [0.5]), DTypeError, "float64"),
        (lambda: Ragged().batch(np.array([1, 2])), DataError, "Ragged: these samples do not stack"),
        (lambda: Dataset()[0], NotImplementedError, "Dataset.__getitem__"),
        (lambda: random_split(numbered(10), [5, 6]), ArgumentError, "add up to 10"),
        (lambda: random_split(numbered(10), [0.5, 0.6]), ArgumentError, "add up to 10"),
        (lambda: random_split(numbered(10), [11, -1]), ArgumentError, "negative"),
        (lambda: split(numbered(10), 0.0), ArgumentError, "fraction must be above 0"),
        (lambda: split(numbered(10), 1.0), ArgumentError, "below 1, got 1.0"),
        (lambda: split(numbered(10), "a"), ArgumentError, "fraction"),
        (lambda: split(numbered(10), float("nan")), ArgumentError, "fraction"),
        (lambda: split(None), DTypeError, "dataset must be a Dataset"),
        (lambda: split(numbered(10), 0.5, seed="a"), ArgumentError, "seed"),
        (lambda: random_split(numbered(10), 3), DTypeError, "lengths must be an Iterable"),
        (lambda: random_split(numbered(10), ["a"]), ArgumentError, "a length must be a number"),
        (lambda: random_split([1, 2], [1, 1]), DTypeError, "dataset must be a Dataset"),
        (lambda: ArrayDataset([[1], [2, 3]]), DTypeError, "rows of equal length"),
        (lambda: numbered(3)["a"], ArgumentError, "an index must be an integer, got 'a'"),
        (lambda: numbered(3)[1.0], ArgumentError, "an index must be an integer, got 1.0"),
        (lambda: Subset(numbered(3), 3), DTypeError, "indices must be an Iterable"),
        (lambda: Subset([1, 2], [0]), DTypeError, "dataset must be a Dataset"),
        (lambda: idx_dataset(None), DTypeError, "folder must be a path"),
        (lambda: parse_idx("text"), DTypeError, "data must be a bytes"),
        (lambda: split(numbered(2), 0.1), ArgumentError, "leaves a part empty"),
        (
            lambda: split(ArrayDataset(np.zeros(4), np.zeros(4)), 0.5, stratify=True),
            DTypeError,
            "stratify needs one integer label",
        ),
    ],
)
def test_errors(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


def test_what_a_numpy_user_passes() -> None:
    data = numbered(10)
    assert data[np.int64(2)][0] == 2
    assert len(Subset(data, range(3))) == len(Subset(data, iter([np.int64(1), 2, 3]))) == 3
    for lengths in (np.array([8, 2]), (np.int64(8), 2), [np.float32(0.75), np.float32(0.25)]):
        assert [len(part) for part in random_split(data, lengths)] == [8, 2]
    assert len(split(data, np.float32(0.25), seed=np.int64(1))[1]) == 2


def test_negative_positions() -> None:
    assert numbered(3)[-1][0] == 2
    assert Subset(numbered(3), [0, -1])[-1][0] == 2


def values(part: Dataset) -> list[int]:
    return part.batch(np.arange(len(part)))[0].tolist()


@given(n=st.integers(1, 50), fractions=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_random_split_is_a_partition(n: int, fractions: list[int]) -> None:
    lengths = [f / sum(fractions) for f in fractions]
    parts = random_split(numbered(n), lengths, seed=3)
    assert sorted(v for part in parts for v in values(part)) == list(range(n))
    assert all(abs(len(p) - f * n) <= 1 for p, f in zip(parts, lengths, strict=True))
    again = random_split(numbered(n), [len(p) for p in parts], seed=3)
    assert [values(p) for p in again] == [values(p) for p in parts]


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    percent=st.integers(1, 99),
    stratify=st.booleans(),
)
def test_split_is_a_partition_and_stratified(
    counts: list[int], percent: int, stratify: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    n, taken = len(labels), round(percent / 100 * len(labels))
    data = ArrayDataset(np.arange(n), labels)
    if not 0 < taken < n:
        with pytest.raises(ArgumentError):
            split(data, percent / 100)
        return
    rest, held_out = split(data, percent / 100, 1, stratify)
    assert len(held_out) == taken
    assert values(rest) == sorted(values(rest))
    assert sorted(values(rest) + values(held_out)) == list(range(n))
    if stratify:
        found = np.bincount(held_out.targets(), minlength=len(counts))
        assert (abs(found - np.array(counts) * taken / n) < 1).all()


def test_split_depends_on_the_seed_and_is_random() -> None:
    data = ArrayDataset(np.arange(100), np.arange(100) % 2)
    for stratify in (False, True):
        parts = [values(split(data, 0.5, seed, stratify)[1]) for seed in (0, 0, 1)]
        assert parts[0] == parts[1] != parts[2]
        runs = np.diff(np.sort(parts[0]))
        assert len(set(runs.tolist())) > 2  # not every second sample


def test_split_of_a_split() -> None:
    rest, held_out = split(split(numbered(30), 0.5)[0], 0.2, stratify=True)
    assert not set(values(rest)) & set(values(held_out))
    assert len(held_out) == 3


def test_digits() -> None:
    pytest.importorskip("sklearn")
    x, y = digits().arrays
    assert (x.shape, x.dtype, x.max()) == ((1797, 1, 8, 8), np.uint8, 16)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r'pip install "minidl\[examples\]"'):
        digits()
