"""Sparse layers compute what dense ones do, and are used where they win."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import (
    Choices,
    SparseLinear,
    clone,
    load,
    prune,
    save,
    sparse_choices,
    sparsify,
)
from minidl.compress.sparse import Choice
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, GraphError, ShapeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

from .models import cnn, images, mlp, state, vectors


def pruned(backend, amount=0.8, pattern="unstructured", sizes=(7, 40, 5), seed=0) -> nn.Module:
    return prune.magnitude(mlp(backend, seed, sizes), amount, pattern=pattern)


@given(
    amount=st.sampled_from((0, 0.3, 0.9)), block=st.sampled_from((1, 2, 16)), seed=seeds,
    outputs=st.integers(1, 40),
)  # fmt: skip
def test_a_sparse_layer_computes_what_the_dense_one_does(backend, amount, block, seed, outputs):
    layer = nn.Linear(9, outputs, backend=backend, generator=Generator(seed))
    prune.magnitude(layer, amount)
    x = minidl.randn(3, 2, 9, backend=backend, generator=Generator(seed))
    twin, expected = SparseLinear(layer, block), layer(x).numpy()
    assert_same(twin.dense(), layer.weight.numpy())
    bound = composed_bound(np.float32, expected, np.abs(x.numpy()).sum(-1))
    assert_close(twin(x).numpy(), expected, bound, np.float32)


@pytest.mark.parametrize("block", [1, 16])
def test_a_relu_behind_a_sparse_layer_is_taken_with_it(backend, block):
    layer = prune.magnitude(nn.Linear(9, 33, backend=backend, generator=Generator(1)), 0.5)
    x = minidl.randn(4, 9, backend=backend, generator=Generator(2))
    model = nn.Sequential(SparseLinear(layer, block), nn.ReLU()).eval()
    seen: list[str] = []
    with minidl.observe(lambda phase, function, inputs, result: seen.append(function.name)):
        y = model(x).numpy()
    assert seen == ["_SparseLinear"]
    assert_same(y, np.maximum(model[0](x).numpy(), 0), signed_zero=False)
    assert (y == 0).any()


def test_only_blocks_with_a_weight_are_stored(backend):
    layer = nn.Linear(3, 5, backend=backend)
    weight = np.zeros((5, 3), np.float32)
    weight[4, 2] = weight[1, 0] = 7
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor(weight, backend=backend))
    twin = SparseLinear(layer, 2)
    assert twin.values.tolist() == [[0, 7], [7, 0]]
    assert twin.indices.tolist() == [0, 2]
    assert twin.starts.tolist() == [0, 1, 1, 2]
    assert "2x1 blocks, 22.2% stored" in repr(twin)
    assert nn.summary(twin, minidl.ones((1, 3), backend=backend)).multiply_adds == 4


def test_density_decides(backend):
    model = nn.Sequential(
        prune.magnitude(nn.Linear(64, 64, backend=backend), 0.9),
        prune.magnitude(nn.Linear(64, 64, backend=backend), 0.9, pattern="16x1"),
        prune.magnitude(nn.Linear(64, 64, backend=backend), 0.5),
        nn.Linear(64, 4, backend=backend),
    )
    found = sparse_choices(model, None, rule="density")
    assert [choice.block for choice in found.values()] == [1, 16, None, None]
    assert [choice.reason for choice in found.values()][2:] == [
        "above break-even, 30%", "no weight is zero",
    ]  # fmt: skip
    twin = sparsify(model, found, verbose=False)
    assert [type(m) for m in twin] == [SparseLinear, SparseLinear, nn.Linear, nn.Linear]
    assert all(isinstance(m, nn.Linear) for m in model)
    x = minidl.randn(5, 64, backend=backend)
    assert_close(twin(x).numpy(), model(x).numpy(), composed_bound(np.float32, np.float32(64)))


def test_time_decides_and_says_so(backend, capsys):
    model = pruned(backend, 0.9)
    twin = sparsify(model, vectors(backend))
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == [
        "layer", "density", "dense", "us", "sparse", "us", "kept", "why",
    ]  # fmt: skip
    assert table.count("times as fast") == 2
    kept = [type(m) is SparseLinear for m in twin if not isinstance(m, nn.ReLU)]
    assert kept == [" blocks " in line for line in table.splitlines()[1:]]
    assert {m.training for m in twin.modules()} == {False}


def test_convolutions_stay_dense(backend):
    model = prune.magnitude(cnn(backend), 0.95)
    found = sparse_choices(model, images(backend), rounds=1)
    assert found["0"].block is None
    assert "convolution" in found["0"].reason
    assert found["5"].dense_us > 0


def test_inplace_and_what_is_not_reached(backend):
    model = pruned(backend, 0.9)
    model[1].spare = prune.magnitude(nn.Linear(4, 4, backend=backend), 0.5)
    assert sparse_choices(model, vectors(backend), rounds=1)["1.spare"].reason == (
        "the example does not reach it"
    )
    choices = Choices({"0": Choice(1, 0.1, "said so")})
    assert sparsify(model, choices, inplace=True, verbose=False) is model
    assert isinstance(model[0], SparseLinear)


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("coding", [None, "huffman"])
def test_files_bring_sparse_layers_back(backend, tmp_path, block, coding):
    model, path = pruned(backend, 0.8), tmp_path / "m.safetensors"
    twin = sparsify(model, Choices({"0": Choice(block, 0.2, "")}), verbose=False)
    save(twin, path, coding)
    loaded = load(mlp(backend, 9, (7, 40, 5)), path)
    assert isinstance(loaded[0], SparseLinear)
    assert state(loaded) == state(twin)
    assert_same(loaded(vectors(backend)).numpy(), twin(vectors(backend)).numpy())


def test_it_moves_and_is_cloned(backend, other):
    twin = SparseLinear(prune.magnitude(nn.Linear(7, 6, backend=backend), 0.5))
    x = vectors(backend)
    before = twin(x).numpy()
    copy = clone(twin).to(other)
    assert copy(x.to(other)).backend is other
    with minidl.no_grad():
        twin.values.copy_(twin.values * 2)
        twin.bias.copy_(twin.bias * 2)
    assert_close(twin(x).numpy(), 2 * before, composed_bound(np.float32, before))


def test_there_is_no_gradient(backend):
    twin = SparseLinear(nn.Linear(7, 6, backend=backend))
    x = vectors(backend).requires_grad_()
    with pytest.raises(GraphError, match="masked dense model"):
        twin(x).sum().backward()


def test_wrong_inputs(backend, other):
    twin = SparseLinear(nn.Linear(7, 6, backend=backend))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 7\)"):
        twin(minidl.ones((2, 6), backend=backend))
    with pytest.raises(DTypeError, match="float32"):
        twin(minidl.ones((2, 7), "float64", backend=backend))
    with pytest.raises(BackendMismatch):
        twin(minidl.ones((2, 7), backend=other))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: sparsify(m, None, "guess"), "rule"),
        (lambda m: sparsify(nn.ReLU(), None), "no Linear"),
        (lambda m: sparse_choices(m, None, rounds=0), "rounds"),
        (lambda m: SparseLinear(m[0], 0), "block"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(mlp(minidl.get_backend()))


def test_it_may_be_compiled_before_it_was_called(backend):
    if backend.name == "cupy":
        pytest.skip("a CUDA graph cannot hold the packing: call the layer once before")
    twin = SparseLinear(prune.magnitude(nn.Linear(7, 6, backend=backend), 0.5))
    x = vectors(backend)
    with minidl.no_grad():
        expected = SparseLinear(prune.magnitude(clone_of(twin, backend), 0))(x).numpy()
        compiled = minidl.compile(lambda x: twin(x))
        found = [compiled(x).numpy() for _ in range(2)] + [twin(x).numpy()]
    for y in found:
        assert_same(y, expected)


def clone_of(twin: SparseLinear, backend) -> nn.Linear:
    layer = nn.Linear(7, 6, backend=backend)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor(twin.dense(), backend=backend))
        layer.bias.copy_(twin.bias)
    return layer
