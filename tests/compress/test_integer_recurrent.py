"""LSTMs in integers, from the embedding to the last layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import nn, ops, optim
from minidl.compress import convert, load, prepare_qat, quantize, quantize_model, save, sqnr
from minidl.compress.integer import How
from minidl.compress.integer_recurrent import state_grid
from minidl.compress.measure import file_size
from minidl.compress.qtensor import AFFINE, SYMMETRIC, scheme_of
from minidl.engine.random import Generator
from minidl.errors import ArgumentError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import learn, state
from .programs import check_bits, check_codes

WORDS = 20


class Classifier(nn.Module):
    """Tokens (N, T) -> (N, 3); token 0 is padding, behind the end of a text if it is ragged."""

    def __init__(self, backend, seed=0, *, layers=1, both=False, ragged=False, read="last",
                 learned=False, words=WORDS, units=8) -> None:  # fmt: skip
        super().__init__()
        options = {"backend": backend, "generator": Generator(seed)}
        self.embedding = nn.Embedding(words, 6, **options)
        self.lstm = nn.LSTM(6, units, layers, batch_first=True, bidirectional=both, **options)
        self.last = nn.Linear(units * (2 if both else 1), 3, **options)
        self.ragged, self.both, self.read = ragged, both, read
        self.start = None
        if learned:
            shape = layers * (2 if both else 1), 1, units
            self.start = nn.Parameter(minidl.randn(*shape, **options) * 0.3)

    def forward(self, x):
        lengths = ops.maximum((x > 0).sum(1), 1) if self.ragged else None
        hx = None
        if self.start is not None:
            h = ops.broadcast_to(self.start, (self.start.shape[0], x.shape[0], self.start.shape[2]))
            hx = h, h * 2
        y, (h, c) = self.lstm(self.embedding(x), hx, lengths)
        if self.read == "mean":
            return self.last(y.mean(1))
        if self.read == "cells":
            return self.last(c[-1])
        return self.last(ops.concatenate([h[-2], h[-1]], 1) if self.both else h[-1])


def tokens(backend, seed=0, rows=5, length=6, words=WORDS) -> minidl.Tensor:
    found = np.random.Generator(np.random.PCG64(seed)).integers(1, words, (rows, length))
    ends = np.arange(rows)[:, None] % length + 1
    return minidl.tensor(np.where(np.arange(length) < ends, found, 0), backend=backend)


classifiers = st.fixed_dictionaries({
    "seed": seeds, "layers": st.integers(1, 2), "both": st.booleans(), "ragged": st.booleans(),
    "read": st.sampled_from(("last", "mean")), "learned": st.booleans(),
})  # fmt: skip
few = settings(max_examples=10)  # of some twenty steps each
how = st.sampled_from(("per_channel", "per_tensor")), st.sampled_from(("affine", "symmetric"))


@few
@given(classifier=classifiers, weights=how[0], activations=how[1])
def test_a_classifier_is_the_same_bits_on_every_backend(
    backend, reference, classifier, weights, activations
):
    x = tokens(reference)
    program = quantize_model(Classifier(reference, **classifier), [x], weights, activations)
    assert repr(program).endswith("no step computes in float")
    assert [s.kind for s in program.steps].count("lstm") == (
        classifier["layers"] * (1 + classifier["both"])
    )
    check_bits(program, x, backend)


@few
@given(classifier=classifiers, weights=how[0], activations=how[1])
def test_every_step_is_within_codes_of_the_simulation(backend, classifier, weights, activations):
    model, x = Classifier(backend, **classifier).eval(), tokens(backend)
    program = quantize_model(model, [x], weights, activations)
    check_codes(program, model, x, How(weights, scheme_of(activations)))


@given(classifier=classifiers, size=st.integers(0, 4))
def test_any_number_of_samples_may_come(reference, classifier, size):
    program = quantize_model(Classifier(reference, **classifier), [tokens(reference)])
    x = tokens(reference, seed=3)
    assert_same(program(x[:size]).numpy(), program(x).numpy()[:size])


@given(seed=seeds, tail=st.integers(1, 4))
def test_words_behind_the_end_of_a_text_change_nothing(backend, seed, tail):
    """The ends are an input of the LSTM's step, as the number of words of each text."""
    model = Classifier(backend, seed, ragged=True)
    x = tokens(backend, seed)
    program = quantize_model(model, [tokens(backend, seed, length=6 + tail)])
    longer = ops.concatenate([x, minidl.zeros((5, tail), "int64", backend=backend)], 1)
    want = program(longer).numpy()
    more = ops.concatenate([longer, longer], 0)
    assert_same(program(more).numpy(), np.concatenate([want, want]))


