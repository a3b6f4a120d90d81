"""A traced graph is the whole model: run again, it gives the same bits, at any batch size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress.graph import Graph, Size, trace
from minidl.compress.tracing import mapped
from minidl.errors import ArgumentError, DTypeError, GraphError, ShapeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import cnn as plain_cnn
from .models import images as small_images
from .models import learn, mlp, vectors
from .networks import FIXED, KINDS, Crossed, Tokens, cnn, images, options, sequences, tokens

blocks = st.text(KINDS, max_size=4)


def arrays(result):
    found = []
    mapped(result, lambda x: found.append(x.numpy()))
    return found


def assert_whole(graph: Graph, model: nn.Module, *inputs) -> None:
    """The graph's result is the model's, to the bit and in its structure."""
    found, expected = graph.run(*inputs), model(*inputs)
    assert mapped(found, lambda x: None) == mapped(expected, lambda x: None)
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        assert_same(a, b)


def grown(x: minidl.Tensor, axis: int, times: int = 3) -> minidl.Tensor:
    return minidl.ops.concatenate([x] * times, axis)


@given(kinds=blocks, flat=st.booleans(), seed=seeds)
def test_run_repeats_random_networks_at_any_batch_size(backend, kinds, flat, seed):
    model = cnn(kinds, flat, backend, seed)
    graph = trace(model, images(backend, count=1))
    assert all(module.training for module in model.modules())
    model.eval()
    for count in (1, 5):
        assert_whole(graph, model, images(backend, count=count, seed=seed))


@pytest.mark.parametrize("name", FIXED)
def test_run_repeats_other_models_at_any_batch_size(backend, name):
    model, example, axis = FIXED[name](backend)
    graph = trace(model, *example, batch_axis=axis)
    assert graph.batch_axis == axis
    model.eval()
    assert_whole(graph, model, *example)
    assert_whole(graph, model, *(grown(x, axis) for x in example))


def test_nodes_know_their_module_inputs_and_users(backend):
    model = cnn("rc", True, backend)
    graph = trace(model, images(backend))
    assert [v.kind for v in graph.inputs] == ["input"]
    for node in graph.nodes:
        assert node.output.producer is node
        assert all(node in x.consumers for x in node.inputs if hasattr(x, "consumers"))
        assert not hasattr(node.function, "backend")
    parameters = {v.path: v.tensor for v in graph.values if v.kind == "parameter"}
    assert parameters == dict(model.named_parameters())
    convolutions = [node.module for node in graph.nodes if node.op == "Conv2d"]
    assert convolutions[:3] == ["0.unit.conv", "0.conv", "0.shortcut"]
    assert [v.shape for v in graph.outputs] == [(3, 4)]
    add = next(node for node in graph.nodes if node.op == "Add" and node.module == "0")
    assert [x.producer.module for x in add.inputs] == ["0.conv", "0.shortcut"]


def test_one_module_used_twice_has_one_weight(backend):
    graph = trace(cnn("t", False, backend), images(backend))
    weight = next(v for v in graph.values if v.path == "0.unit.conv.weight")
    assert [node.module for node in weight.consumers] == ["0.unit.conv"] * 2


def test_a_fused_layer_is_traced_as_it_runs(backend):
    model = nn.LinearReLU(3, 2, **options(backend))
    (node,) = trace(model, minidl.ones((2, 3), backend=backend)).nodes
    assert (node.op, node.inputs[1].path) == ("LinearRelu", "0.weight")
    model[1].register_forward_hook(lambda module, args, result: None)
    assert [n.op for n in trace(model, minidl.ones((2, 3), backend=backend)).nodes] == [
        "Linear", "Relu",
    ]  # fmt: skip


def test_a_trace_leaves_the_model_as_it_was(backend):
    model = cnn("u", False, backend)
    before = {path: dict(vars(m)) for path, m in model.named_modules()}
    trace(model, images(backend))
    for path, module in model.named_modules():
        assert not module._hooks
        assert not module._pre_hooks
        now = {k: v for k, v in vars(module).items() if "hooks" not in k and k != "training"}
        assert now == before[path]
        assert module.training
    assert all(p.grad is None for p in model.parameters())


def test_gradients_flow_through_run_and_new_weights_are_seen(backend):
    model, x = mlp(backend), vectors(backend)
    graph = trace(model, x)
    learn(model, minidl.optim.SGD(model.parameters(), 0.1), x, 2)
    model.zero_grad()
    (model(x) ** 2).mean().backward()
    expected = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    (graph.run(x) ** 2).mean().backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        assert_same(p.grad.numpy(), grad)


def test_the_batch_is_found_in_settings(backend):
    graph = trace(plain_cnn(backend), small_images(backend))
    (flatten,) = (node for node in graph.nodes if node.op == "Reshape")
    assert flatten.function.shape == (5, 24)
    assert flatten.settings["shape"] == (Size(1, 0), 24)
    assert flatten.at(8).shape == (8, 24)


def test_a_model_for_one_batch_size_is_traced_for_it(backend):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1) / len(x)

    x = minidl.ones((2, 3), backend=backend)
    graph = trace(Fixed(), x)
    assert graph.batch_axis is None
    assert_whole(graph, Fixed(), x)
    with pytest.raises(ShapeError, match=r"traced for inputs of \(2, 3\), got \(4, 3\)"):
        graph.run(minidl.ones((4, 3), backend=backend))


def test_numbers_from_the_batch_size_are_followed(backend):
    class Sum(nn.Module):
        def forward(self, x):
            return (x * len(x)).sum(1)[: len(x) - 1]

    x = minidl.ones((4, 3), backend=backend)
    graph = trace(Sum(), x)
    assert_whole(graph, Sum(), grown(x, 0))


def test_detached_values_are_still_known(backend):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2, **options(backend))

        def forward(self, x):
            y = self.layer(x)
            return y.detach() + x[:, :2].detach() * self.layer.weight.detach()[0, 0]

    x = minidl.randn(4, 3, backend=backend)
    graph = trace(Detached(), x)
    assert not [v for v in graph.values if v.kind == "constant"]
    assert_whole(graph, graph.model, x)


def test_one_tensor_in_two_places_stays_one(backend):
    model = nn.MultiheadAttention(8, 2, batch_first=True, **options(backend))
    x = minidl.randn(2, 3, 8, backend=backend)
    graph = trace(model, x, x, x)
    assert len(set(graph.inputs)) == 1
    assert_whole(graph, model, x, x, x)
    with pytest.raises(ArgumentError, match="one tensor in several places"):
        graph.run(x, x, x.clone())


def test_other_arguments_and_results_pass_through(backend):
    x = minidl.randn(2, 3, 8, backend=backend)
    graph = trace(nn.MultiheadAttention(8, 2, **options(backend)), x, x, x, None, False)
    assert graph.result[1] is None
    assert_whole(trace(Crossed(**options(backend)), x, x), Crossed(**options(backend)), x, x)


class Detour(nn.Module):
    """1 + what happens to x."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x) + 1


