"""Multi-head attention and the encoder built of it: against the formula, head by head."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.operations.attention import attend
from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

D, H = 8, 2
DOUBLE = {"dtype": "float64"}


def random(*shape, seed=0):
    return minidl.tensor(fill(shape, np.float64, "normal", seed), "float64", requires_grad=True)


def close(actual, expected, *inputs):
    expected = np.asarray(expected)
    bound = composed_bound(np.float64, expected, *inputs)
    assert_close(actual.numpy(), expected, bound, np.float64)


def made(bias=True, **options):
    layer = nn.MultiheadAttention(D, H, bias=bias, batch_first=True, **DOUBLE, **options)
    with minidl.no_grad():
        for seed, p in enumerate(layer.parameters()):
            p.copy_(random(*p.shape, seed=seed + 20))
    return layer


def formula(layer, query, key, value, mask=None):
    """Every head by itself; mask (N, H, T, S) is True where to look."""
    weight = layer.in_proj_weight.numpy().reshape(3, H, D // H, D)
    bias = np.zeros((3, H, D // H))
    if layer.in_proj_bias is not None:
        bias = layer.in_proj_bias.numpy().reshape(bias.shape)
    heads = []
    for h in range(H):
        rows = zip((query, key, value), range(3), strict=True)
        q, k, v = (x @ weight[i, h].T + bias[i, h] for x, i in rows)
        heads.append(attend(q, k, v, None if mask is None else mask[:, h]))
    y = np.concatenate(heads, -1) @ layer.out_proj.weight.numpy().T
    return y if layer.out_proj.bias is None else y + layer.out_proj.bias.numpy()


def test_parameters_have_the_names_and_shapes_of_pytorch():
    shapes = {name: p.shape for name, p in nn.MultiheadAttention(8, 2).state_dict().items()}
    assert shapes == {
        "in_proj_weight": (24, 8), "in_proj_bias": (24,),
        "out_proj.weight": (8, 8), "out_proj.bias": (8,),
    }  # fmt: skip
    assert list(nn.MultiheadAttention(8, 2, bias=False).state_dict()) == [
        "in_proj_weight",
        "out_proj.weight",
    ]
    names = list(nn.TransformerEncoderLayer(4, 2, 8).state_dict())
    modules = ("linear1", "linear2", "norm1", "norm2")
    assert names[:4] == [f"self_attn.{name}" for name in shapes]
    assert names[4:] == [f"{m}.{p}" for m in modules for p in ("weight", "bias")]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, nn.LayerNorm(4))
    assert list(encoder.state_dict()) == [
        *(f"layers.{i}.{name}" for i in range(2) for name in names), "norm.weight", "norm.bias",
    ]  # fmt: skip
    layer = nn.MultiheadAttention(64, 2)
    bound = np.sqrt(6 / (4 * 64))
    assert 0.9 * bound < layer.in_proj_weight.abs().max().item() <= bound
    assert (layer.in_proj_bias.numpy() == 0).all()
    assert (layer.out_proj.bias.numpy() == 0).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_among_itself_and_to_others(bias, need_weights):
    layer = made(bias)
    x, key, value = random(2, 3, D), random(2, 5, D, seed=1), random(2, 5, D, seed=2)
    for inputs in ((x, x, x), (x, key, key), (x, key, value)):
        y, weights = layer(*inputs, need_weights=need_weights)
        close(y, formula(layer, *(v.numpy() for v in inputs)))
        assert (weights is not None) == need_weights
        if weights is not None:
            assert weights.shape == (2, 3, inputs[1].shape[1])
            close(weights.sum(-1), np.ones((2, 3)))


@pytest.mark.parametrize("need_weights", [True, False])
def test_masks_are_true_where_not_to_look(need_weights):
    layer = made()
    x, key = random(2, 3, D), random(2, 5, D, seed=1)
    padding = np.arange(5) >= np.array([[5], [3]])
    hidden = np.random.default_rng(3).random((2 * H, 3, 5)) < 0.4
    hidden[..., 0] = False
    seen = ~hidden.reshape(2, H, 3, 5)
    both = seen & ~padding[:, None, None]
    arrays = [v.numpy() for v in (x, key, key)]
    t = minidl.tensor

    def run(padding=None, mask=None):
        return layer(x, key, key, padding, need_weights, mask)[0]

    close(run(mask=t(hidden)), formula(layer, *arrays, seen))
    every = np.broadcast_to(seen[:1, :1], seen.shape)
    close(run(mask=t(hidden[0])), formula(layer, *arrays, every))
    close(run(t(padding), t(hidden)), formula(layer, *arrays, both))
    added = t(np.where(hidden, -np.inf, 0), "float64")
    close(run(mask=added), formula(layer, *arrays, seen))
    close(run(t(padding), added), formula(layer, *arrays, both))
    causal, _ = layer(x, x, x, is_causal=True, need_weights=need_weights)
    triangle = np.broadcast_to(np.tri(3, dtype=bool), (2, H, 3, 3))
    close(causal, formula(layer, *[x.numpy()] * 3, triangle))


def test_weights_of_single_heads_and_their_mean():
    layer = made()
    x = random(2, 3, D)
    _, each = layer(x, x, x, average_attn_weights=False)
    _, mean = layer(x, x, x)
    assert each.shape == (2, H, 3, 3)
    close(mean, each.numpy().mean(1))


def test_the_batch_may_come_second_or_be_left_out():
    first = made()
    second = nn.MultiheadAttention(D, H, **DOUBLE)
    second.load_state_dict(first.state_dict())
    x, key = random(2, 3, D), random(2, 5, D, seed=1)
    padding = minidl.tensor(np.arange(5) >= np.array([[5], [3]]))
    for inputs in ((x, x, x), (x, key, key)):
        mask = padding if inputs[1] is key else None
        wanted = first(*inputs, mask)[0].numpy()
        turned = {id(v): ops.swapaxes(v, 0, 1) for v in inputs}
        y, weights = second(*(turned[id(v)] for v in inputs), mask)
        close(ops.swapaxes(y, 0, 1), wanted)
        assert weights.shape == (2, 3, inputs[1].shape[1])
        alone = {id(v): v[1] for v in inputs}
        for layer in (first, second):
            y, weights = layer(*(alone[id(v)] for v in inputs), None if mask is None else mask[1])
            close(y, wanted[1])
            assert weights.shape == (3, inputs[1].shape[1])


def test_a_query_that_may_look_nowhere_gets_the_bias():
    layer = made()
    x = random(1, 3, D)
    everything = minidl.ones((1, 3), "bool")
    for need_weights in (True, False):
        y, weights = layer(x, x, x, everything, need_weights)
        close(y, np.broadcast_to(layer.out_proj.bias.numpy(), y.shape))
        if weights is not None:
            assert (weights.numpy() == 0).all()


def test_dropout_acts_in_training_and_comes_from_the_generator():
    x = random(2, 3, D)
    for need_weights in (True, False):
        layer = made(dropout=0.5, generator=minidl.Generator(3))
        state = minidl.default_generator.state
        first, second = (layer(x, x, x, None, need_weights)[0].numpy() for _ in range(2))
        assert (first != second).any()
        assert minidl.default_generator.state == state
        layer.eval()
        close(layer(x, x, x, None, need_weights)[0], formula(layer, *[x.numpy()] * 3))


@pytest.mark.parametrize("need_weights", [True, False])
def test_gradients(need_weights):
    layer = made()
    x, key = random(1, 2, D), random(1, 3, D, seed=1)
    parameters = list(layer.parameters())
    assert minidl.gradcheck(lambda x, *_: layer(x, x, x, None, need_weights)[0], [x, *parameters])
    assert minidl.gradcheck(
        lambda x, k, *_: layer(x, k, k, None, need_weights)[0], [x, key, *parameters]
    )


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu", ops.silu])
def test_an_encoder_layer_is_its_formula(norm_first, activation):
    layer = nn.TransformerEncoderLayer(D, H, 12, 0.0, activation, 0.25, True, norm_first, **DOUBLE)
    function = {"relu": ops.relu, "gelu": ops.gelu}.get(activation, activation)
    x = random(2, 3, D)

    def norm(x):
        return ops.layer_norm(x, D, eps=0.25)

    def attention(x):
        return layer.self_attn(x, x, x)[0]

    def network(x):
        return layer.linear2(function(layer.linear1(x)))

    if norm_first:
        z = x + attention(norm(x))
        wanted = z + network(norm(z))
    else:
        z = norm(x + attention(x))
        wanted = norm(z + network(z))
    close(layer(x), wanted.numpy())
    parameters = list(layer.parameters())
    if norm_first and activation == "gelu":
        assert minidl.gradcheck(lambda x, *_: layer(x), [x, *parameters])


def test_an_encoder_runs_its_layers_in_turn_and_hands_on_the_masks():
    layer = nn.TransformerEncoderLayer(D, H, 12, 0.0, batch_first=True, **DOUBLE)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(D, **DOUBLE))
    a, b = encoder.layers
    assert_same(a.linear1.weight.numpy(), b.linear1.weight.numpy())
    assert a.linear1.weight is not b.linear1.weight
    with minidl.no_grad():
        b.linear1.weight.mul_(0.5)
    x = random(2, 3, D)
    padding = minidl.tensor(np.array([[False] * 3, [False, False, True]]))
    mask = minidl.tensor(np.triu(np.ones((3, 3), bool), 1))
    wanted = encoder.norm(b(a(x, mask, padding), mask, padding))
    close(encoder(x, mask, padding), wanted.numpy())
    close(encoder(x, None, padding, is_causal=True), wanted.numpy())
    bare = nn.TransformerEncoder(layer, 1)
    close(bare(x), layer(x).numpy())


def test_an_encoder_learns_an_order():
    """The label is the first token: without positions it could not be told from the others."""
    minidl.manual_seed(1)
    rng = np.random.default_rng(0)
    x = minidl.tensor(rng.integers(0, 4, (64, 4)))
    label = x[:, 0]
    table, head = nn.Embedding(4, D), nn.Linear(D, 4)
    place = nn.PositionalEncoding(D, 4, batch_first=True)
    block = nn.TransformerEncoderLayer(D, H, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    model = nn.Sequential(table, place, block)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = minidl.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(60):
        loss = ops.cross_entropy(head(model(x).mean(axis=1)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_positions_are_sines_and_cosines():
    layer = nn.PositionalEncoding(5, 7, **DOUBLE)
    y = layer(minidl.zeros((7, 2, 5), "float64"))
    t, i = np.arange(7)[:, None], np.arange(5)
    angle = t / 10000 ** (2 * (i // 2) / 5)
    wanted = np.where(i % 2 == 0, np.sin(angle), np.cos(angle))
    close(y, np.stack([wanted, wanted], 1))
    first = nn.PositionalEncoding(5, 7, batch_first=True, **DOUBLE)
    close(first(minidl.zeros((1, 3, 5), "float64")), wanted[None, :3])
    assert list(layer.state_dict()) == []
    with pytest.raises(ShapeError, match="at most 7 positions"):
        layer(minidl.zeros((8, 1, 5), "float64"))


BAD = {
    "heads": lambda: nn.MultiheadAttention(8, 3),
    "size": lambda: nn.MultiheadAttention(0, 1),
    "dropout": lambda: nn.MultiheadAttention(8, 2, 1.5),
    "layer": lambda: nn.TransformerEncoderLayer(8, 3),
    "feedforward": lambda: nn.TransformerEncoderLayer(8, 2, 0),
    "activation": lambda: nn.TransformerEncoderLayer(8, 2, activation="swish"),
    "layers": lambda: nn.TransformerEncoder(nn.Identity(), 0),
    "positions": lambda: nn.PositionalEncoding(8, 0),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_settings_are_refused(make):
    with pytest.raises(ArgumentError):
        make()


def test_wrong_inputs_are_refused():
    layer = made()
    x, long = random(2, 3, D), random(2, 4, D)
    with pytest.raises(ShapeError, match="the last of 8 features"):
        layer(x, x, random(2, 3, 4))
    with pytest.raises(ShapeError, match="must have 3 axes"):
        layer(x, x, x[0])
    with pytest.raises(ShapeError, match="must agree in the batch"):
        layer(x, random(3, 3, D), random(3, 3, D))
    with pytest.raises(ShapeError, match="must agree in the batch"):
        layer(x, x, long)
    with pytest.raises(ShapeError, match=r"key_padding_mask must have shape \(2, 3\)"):
        layer(x, x, x, minidl.ones((3, 2), "bool"))
    with pytest.raises(ShapeError, match=r"attn_mask must be \(3, 3\) or \(4, 3, 3\)"):
        layer(x, x, x, attn_mask=minidl.ones((2, 3, 3), "bool"))
    with pytest.raises(DTypeError, match="query must be floating"):
        layer(minidl.ones((2, 3, D), "int64"), x, x)
    with pytest.raises(DTypeError):
        layer(x, x, x, attn_mask=minidl.ones((3, 3), "int64"))
    with pytest.raises(DTypeError):
        nn.TransformerEncoder("layer", 2)
