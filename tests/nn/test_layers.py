"""Layers: against the oracle on exact values, their settings, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import minidl
from minidl import nn, ops
from minidl.engine.modes import observe
from minidl.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minidl.verify import oracle
from minidl.verify.strategies import EXACT, convolutions, fill, poolings
from minidl.verify.tolerances import assert_same

F32 = np.float32


def whole(shape, seed: int = 0) -> minidl.Tensor:
    """Small integers, on which float32 is exact in any order."""
    return minidl.tensor(fill(shape, F32, "integers", seed))


def filled(layer: nn.Module) -> nn.Module:
    """The layer with small integers as parameters."""
    with minidl.no_grad():
        for seed, p in enumerate(layer.parameters()):
            p.copy_(whole(p.shape, seed + 1))
    return layer


def exact(actual: minidl.Tensor, expected: np.ndarray) -> None:
    assert_same(actual.numpy(), np.asarray(expected, F32), signed_zero=False)


# -- linear and convolutional -------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    layer = filled(nn.Linear(3, 2, bias))
    weight, shift = layer.weight.numpy(), layer.bias.numpy() if bias else None
    x = whole((4, 3))
    exact(layer(x), oracle.linear(x.numpy(), weight, shift))
    exact(layer(x.reshape(2, 2, 3)), oracle.linear(x.numpy(), weight, shift).reshape(2, 2, 2))


def test_linear_relu_is_a_linear_and_a_relu():
    layer, x = filled(nn.LinearReLU(3, 4)), whole((5, 3), 9)
    expected = np.maximum(
        oracle.linear(x.numpy(), layer[0].weight.numpy(), layer[0].bias.numpy()), 0
    )
    exact(layer(x), expected)
    exact(layer[1](layer[0](x)), expected)
    exact(layer[:1](x), layer[0](x).numpy())
    called = []
    with observe(lambda phase, function, inputs, result: called.append(function.name)):
        layer(x)
        assert called == ["LinearRelu"]
        remove = layer[1].register_forward_pre_hook(lambda module, args: called.append("hook"))
        exact(layer(x), expected)
        remove()
    assert called[1:] == ["Linear", "hook", "Relu"]
    layer[1] = nn.Identity()
    exact(layer(x), layer[0](x).numpy())


@given(case=convolutions(kinds=EXACT))
def test_conv2d(backend, case):
    weight, x = case.weight.values, case.x.values
    layer = nn.Conv2d(
        x.shape[1], weight.shape[0], weight.shape[2:], *case.options, case.bias is not None,
        backend=backend, dtype=x.dtype,
    )  # fmt: skip
    assert layer.weight.shape == weight.shape
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor(weight, backend=backend))
        if case.bias is not None:
            layer.bias.copy_(minidl.tensor(case.bias.values, backend=backend))
    bias = None if case.bias is None else case.bias.values
    expected = oracle.conv2d(x, weight, bias, *case.options)
    y = layer(minidl.tensor(x, backend=backend))
    assert_same(y.numpy(), expected.astype(x.dtype), signed_zero=False)


def test_conv_transpose2d():
    layer = filled(nn.ConvTranspose2d(4, 6, (2, 3), 2, 1, 1, groups=2, dilation=2))
    assert layer.weight.shape == (4, 3, 2, 3)
    x = whole((2, 4, 3, 4))
    shape = (2, 6, 2 * 2 - 2 + 2 + 1 + 1, 3 * 2 - 2 + 4 + 1 + 1)
    options = ((2, 2), (1, 1), (2, 2), 2)
    spread = oracle.conv2d_input_grad(x.numpy(), layer.weight.numpy(), shape, *options)
    exact(layer(x), spread + layer.bias.numpy().reshape(1, -1, 1, 1))


def test_conv_transpose2d_is_the_transpose_of_conv2d():
    """<conv(x), y> = <x, conv_transpose(y)>, with one weight for both."""
    conv = filled(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False))
    back = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, bias=False)
    back.weight = conv.weight
    x = whole((1, 2, 5, 5))
    y = whole((1, 3, 3, 3), 9)
    assert (conv(x) * y).sum().item() == (x * back(y)).sum().item()


# -- shapes -------------------------------------------------------------------------------------
def test_layers_that_only_change_the_shape():
    x = whole((2, 3, 4, 5))
    assert nn.Identity(1, kept=2)(x) is x
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0)(x).shape == (120,)
    assert nn.Flatten(1, 2)(x).shape == (2, 12, 5)
    assert nn.Flatten(-3, -2)(x).shape == (2, 12, 5)
    assert nn.Flatten()(minidl.zeros((0, 3, 4))).shape == (0, 12)
    assert nn.Unflatten(1, (3, 1))(x).shape == (2, 3, 1, 4, 5)
    assert nn.Unflatten(-1, [5, 1])(x).shape == (2, 3, 4, 5, 1)
    exact(nn.Unflatten(1, (3, 4, 5))(nn.Flatten()(x)), x.numpy())
    with pytest.raises(ShapeError):
        nn.Flatten(4)(x)
    with pytest.raises(ShapeError):
        nn.Unflatten(1, (2, 2))(x)


# -- pooling ------------------------------------------------------------------------------------
@given(case=poolings(kinds=EXACT))
def test_max_pool2d(backend, case):
    x = case.x.values
    y = nn.MaxPool2d(*case.window)(minidl.tensor(x, backend=backend))
    assert_same(y.numpy(), oracle.max_pool2d(x, *case.window)[0], signed_zero=False)


def test_avg_pool2d():
    x = whole((1, 2, 4, 4))
    window = ((2, 2), (2, 2), (1, 1))  # divisors 4 and 1, 2, 4: exact
    for counted in (True, False):
        layer = nn.AvgPool2d(*window, count_include_pad=counted)
        exact(layer(x), oracle.avg_pool2d(x.numpy(), *window, counted))
    assert nn.AvgPool2d(2)(x).shape == (1, 2, 2, 2)


def test_adaptive_pools():
    x = whole((2, 3, 4, 8))
    tiles = x.numpy().reshape(2, 3, 2, 2, 4, 2)
    exact(nn.AdaptiveAvgPool2d((2, 4))(x), tiles.mean((3, 5)))
    exact(nn.AdaptiveMaxPool2d((2, 4))(x), tiles.max((3, 5)))


# -- normalisation ------------------------------------------------------------------------------
def test_batch_norm_in_training_and_in_use():
    layer = filled(nn.BatchNorm1d(2, eps=0.0, momentum=0.5))
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    x = np.array([[1, 0], [3, 0], [1, 4], [3, 4]], F32)  # means 2 and 2, variances 1 and 4
    exact(layer(minidl.tensor(x)), weight * (x - 2) / [1, 2] + bias)
    mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
    unbiased = minidl.tensor(np.array([1, 4], F32)) * (4 / 3)
    exact(layer.running_mean, [1, 1])
    exact(layer.running_var, 0.5 + 0.5 * unbiased.numpy())
    assert layer.num_batches_tracked.item() == 1
    assert not layer.running_mean.requires_grad
    before = mean.copy(), var.copy()
    layer.eval()
    with minidl.no_grad():
        layer.running_var.copy_(minidl.tensor([4.0, 0.25]))
    exact(layer(minidl.tensor(x)), weight * (x - 1) / [2, 0.5] + bias)
    exact(layer.running_mean, before[0])
    assert layer.num_batches_tracked.item() == 1


def test_batch_norm_without_momentum_averages_all_batches():
    layer = nn.BatchNorm2d(1, momentum=None)
    for value in (2.0, 6.0):
        layer(minidl.full((2, 1, 2, 2), value))
    exact(layer.running_mean, [4])
    exact(layer.running_var, [0])
    assert layer.num_batches_tracked.item() == 2


def test_batch_norm_does_not_count_what_it_refuses():
    layer = nn.BatchNorm1d(2)
    with pytest.raises(ShapeError):
        layer(minidl.ones((1, 2)))  # one value for each channel has no variance
    with pytest.raises(DTypeError):
        layer(minidl.ones((4, 2), "int64"))
    assert layer.num_batches_tracked.item() == 0


def test_batch_norm_without_statistics_or_parameters():
    layer = nn.BatchNorm1d(1, eps=0.0, affine=False, track_running_stats=False).eval()
    assert list(layer.state_dict()) == []
    exact(layer(minidl.tensor([[1.0], [3.0]])), [[-1], [1]])


def test_batch_norm_looks_at_its_input():
    for layer, shape in (
        (nn.BatchNorm1d(3), (2, 3, 4, 4)),
        (nn.BatchNorm2d(3), (2, 3)),
        (nn.BatchNorm2d(3), (2, 4, 2, 2)),
    ):
        with pytest.raises(ShapeError, match="must have 3 channels"):
            layer(minidl.zeros(shape))
    with pytest.raises(ShapeError, match="at least 2 values"):
        nn.BatchNorm1d(3)(minidl.zeros((1, 3)))


def test_layer_norm_and_group_norm_pass_on_what_they_have():
    x = whole((2, 4, 3))
    layer = filled(nn.LayerNorm((4, 3), eps=0.5))
    assert layer.weight.shape == (4, 3)
    exact(layer(x), ops.layer_norm(x, (4, 3), layer.weight, layer.bias, 0.5).numpy())
    assert nn.LayerNorm(3, bias=False).bias is None
    plain = nn.LayerNorm(3, elementwise_affine=False)
    assert list(plain.parameters()) == []
    exact(plain(x), ops.layer_norm(x, 3).numpy())
    group = filled(nn.GroupNorm(2, 4, eps=0.5))
    exact(group(x), ops.group_norm(x, 2, group.weight, group.bias, 0.5).numpy())
    assert list(nn.GroupNorm(2, 4, affine=False).parameters()) == []


# -- activations, dropout, embedding, losses ----------------------------------------------------
ACTIVATIONS = {
    "ReLU": (nn.ReLU(), ops.relu),
    "LeakyReLU": (nn.LeakyReLU(0.25), lambda x: ops.leaky_relu(x, 0.25)),
    "GELU": (nn.GELU("tanh"), lambda x: ops.gelu(x, "tanh")),
    "SiLU": (nn.SiLU(), ops.silu),
    "Sigmoid": (nn.Sigmoid(), ops.sigmoid),
    "Tanh": (nn.Tanh(), ops.tanh),
    "Softplus": (nn.Softplus(), ops.softplus),
    "Softmax": (nn.Softmax(0), lambda x: ops.softmax(x, 0)),
    "LogSoftmax": (nn.LogSoftmax(0), lambda x: ops.log_softmax(x, 0)),
}


@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_are_their_functions(layer, function):
    x = whole((3, 5))
    exact(layer(x), function(x).numpy())
    assert nn.Softmax()(x).numpy().sum(1).round(3).tolist() == [1, 1, 1]


def test_dropout_drops_in_training_from_its_own_generator():
    x = minidl.ones((50, 4))
    layer = nn.Dropout(0.5, generator=minidl.Generator(3))
    state = minidl.default_generator.state
    y = layer(x)
    exact(y, ops.dropout(x, 0.5, generator=minidl.Generator(3)).numpy())
    assert set(y.numpy().ravel().tolist()) == {0.0, 2.0}
    assert minidl.default_generator.state == state
    assert layer.generator.counter > 0
    assert layer.eval()(x) is x


def test_dropout_takes_the_default_generator():
    x = minidl.ones(40)
    minidl.manual_seed(5)
    first = nn.Dropout(0.25)(x)
    minidl.manual_seed(5)
    exact(nn.Dropout(0.25)(x), first.numpy())
    exact(first, ops.dropout(x, 0.25, generator=minidl.Generator(5)).numpy())


def test_dropout_masks_are_the_same_on_every_backend(backend, reference):
    x = fill((64, 3), F32, "integers", 0)
    masks = [
        nn.Dropout(0.3, generator=minidl.Generator(1))(minidl.tensor(x, backend=b)).numpy()
        for b in (backend, reference)
    ]
    assert_same(masks[0], masks[1])


@pytest.mark.parametrize("padding_idx", [None, 1, -3])
def test_embedding(padding_idx):
    layer = nn.Embedding(4, 2, padding_idx)
    index = minidl.tensor([[1, 3, 3], [0, 1, 0]])
    exact(layer(index), layer.weight.numpy()[index.numpy()])
    layer(index).sum().backward()
    counts = np.array([2, 2, 0, 2], F32)
    if padding_idx is not None:
        assert layer.padding_idx == 1
        assert layer.weight.tolist()[1] == [0, 0]
        counts[1] = 0
    exact(layer.weight.grad, np.repeat(counts[:, None], 2, 1))


def test_embedding_checks_its_numbers():
    with pytest.raises(ArgumentError, match="no row 4"):
        nn.Embedding(4, 2, 4)
    with pytest.raises(IndexRangeError):
        nn.Embedding(4, 2)(minidl.tensor([4]))


W = np.array([1, 2, 4], F32)
LOSSES = {
    "MSELoss": (nn.MSELoss("sum"), lambda x, t: ops.mse_loss(x, t, "sum"), False),
    "L1Loss": (nn.L1Loss("sum"), lambda x, t: ops.l1_loss(x, t, "sum"), False),
    "HuberLoss": (nn.HuberLoss("sum", 0.5), lambda x, t: ops.huber_loss(x, t, "sum", 0.5), False),
    "KLDivLoss": (
        nn.KLDivLoss("batchmean", True), lambda x, t: ops.kl_div(x, t, "batchmean", True), False,
    ),
    "BCEWithLogitsLoss": (
        lambda w: nn.BCEWithLogitsLoss(w, "sum", None if w is None else w + 1),
        lambda x, t, w: ops.binary_cross_entropy_with_logits(x, t, w, "sum", w + 1),
        False,
    ),
    "CrossEntropyLoss": (
        lambda w: nn.CrossEntropyLoss(w, 1, "sum", 0.125),
        lambda x, t, w: ops.cross_entropy(x, t, w, 1, "sum", 0.125),
        True,
    ),
    "NLLLoss": (
        lambda w: nn.NLLLoss(w, 1, "sum"), lambda x, t, w: ops.nll_loss(x, t, w, 1, "sum"), True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "function", "labels"), LOSSES.values(), ids=LOSSES)
def test_losses_are_their_functions(backend, reference, make, function, labels):
    x, target = whole((4, 3)), minidl.tensor([0, 1, 2, 2]) if labels else whole((4, 3), 1)
    if isinstance(make, nn.Module):
        exact(make(x, target), function(x, target).numpy())
        return
    weight = minidl.tensor(W)
    layer = make(weight)
    exact(layer(x, target), function(x, target, weight).numpy())
    assert make(None)(x, target).item() != layer(x, target).item()
    layer.to(reference)  # the weights are buffers, and move along
    there = layer(x.to(reference), target.to(reference))
    assert there.backend is reference


# -- gradients and settings ---------------------------------------------------------------------
DOUBLE = {"dtype": "float64"}
CHECKED = {
    "Linear": (lambda: nn.Linear(3, 2, **DOUBLE), (4, 3)),
    "Conv2d": (lambda: nn.Conv2d(2, 4, 2, 1, 1, groups=2, **DOUBLE), (2, 2, 3, 3)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 1, 2, 2, **DOUBLE), (1, 2, 2, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(2, **DOUBLE), (3, 2)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2, **DOUBLE).eval(), (2, 2, 2, 1)),
    "LayerNorm": (lambda: nn.LayerNorm(3, **DOUBLE), (2, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, **DOUBLE), (2, 4, 2)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, 1), (1, 1, 3, 3)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), (1, 1, 3, 4)),
    "Softplus": (nn.Softplus, (5,)),
}


@pytest.mark.parametrize(("make", "shape"), CHECKED.values(), ids=CHECKED)
def test_gradients(make, shape):
    layer = make()
    x = minidl.tensor(fill(shape, np.float64, "normal", 7), requires_grad=True)
    assert minidl.gradcheck(lambda x, *_: layer(x), [x, *layer.parameters()])


BAD = {
    "Linear": lambda: nn.Linear(0, 3),
    "Linear float": lambda: nn.Linear(3, 2.0),
    "Linear bool": lambda: nn.Linear(True, 2),
    "Conv2d channels": lambda: nn.Conv2d(-1, 2, 3),
    "Conv2d kernel": lambda: nn.Conv2d(1, 2, 0),
    "Conv2d stride": lambda: nn.Conv2d(1, 2, 3, stride=0),
    "Conv2d padding": lambda: nn.Conv2d(1, 2, 3, padding=-1),
    "Conv2d groups": lambda: nn.Conv2d(4, 6, 3, groups=4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(0),
    "GroupNorm": lambda: nn.GroupNorm(3, 4),
    "Dropout": lambda: nn.Dropout(1.5),
    "Embedding": lambda: nn.Embedding(0, 3),
    "Linear text": lambda: nn.Linear("4", 3),
    "Linear None": lambda: nn.Linear(None, 3),
    "Conv2d bool": lambda: nn.Conv2d(1, 2, True),
    "Conv2d same": lambda: nn.Conv2d(1, 2, 3, padding="same"),
    "MaxPool2d": lambda: nn.MaxPool2d(0),
    "MaxPool2d padding": lambda: nn.MaxPool2d(2, padding=2),
    "AvgPool2d": lambda: nn.AvgPool2d(2.5),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(None),
    "BatchNorm1d eps": lambda: nn.BatchNorm1d(4, eps=-1),
    "BatchNorm1d momentum": lambda: nn.BatchNorm1d(4, momentum=2),
    "LayerNorm": lambda: nn.LayerNorm(4.0),
    "LayerNorm empty": lambda: nn.LayerNorm(0),
    "LayerNorm no axis": lambda: nn.LayerNorm(()),
    "LayerNorm eps": lambda: nn.LayerNorm(4, eps="a"),
    "GroupNorm eps": lambda: nn.GroupNorm(2, 4, eps=None),
    "Dropout text": lambda: nn.Dropout("0.5"),
    "Embedding padding": lambda: nn.Embedding(4, 2, padding_idx="a"),
    "Flatten": lambda: nn.Flatten("a"),
    "LeakyReLU": lambda: nn.LeakyReLU(None),
    "GELU": lambda: nn.GELU("erf"),
    "reduction": lambda: nn.CrossEntropyLoss(reduction="avg"),
    "reduction None": lambda: nn.MSELoss(None),
    "reduction of another loss": lambda: nn.NLLLoss(reduction="batchmean"),
    "ignore_index": lambda: nn.NLLLoss(ignore_index=1.5),
    "label_smoothing": lambda: nn.CrossEntropyLoss(label_smoothing=2),
    "delta": lambda: nn.HuberLoss(delta=0),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_settings_are_refused_when_the_layer_is_built(make):
    with pytest.raises(ArgumentError):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 3, generator=5),
        lambda: nn.Dropout(generator=5),
        lambda: nn.Unflatten(1, 4),
        lambda: nn.CrossEntropyLoss([1.0, 2.0]),
        lambda: nn.BCEWithLogitsLoss(pos_weight=3.0),
        lambda: nn.BatchNorm1d(4)([1.0]),
    ],
)
def test_what_is_of_another_kind_is_refused(make):
    with pytest.raises(DTypeError):
        make()


def test_flatten_goes_forward():
    with pytest.raises(ShapeError, match="start_dim 2 comes after end_dim 1"):
        nn.Flatten(2, 1)(minidl.ones((2, 3, 4)))


def test_numpy_integers_and_scalars_as_settings():
    two, half = np.int64(2), np.float64(0.5)
    x = minidl.ones((2, 4, 6, 6))
    for layer in (
        nn.Conv2d(np.int64(4), two, two, groups=two),
        nn.ConvTranspose2d(np.int64(4), two, [2, 2], stride=two),
        nn.MaxPool2d(two),
        nn.BatchNorm2d(np.int64(4), eps=half, momentum=half),
        nn.LayerNorm(np.int64(6), eps=half),
        nn.GroupNorm(two, np.int64(4), eps=half),
        nn.Dropout(half),
        nn.LeakyReLU(half),
    ):
        assert layer(x).dtype == np.float32
    table = nn.Embedding(np.int64(4), two, padding_idx=np.int64(-1))
    assert table(minidl.tensor([3])).tolist() == [[0, 0]]


def test_layers_are_made_where_and_as_they_are_told(backend, reference):
    for make in (
        lambda **how: nn.Linear(2, 2, **how),
        lambda **how: nn.Conv2d(2, 2, 1, **how),
        lambda **how: nn.ConvTranspose2d(2, 2, 1, **how),
        lambda **how: nn.Embedding(2, 2, **how),
        lambda **how: nn.BatchNorm1d(2, **how),
        lambda **how: nn.LayerNorm(2, **how),
        lambda **how: nn.GroupNorm(1, 2, **how),
    ):
        assert {p.backend for p in make().state_dict().values()} == {backend}
        layer = make(backend=reference, dtype="float64")
        assert {p.backend for p in layer.state_dict().values()} == {reference}
        assert {p.dtype.name for p in layer.parameters()} == {"float64"}
