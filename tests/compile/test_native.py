"""What a program of the Numba backend launches by itself, and what stays a call from Python."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from backends.program import Call, Number, Value
from minidl import nn, ops, optim
from minidl.verify.tolerances import assert_same

from .test_compile import alike

pytest.importorskip("numba", reason="needs the extra numba")

from backends.numba_backend import NumbaBackend, lowered, scatter
from backends.numba_backend import launches as launches_module
from backends.numba_backend.launches import Word, launched
from backends.numba_backend.rewrites import gated

F32 = np.dtype("float32")


class Attention(nn.Module):
    """Heads are slices of one projection, and meet again in it on the way back."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.project, self.dropout = nn.Linear(16, 48), dropout

    def forward(self, x):
        heads = [
            part.reshape(*x.shape[:2], 2, 8).transpose(0, 2, 1, 3)
            for part in (self.project(x)[..., i : i + 16] for i in (0, 16, 32))
        ]
        return ops.scaled_dot_product_attention(*heads, dropout_p=self.dropout, is_causal=True)


MODELS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 1, stride=2),
    ),
    "attention": lambda: Attention(0.0),
    "attention with dropout": lambda: Attention(0.3),
}  # fmt: skip
SHAPES = {"convolutions": (4, 3, 17, 17)}


@pytest.fixture
def numba_backend(backend):
    if backend.name != "numba":
        pytest.skip("programs of the Numba backend")
    return backend


def trained(model, x, compiled):
    minidl.manual_seed(0)
    net = MODELS[model]()
    update = optim.SGD(net.parameters(), lr=0.001)

    def step(x):
        update.zero_grad()
        y = net(x)
        (y * y).sum().backward()
        update.step()
        return y

    run = minidl.compile(step, fullgraph=True) if compiled else step
    return net, run, [run(x).numpy() for _ in range(4)]


@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_is_one_native_function(numba_backend, model):
    shape = SHAPES.get(model, (4, 10, 16))
    x = minidl.tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"))
    _, _, expected = trained(model, x, compiled=False)
    _, run, results = trained(model, x, compiled=True)
    assert "backend." not in run.source().split("def run(")[1]
    assert "stretch1" not in run.source()
    alike(np.stack(results), np.stack(expected))


def test_weights_that_became_infinite_are_not_multiplied_by_padding(numba_backend):
    """The kernels would make NaN of infinity times the zeros around an image."""
    model = nn.Conv2d(1, 1, 3, padding=1, bias=False)

    def step(x):
        (model(x) * 2.0).sum().backward()

    compiled = minidl.compile(step, fullgraph=True)
    for weight in (1.0, 2.0, np.inf, 3.0):
        grads = []
        for run in (step, compiled):
            model.weight.grad = None
            with minidl.no_grad():
                model.weight.fill_(1.0)
                model.weight[0, 0, 0, 0] = weight
            x = minidl.ones((1, 1, 4, 4), requires_grad=True)
            run(x)
            grads.append(x.grad.numpy())
        assert_same(grads[1], grads[0])


def test_nan_and_infinity_in_fused_loops(numba_backend):
    def step(x, y):
        return x.relu() * 2.0, ops.maximum(x, y) + 1.0, ops.minimum(x, y) + 1.0

    compiled = minidl.compile(step, fullgraph=True)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0], "float32")
    x, y = (minidl.tensor(part.ravel().copy()) for part in np.meshgrid(special, special))
    for _ in range(2):
        for replayed, eager in zip(compiled(x, y), step(x, y), strict=True):
            assert_same(replayed.numpy(), eager.numpy())


def test_a_loop_ends_where_memory_is_read_as_other_elements(numba_backend):
    def step(a, b):
        return ops.concatenate([a, b], 0)[1:5] * 2.0

    compiled = minidl.compile(step, fullgraph=True)
    for start in range(3):
        a, b = (minidl.tensor(np.arange(4, dtype="float32") + start + n) for n in (0, 4))
        assert compiled(a, b).tolist() == step(a, b).tolist()


def test_a_gate_that_changes_is_read_when_it_was():
    x, y, grad, passed, made, other = (value((4, 4)) for _ in range(6))
    none = None, None
    gate = Call("relu_grad", (grad, y), (passed,))
    change = Call("copyto", (y, x), writes=(y,))
    after = Call("linear_grad", (passed, x, None, None, False, none), (made,))
    again = Call("add", (passed, passed), (other,))
    for calls in ([gate, change, after], [gate, after, again]):
        assert gated(calls) == calls
    assert gated([change, gate, after]) == [change, after]
    assert after.arguments == (grad, x, None, y, False, none)


def value(shape, dtype=F32):
    strides = launches_module.strides(shape, dtype)
    return Value(shape, dtype, strides)


def call(method, *arguments, result=(4, 3)):
    return Call(method, arguments, (value(result),))


def twice(x, index):
    """Two kernels with scratch between them, and a table."""
    between = scatter.empty(x.shape, x.dtype)
    scatter.take_rows.serial(x, np.arange(4), between)
    y = scatter.empty(x.shape, x.dtype)
    scatter.take_rows.serial(between, np.array([3, 2, 1, 0]), y)
    return y


def test_launches_are_found_with_scratch_and_tables():
    step = launched(call("twice", value((4, 3)), 0), twice)
    first, second = step.launches
    assert first.kernel == second.kernel == "scatter.take_rows"
    assert first.arguments[2] == second.arguments[0]
    assert first.arguments[2].owner == 0
    assert second.arguments[1].tolist() == [3, 2, 1, 0]
    assert [v.nbytes for v in step.scratch] == [48]
    assert step.scratch[0] in step.values()


def adds_one(x, index):
    return twice(x, index) + 1


def looks_at_numbers(x, index):
    y = scatter.empty(x.shape, x.dtype)
    scatter.take_rows.serial(x, np.argsort(x[:, 0]), y)
    return y


def fills_first(x, index):
    y = scatter.empty(x.shape, x.dtype)
    y.fill(0)
    scatter.take_rows.serial(x, np.arange(2), y[:2])
    return y


METHODS = {"adds one": adds_one, "looks at numbers": looks_at_numbers, "fills first": fills_first}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_done_in_python_is_not_lost(method):
    assert launched(call("method", value((4, 3)), 0), METHODS[method]) is None


def test_a_kernel_that_is_not_in_the_package_is_not_launched():
    own = lowered.kernel(exact=True)(lambda x, y: None)
    assert launched(call("own", value((4, 3)), 0), lambda x, _: own.serial(x, x) or x * 2) is None


def test_indices_are_not_made_up():
    index = value((4,), np.dtype("int64"))
    assert launched(call("gather", value((4, 3)), index), twice) is None


def test_random_words_are_recognised():
    backend = NumbaBackend()
    shape = (1, 2, 4, 8)
    y, logsumexp = value(shape), value(shape[:3])
    y.strides = (256, 32, 64, 4)  # as attention lays it out: heads beside each other
    arrays = [value(shape) for _ in range(3)]
    seed, counter = Number(0, 1), Number(1, 2)
    attention = Call(
        "attention", (*arrays, None, False, 0.5, 0.5, seed, counter), (y, logsumexp)
    )  # fmt: skip
    (launch,) = launched(attention, backend.attention).launches
    drawn = [a for a in launch.arguments if isinstance(a, tuple) and isinstance(a[0], Word)]
    assert [word.expression for word in drawn[0][:3]] == list(launches_module.WORDS)
