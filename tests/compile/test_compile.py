"""A compiled step does what the step does, and says so when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn, ops, optim
from minidl.errors import CompileError, GraphError, IndexRangeError
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

OPTIMIZERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: optim.Adam(ps, lr=0.01, weight_decay=0.1),
    "adamw": lambda ps: optim.AdamW(ps, lr=0.01),
    "rmsprop": lambda ps: optim.RMSprop(ps, lr=0.01, momentum=0.5),
    "adagrad": lambda ps: optim.Adagrad(ps, lr=0.1),
}
MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)),
    "chain": lambda: nn.Sequential(nn.Linear(6, 9), Chain(), nn.Linear(9, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.4), nn.Linear(9, 3)),
    "norms": lambda: nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, 3)
    ),
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, (2, 2)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8, 3),
    ),
}


class Chain(nn.Module):
    """Elementwise operations with broadcasting, comparisons and a choice, to be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(minidl.ones(9))

    def forward(self, x):
        y = (x * self.scale - 0.5) / (x.abs() + 1.0)
        return ops.where(y > 0, y * 2.0, ops.maximum(y, -0.25)) + x.mean(1, True)


def batches(count, rows=8):
    generator = np.random.default_rng(0)
    for _ in range(count):
        x = generator.standard_normal((rows, 6)).astype("float32")
        yield minidl.tensor(x), minidl.tensor(generator.integers(0, 3, rows))


def training(model="mlp", optimizer="sgd"):
    """A model, its optimizer, and a step on them, from the same seed each time."""
    minidl.manual_seed(0)
    net = MODELS[model]()
    update = OPTIMIZERS[optimizer](net.parameters())

    def step(x, label):
        loss = ops.cross_entropy(net(x), label)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return net, update, step


def assert_trains_alike(model, optimizer):
    """20 steps, eager and compiled, end with the same parameters, buffers and gradients."""
    nets = []
    for compiled in (False, True):
        net, update, step = training(model, optimizer)
        run = minidl.compile(step, fullgraph=True) if compiled else step
        losses = []
        for i, batch in enumerate(batches(20)):
            update.param_groups[0]["lr"] = 0.01 / (i + 1)
            losses.append(run(*batch).item())
        nets.append((net, losses))
        if compiled:
            assert sum(map(len, run.recordings.values())) <= 2, "it replays"
    (eager, losses), (net, compiled_losses) = nets
    alike(np.float32(compiled_losses), np.float32(losses))
    pairs = zip(eager.state_dict().values(), net.state_dict().values(), strict=True)
    for value, other in pairs:
        alike(other.numpy(), value.numpy())
    for p, q in zip(eager.parameters(), net.parameters(), strict=True):
        alike(q.grad.numpy(), p.grad.numpy())


def alike(actual, expected):
    """Bit for bit where the same kernels run; products of few elements are added up otherwise."""
    if minidl.get_backend().name == "numba" and expected.dtype.kind == "f":
        assert_close(actual, expected, composed_bound(actual.dtype, expected), expected.dtype)
    else:
        assert_same(actual, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer):
    assert_trains_alike("mlp", optimizer)


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_layer(model):
    assert_trains_alike(model, "sgd")


def test_arrays_so_large_that_loops_are_parallel_and_results_stay_where_they_are_made():
    gradients = []
    x = np.random.default_rng(0).standard_normal((2, 8, 30, 30)).astype("float32")
    for compiled in (False, True):
        minidl.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Sigmoid(), nn.MaxPool2d(2))
        update = optim.SGD(model.parameters(), lr=0.1)

        def step(x, model=model, update=update):
            update.zero_grad()
            model(x).mean().backward()
            update.step()

        run = minidl.compile(step, fullgraph=True) if compiled else step
        for _ in range(4):
            run(minidl.tensor(x))
        gradients.append([p.grad.numpy().copy() for p in model.parameters()])
    for eager, replayed in zip(*gradients, strict=True):
        alike(replayed, eager)


def test_what_a_replay_returns_is_new_memory():
    _, _, step = training()
    compiled = minidl.compile(step, fullgraph=True)
    losses = [compiled(*batch) for batch in batches(4)]
    values = [loss.item() for loss in losses]
    assert len(set(values)) == 4


def test_another_shape_is_another_program_and_the_first_still_runs():
    _, _, step = training()
    compiled = minidl.compile(step, fullgraph=True)
    for rows in (8, 8, 5, 8, 5, 8):
        compiled(*next(batches(1, rows)))
    # The first one began without gradients, so it is a program of its own.
    assert [len(known) for known in compiled.recordings.values()] == [2, 1]


def test_too_many_shapes_warn_and_run_as_they_are():
    compiled = minidl.compile(lambda x: x * 2, recompile_limit=2)
    for n in (1, 2):
        compiled(minidl.ones(n))
    with pytest.warns(RuntimeWarning, match="recorded 2 times"):
        assert compiled(minidl.ones(3)).tolist() == [2, 2, 2]
    assert compiled(minidl.ones(4)).tolist() == [2, 2, 2, 2]


