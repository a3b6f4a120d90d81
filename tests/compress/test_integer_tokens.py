"""Whole transformer encoders in integers, from the embedding to the last layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import nn, ops
from minidl.compress import convert, load, prepare_qat, quantize_model, save, sqnr
from minidl.compress.integer import How
from minidl.compress.qtensor import scheme_of
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, IndexRangeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import learn, state
from .programs import check_bits, check_codes

WORDS = 20


class Encoder(nn.Module):
    """Tokens (N, T) -> (N, 3); token 0 is padding, at which nobody looks."""

    def __init__(self, backend, seed=0, *, norm_first=True, activation="gelu", masked=True,
                 causal=False, layers=1) -> None:  # fmt: skip
        super().__init__()
        options = {"backend": backend, "generator": Generator(seed)}
        self.embedding = nn.Embedding(WORDS, 8, **options)
        self.position = nn.PositionalEncoding(8, 16, batch_first=True, backend=backend)
        layer = nn.TransformerEncoderLayer(
            8, 2, 12, activation=activation, norm_first=norm_first, batch_first=True, **options
        )
        norm = nn.LayerNorm(8, backend=backend) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, layers, norm)
        self.last = nn.Linear(8, 3, **options)
        self.masked, self.causal = masked, causal

    def forward(self, x):
        mask = x == 0 if self.masked else None
        y = self.encoder(self.position(self.embedding(x)), None, mask, self.causal)
        return self.last(y.mean(1))


def tokens(backend, seed=0, rows=5, length=6) -> minidl.Tensor:
    found = np.random.Generator(np.random.PCG64(seed)).integers(0, WORDS, (rows, length))
    return minidl.tensor(found, backend=backend)


encoders = st.fixed_dictionaries({
    "seed": seeds, "norm_first": st.booleans(), "activation": st.sampled_from(("relu", "gelu")),
    "masked": st.booleans(), "causal": st.booleans(),
})  # fmt: skip
few = settings(max_examples=10)  # of some forty steps each
how = st.sampled_from(("per_channel", "per_tensor")), st.sampled_from(("affine", "symmetric"))


@few
@given(encoder=encoders, weights=how[0], activations=how[1])
def test_an_encoder_is_the_same_bits_on_every_backend(
    backend, reference, encoder, weights, activations
):
    x = tokens(reference)
    program = quantize_model(Encoder(reference, **encoder), [x], weights, activations)
    assert repr(program).endswith("no step computes in float")
    check_bits(program, x, backend)


@few
@given(encoder=encoders, weights=how[0], activations=how[1])
def test_every_step_is_within_a_code_of_the_simulation(backend, encoder, weights, activations):
    model, x = Encoder(backend, **encoder).eval(), tokens(backend)
    program = quantize_model(model, [x], weights, activations)
    check_codes(program, model, x, How(weights, scheme_of(activations)))


def test_little_is_lost(backend):
    model, x = Encoder(backend, layers=2).eval(), tokens(backend)
    assert sqnr(model(x), quantize_model(model, [x])(x)) > 25


def test_separate_queries_keys_and_values_are_codes_too(backend):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"backend": backend, "generator": Generator(3)}
            self.q, self.k, self.v = (nn.Linear(4, 8, **options) for _ in range(3))
            self.last = nn.Linear(8, 3, **options)

        def forward(self, x):
            q, k, v = (
                ops.swapaxes(part(x).reshape(*x.shape[:2], 2, 4), 1, 2)
                for part in (self.q, self.k, self.v)
            )
            y = ops.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.last(ops.swapaxes(y, 1, 2).reshape(*x.shape[:2], 8))

    model = Heads()
    x = minidl.randn(3, 5, 4, backend=backend, generator=Generator(4))
    program = quantize_model(model, [x])
    assert "attention" in [step.kind for step in program.steps]
    assert repr(program).endswith("no step computes in float")
    check_codes(program, model, x, How())


def test_an_encoder_comes_back_from_its_file(backend, tmp_path):
    path, x = tmp_path / "encoder.safetensors", tokens(backend)
    program = quantize_model(Encoder(backend), [x])
    save(program, path)
    loaded = load(Encoder(backend, seed=4), path)
    assert state(loaded) == state(program)
    assert_same(loaded(x).numpy(), program(x).numpy())


def test_an_embedding_can_be_left_out(backend):
    names = ["encoder", "last"]
    model = Encoder(backend, norm_first=False)
    program = quantize_model(model, [tokens(backend)], modules=names)
    assert repr(program).endswith("computed in float: Embedding, Add")


def test_an_encoder_can_be_trained_through_the_rounding(backend):
    x = tokens(backend)
    qat = prepare_qat(Encoder(backend), [x])
    before = state(qat.model)
    learn(qat.train(), minidl.optim.Adam(qat.parameters(), 0.01), x, 2)
    changed = [name for name, value in state(qat.model).items() if value != before[name]]
    assert changed == [name for name, _ in qat.model.named_parameters()]
    program = convert(qat)
    assert sqnr(qat.eval()(x), program(x)) > 20


def test_numbers_that_are_no_words_are_refused(backend):
    program = quantize_model(Encoder(backend), [tokens(backend)])
    for word in (-1, WORDS):
        with pytest.raises(IndexRangeError, match="IntegerModel: an index"):
            program(minidl.full((2, 6), word, "int64", backend=backend))


def test_wild_scores_are_refused(backend):
    model = Encoder(backend)
    with minidl.no_grad():
        model.encoder.layers[0].self_attn.in_proj_weight.mul_(1e6)
    with pytest.raises(ArgumentError, match=r"scores of .*self_attn have steps of"):
        quantize_model(model, [tokens(backend)])(tokens(backend))
