"""Containers: the manners of a list and of a dict, and names as in PyTorch."""

from __future__ import annotations

import pytest

import minidl
from minidl import nn
from minidl.engine.modes import observe
from minidl.errors import ArgumentError, DTypeError, IndexRangeError, UnknownName


def layers(count: int) -> list[nn.Module]:
    return [nn.Linear(i + 1, i + 2) for i in range(count)]


def test_sequential_calls_its_modules_in_order():
    seen = []

    class Note(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            seen.append(self.name)
            return x + 1

    assert nn.Sequential(Note("a"), Note("b"))(minidl.zeros(1)).tolist() == [2]
    assert seen == ["a", "b"]
    assert nn.Sequential()(5) == 5


def test_sequential_joins_a_linear_and_its_relu_where_nobody_could_tell():
    class Own(nn.Linear):
        pass

    def called() -> list[str]:
        names = []
        with observe(lambda phase, function, inputs, result: names.append(function.name)):
            model(x)
        return names

    x = minidl.ones((2, 3))
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU(), Own(3, 3), nn.ReLU())
    assert called() == ["LinearRelu", "Relu", "Linear", "Relu"]
    parts = ["Linear", "Relu", "Relu", "Linear", "Relu"]
    for module in model[:2]:
        for register in (module.register_forward_hook, module.register_forward_pre_hook):
            remove = register(lambda *given: None)
            assert called() == parts
            remove()
        module.forward = module.forward
        assert called() == parts
        del module.forward
    assert called() == ["LinearRelu", *parts[2:]]


def test_sequential_is_indexed_and_sliced():
    parts = layers(4)
    model = nn.Sequential(*parts).eval()
    assert len(model) == 4
    assert list(model) == parts
    assert model[0] is parts[0]
    assert model[-1] is parts[3]
    middle = model[1:3]
    assert isinstance(middle, nn.Sequential)
    assert list(middle) == parts[1:3]
    assert not middle.training
    assert list(middle.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(model[::-1]) == parts[::-1]
    for index in (4, -5):
        with pytest.raises(IndexRangeError, match=f"no module {index}"):
            model[index]


def test_sequential_grows_and_changes():
    first, second, third = layers(3)
    model = nn.Sequential(first)
    assert model.append(second).extend([third]) is model
    assert list(model) == [first, second, third]
    model[-1] = other = nn.ReLU()
    assert list(model) == [first, second, other]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_sequential_takes_names():
    model = nn.Sequential({"in": nn.Linear(2, 3), "out": nn.Linear(3, 1)})
    assert list(model.state_dict()) == ["in.weight", "in.bias", "out.weight", "out.bias"]
    assert model[1] is getattr(model, "out")  # noqa: B009  (the name is data here)
    assert model(minidl.ones((5, 2))).shape == (5, 1)


def test_no_module_takes_the_place_of_another_unasked():
    """A number that is given as a name may be the next one to be counted to."""
    for build in (
        lambda: nn.Sequential({"1": nn.ReLU()}, nn.Tanh()),
        lambda: nn.Sequential({"1": nn.ReLU()}).append(nn.Tanh()),
        lambda: nn.Sequential({"a": nn.ReLU()}, {"a": nn.Tanh()}),
    ):
        with pytest.raises(ArgumentError, match=r"there is a module '[1a]' already"):
            build()


def test_a_slice_leaves_a_subclass_with_its_own_constructor_alone():
    class Block(nn.Sequential):
        def __init__(self, width):
            super().__init__(nn.Linear(width, width), nn.ReLU())

    assert isinstance(Block(3)[:1], Block)
    assert len(Block(3)[:1]) == 1


def test_module_list():
    parts = layers(2)
    found = nn.ModuleList(parts)
    assert list(found) == parts
    assert len(found.append(nn.ReLU())) == 3
    assert isinstance(found[1:], nn.ModuleList)
    assert [name for name, _ in found.named_parameters()][:2] == ["0.weight", "0.bias"]
    with pytest.raises(NotImplementedError):
        found(1)


def test_module_dict():
    found = nn.ModuleDict({"a": nn.Linear(1, 1)})
    found["b"] = relu = nn.ReLU()
    assert found["b"] is relu
    assert (list(found), found.keys(), len(found)) == (["a", "b"], ["a", "b"], 2)
    assert found.values()[1] is relu
    assert found.items()[1] == ("b", relu)
    assert "a" in found
    assert "training" not in found
    del found["a"]
    assert list(found.state_dict()) == []
    for look in (found.__getitem__, found.__delitem__):
        with pytest.raises(UnknownName, match="ModuleDict: no module 'a' among b"):
            look("a")


@pytest.mark.parametrize("name", ["", "a.b", "items", "training"])
def test_module_dict_refuses_names_that_cannot_be_attributes(name):
    with pytest.raises(ArgumentError, match="taken, empty or contains a dot"):
        nn.ModuleDict({name: nn.ReLU()})


def test_only_modules_go_in():
    for make in (lambda: nn.Sequential(nn.ReLU), lambda: nn.ModuleList([3])):
        with pytest.raises(ArgumentError, match="must be a Module"):
            make()


def test_what_is_no_list_mapping_name_or_position_is_refused():
    for make in (
        lambda: nn.ModuleList(3),
        lambda: nn.ModuleList(nn.ReLU()),
        lambda: nn.ModuleDict([nn.ReLU()]),
        lambda: nn.ModuleDict({1: nn.ReLU()}),
    ):
        with pytest.raises(DTypeError, match=r"must be an? (Iterable|Mapping|str), got"):
            make()
    for wrong in ("0", 0.0, None):
        with pytest.raises(ArgumentError, match="an index must be an integer"):
            nn.Sequential(nn.ReLU())[wrong]
