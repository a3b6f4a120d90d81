"""A model that was shrunk computes what it computes with the same channels set to zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import clone, prune, structured
from minidl.errors import ArgumentError, DTypeError, GraphError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, assert_same, composed_bound, network_bound

from .models import cnn as plain_cnn
from .models import images as small_images
from .models import learn, mlp, state, vectors
from .networks import FIXED, KINDS, Tokens, Twice, cnn, images, options, tokens

blocks = st.text(KINDS, max_size=4)
amounts = st.integers(1, 99).map(lambda percent: percent / 100)
criteria = st.sampled_from(("l1", "l2", "bn"))
scopes = st.sampled_from(("layer", "global"))


def exact(model: nn.Module, x):
    """In float64, in which rounding is far below any mistake."""
    model = clone(model).double().eval()
    x = x.astype("float64") if x.dtype.kind == "f" else x
    return model, x


def assert_alike(small: nn.Module, masked: nn.Module, x) -> None:
    (small, x), (masked, _) = exact(small, x), exact(masked, x)
    with minidl.no_grad():
        found, expected = small(x).numpy(), masked(x).numpy()
    assert_close(found, expected, network_bound(expected))


def size(model: nn.Module) -> int:
    return sum(p.size for p in model.parameters())


@given(
    kinds=blocks, flat=st.booleans(), seed=seeds, amount=amounts, criterion=criteria, scope=scopes,
    round_to=st.sampled_from((None, 2)),
)  # fmt: skip
def test_shrunk_is_masked(backend, kinds, flat, seed, amount, criterion, scope, round_to):
    model, x = cnn(kinds, flat, backend, seed), images(backend, count=4, seed=seed)
    before = state(model)
    settings = (amount, criterion, scope, round_to)
    small = structured.prune_channels(model, x, *settings)
    masked = structured.mask_channels(model, x, *settings)
    assert state(model) == before
    assert_alike(small, masked, x)
    assert size(masked) == size(model)
    assert sum(int((p != 0).sum().item()) for p in masked.parameters()) >= sum(
        int((p != 0).sum().item()) for p in small.parameters()
    )
    removed = (p.shape for p in masked.parameters())
    assert any(a != p.shape for a, p in zip(removed, small.parameters(), strict=True)) or (
        state(small) == state(masked) == before
    )


@given(seed=seeds, amount=amounts, scope=scopes)
@pytest.mark.parametrize("name", [n for n in FIXED if n not in ("identity", "crossed", "groups")])
def test_shrunk_is_masked_in_sequence_models(backend, name, seed, amount, scope):
    model, (x,), axis = FIXED[name](backend)
    small = structured.prune_channels(model, x, amount, "l1", scope, batch_axis=axis)
    masked = structured.mask_channels(model, x, amount, "l1", scope, batch_axis=axis)
    assert_alike(small, masked, x)


@given(kinds=blocks, seed=seeds, amount=amounts)
def test_a_small_model_learns_and_its_settings_tell_its_size(backend, kinds, seed, amount):
    model, x = cnn(kinds, True, backend, seed), images(backend, count=2)
    small = structured.prune_channels(model, x, amount, inplace=True)
    assert small is model
    learn(small, minidl.optim.SGD(small.parameters(), 0.001), x, 1)
    for module in small.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        if isinstance(module, nn.Conv2d):
            each = module.in_channels // module.groups
            assert module.weight.shape[:2] == (module.out_channels, each)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            sizes = [module.weight, module.bias, module.running_mean, module.running_var]
            assert {t.shape for t in sizes} == {(module.num_features,)}


def test_half_of_a_chain(backend):
    small = structured.prune_channels(mlp(backend, sizes=(7, 8, 6, 5)), vectors(backend), 0.5)
    assert [p.shape for p in small.parameters()] == [(4, 7), (4,), (3, 4), (3,), (5, 3), (5,)]
    assert "in_features=4, out_features=3" in repr(small)


def test_the_weakest_channels_go(backend):
    model = mlp(backend, sizes=(2, 4, 1))
    first = [[1.0, 0.0], [0.0, 3.0], [0.5, 0.0], [0.0, 0.25]]
    with minidl.no_grad():
        model[0].weight.copy_(minidl.tensor(first, backend=backend))
        model[2].weight.copy_(minidl.tensor([[1.0, 1.0, 4.0, 1.0]], backend=backend))
    small = structured.prune_channels(model, minidl.ones((1, 2), backend=backend), 0.5)
    assert small[0].weight.tolist() == [[0.0, 3.0], [0.5, 0.0]]  # l1: 2, 4, 4.5, 1.25
    assert small[2].weight.tolist() == [[1.0, 4.0]]


def test_taylor_asks_for_gradients(backend):
    model, x = mlp(backend), vectors(backend)
    with pytest.raises(ArgumentError, match=r"needs gradients, and 0\.weight has none"):
        structured.prune_channels(model, x, 0.5, "taylor")
    (model(x) ** 2).mean().backward()
    change = [(p.numpy() * p.grad.numpy()).astype(np.float64) for p in model.parameters()]
    scores = (change[0].sum(1) + change[1] + change[2].sum(0)) ** 2
    kept = np.sort(np.argsort(scores)[4:])
    small = structured.prune_channels(model, x, 0.5, "taylor")
    assert_same(small[0].weight.numpy(), model[0].weight.numpy()[kept])
    assert_same(small[2].weight.numpy(), model[2].weight.numpy()[:, kept])


def test_batch_norm_scales_rank_the_channels_that_have_them(backend):
    model = nn.Sequential(
        nn.Linear(3, 4, **options(backend)), nn.BatchNorm1d(4, backend=backend),
        nn.Linear(4, 5, **options(backend)), nn.Linear(5, 2, **options(backend)),
    )  # fmt: skip
    with minidl.no_grad():
        scales = minidl.tensor([1.0, -3.0, 0.5, 2.0], backend=backend)
        model[1].weight.copy_(scales)
    small = structured.prune_channels(model, minidl.ones((2, 3), backend=backend), 0.5, "bn")
    assert small[1].weight.tolist() == [-3.0, 2.0]
    assert small[2].weight.shape == (5, 2)


def test_groups_of_a_network(backend):
    groups = structured.channel_groups(cnn("rc", True, backend), images(backend))
    assert groups
    listed = [str(group) for group in groups]
    assert any("0.conv.weight axis 0" in g and "0.shortcut.weight axis 0" in g for g in listed)
    assert all("axis" in g for g in listed)


def test_flattening_multiplies(backend):
    model = plain_cnn(backend)  # (N, 6, 2, 2) becomes (N, 24); its last convolution has two groups
    small = structured.prune_channels(model, small_images(backend), 0.4)
    assert small[0].out_channels == small[2].in_channels == 2
    assert small[2].out_channels == 4
    assert small[2].groups == 2
    assert small[5].in_features == 16


def test_depthwise_convolutions_lose_groups(backend):
    small = structured.prune_channels(cnn("ud", False, backend), images(backend), 0.5)
    assert small[1].conv.groups == small[1].conv.in_channels == small[0].conv.out_channels


def test_heads_go_as_wholes(backend):
    model = Tokens(True, True, **options(backend))
    small = structured.prune_heads(model, tokens(backend), 0.5)
    for layer in small.encoder.layers:
        attention = layer.self_attn
        assert (attention.num_heads, attention.head_dim, attention.embed_dim) == (2, 2, 8)
        assert attention.in_proj_weight.shape == (12, 8)
        assert layer.linear1.out_features == 12
    y = minidl.randn(2, 3, 8, backend=backend)
    attention = small.encoder.layers[0].self_attn.eval()
    together, weights = attention(y, y, y)
    assert weights.shape == (2, 3, 3)
    apart, _ = attention(y, y.clone(), y.clone())
    assert_close(apart.numpy(), together.numpy(), composed_bound(np.float32, together.numpy()))
    with pytest.raises(ArgumentError, match="nothing to prune"):
        structured.prune_heads(mlp(backend), vectors(backend), 0.5)


def test_features_go_through_layer_norm_only_if_asked(backend):
    model = Tokens(True, False, **options(backend))
    assert structured.prune_channels(model, tokens(backend), 0.5).head.in_features == 8
    small = structured.prune_channels(model, tokens(backend), 0.5, through_layer_norm=True)
    assert small.embedding.embedding_dim == small.position.d_model == small.head.in_features == 4
    assert small.encoder.layers[1].norm2.normalized_shape == (4,)
    assert small(tokens(backend)).shape == (2, 3)


def test_recurrent_units_go_together(backend):
    model, (x,), _ = FIXED["LSTM"](backend)
    small = structured.prune_channels(model, x, 0.5)
    assert small.rnn.hidden_size == 2
    assert small.rnn.weight_hh_l0.shape == (8, 2)
    assert small.rnn.weight_ih_l1.shape == (8, 4)
    assert small.head.in_features == 4


def test_global_scope_compares_layers_and_never_empties_one(backend):
    model = mlp(backend, sizes=(7, 6, 6, 2))
    with minidl.no_grad():
        model[2].weight[:1].copy_(model[2].weight[:1] * 100)
    small = structured.prune_channels(model, vectors(backend), 0.9, scope="global")
    shapes = [small[0].out_features, small[2].out_features]
    assert shapes == [1, 1]
    assert sum(g.labels.size for g in structured.channel_groups(small, vectors(backend))) == 2


def test_round_to_keeps_a_multiple(backend):
    for amount in (0.3, 0.6, 0.9):
        small = structured.prune_channels(
            mlp(backend, sizes=(7, 12, 5)), vectors(backend), amount, round_to=4
        )
        assert small[0].out_features == {0.3: 8, 0.6: 8, 0.9: 4}[amount]


def test_ignored_modules_keep_their_shapes(backend):
    model = mlp(backend, sizes=(7, 8, 6, 5))
    small = structured.prune_channels(model, vectors(backend), 0.5, ignore=["0"])
    assert [p.shape for p in small.parameters()] == [(8, 7), (8,), (3, 8), (3,), (5, 3), (5,)]


def test_shared_weights_and_masks_follow(backend):
    model = nn.Sequential(Twice(4, **options(backend)), nn.Conv2d(4, 2, 1, **options(backend)))
    first = nn.Sequential(nn.Conv2d(3, 4, 1, **options(backend)), *model)
    prune.magnitude(first, 0.3)
    small = structured.prune_channels(first, images(backend), 0.5)
    conv = small[1].unit.conv
    assert conv.weight.shape == conv.weight_mask.shape == (2, 2, 3, 3)
    x = images(backend)
    learn(small, minidl.optim.SGD(small.parameters(), 0.01), x, 1)
    assert not conv.weight.numpy()[~conv.weight_mask.numpy()].any()


class Written(nn.Module):
    """A model whose own code knows how many channels there are."""

    def __init__(self, backend):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, **options(backend))
        self.head = nn.Linear(4 * 36, 2, **options(backend))

    def forward(self, x):
        return self.head(self.conv(x).reshape(len(x), 4 * 36))


def test_numbers_in_the_models_code_are_found_before_anything_changes(backend):
    model = Written(backend)
    before = state(model)
    with pytest.raises(GraphError, match="There is a number of channels in the model's code"):
        structured.prune_channels(model, images(backend), 0.5, inplace=True)
    assert state(model) == before
    assert model.conv.out_channels == 4


def test_nothing_to_remove_changes_nothing(backend):
    model = mlp(backend)
    before = state(model)
    assert state(structured.prune_channels(model, vectors(backend), 0)) == before
    assert structured.prune_channels(model, vectors(backend), 0.01, inplace=True) is model
    assert state(model) == before


def test_wrong_arguments_are_refused(backend):
    model, x = mlp(backend), vectors(backend)

    def call(*args, **options):
        return structured.prune_channels(model, x, *args, **options)

    for amount in (1, -0.1, 50, float("nan")):
        with pytest.raises(ArgumentError, match="amount must be from 0 to below 1"):
            call(amount)
    with pytest.raises(ArgumentError, match="criterion must be one of"):
        call(0.5, "size")
    with pytest.raises(ArgumentError, match="scope must be one of"):
        call(0.5, scope="all")
    with pytest.raises(ArgumentError, match="round_to must be an integer >= 1"):
        call(0.5, round_to=0)
    with pytest.raises(ArgumentError, match="no module 'fc'"):
        call(0.5, ignore=["fc"])
    with pytest.raises(DTypeError, match="ignore must be a list"):
        call(0.5, ignore="0")
    with pytest.raises(ArgumentError, match="nothing to prune"):
        call(0.5, ignore=["0"])
    with pytest.raises(ArgumentError, match="nothing to prune"):
        call(0.5, "bn")
    with pytest.raises(DTypeError, match="must be a Module"):
        structured.prune_channels(None, x, 0.5)


def test_the_example_may_be_several_inputs(backend):
    model, (x, y), _ = FIXED["crossed"](backend)
    with pytest.raises(ArgumentError, match="nothing to prune"):  # its weights are a mean of heads
        structured.prune_heads(model, (x, y), 0.5)
    example = (x, y, y, None, False)
    small = structured.prune_heads(model.attention, example, 0.5)
    assert small.num_heads == 1
    masked = structured.mask_channels(model.attention, example, 0.5)
    (a, x), (b, _), y = exact(small, x), exact(masked, x), y.astype("float64")
    found, expected = a(x, y, y, None, False)[0], b(x, y, y, None, False)[0]
    assert_close(found.numpy(), expected.numpy(), network_bound(expected.numpy()))


def test_one_input_channel_is_no_depthwise_convolution(backend):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1, **options(backend)), nn.Conv2d(4, 2, 1, **options(backend))
    )
    small = structured.prune_channels(model, images(backend, 1), 0.5)
    assert (small[0].out_channels, small[0].groups) == (2, 1)


def test_heads_with_masks_of_their_own_stay(backend):
    model, (x, y), _ = FIXED["crossed"](backend)
    mask = minidl.zeros((3 * 2, 4, 5), backend=backend)
    with pytest.raises(ArgumentError, match="nothing to prune"):
        structured.prune_heads(model.attention, (x, y, y, None, False, mask), 0.5)
    shared = minidl.zeros((4, 5), backend=backend)
    small = structured.prune_heads(model.attention, (x, y, y, None, False, shared), 0.5)
    assert small.num_heads == 1


class Products(nn.Module):
    """A product with a weight, and one of two results."""

    def __init__(self, backend):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4, **options(backend)), nn.Linear(3, 4, **options(backend))
        self.weight = nn.Parameter(minidl.ones((4, 5), backend=backend))
        self.head = nn.Linear(5, 2, **options(backend))

    def forward(self, x):
        met = self.b(x).sigmoid().unsqueeze(1) @ self.b(x).sigmoid().unsqueeze(2)
        return self.head((self.a(x) @ self.weight).relu()) + met.squeeze(2)


def test_only_products_with_weights_lose_channels(backend):
    x = minidl.ones((2, 3), backend=backend)
    groups = structured.channel_groups(Products(backend), x)
    assert [[value.path for value, _ in group.places] for group in groups] == [
        ["a.weight", "a.bias", "weight"], ["weight", "head.weight"],
    ]  # fmt: skip