def test_a_recorded_program_gives_the_same_bits(backend):
    program = quantize_model(Classifier(backend, both=True), [tokens(backend)])
    replayed = minidl.compile(lambda x: program(x), fullgraph=True)
    for seed in (0, 1, 2, 0):
        x = tokens(backend, seed)
        assert_same(replayed(x).numpy(), program(x).numpy())


def test_little_is_lost(backend):
    for options in ({}, {"layers": 2, "both": True, "ragged": True}):
        model, x = Classifier(backend, units=16, **options).eval(), tokens(backend)
        assert sqnr(model(x), quantize_model(model, [x])(x)) > 25


def test_cells_that_are_read_stay_float(backend):
    model, x = Classifier(backend, read="cells").eval(), tokens(backend, seed=3)
    program = quantize_model(model, [x])
    assert "LSTM" in repr(program).splitlines()[-1]
    assert sqnr(model(x), program(x)) > 25
    assert_same(program(x[:2]).numpy(), program(x).numpy()[:2])  # zeros grow with the batch


def test_states_that_depend_on_the_input_stay_float(backend):
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"backend": backend, "generator": Generator(3)}
            self.begin = nn.Linear(4, 4, **options)
            self.lstm = nn.LSTM(4, 4, batch_first=True, **options)

        def forward(self, x):
            h = ops.unsqueeze(self.begin(x[:, 0]), 0)
            return self.lstm(x, (h, h))[0]

    x = minidl.randn(3, 5, 4, backend=backend, generator=Generator(4))
    program = quantize_model(Decoder(), [x])
    assert "computed in float: LSTM" in repr(program)
    assert sqnr(Decoder()(x), program(x)) > 20


def test_states_of_which_each_sample_has_its_own_stay_float(backend):
    class Net(nn.Module):
        def __init__(self, rows):
            super().__init__()
            options = {"backend": backend, "generator": Generator(3)}
            self.lstm, self.last = nn.LSTM(4, 4, **options), nn.Linear(4, 2, **options)
            self.start = nn.Parameter(minidl.randn(1, rows, 4, **options))

        def forward(self, x):
            h = ops.broadcast_to(self.start, (1, x.shape[1], 4))
            return self.last(self.lstm(x, (h, h))[0])

    x = minidl.randn(5, 3, 4, backend=backend, generator=Generator(4))
    for rows in (1, 3):
        program = quantize_model(Net(rows), [x])
        assert ("LSTM" in repr(program).splitlines()[-1]) == (rows == 3)
        assert sqnr(Net(rows)(x), program(x)) > 20


def test_a_gru_stays_float_for_any_batch(backend):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"backend": backend, "generator": Generator(3)}
            self.gru, self.last = nn.GRU(4, 4, **options), nn.Linear(4, 2, **options)

        def forward(self, x):
            return self.last(self.gru(ops.swapaxes(x, 0, 1))[1][0])

    x = minidl.randn(3, 5, 4, backend=backend, generator=Generator(4))
    program = quantize_model(Net(), [x])
    assert "GRU" in repr(program).splitlines()[-1]
    assert_same(program(x[:2]).numpy(), program(x).numpy()[:2])


