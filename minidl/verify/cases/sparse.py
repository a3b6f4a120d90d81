"""The linear layer with a sparse weight: stored blocks, and nothing else, are multiplied."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from backends import Backend, SparseWeight

from .. import oracle
from ..conformance import call, covers, drawn, each
from ..strategies import BOUNDED, EXACT, FLOATS, Laid, arrays, fill, float_dtypes, seeds
from ..tolerances import assert_close, assert_same, sum_bound

TALL = (1, 2, 3, 8, 16, 20)  # outputs of a block


class Case(NamedTuple):
    """x (N, D), a weight, its bias (O,), and whether relu follows."""

    x: Laid
    weight: SparseWeight
    bias: Laid | None
    relu: bool


def stored(values: np.ndarray, where: np.ndarray, shape: tuple[int, int]) -> SparseWeight:
    """The blocks (rows, D) where `where` is true, the last of a row first; values are (B, R)."""
    starts = np.concatenate([[0], np.cumsum(where.sum(1))]).astype(np.int64)
    inputs = where.shape[1] - 1 - np.nonzero(where[:, ::-1])[1]
    return SparseWeight(values, inputs.astype(np.int32), starts, shape)


@st.composite
def sparse(draw: st.DrawFn, kinds: tuple[str, ...]) -> Case:
    outputs, inputs, samples = (draw(st.integers(0, n)) for n in (40, 9, 7))
    tall, dtype = draw(st.sampled_from(TALL)), draw(float_dtypes)
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    where = rng.random((-(-outputs // tall), inputs)) < draw(st.sampled_from((0, 0.2, 0.6, 1)))
    values = draw(arrays((int(where.sum()), tall), dtype, kinds, plain=True)).values
    bias = draw(st.none() | arrays((outputs,), dtype, kinds))
    x = draw(arrays((samples, inputs), dtype, kinds))
    return Case(x, stored(values, where, (outputs, inputs)), bias, draw(st.booleans()))


def result(backend: Backend, case: Case) -> np.ndarray:
    packed = call(backend, "sparse_pack", case.weight)
    y: np.ndarray = call(
        backend, "sparse_linear", case.x, case.weight, packed, case.bias, case.relu
    )
    return y


def expected(case: Case) -> np.ndarray:
    bias = None if case.bias is None else case.bias.values
    return oracle.sparse_linear(case.x.values, case.weight, bias, case.relu)


def magnitudes(case: Case) -> np.ndarray:
    """The sums of the terms' sizes, which bound what rounding does."""
    weight = case.weight._replace(values=np.abs(case.weight.values))
    bias = None if case.bias is None else np.abs(case.bias.values)
    return oracle.sparse_linear(np.abs(case.x.values), weight, bias, False)


@covers("sparse_linear", "sparse_pack")
@drawn(case=sparse(EXACT))
def it_is_exact_on_exact_values(backend: Backend, case: Case) -> None:
    wanted = expected(case).astype(case.x.dtype)
    assert_same(result(backend, case), wanted, signed_zero=False)


@covers("sparse_linear", "sparse_pack")
@drawn(case=sparse(BOUNDED))
def it_agrees_with_the_oracle(backend: Backend, case: Case) -> None:
    bound = sum_bound(magnitudes(case), case.x.shape[1] + 1, case.x.dtype)
    assert_close(result(backend, case), expected(case), bound, case.x.dtype)


# Around vectors of outputs and of samples, tiles, and what is shared between threads.
SIZES = ((1, 70, 100), (3, 33, 40), (17, 130, 65), (32, 200, 257), (64, 48, 48), (131, 90, 77))


@covers("sparse_linear", "sparse_pack")
@each("sizes", SIZES)
def layers_as_networks_have_them(backend: Backend, sizes: tuple[int, int, int]) -> None:
    samples, inputs, outputs = sizes
    rng = np.random.Generator(np.random.PCG64(7))
    for dtype, tall in ((d, t) for d in FLOATS for t in (1, 4, 16)):
        where = rng.random((-(-outputs // tall), inputs)) < 0.15
        values = fill((int(where.sum()), tall), dtype, "integers", 1)
        weight = stored(values, where, (outputs, inputs))
        x = Laid(fill((samples, inputs), dtype, "integers", 2), "contiguous")
        bias = Laid(fill((outputs,), dtype, "integers", 3), "contiguous")
        full = np.zeros((where.shape[0], tall, inputs))
        full[np.nonzero(where)[0], :, weight.indices] = values
        dense = full.reshape(-1, inputs)[:outputs]
        wanted = np.maximum(x.values.astype(np.float64) @ dense.T + bias.values, 0)
        found = result(backend, Case(x, weight, bias, True))
        assert_same(found, wanted.astype(dtype), signed_zero=False)


@covers("sparse_linear")
@each("tall", (1, 4, 16))
def nan_reaches_only_outputs_with_a_weight_for_it(backend: Backend, tall: int) -> None:
    """What is not stored is not multiplied; what is stored and 0 is."""
    for dtype, samples in ((d, n) for d in FLOATS for n in (1, 20)):
        x = np.ones((samples, 3), dtype)
        x[:, 1] = np.nan
        where = np.array([[True, False, True], [False, True, False]])
        weight = stored(np.zeros((3, tall), dtype), where, (2 * tall, 3))
        wanted = np.zeros((samples, 2 * tall), dtype)
        wanted[:, tall:] = np.nan
        for relu in (False, True):
            case = Case(Laid(x, "contiguous"), weight, None, relu)
            assert_same(result(backend, case), wanted)
