"""The summary of a model: shapes, parameters and multiply-adds, counted by hand here."""

from __future__ import annotations

import pytest

import minidl
from minidl import nn, ops
from minidl.errors import ArgumentError, DTypeError, ShapeError


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def test_lenet():
    """LeCun et al. (1998) on 28 x 28 images; the parameters of the known 61,706."""
    found = nn.summary(lenet(), (3, 1, 28, 28))
    by_name = {row.name: row for row in found.rows}
    assert found.parameters == found.trainable == 61_706
    assert [by_name[n].parameters for n in ("0", "3", "7", "9", "11")] == [
        6 * 25 + 6, 16 * 6 * 25 + 16, 400 * 120 + 120, 120 * 84 + 84, 84 * 10 + 10,
    ]  # fmt: skip
    assert [by_name[n].multiply_adds for n in ("0", "3", "7", "9", "11")] == [
        3 * 6 * 28 * 28 * 25, 3 * 16 * 10 * 10 * 6 * 25, 3 * 400 * 120, 3 * 120 * 84, 3 * 84 * 10,
    ]  # fmt: skip
    assert found.multiply_adds == 3 * 416_520
    assert by_name["5"].output_shape == (3, 16, 5, 5)
    assert by_name[""].output_shape == (3, 10)
    assert by_name["1"].multiply_adds == by_name[""].multiply_adds == 0
    assert by_name["3"].kind == "Conv2d"


def test_the_table_shows_rows_and_totals():
    text = str(nn.summary(lenet(), (1, 1, 28, 28)))
    lines = text.split("\n")
    assert len(lines) == 1 + 1 + 13 + 1 + 1
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[0] == "layer"
    assert "  3 Conv2d" in lines[6]
    assert lines[6].split()[-2:] == ["2,416", "240,000"]
    assert lines[-1].split() == ["total", "61,706", "416,520"]


class Products(nn.Module):
    """Operations that are not in a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ConvTranspose2d(2, 3, 2, stride=2)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2)
        self.weight = nn.Parameter(minidl.ones((5, 7)))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = x @ self.weight  # (2, 5) by (5, 7)
        x = ops.einsum("ij,kj->ik", x, minidl.ones((3, 7)))
        ops.einsum("ij,jk,kl->il", minidl.ones((2, 3)), minidl.ones((3, 4)), minidl.ones((4, 5)))
        self.inner(minidl.zeros((1, 2, 4, 4)))
        self.grouped(minidl.zeros((1, 4, 3, 3)))
        return {"result": x}


def test_operations_count_for_the_innermost_module():
    model = Products()
    model.unused.requires_grad_(False)
    found = nn.summary(model, (2, 5))
    rows = {row.name: row for row in found.rows}
    assert rows[""].multiply_adds == 2 * 5 * 7 + 2 * 3 * 7 + 2 * (2 * 3 * 4 * 5)
    assert rows[""].parameters == 35
    assert rows[""].output_shape is None
    assert rows["inner"].multiply_adds == 2 * 4 * 4 * 3 * 2 * 2
    assert rows["grouped"].multiply_adds == 6 * 1 * 1 * 2 * 3 * 3
    assert rows["unused"].output_shape is None
    assert rows["unused"].multiply_adds == 0
    assert found.parameters - found.trainable == 6
    assert ["unused", "Linear", "-", "6", "0"] in [line.split() for line in str(found).split("\n")]


def test_shared_layers_count_their_parameters_once_and_each_call():
    layer = nn.Linear(4, 4)
    tied = nn.Linear(4, 4, bias=False)
    tied.weight = layer.weight
    found = nn.summary(nn.Sequential(layer, layer, tied), (1, 4))
    assert found.parameters == 20
    assert [row.multiply_adds for row in found.rows] == [0, 32, 16]


def test_it_leaves_no_trace():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2).eval())
    before = {name: x.numpy().copy() for name, x in model.state_dict().items()}
    state = minidl.default_generator.state
    with pytest.raises(ShapeError):
        nn.summary(model, (3, 5))
    nn.summary(model, (3, 4))
    assert [m.training for m in model.modules()] == [True, True, True, False]
    assert not any(m._hooks or m._pre_hooks for m in model.modules())
    assert minidl.default_generator.state == state
    assert all((x.numpy() == before[name]).all() for name, x in model.state_dict().items())


def test_inputs(backend, reference):
    embedding = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    found = nn.summary(embedding, minidl.tensor([[1, 2, 3]]))
    assert found.rows[-1].output_shape == (1, 3, 2)
    assert found.multiply_adds == 3 * 4 * 2
    assert (
        nn.summary(nn.Linear(2, 2, dtype="float64", backend=reference), [1, 2]).multiply_adds == 4
    )
    assert nn.summary(nn.ReLU(), (3,)).parameters == 0
    with pytest.raises(DTypeError, match="summary: model must be a Module, got str"):
        nn.summary("model", (1,))
    with pytest.raises(ArgumentError, match="input or its shape"):
        nn.summary(embedding, 3)