def test_an_lstm_alone_can_be_chosen_or_left_out(backend):
    model, x = Classifier(backend), tokens(backend)
    kinds = [s.kind for s in quantize_model(model, [x], modules=["lstm"]).steps]
    assert "lstm" in kinds
    assert not {"layer", "embedding"} & set(kinds)
    left = quantize_model(model, [x], modules=["embedding", "last"])
    assert "LSTM" in repr(left).splitlines()[-1]
    with pytest.raises(ArgumentError, match="no Linear or Conv2d to quantize"):
        quantize_model(model, modules=["lstm"])


def test_a_classifier_comes_back_from_its_file(backend, tmp_path):
    path, x = tmp_path / "classifier.safetensors", tokens(backend)
    for options in ({}, {"both": True, "learned": True}):
        program = quantize_model(Classifier(backend, **options), [x])
        save(program, path)
        loaded = load(Classifier(backend, seed=4, **options), path)
        assert state(loaded) == state(program)
        assert_same(loaded(x).numpy(), program(x).numpy())


def test_weight_of_the_file(backend):
    """Embedding, LSTM and all: at most 0.27 of float, header and scales included."""
    model = Classifier(backend, words=3000, units=128)
    program = quantize_model(model, [tokens(backend, words=3000)])
    assert file_size(program) <= 0.27 * file_size(model)


def test_a_classifier_learns_and_stays_right_in_integers(backend):
    """Which of three words came last: nothing that one look at a text would tell."""
    x = tokens(backend, rows=120, words=4)
    given = x.numpy()
    labels = given[np.arange(120), (given > 0).sum(1) - 1] - 1
    y = minidl.tensor(labels, backend=backend)
    model = Classifier(backend, ragged=True, words=4)
    optimizer = optim.Adam(model.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        optimizer.step()
    program = quantize_model(model.eval(), [x])
    right = [(m(x).numpy().argmax(1) == labels).mean() for m in (model, program)]
    assert right[0] > 0.95
    assert abs(right[1] - right[0]) <= 0.01


def test_a_classifier_can_be_trained_through_the_rounding(backend):
    x = tokens(backend)
    qat = prepare_qat(Classifier(backend, both=True, ragged=True, learned=True), [x])
    before, grids = state(qat.model), qat.grids()
    learn(qat.train(), optim.Adam(qat.parameters(), 0.01), x, 2)
    changed = [name for name, value in state(qat.model).items() if value != before[name]]
    assert changed == [name for name, _ in qat.model.named_parameters()]
    states = [i for i, point in enumerate(qat.plan.points) if point.of_states]
    assert [qat.grids()[i] for i in states] == [grids[i] for i in states]
    assert sqnr(qat.eval()(x), convert(qat)(x)) > 20


@given(low=st.floats(-1, 0), high=st.floats(0, 1), scheme=st.sampled_from((AFFINE, SYMMETRIC)))
def test_the_grid_of_states_is_the_power_of_two_that_covers_them(low, high, scheme):
    grid = state_grid(low, high, scheme)
    reach = max(-low, high)
    assert grid.scale == 2.0 ** np.rint(np.log2(grid.scale)) <= 2**-7
    assert grid.zero_point == (128 if scheme is AFFINE else 0)
    assert (127 * grid.scale >= reach) or grid.scale == 2**-7
    assert 127 * grid.scale / 2 <= reach or reach < 2**-14


def test_multiply_adds_count_the_states(backend):
    model, x = Classifier(backend), tokens(backend)
    program = quantize_model(model, [x])
    assert program.per_sample == 6 * (32 * 6 + 32 * 8) + 3 * 8
    assert nn.summary(model, x[:1]).multiply_adds == program.per_sample


def test_weights_are_the_codes_of_quantize(backend):
    model = Classifier(backend)
    program = quantize_model(model, [tokens(backend)])
    step = next(s for s in program.steps if s.kind == "lstm")
    want = quantize(model.lstm.weight_hh_l0.detach(), axis=0)
    assert_same(step.hidden.qweight.numpy(), want.numpy())
