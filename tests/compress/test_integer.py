"""Integer programs: the same codes everywhere, each within a step of the float simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, ops
from minidl.compress import clone, quantize_model
from minidl.compress.integer import How
from minidl.compress.qtensor import scheme_of
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, GraphError, ShapeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_same

from .models import cnn, images, mlp, state, vectors
from .programs import check_bits, check_codes

POOLS = "max", "max side by side", "average", "average without padding", "none"


class Net(nn.Module):
    """A function of modules, drawn below."""

    def __init__(self, parts: dict[str, nn.Module], run: Callable[..., minidl.Tensor]) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: minidl.Tensor) -> minidl.Tensor:
        return self.run(self, x)


@st.composite
def networks(draw) -> tuple[Callable[[minidl.Backend], nn.Module], tuple[int, ...]]:
    """What makes a small network on a backend, and the shape of a sample: convolutions with batch
    norm, a residual or two branches side by side, pooling of both kinds, activations, a mean.
    """
    seed, channels = draw(seeds), draw(st.integers(1, 3))
    width, groups = draw(st.sampled_from(((4, 1), (4, 2), (5, 1))))
    activation = draw(st.sampled_from((ops.relu, ops.gelu, ops.sigmoid, ops.tanh)))
    joint = draw(st.sampled_from(("residual", "branches", "none")))
    pool = draw(st.sampled_from(POOLS))
    normed, bias, mean = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 1))

    def run(net: nn.Module, x: minidl.Tensor) -> minidl.Tensor:
        x = net.first(x)
        x = activation(net.norm(x) if normed else x)
        if joint == "residual":
            x = ops.relu(net.second(x) + x)
        elif joint == "branches":
            x = ops.concatenate([net.second(x), x], 1)
        if pool == "max":
            x = ops.max_pool2d(x, 2, 2, 1)
        elif pool == "max side by side":
            x = ops.max_pool2d(x, 2)
        elif pool != "none":
            x = ops.avg_pool2d(x, 3, 2, 1, count_include_pad=pool == "average")
        x = x.mean((2, 3)) if mean else ops.flatten(x, 1)
        return net.last(x)

    def make(backend: minidl.Backend) -> nn.Module:
        options = {"backend": backend, "generator": Generator(seed)}
        parts = {
            "first": nn.Conv2d(channels, width, 3, stride, padding, bias=bias, **options),
            "norm": nn.BatchNorm2d(width, backend=backend),
            "second": nn.Conv2d(width, width, 3, padding=1, groups=groups, **options),
        }
        with minidl.no_grad():
            parts["norm"].weight.copy_(minidl.randn(width, **options))
            parts["norm"].running_mean.copy_(minidl.randn(width, **options) * 0.1)
            parts["norm"].running_var.copy_(minidl.rand(width, **options) + 0.1)
        net = Net({**parts, "last": nn.Identity()}, run).eval()
        features = net(minidl.zeros((1, channels, 8, 8), backend=backend)).shape[1]
        net.last = nn.Linear(features, 3, **options)
        return net

    return make, (channels, 8, 8)


how = {
    "weights": st.sampled_from(("per_channel", "per_tensor")),
    "activations": st.sampled_from(("affine", "symmetric")),
}


@given(network=networks(), seed=seeds, **how)
def test_every_step_is_the_same_bits_on_every_backend(
    backend, reference, network, seed, weights, activations
):
    make, shape = network
    x = minidl.randn(3, *shape, backend=reference, generator=Generator(seed))
    program = quantize_model(make(reference), [x], weights, activations)
    assert not any(step.kind == "float" for step in program.steps)
    check_bits(program, x, backend)


@given(network=networks(), seed=seeds, **how)
def test_every_step_is_within_a_code_of_the_simulation(
    backend, network, seed, weights, activations
):
    """Each step is given what the program computed so far, so that errors do not add up."""
    make, shape = network
    model = make(backend)
    x = minidl.randn(3, *shape, backend=backend, generator=Generator(seed))
    program = quantize_model(model, [x], weights, activations)
    check_codes(program, model, x, How(weights, scheme_of(activations)))


@given(network=networks(), seed=seeds, **how)
def test_codes_go_in_and_out_where_numbers_would(backend, network, seed, weights, activations):
    make, shape = network
    model, x = make(backend), minidl.randn(3, *shape, backend=backend, generator=Generator(seed))
    program = quantize_model(model, [x], weights, activations, quantize_output=True)
    first, last = program.code_grids
    assert first == program.grids[0]
    assert last.scheme.name == activations
    codes = minidl.tensor(first.codes(x.numpy().astype(np.float64)), backend=backend)
    given = minidl.tensor(first.scale * (codes.numpy() - np.float32(first.zero_point)),
                          backend=backend)  # fmt: skip
    y = program.codes(codes)
    assert y.dtype == last.scheme.dtype
    dequantized = (y.numpy().astype(np.float32) - last.zero_point) * np.float32(last.scale)
    assert_same(dequantized, program(given).numpy())


def test_codes_need_codes_at_both_ends(backend):
    x = vectors(backend)
    model = quantize_model(mlp(backend), [x])
    with pytest.raises(ArgumentError, match="quantize_output=True"):
        model.codes(x)
    with pytest.raises(ArgumentError, match="codes at both ends"):
        quantize_model(mlp(backend), [x], modules=["0"], quantize_output=True).codes(x)
    model = quantize_model(mlp(backend), [x], quantize_output=True)
    with pytest.raises(DTypeError, match="uint8"):
        model.codes(x)
    with pytest.raises(ShapeError, match="traced with"):
        model.codes(minidl.zeros((2, 3), "uint8", backend=backend))


@given(size=st.integers(1, 4))
def test_any_number_of_samples_may_come(backend, size):
    model = quantize_model(cnn(backend), [images(backend, 5)])
    x = images(backend, 4)
    assert_same(model(x[:size]).numpy(), model(x).numpy()[:size])
    assert model(x[:0]).shape == (0, 3)


def test_values_that_nobody_needs_any_more_are_let_go(backend):
    model = quantize_model(mlp(backend, sizes=(7, 9, 9, 9, 5)), [vectors(backend)])
    assert model.slots == 1


def test_what_is_not_quantized_runs_in_float_and_is_named(backend):
    net = Net(
        {"a": nn.Linear(7, 7, backend=backend), "b": nn.Linear(7, 5, backend=backend)},
        lambda net, x: net.b(ops.softmax(net.a(x).reshape(-1, 7), 1) * net.a(x)),
    )
    model = quantize_model(net, [vectors(backend)])
    kinds = [step.kind for step in model.steps]
    assert kinds.count("float") == repr(model).splitlines()[-1].count(",") + 1
    assert "computed in float: " in repr(model)
    chosen = quantize_model(mlp(backend), [vectors(backend)], modules=["0"])
    assert [s.kind for s in chosen.steps] == ["quantize", "layer", "dequantize", "float"]
    assert repr(chosen).endswith("computed in float: Linear")
    x = vectors(backend)
    assert np.abs(chosen(x).numpy() - mlp(backend)(x).numpy()).max() < 0.1


def test_moving_and_loading_refresh_what_was_prepared(backend, reference):
    x = images(backend)
    first, second = (quantize_model(cnn(backend, seed), [x]) for seed in (0, 1))
    want = second(x).numpy()
    assert (first(x).numpy() != want).any()
    first.load_state_dict(second.state_dict())
    assert_same(first(x).numpy(), want)
    moved = second.to(reference)
    assert_same(moved(x.to(reference)).numpy(), want)
    assert_same(moved.to(backend)(x).numpy(), want)
    twin = clone(first)
    twin.load_state_dict(quantize_model(cnn(backend, 2), [x]).state_dict())
    assert_same(first(x).numpy(), want)
    assert state(twin) != state(first)


def test_another_buffer_in_a_step_is_noticed(backend):
    x = vectors(backend)
    one, two = (quantize_model(mlp(backend, seed), [x]) for seed in (0, 1))
    expected = two(x).numpy()
    assert (one(x).numpy() != expected).any()
    for mine, other in ((one, two), *zip(one.steps, two.steps, strict=True)):
        for name, buffer in other.named_buffers(recurse=False):
            setattr(mine, name, buffer)
    assert_same(one(x).numpy(), expected)


def test_a_program_counts_its_multiply_adds(backend):
    model, x = cnn(backend), images(backend)
    found = nn.summary(quantize_model(model, [x]), x).multiply_adds
    assert found == nn.summary(model, x).multiply_adds


def test_wrong_inputs_are_refused(backend, reference):
    model = quantize_model(cnn(backend), [images(backend)])
    with pytest.raises(ShapeError, match=r"IntegerModel: traced with an input of shape"):
        model(minidl.ones((5, 2, 6, 7), backend=backend))
    with pytest.raises(ShapeError, match="only their number may differ"):
        model(minidl.ones((2, 6, 6), backend=backend))
    with pytest.raises(DTypeError, match="must be float32, got float64"):
        model(images(backend).astype("float64"))
    with pytest.raises(DTypeError, match="IntegerModel: x must be a Tensor"):
        model(np.ones((1, 2, 6, 6), np.float32))
    x = images(backend)
    x.requires_grad_(True)
    with pytest.raises(GraphError, match="codes have no gradient"):
        model(x).sum().backward()
    if backend is not reference:
        with pytest.raises(BackendMismatch, match="IntegerModel"):
            model(images(reference))
    pair = Net({"a": nn.Linear(7, 7, backend=backend)}, lambda net, x: (net.a(x), x))
    with pytest.raises(ArgumentError, match="must return one tensor"):
        quantize_model(pair, [vectors(backend)])
