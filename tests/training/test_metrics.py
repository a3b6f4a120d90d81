"""Metrics against scikit-learn where it is installed, and by hand where rules must be pinned."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from backends import Backend
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.training import Mean, accuracy, confusion_matrix, f1_score, top_k_accuracy
from minidl.verify.tolerances import assert_close, composed_bound, gamma

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@given(labels=pairs)
def test_confusion_and_f1_agree_with_scikit_learn(labels: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    predicted, true = np.array(labels).T
    counts = confusion_matrix(predicted, true, 5)
    assert counts.tolist() == sklearn.confusion_matrix(true, predicted, labels=range(5)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes without samples
        for average in ("macro", "micro"):
            expected = sklearn.f1_score(true, predicted, average=average)
            found = np.array(f1_score(predicted, true, average))
            assert_close(found, expected, composed_bound(np.float64))


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=20), k=st.integers(1, 6))
def test_top_k_counts_ranks(backend: Backend, labels: list[int], k: int) -> None:
    scores = minidl.Generator(len(labels)).normal((len(labels), 6))
    ranked = np.argsort(-scores, axis=1)
    expected = np.mean([label in row[:k] for label, row in zip(labels, ranked, strict=True)])
    x, target = (minidl.tensor(a, backend=backend) for a in (scores, np.array(labels)))
    assert_close(top_k_accuracy(x, target, k).numpy(), expected, gamma(len(labels) + 1, np.float32))
    if k == 1:
        assert accuracy(x, target).item() == top_k_accuracy(x, target, 1).item()


def test_nan_is_never_right(backend: Backend) -> None:
    x = minidl.tensor([[math.nan] * 3, [1.0, math.nan, 2.0]], backend=backend)
    target = minidl.tensor([0, 0], backend=backend)
    assert top_k_accuracy(x, target, 2).item() == 0


def test_logits_and_absent_classes() -> None:
    x = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]])
    assert confusion_matrix(x, [1, 1]).tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    scores = f1_score(x, [1, 1], "none")
    assert scores[:2].tolist() == [0, 2 / 3]
    assert math.isnan(scores[2])
    assert f1_score(x, [1, 1]) == (0 + 2 / 3) / 2
    assert confusion_matrix([], []).shape == (0, 0)
    assert math.isnan(f1_score([], []))


def test_errors_are_the_same_on_every_backend(backend: Backend) -> None:
    x = minidl.zeros((2, 3), backend=backend)
    labels = minidl.tensor([0, 1, 2], backend=backend)
    for metric in (accuracy, top_k_accuracy):
        with pytest.raises(ShapeError, match=r"\(2, 3\) and \(3,\)"):
            metric(x, labels)
        with pytest.raises(DTypeError):
            metric(x, x)
    for k in (0, 1.5, "a"):
        with pytest.raises(ArgumentError, match="k must be an integer >= 1"):
            top_k_accuracy(x, labels[:2], k)
    assert top_k_accuracy(x, labels[:2], np.int64(2)).item() == 1
    with pytest.raises(ArgumentError, match="classes must be an integer"):
        confusion_matrix([0, 1], [0, 1], "a")


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_out_of_range(labels: list[int]) -> None:
    with pytest.raises(ArgumentError, match="from 0 to 2"):
        confusion_matrix([0, 1], labels, 3)


def test_labels_that_are_no_integers() -> None:
    with pytest.raises(DTypeError, match="float64"):
        confusion_matrix([0.5, 1.0], [0, 1])


def test_mean_weights_and_continues(backend: Backend) -> None:
    mean = Mean()
    assert math.isnan(mean.compute())
    mean.update(minidl.tensor(0.5, backend=backend), 3)
    mean.update(2.0, 1)
    assert mean.drain() == [0.5, 2.0]
    assert mean.drain() == []
    again = Mean(*mean.state)
    again.update(minidl.tensor(1.0, backend=backend), 4)
    assert again.compute() == (0.5 * 3 + 2 + 4) / 8
    assert mean.compute() == 3.5 / 4