def through_numpy(x):
    return minidl.tensor(x.numpy() * 2, backend=x.backend)


def by_value(x):
    return x * 2 if x.numpy().flat[0] > 0.9 else x


def through_a_number(x):
    return x * x.mean().item()


def through_an_index(x):
    return x[x > 0.4]


def in_place(x):
    y = x * 2
    y.add_(1)
    return y


def random_draw(x):
    return minidl.ops.dropout(x, 0.5)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (through_numpy, "depends on the input and was computed where no operation was seen"),
        (by_value, "runs other operations for other values"),
        (through_a_number, "depend on the input"),
        (through_an_index, "settings cannot depend on the input"),
        (in_place, "changes a tensor of shape"),
        (random_draw, "draws random numbers"),
    ],
)  # fmt: skip
def test_what_no_list_of_operations_repeats_is_refused(backend, what, message):
    model = nn.Sequential(Detour(what))
    x = minidl.tensor([[1.0, 0.25], [0.75, 0.5]], backend=backend)
    with pytest.raises(GraphError, match=message):
        trace(model, x)
    assert not model[0]._hooks
    assert model.training


def test_wrong_arguments_are_refused(backend):
    model = mlp(backend)
    for call in (
        lambda: trace(None, vectors(backend)),
        lambda: trace(model),
        lambda: trace(model, 3),
    ):
        with pytest.raises(DTypeError, match="trace"):
            call()
    with pytest.raises(ArgumentError, match="example is empty"):
        trace(model, minidl.zeros((0, 7), backend=backend))
    with pytest.raises(ShapeError, match="axis"):
        trace(model, vectors(backend), batch_axis=2)
    graph = trace(model, vectors(backend))
    for given_ in ((), (vectors(backend), vectors(backend)), (vectors(backend)[0],)):
        with pytest.raises(ShapeError, match="traced for inputs"):
            graph.run(*given_)


def test_printing_shows_what_happens(backend):
    text = str(trace(Tokens(True, True, **options(backend)), tokens(backend)))
    assert "Embedding" in text
    assert "encoder.layers.0.self_attn" in text
    assert str(trace(nn.Identity(), sequences(backend))).endswith("result: %0")
