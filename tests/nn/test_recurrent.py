"""Recurrent layers: names and shapes as in PyTorch, stacks and directions, cells, errors."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

KINDS = ["RNN", "LSTM", "GRU"]
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def states(result) -> tuple[minidl.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def close(actual: minidl.Tensor, expected: minidl.Tensor) -> None:
    bound = composed_bound(np.float32, expected.numpy())
    assert_close(actual.numpy(), expected.numpy().astype(np.float64), bound, np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_pytorchs(kind):
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True)
    rows = 4 * GATES[kind]
    expected = {}
    for suffix, features in (("l0", 3), ("l0_reverse", 3), ("l1", 8), ("l1_reverse", 8)):
        expected |= {
            f"weight_ih_{suffix}": (rows, features), f"weight_hh_{suffix}": (rows, 4),
            f"bias_ih_{suffix}": (rows,), f"bias_hh_{suffix}": (rows,),
        }  # fmt: skip
    found = {name: p.shape for name, p in layer.state_dict().items()}
    assert list(found.items()) == list(expected.items())
    largest = [p.abs().max().item() for p in layer.parameters()]
    assert max(largest) <= 0.5
    assert max(largest) > 0.45
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(cell.state_dict()) == names
    assert list(getattr(nn, kind)(3, 4, bias=False).state_dict()) == [
        "weight_ih_l0",
        "weight_hh_l0",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_its_cell_step_by_step(kind, bias):
    layer, cell = getattr(nn, kind)(3, 4, bias=bias), getattr(nn, f"{kind}Cell")(3, 4, bias=bias)
    cell.load_state_dict({n.removesuffix("_l0"): p for n, p in layer.state_dict().items()})
    x = minidl.randn(5, 2, 3)
    output, last = layer(x)
    hx = None
    for t in range(5):
        hx = cell(x[t], hx)
        close(states(hx)[0], output[t])
    for end, expected in zip(states(hx), states(last), strict=True):
        close(end, expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_and_layers_are_single_ones_put_together(kind):
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True)
    x, last = minidl.randn(5, 2, 3), []
    y = x
    for suffix in ("l0", "l1"):
        outputs = []
        for direction in ("", "_reverse"):
            single = getattr(nn, kind)(y.shape[2], 4)
            end = f"_{suffix}{direction}"
            own = {n: p for n, p in layer.state_dict().items() if n.endswith(end)}
            single.load_state_dict({n.removesuffix(end) + "_l0": p for n, p in own.items()})
            output, state = single(ops.flip(y, 0) if direction else y)
            outputs.append(ops.flip(output, 0) if direction else output)
            last.append(states(state))
        y = ops.concatenate(outputs, 2)
    output, state = layer(x)
    close(output, y)
    for found, expected in zip(states(state), zip(*last, strict=True), strict=True):
        close(found, ops.concatenate(list(expected), 0))


@pytest.mark.parametrize("kind", KINDS)
def test_layouts(kind):
    layer = getattr(nn, kind)(3, 4, bidirectional=True)
    first = getattr(nn, kind)(3, 4, bidirectional=True, batch_first=True)
    first.load_state_dict(layer.state_dict())
    x = minidl.randn(5, 2, 3)
    start = tuple(minidl.randn(2, 2, 4) for _ in range(layer.count))
    hx = start if layer.count == 2 else start[0]
    output, last = layer(x, hx)
    other, other_last = first(ops.swapaxes(x, 0, 1), hx)
    assert_same(other.numpy().swapaxes(0, 1), output.numpy())
    for a, b in zip(states(other_last), states(last), strict=True):
        assert_same(a.numpy(), b.numpy())
    alone = tuple(s[:, 0] for s in start)
    one, one_last = layer(x[:, 0], alone if layer.count == 2 else alone[0])
    assert one.shape == (5, 8)
    close(one, output[:, 0])
    for a, b in zip(states(one_last), states(last), strict=True):
        assert a.shape == (2, 4)
        close(a, b[:, 0])


def test_dropout_acts_between_layers_while_training():
    options = {"dropout": 0.5, "generator": minidl.Generator(3)}
    layer, plain = nn.GRU(3, 4, 2, **options), nn.GRU(3, 4, 2)
    plain.load_state_dict(layer.state_dict())
    x = minidl.randn(5, 2, 3)
    assert not np.array_equal(layer(x)[0].numpy(), plain(x)[0].numpy())
    assert_same(layer(x)[1][0].numpy(), plain(x)[1][0].numpy())  # the first layer has none
    assert_same(layer.eval()(x)[0].numpy(), plain(x)[0].numpy())


def test_a_layer_learns_to_remember():
    """Whether the first of six numbers was positive."""
    model, head = nn.LSTM(1, 8), nn.Linear(8, 1)
    optimizer = minidl.optim.Adam([*model.parameters(), *head.parameters()], lr=0.05)
    x = minidl.randn(6, 64, 1)
    target = (x[0] > 0).astype("float32")
    losses = []
    for _ in range(24):
        optimizer.zero_grad()
        _, (h, _) = model(x)
        loss = ops.binary_cross_entropy_with_logits(head(h[0]), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments(kind):
    make = getattr(nn, kind)
    for sizes in ((0, 4), (3, 0), (3, 4, 0), (3.0, 4)):
        with pytest.raises(ArgumentError, match=kind):
            make(*sizes)
    with pytest.raises(ArgumentError, match="dropout acts between layers"):
        make(3, 4, dropout=0.5)
    with pytest.raises(ArgumentError, match=f"{kind}: dropout must be"):
        make(3, 4, 2, dropout=2)
    layer, x = make(3, 4), minidl.ones((5, 2, 3))
    for wrong in (minidl.ones((5, 2, 4)), minidl.ones(3), minidl.ones((1, 5, 2, 3))):
        with pytest.raises(ShapeError, match=rf"{kind}: x must be \(T, N, D\), or \(T, D\)"):
            layer(wrong)
    with pytest.raises(DTypeError, match=f"{kind}: x must be a Tensor"):
        layer(None)
    bad = minidl.ones((1, 3, 4))
    with pytest.raises(ShapeError, match=rf"{kind}: hx must have shape \(1, 2, 4\)"):
        layer(x, (bad, bad) if kind == "LSTM" else bad)
    with pytest.raises(IndexRangeError, match="lengths contains 6, allowed are 1 to 5"):
        layer(x, lengths=minidl.tensor([6, 1]))
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    with pytest.raises(ShapeError, match=rf"{kind}Cell: x must be \(N, D\)"):
        cell(x)


def test_wrong_pairs_and_nonlinearities():
    h = minidl.zeros((1, 2, 4))
    for hx in (h, (h,), (h, h, h)):
        with pytest.raises(DTypeError, match="LSTM: hx must be a pair of Tensors"):
            nn.LSTM(3, 4)(minidl.ones((5, 2, 3)), hx)
    for make in (nn.RNN, nn.RNNCell):
        with pytest.raises(ArgumentError, match="nonlinearity must be one of tanh, relu"):
            make(3, 4, nonlinearity="gelu")


def test_one_sample_through_a_cell():
    for cell in (nn.RNNCell(3, 4, nonlinearity="relu"), nn.GRUCell(3, 4), nn.LSTMCell(3, 4)):
        x = minidl.randn(2, 3)
        both, one = states(cell(x)), states(cell(x[0]))
        for a, b in zip(one, both, strict=True):
            assert a.shape == (4,)
            close(a, b[0])
