"""Patterns of pruning: exact counts, whole blocks, N of each M, and which go first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.compress import prune
from minidl.compress.patterns import Blocks, OfEach, parse
from minidl.errors import ArgumentError
from minidl.verify.strategies import fill, seeds

from .models import cnn, learn, mlp, state, vectors

amounts = st.integers(0, 99).map(lambda percent: percent / 100)
shapes = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 9)),
    st.just(()),
)
blocks = st.builds(Blocks, st.integers(1, 4), st.integers(1, 4))
ratios = st.integers(2, 5).flatmap(
    lambda group: st.builds(OfEach, st.integers(1, group - 1), st.just(group))
)


@st.composite
def scored(draw: st.DrawFn, count: int = 2) -> list[np.ndarray]:
    """Scores with ties, of which some are -1: masked already."""
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    least = draw(st.sampled_from((0, -1)))
    return [
        np.asarray(rng.integers(least, 5, draw(shapes)), float)
        for _ in range(draw(st.integers(1, count)))
    ]


def tiles(score: np.ndarray, pattern: Blocks) -> list[np.ndarray]:
    """The positions of each block's weights, row by row of blocks."""
    matrix = np.arange(score.size).reshape(score.shape[0] if score.ndim else 1, -1)
    return [
        matrix[i : i + pattern.rows, j : j + pattern.columns].ravel()
        for i in range(0, matrix.shape[0], pattern.rows)
        for j in range(0, matrix.shape[1], pattern.columns)
    ]


@given(scores=scored(), pattern=blocks, amount=amounts)
def test_blocks_go_as_a_whole_and_exactly_so_many(scores, pattern, amount):
    """Against a loop over blocks: those of least worth go, and of equal ones the earlier."""
    masks = pattern.masks(scores, amount)
    worth, gone = [], []
    for score, mask in zip(scores, masks, strict=True):
        assert mask.shape == score.shape
        for tile in tiles(score, pattern):
            inside, kept = score.ravel()[tile], mask.ravel()[tile]
            masked = (inside == -1).all()
            worth.append(-1 if masked else np.sqrt(np.mean(np.maximum(inside, 0) ** 2)))
            gone.append(not kept.any())
            assert gone[-1] or np.array_equal(kept, inside != -1)
    least = sum(value == -1 for value in worth)
    expected = set(np.argsort(worth, kind="stable")[: max(round(amount * len(worth)), least)])
    assert expected == set(np.flatnonzero(gone))


@given(scores=scored(), pattern=ratios)
def test_n_of_each_m_inputs_stay_and_they_are_the_largest(scores, pattern):
    for score, mask in zip(scores, pattern.masks(scores, 0.5), strict=True):
        assert mask.shape == score.shape
        assert not mask[score == -1].any()
        if score.ndim < 2:
            assert np.array_equal(mask, score != -1)
            continue
        rows, kept = (np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]) for a in (score, mask))
        for start in range(0, score.shape[1], pattern.group):
            part = slice(start, start + pattern.group)
            for row, keep in zip(rows[:, part], kept[:, part], strict=True):
                best = sorted(range(len(row)), key=lambda i: (row[i], i))[-pattern.kept :]
                assert set(np.flatnonzero(keep)) == {i for i in best if row[i] != -1}


@given(amount=amounts, seed=seeds)
def test_blocks_of_one_weight_are_unstructured(backend, amount, seed):
    alike = []
    for pattern in ("unstructured", "1x1"):
        model = cnn(backend)
        for target in prune.targets(model):
            values = fill(target.parameter.shape, np.float32, "integers", seed)
            with minidl.no_grad():
                target.parameter.copy_(minidl.tensor(values, backend=backend))
        alike.append(state(prune.magnitude(model, amount, pattern=pattern)))
    assert alike[0] == alike[1]


@pytest.mark.parametrize("pattern", ["4x1", "3x2", "2:4", "1:3"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_of_a_pattern_are_the_same_bits_everywhere(backend, reference, pattern, scope):
    amount = 0.6 if "x" in pattern else None
    models = [prune.magnitude(cnn(b), amount, scope, pattern=pattern) for b in (backend, reference)]
    assert state(models[0]) == state(models[1])


@pytest.mark.parametrize("pattern", ["4x1", "2:4"])
def test_a_pattern_only_adds_and_survives_training(backend, pattern):
    model = prune.magnitude(mlp(backend), 0.3)
    before = {t.path: t.mask.numpy() for t in prune.masked(model)}
    learn(model, optim.SGD(model.parameters(), 0.1), vectors(backend), 2)
    prune.magnitude(model, 0.5 if pattern == "4x1" else None, pattern=pattern)
    learn(model, optim.SGD(model.parameters(), 0.1), vectors(backend), 2)
    for target in prune.masked(model):
        mask = target.mask.numpy()
        assert not (mask & ~before[target.path]).any()
        assert not target.parameter.numpy()[~mask].any()


def test_two_of_four_removes_half_and_nothing_where_inputs_are_few(backend):
    layer = prune.magnitude(nn.Linear(8, 3, backend=backend), pattern="2:4")
    assert (layer.weight.numpy().reshape(3, 2, 4) != 0).sum(2).tolist() == [[2, 2]] * 3
    conv = prune.magnitude(nn.Conv2d(2, 3, 3, backend=backend), 0.5, pattern="2:4")
    assert prune.sparsity(conv) == 0


@pytest.mark.parametrize(
    "text", ["4:4", "5:4", "0:4", "2:", "x16", "16 x 1", "0x1", "rows", None, 3]
)
def test_an_unknown_pattern_is_refused(text):
    with pytest.raises(ArgumentError, match=r"pattern must be 'unstructured', 'N:M'"):
        parse("magnitude", text)


def test_an_amount_must_fit_the_pattern():
    with pytest.raises(ArgumentError, match=r"2:4 removes 0.5 of the weights, not 0.9"):
        prune.magnitude(nn.Linear(4, 4), 0.9, pattern="2:4")
    for pattern in ("unstructured", "16x1"):
        with pytest.raises(ArgumentError, match="amount must be a number"):
            prune.magnitude(nn.Linear(4, 4), pattern=pattern)
        with pytest.raises(ArgumentError, match="from 0 to below 1"):
            prune.magnitude(nn.Linear(4, 4), 1.0, pattern=pattern)
