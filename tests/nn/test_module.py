"""What a module owns, remembers, saves, moves and shows."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.errors import ArgumentError, CheckpointError, DTypeError, GraphError
from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_same


class Scale(nn.Module):
    """A layer with everything that a module can own."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(minidl.ones(size))
        self.bias = None
        self.note = minidl.zeros(1)  # a plain tensor: not owned
        self.register_buffer("seen", minidl.zeros((), "int64"))
        self.register_buffer("scratch", minidl.zeros(size), persistent=False)

    def forward(self, x):
        return x * self.weight


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Scale()
        self.gain = nn.Parameter(minidl.ones(1))
        self.rest = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout())

    def forward(self, x):
        return self.rest(self.first(x)) * self.gain


def names(pairs) -> list[str]:
    return [name for name, _ in pairs]


def test_attributes_are_found_owners_first():
    net = Net()
    assert names(net.named_parameters()) == [
        "gain", "first.weight", "rest.0.weight", "rest.0.bias",
    ]  # fmt: skip
    assert names(net.named_parameters("net", recurse=False)) == ["net.gain"]
    assert names(net.named_buffers()) == ["first.seen", "first.scratch"]
    assert names(net.named_children()) == ["first", "rest"]
    assert names(net.named_modules()) == ["", "first", "rest", "rest.0", "rest.1", "rest.2"]
    assert next(iter(net.parameters())) is net.gain
    assert next(iter(net.buffers())) is net.first.seen
    assert list(net.modules())[1] is net.first
    assert list(net.children()) == [net.first, net.rest]


def test_shared_parameters_and_modules_count_once():
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = nn.Linear(2, 2, bias=False)
    net.b.weight = net.a.weight
    net.c = net.a
    assert names(net.named_parameters()) == ["a.weight", "a.bias"]
    assert names(net.named_modules()) == ["", "a", "b"]
    assert names(net.named_children()) == ["a", "b"]
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "c.weight", "c.bias"]


def test_an_attribute_that_is_deleted_or_replaced_is_no_longer_owned():
    net = Net()
    net.rest = None
    del net.gain
    net.first.seen = None
    assert list(net.state_dict()) == ["first.weight"]


def test_a_buffer_that_is_assigned_again_stays_a_buffer():
    layer = Scale()
    layer.seen = minidl.ones((), "int64")
    assert layer.state_dict()["seen"].item() == 1


@pytest.mark.parametrize("name", ["", "a.b", "weight", "forward"])
def test_register_buffer_refuses_names_that_are_taken_or_no_path(name):
    with pytest.raises(ArgumentError, match="register_buffer"):
        Scale().register_buffer(name, minidl.zeros(1))


# -- parameters ---------------------------------------------------------------------------------
def test_a_parameter_shares_memory_and_version_with_its_tensor(backend):
    x = minidl.zeros(2)
    p = nn.Parameter(x)
    x.fill_(3)
    assert p.tolist() == [3, 3]
    assert p.requires_grad
    assert p.is_leaf
    assert p.version is x.version
    assert p.constraint is None
    assert repr(p).startswith("Parameter containing:\nTensor([3., 3.]")


def test_a_parameter_and_its_tensor_are_two_tensors(backend):
    """In a graph of gradients, each saved value must be found to be the one or the other."""
    x = minidl.tensor([2.0], requires_grad=True, backend=backend)
    p = nn.Parameter(x)
    (slope,) = minidl.grad(p * x, p, create_graph=True)
    for_x, for_p = minidl.grad(slope, [x, p], allow_unused=True)
    assert for_x.tolist() == [1]
    assert for_p is None


def test_a_parameter_needs_a_floating_tensor():
    with pytest.raises(DTypeError, match="needs a Tensor, got list"):
        nn.Parameter([1.0])
    with pytest.raises(DTypeError, match="int64"):
        nn.Parameter(minidl.zeros(2, "int64"))
    assert not nn.Parameter(minidl.zeros(2, "int64"), requires_grad=False).requires_grad


def test_frozen_parameters_get_no_gradient():
    net = Net()
    net.rest.requires_grad_(False)
    assert net.rest[0].weight.requires_grad is False
    net(minidl.ones((1, 2))).sum().backward()
    assert net.first.weight.grad is not None
    assert net.rest[0].weight.grad is None
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


# -- running ------------------------------------------------------------------------------------
def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.rest.train().training
    assert not net.training


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module\.forward is missing"):
        nn.Module()(1)


