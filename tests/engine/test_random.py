"""The generator: one stream on every backend, to be saved, restored and forked."""

from __future__ import annotations

import copy
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minidl
from minidl import Generator
from minidl.errors import ArgumentError
from minidl.verify import oracle
from minidl.verify.tolerances import FALSE_ALARM, assert_same, chi_square_limit


def test_draws_are_the_same_on_every_backend(backend, reference):
    one, two = Generator(11), Generator(11)
    for shape in ((3,), (2, 5), (), (0,), (7,)):
        for draw in ("uniform", "normal"):
            for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
                here = getattr(one, draw)(shape, dtype, backend)
                there = getattr(two, draw)(shape, dtype, reference)
                assert_same(backend.to_numpy(here), there)
    assert one.state == two.state


def test_successive_draws_continue_the_words_of_the_seed(backend):
    """4 words a block: the first draw takes words 0 to 4, so the second starts with block 2."""
    g = Generator(5)
    first, second = (backend.to_numpy(g.uniform((5,), backend=backend)) for _ in range(2))
    assert_same(first, oracle.uniform(5, 0, (5,), np.float32))
    assert_same(second, oracle.uniform(5, 2, (5,), np.float32))
    assert g.state == (5, 4)


def test_state_restores_the_stream():
    g = Generator(2**63 + 5)
    g.permutation(10)
    state = g.state

    def draws() -> list[np.ndarray]:
        return [g.uniform((4,)), g.integers(0, 9, 5), g.permutation(6), g.normal((3,))]

    expected = draws()
    g.state = state
    for a, b in zip(expected, draws(), strict=True):
        assert_same(a, b)


def test_manual_seed_restarts_the_default_generator(backend):
    minidl.manual_seed(3)
    first = minidl.randn(4, backend=backend).tolist()
    again = minidl.randn(4, backend=backend).tolist()
    minidl.manual_seed(3)
    assert minidl.randn(4, backend=backend).tolist() == first != again
    assert minidl.rand(4, generator=Generator(3), backend=backend).shape == (4,)


def test_forks_depend_on_seed_and_key_alone():
    g = Generator(9)
    before = g.fork(4).seed
    g.uniform((100,))
    assert g.fork(4).seed == before
    seeds = {Generator(s).fork(k).seed for s in range(20) for k in range(20)}
    assert len(seeds) == 400
    assert g.state[1] == 25


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "seed", None])
def test_seeds_are_64_bits(seed):
    with pytest.raises(ArgumentError, match=r"0 to 2\*\*64 - 1"):
        Generator(seed)
    with pytest.raises(ArgumentError):
        minidl.manual_seed(seed)


def test_two_threads_never_get_the_same_numbers():
    class Slow(Generator):
        @property
        def counter(self):
            found = self.used
            time.sleep(0.001)  # the other thread's turn
            return found

        @counter.setter
        def counter(self, value):
            self.used = value

    g = Slow(1)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(g.reserve, [4] * 12)) == list(range(12))
    assert copy.deepcopy(g).state == g.state  # a lock cannot be copied


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_a_permutation_is_one(n):
    g = Generator(1)
    first, second = g.permutation(n), g.permutation(n)
    assert first.dtype == np.int64
    for p in (first, second):
        assert sorted(p.tolist()) == list(range(n))
    if n == 100:
        assert first.tolist() != second.tolist()


def test_integers_stay_in_range():
    g = Generator(4)
    draws = g.integers(-3, 4, 1000)
    assert draws.dtype == np.int64
    assert set(draws.tolist()) == set(range(-3, 4))
    assert g.integers(5, 6, 3).tolist() == [5, 5, 5]
    for low, high in ((3, 3), (4, 2), (0, 2**31 + 1)):
        with pytest.raises(ArgumentError, match="integers"):
            g.integers(low, high, 1)


def chi_square(observed: np.ndarray, expected: np.ndarray | float) -> float:
    return float((((observed - expected) ** 2) / expected).sum())


DRAWS = 1 << 16


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**40])
def test_uniform_numbers_fill_their_bins(backend, seed):
    x = backend.to_numpy(Generator(seed).uniform((DRAWS,), backend=backend))
    assert x.min() >= 0
    assert x.max() < 1
    counts = np.bincount((x * 64).astype(int), minlength=64)
    assert chi_square(counts, DRAWS / 64) < chi_square_limit(63)


@pytest.mark.parametrize("lag", [1, 2, 4, 5])
def test_neighbours_are_independent(lag):
    """Pairs (x_i, x_(i + lag)), disjoint, in an 8 by 8 grid; lag 4 is the same word of a block."""
    x = (Generator(7).uniform((DRAWS,)) * 8).astype(int)
    start = np.arange(0, DRAWS - 2 * lag, 2 * lag)
    pairs = x[start] * 8 + x[start + lag]
    counts = np.bincount(pairs, minlength=64)
    assert chi_square(counts, len(pairs) / 64) < chi_square_limit(63)


def test_forked_streams_are_independent_of_each_other_and_of_their_parent():
    g = Generator(7)
    streams = [(s.uniform((DRAWS,)) * 8).astype(int) for s in (g.fork(0), g.fork(1), g)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        counts = np.bincount(streams[a] * 8 + streams[b], minlength=64)
        assert chi_square(counts, DRAWS / 64) < chi_square_limit(63)


def test_normal_numbers_have_the_normal_distribution(backend):
    z = backend.to_numpy(Generator(3).normal((DRAWS,), np.dtype(np.float64), backend))
    edges = np.linspace(-3, 3, 25)
    cdf = np.array([0, *(0.5 * math.erfc(-e / math.sqrt(2)) for e in edges), 1])
    counts = np.bincount(np.searchsorted(edges, z), minlength=26)
    assert chi_square(counts, np.diff(cdf) * DRAWS) < chi_square_limit(25)


def test_permutations_of_three_are_equally_likely():
    g, trials = Generator(8), 6000
    codes = [tuple(g.permutation(3).tolist()) for _ in range(trials)]
    counts = np.array([codes.count(p) for p in set(codes)])
    assert len(counts) == 6
    assert chi_square(counts, trials / 6) < chi_square_limit(5)


def test_the_limit_would_notice_a_biased_generator():
    """The power 1.05 shifts 1.7 % of the numbers: the size of defect that these tests can see."""
    x = Generator(0).uniform((DRAWS,)) ** 1.05
    counts = np.bincount((x * 64).astype(int), minlength=64)
    assert chi_square(counts, DRAWS / 64) > chi_square_limit(63)
    assert 0 < FALSE_ALARM < 1