def test_a_step_that_reads_a_value_runs_as_it_is_and_says_where():
    def step(x):
        return x * 2 if x.sum().item() > 0 else x

    compiled = minidl.compile(step)
    with pytest.warns(RuntimeWarning, match=r"test_compile.py:\d+ reads the values"):
        assert compiled(minidl.ones(2)).tolist() == [2, 2]
    assert compiled(-minidl.ones(2)).tolist() == [-1, -1]
    with pytest.raises(CompileError, match="Likely fix"):
        minidl.compile(step, fullgraph=True)(minidl.ones(2))


def test_a_label_out_of_range_is_refused_and_nothing_changes():
    net, _, step = training()
    compiled = minidl.compile(step, fullgraph=True)
    for batch in batches(4):
        compiled(*batch)
    before = [p.numpy().copy() for p in net.parameters()]
    x, label = next(batches(1))
    with pytest.raises(IndexRangeError):
        compiled(x, label + 3)
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)


def test_train_and_eval_are_two_programs():
    minidl.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
    compiled = minidl.compile(model, fullgraph=True)
    x = minidl.ones((2, 6))
    with minidl.no_grad():
        trained = [compiled(x).tolist() for _ in range(3)]
        model.eval()
        used = [compiled(x).tolist() for _ in range(3)]
    assert trained[0] != trained[1] != trained[2]
    assert used[0] == used[1] == used[2]


def test_values_assigned_or_loaded_between_replays_are_seen():
    model = nn.Linear(6, 3)
    compiled = minidl.compile(model, fullgraph=True)
    x = minidl.ones((2, 6))
    with minidl.no_grad():
        for value in (1.0, 2.0, 3.0):
            model.weight.fill_(value)
            np.testing.assert_array_equal(compiled(x).numpy(), model(x).numpy())
        model.weight = nn.Parameter(minidl.zeros((3, 6)))
        np.testing.assert_array_equal(compiled(x).numpy(), model(x).numpy())


def test_a_variable_of_the_step_that_is_assigned_anew_is_seen():
    scale = minidl.ones(2)

    def step(x):
        return x * scale

    compiled = minidl.compile(step, fullgraph=True)
    for value in (1.0, 2.0, 3.0):
        scale = minidl.ones(2) * value
        assert compiled(minidl.ones(2)).tolist() == [value, value]


def test_gradients_accumulate_as_they_do_eagerly():
    model = nn.Linear(6, 3)

    def step(x):
        model(x).sum().backward()

    compiled = minidl.compile(step, fullgraph=True)
    x = minidl.ones((2, 6))
    for steps in range(1, 6):
        compiled(x)
        np.testing.assert_array_equal(model.weight.grad.numpy(), np.full((3, 6), 2.0 * steps))


def test_a_replay_counts_as_a_change_in_place():
    net, _, step = training()
    compiled = minidl.compile(step, fullgraph=True)
    for batch in batches(3):
        compiled(*batch)
    squares = (net[0].weight * net[0].weight).sum()
    compiled(*next(batches(1)))
    with pytest.raises(GraphError):
        squares.backward()


def test_a_copy_is_made_before_what_it_copies_to_is_read_again():
    state = minidl.ones(3)

    @minidl.compile(fullgraph=True)
    def step(x):
        new = state * x
        old = state + 1.0
        state.copy_(new)
        return old

    assert [step(minidl.full(3, 2.0)).tolist() for _ in range(4)] == [
        [2] * 3,
        [3] * 3,
        [5] * 3,
        [9] * 3,
    ]


def test_what_is_changed_in_place_is_what_was_changed():
    state = minidl.zeros(3)

    @minidl.compile(fullgraph=True)
    def step(x):
        state[0] = x

    for value in (1.0, 2.0, 3.0):
        step(minidl.tensor(value))
        assert state.tolist() == [value, 0, 0]


def test_an_input_gets_its_gradient():
    def step(x):
        (x * x).sum().backward()

    compiled = minidl.compile(step, fullgraph=True)
    for value in (1.0, 2.0, 3.0):
        x = minidl.tensor([value], requires_grad=True)
        compiled(x)
        assert x.grad.tolist() == [2 * value]


def test_the_plan_shares_memory_and_the_source_is_shown():
    _, _, step = training("chain", "adam")
    compiled = minidl.compile(step, fullgraph=True)
    with pytest.raises(CompileError, match="not recorded yet"):
        compiled.source()
    for batch in batches(3):
        compiled(*batch)
    plan = compiled.plan()
    assert plan.arena < plan.eager
    for a in plan.buffers:
        for b in plan.buffers:
            alive = a.first <= b.last and b.first <= a.last
            apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
            assert a is b or apart or not alive
    assert "CrossEntropy" in compiled.source()
    assert f"{plan.arena:,} bytes" in str(plan)