def test_hooks_see_replace_and_are_removed():
    layer, seen = Scale(), []

    def before(module, args):
        seen.append(("before", module, args[0].tolist()))
        return args[0] + 1

    def after(module, args, result):
        seen.append(("after", module, args[0].tolist(), result.tolist()))
        return result * 10

    remove_before = layer.register_forward_pre_hook(before)
    remove_after = layer.register_forward_hook(after)
    x = minidl.zeros(2)
    assert layer(x).tolist() == [10, 10]
    assert seen == [("before", layer, [0, 0]), ("after", layer, [1, 1], [1, 1])]
    remove_before()
    assert layer(x).tolist() == [0, 0]
    remove_after()
    remove_after()
    layer(x)
    assert len(seen) == 3


def test_hooks_run_in_order_and_may_only_look():
    layer, seen = Scale(), []
    layer.register_forward_hook(lambda m, args, y: seen.append(1))
    remove = layer.register_forward_hook(lambda m, args, y: remove())  # while they run
    layer.register_forward_hook(lambda m, args, y: seen.append(3))
    assert layer(minidl.ones(2)).tolist() == [1, 1]
    layer(minidl.ones(2))
    assert seen == [1, 3, 1, 3]


def test_apply_visits_children_first():
    visited = []
    net = Net()
    assert net.apply(visited.append) is net
    assert visited == [net.first, *net.rest, net.rest, net]


# -- saving and loading -------------------------------------------------------------------------
def test_state_dict_shares_memory_and_has_no_history():
    net = Net()
    state = net.state_dict()
    assert list(state) == ["gain", "first.weight", "first.seen", "rest.0.weight", "rest.0.bias"]
    assert not any(x.requires_grad for x in state.values())
    state["gain"].fill_(5)
    assert net.gain.tolist() == [5]


def test_load_state_dict_copies_into_the_existing_memory():
    net, other = Net(), Net()
    weight, data = net.rest[0].weight, net.rest[0].weight.data
    other.first.seen.fill_(7)
    assert net.rest[0].weight.tolist() != other.rest[0].weight.tolist()
    assert net.load_state_dict(other.state_dict()) == ([], [])
    assert net.rest[0].weight is weight
    assert weight.data is data
    for name, x in net.state_dict().items():
        assert_same(x.numpy(), other.state_dict()[name].numpy())
    other.rest[0].weight.detach().fill_(9)
    assert 9 not in net.rest[0].weight.numpy()


def test_load_state_dict_converts_dtype_and_backend(backend, reference):
    source = nn.Linear(3, 2, dtype="float64", backend=reference)
    target = nn.Linear(3, 2)
    target.load_state_dict(source.state_dict())
    assert target.weight.backend is backend
    assert_same(target.weight.numpy(), source.weight.numpy().astype(np.float32))


