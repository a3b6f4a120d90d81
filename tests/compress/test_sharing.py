"""Weight sharing: few values, the right ones, and they last; Huffman codes of what is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.compress import clone, huffman, load, prune, save, share, sharing
from minidl.compress.measure import file_size
from minidl.errors import ArgumentError, CheckpointError
from minidl.training import checkpoint
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same, composed_bound

from .models import cnn, images, learn, mlp, state, vectors

bits = st.integers(1, 8)


def layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]


def distinct(layer: nn.Module) -> np.ndarray:
    weight = layer.weight.numpy()
    mask = getattr(layer, "weight_mask", None)
    return np.unique(weight if mask is None else weight[mask.numpy()])


@given(bits=bits, seed=seeds)
def test_there_are_at_most_so_many_values(backend, bits, seed):
    model = share(mlp(backend, seed, (20, 30, 5)), bits)
    for layer in layers(model):
        assert len(distinct(layer)) <= min(2**bits, 255)
        assert np.array_equal(
            np.unique(layer.weight_codes.numpy()), 1 + np.arange(len(distinct(layer)))
        )


@given(seed=seeds)
def test_few_values_are_kept_as_they_are(backend, seed):
    model = nn.Linear(6, 7, backend=backend)
    values = np.random.default_rng(seed).integers(-2, 3, (7, 6)).astype(np.float32)
    with minidl.no_grad():
        model.weight.copy_(minidl.tensor(values, backend=backend))
    assert_same(share(model, 3).weight.numpy(), values)


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60),
    count=st.integers(1, 9),
)
def test_clusters_are_as_k_means_leaves_them(values, count):
    """Each value is with its nearest mean, unless the steps ran out; codes ascend with values."""
    x = np.array(values, np.float64)
    codes = sharing.cluster(x, count)
    used = np.unique(codes)
    assert np.array_equal(used, np.arange(len(used)))
    assert len(used) <= count
    means = np.array([x[codes == k].mean() for k in used])
    assert np.all(np.diff(means) >= 0)
    nearest = np.abs(x[:, None] - means).min(1)
    bound = composed_bound(np.float64, x)  # a value in the middle may go either way
    assert np.all(np.abs(x - means[codes]) <= nearest + bound)


@given(seed=seeds, steps=st.integers(1, 3))
def test_values_stay_shared_while_they_learn(backend, seed, steps):
    model = share(mlp(backend, seed, (7, 30, 5)), 3)
    codes = [layer.weight_codes.numpy().copy() for layer in layers(model)]
    before = [distinct(layer) for layer in layers(model)]
    learn(model, optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1), vectors(backend), steps)
    for layer, own, values in zip(layers(model), codes, before, strict=True):
        assert len(distinct(layer)) <= len(values)
        assert not np.array_equal(distinct(layer), values)
        for k in np.unique(own):
            assert len(np.unique(layer.weight.numpy()[own == k])) == 1


def test_a_shared_value_moves_by_the_mean_of_the_steps(backend):
    layer = nn.Linear(4, 1, bias=False, backend=backend)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor([[1.0, 1.0, -1.0, -1.0]], backend=backend))
    share(layer, 1)
    x = minidl.tensor([[1.0, 3.0, 8.0, 2.0]], backend=backend)
    layer(x).sum().backward()
    optim.SGD(layer.parameters(), lr=0.5).step()
    assert layer.weight.tolist() == [[0.0, 0.0, -3.5, -3.5]]  # 1 - (1 + 3) / 4, -1 - (8 + 2) / 4


def test_the_constraint_is_idempotent(backend):
    model = share(prune.magnitude(mlp(backend), 0.5), 3)
    before = state(model)
    for layer in layers(model):
        layer.weight.constraint(layer.weight)
    assert state(model) == before


def test_pruned_weights_stay_zero(backend):
    model = prune.magnitude(mlp(backend, 0, (7, 30, 5)), 0.7)
    masks = [layer.weight_mask.numpy() for layer in layers(model)]
    share(model, 4)
    learn(model, optim.Adam(model.parameters(), lr=0.1), vectors(backend), 3)
    for layer, mask in zip(layers(model), masks, strict=True):
        assert not layer.weight.numpy()[~mask].any()
        assert np.array_equal(layer.weight_codes.numpy() == 0, ~mask)
    assert prune.sparsity(model) >= 0.7
    with pytest.raises(ArgumentError, match="Prune first"):
        prune.magnitude(model, 0.9)


def test_a_clone_learns_apart(backend):
    model = share(mlp(backend), 2)
    twin, before = clone(model), state(model)
    learn(twin, optim.SGD(twin.parameters(), lr=0.1), vectors(backend), 1)
    assert state(model) == before
    assert all(len(distinct(layer)) <= 4 for layer in layers(twin))


def test_remove_keeps_values_and_masks(backend):
    model = share(prune.magnitude(mlp(backend), 0.5), 3)
    weights = [layer.weight.numpy().copy() for layer in layers(model)]
    sharing.remove(model)
    assert not sharing.shared(model)
    assert len(list(prune.masked(model))) == 2
    learn(model, optim.SGD(model.parameters(), lr=0.1), vectors(backend), 1)
    for layer, old in zip(layers(model), weights, strict=True):
        assert not np.array_equal(layer.weight.numpy(), old)
        assert not layer.weight.numpy()[~layer.weight_mask.numpy()].any()
    model = share(prune.magnitude(mlp(backend), 0.5), 3)
    prune.remove(model)
    assert not list(prune.masked(model))
    assert len(sharing.shared(model)) == 2


@pytest.mark.parametrize("coding", [None, "huffman"])
@pytest.mark.parametrize("pruned", [False, True])
def test_files_bring_shared_weights_back(backend, tmp_path, coding, pruned):
    path, model = tmp_path / "m.safetensors", cnn(backend)
    if pruned:
        prune.magnitude(model, 0.6)
    share(model, 3)
    save(model, path, coding)
    loaded = load(cnn(backend, seed=9), path)
    assert state(loaded) == state(model)
    model.eval(), loaded.eval()
    assert_same(loaded(images(backend)).numpy(), model(images(backend)).numpy())
    for twin in (model, loaded):
        learn(twin, optim.SGD(twin.parameters(), lr=0.1), images(backend), 2)
    assert state(loaded) == state(model)


def test_each_way_makes_the_file_smaller():
    backend = minidl.get_backend()
    model = mlp(backend, 0, (300, 200, 100))
    sizes = [file_size(model)]
    prune.magnitude(model, 0.9)
    sizes.append(file_size(model))
    share(model, 5)
    sizes.append(file_size(model))
    assert sizes[0] > 4 * sizes[1] > 8 * sizes[2]


@given(seed=seeds, size=st.integers(0, 3000), spread=st.floats(0.1, 40))
def test_huffman_codes_come_back_and_are_near_the_entropy(seed, size, spread):
    symbols = np.random.default_rng(seed).normal(0, spread, size).round().clip(-128, 127)
    symbols = symbols.astype(np.int8)
    data = huffman.encode(symbols)
    assert_same(huffman.decode(data, size).view(np.int8), symbols)
    if size:  # at most a bit a symbol above it, and the table of the code
        assert data.size * 8 <= size * (huffman.entropy(symbols) + 1) + 8 * 200


@given(symbols=st.binary(max_size=300))
def test_huffman_keeps_any_bytes(symbols):
    x = np.frombuffer(symbols, np.uint8)
    assert_same(huffman.decode(huffman.encode(x), len(x)), x)


def test_damaged_codes():
    data = huffman.encode(np.arange(200, dtype=np.uint8))
    for wrong, count in ((data, 199), (data, 201), (data[:-5], 200), (data[::-1], 200)):
        with pytest.raises(CheckpointError, match="Huffman"):
            huffman.decode(np.ascontiguousarray(wrong), count)


def test_a_file_whose_notes_lie(tmp_path):
    path, model = tmp_path / "m.safetensors", share(mlp(minidl.get_backend(), 0, (40, 50, 5)), 2)
    save(model, path, "huffman")
    tensors, metadata = checkpoint.load(path, "numpy")
    name = "0.weight"
    assert metadata[name] == "shared=4 huffman=uint8:50x40"
    for note in ("shared=4 huffman=uint8:50x41", "shared=4 huffman=float32:50x40"):
        checkpoint.save(path, tensors, {**metadata, name: note})
        with pytest.raises(CheckpointError, match="Huffman"):
            load(mlp(minidl.get_backend(), 0, (40, 50, 5)), path)
    checkpoint.save(path, {k: x for k, x in tensors.items() if "codebook" not in k}, metadata)
    with pytest.raises(CheckpointError, match="codebook"):
        load(mlp(minidl.get_backend(), 0, (40, 50, 5)), path)
    checkpoint.save(path, tensors, metadata)
    with pytest.raises(CheckpointError, match="of which the model has none"):
        load(mlp(minidl.get_backend(), 0, (41, 50, 5)), path)


@pytest.mark.parametrize("wrong", [0, 9, 2.5])
def test_wrong_arguments(wrong):
    with pytest.raises(ArgumentError, match="bits"):
        share(mlp(minidl.get_backend()), wrong)
    with pytest.raises(ArgumentError, match="coding"):
        save(mlp(minidl.get_backend()), "x", "zip")
    with pytest.raises(ArgumentError, match="no Linear"):
        share(nn.ReLU())


def test_weights_that_are_not_finite(backend):
    layer = nn.Linear(3, 3, backend=backend)
    with minidl.no_grad():
        layer.weight.copy_(minidl.full((3, 3), float("inf"), backend=backend))
    with pytest.raises(ArgumentError, match="infinity"):
        share(layer)