def test_load_state_dict_lists_everything_that_is_wrong_and_loads_nothing():
    net = Net()
    state = {name: x * 0 + 9 for name, x in Net().state_dict().items()}
    del state["gain"]
    state["rest.0.weight"] = minidl.zeros((4, 2))
    state["other"] = minidl.zeros(1)
    before = {name: x.numpy().copy() for name, x in net.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        net.load_state_dict(state)
    for part in ("missing: gain", "unexpected: other", "rest.0.weight (here (3, 2), given (4, 2))"):
        assert part in str(error.value)
    with pytest.raises(CheckpointError, match="misshapen") as error:
        net.load_state_dict(state, strict=False)
    assert "missing:" not in str(error.value)
    for name, x in net.state_dict().items():
        assert_same(x.numpy(), before[name])
    del state["rest.0.weight"]
    assert net.load_state_dict(state, strict=False) == (["gain", "rest.0.weight"], ["other"])
    assert net.first.weight.tolist() == [9, 9]


def test_load_state_dict_wants_tensors():
    state = {**Net().state_dict(), "gain": np.ones(1)}
    with pytest.raises(DTypeError, match="'gain'"):
        Net().load_state_dict(state)
    for wrong in (None, "model.safetensors", [1]):
        with pytest.raises(DTypeError, match=r"state must be a Mapping, .*load_model"):
            Net().load_state_dict(wrong)


def test_a_buffer_is_a_tensor():
    for name, wrong in (("x", 3), ("x", np.ones(3)), (3, minidl.ones(1))):
        with pytest.raises(DTypeError, match="register_buffer"):
            nn.Module().register_buffer(name, wrong)


def test_a_graph_from_before_loading_is_refused():
    net = Net()
    y = net(minidl.ones((1, 2))).sum()
    net.load_state_dict(Net().state_dict())
    with pytest.raises(GraphError, match="modified in place"):
        y.backward()


def test_a_graph_from_before_a_conversion_is_refused():
    net = Net()
    y = net(minidl.ones((1, 2))).sum()
    net.double()
    with pytest.raises(GraphError, match="modified in place"):
        y.backward()


# -- moving -------------------------------------------------------------------------------------
def test_to_moves_everything_and_keeps_the_parameters(backend, reference):
    net = Net()
    values = {name: x.numpy().copy() for name, x in net.state_dict().items()}
    weight = net.rest[0].weight
    net(minidl.ones((1, 2))).sum().backward()
    assert net.to(reference) is net
    assert net.rest[0].weight is weight
    owned = [*net.parameters(), *net.buffers()]
    assert {id(x.backend) for x in owned} == {id(reference)}
    assert (weight.grad is None) == (backend is not reference)
    assert net(minidl.ones((1, 2), backend=reference)).backend is reference
    net.to(backend)
    for name, x in net.state_dict().items():
        assert x.backend is backend
        assert_same(x.numpy(), values[name])


def test_astype_converts_what_is_floating():
    net = Net().double()
    assert {x.dtype.name for x in net.parameters()} == {"float64"}
    assert net.first.seen.dtype == minidl.int64
    assert net.first.scratch.dtype == minidl.float64
    weight = net.rest[0].weight
    net(minidl.ones((1, 2), "float64")).sum().backward()
    assert weight.grad is not None
    assert net.float().rest[0].weight is weight
    assert weight.dtype == minidl.float32
    assert weight.grad is None
    with pytest.raises(DTypeError, match="int8"):
        net.astype("int8")


def test_a_parameter_stays_one(backend):
    layer = nn.Linear(2, 1, backend=backend)
    for value in (minidl.ones((1, 2), backend=backend), 3.0, nn.ReLU()):
        with pytest.raises(DTypeError, match=r"Linear: weight is a Parameter and stays one"):
            layer.weight = value
    assert len(list(layer.parameters())) == 2
    layer.weight, layer.bias = nn.Parameter(minidl.ones((1, 2), backend=backend)), None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    layer.bias = minidl.ones(1, backend=backend)


def test_a_deep_copy_is_independent_and_stays_where_it_is(backend):
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    net.gain.constraint = mask = [1]
    twin = copy.deepcopy(net)
    assert twin.gain.constraint == mask
    assert {x.backend for x in twin.parameters()} == {backend}
    for name, x in net.state_dict().items():
        assert_same(twin.state_dict()[name].numpy(), x.numpy())
    net.gain.constraint = None
    (net.gain * 2).sum().backward()
    before = twin.gain.numpy().copy()
    optimizer.step()
    assert net.gain.numpy() != before
    assert_same(twin.gain.numpy(), before)
    twin(minidl.ones((1, 2))).sum().backward()
    assert twin.gain.grad is not None


# -- showing ------------------------------------------------------------------------------------
def test_repr_is_a_tree():
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Scale()\n"
        "  (rest): Sequential(\n"
        "    (0): Linear(in_features=2, out_features=3)\n"
        "    (1): ReLU()\n"
        "    (2): Dropout(p=0.5)\n"
        "  )\n"
        ")"
    )


def test_repr_shows_what_differs_from_the_defaults():
    shown = {
        "Linear(in_features=2, out_features=3, bias=False)": nn.Linear(2, 3, bias=False),
        "Conv2d(in_channels=2, out_channels=4, kernel_size=(3, 3), groups=2)": nn.Conv2d(
            2, 4, 3, stride=1, groups=2
        ),
        "MaxPool2d(kernel_size=2, stride=(2, 1))": nn.MaxPool2d(2, (2, 1)),
        "CrossEntropyLoss(reduction='sum')": nn.CrossEntropyLoss(minidl.ones(2), reduction="sum"),
        "BatchNorm2d(num_features=3, affine=False)": nn.BatchNorm2d(3, affine=False),
        "Scale()": Scale(2),
    }
    assert {expected: repr(module) for expected, module in shown.items()} == {s: s for s in shown}


def test_a_shared_module_is_shown_wherever_it_is_used():
    relu = nn.ReLU()
    assert repr(nn.Sequential(relu, relu)).count("ReLU()") == 2


def test_modules_learn_from_a_batch(backend):
    """One full step by hand: the whole chain from parameters to gradients and back."""
    x = minidl.tensor(fill((4, 2), np.float32, "integers", 0))
    net = nn.Linear(2, 1)
    with minidl.no_grad():
        net.weight.fill_(1), net.bias.fill_(0)
    net(x).sum().backward()
    assert_same(net.weight.grad.numpy(), x.numpy().sum(0, keepdims=True))
    assert net.bias.grad.tolist() == [4]
