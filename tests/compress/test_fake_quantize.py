"""Fake quantization: its laws, its gradient, and the module that observes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, ops
from minidl.compress import (
    FakeQuantize,
    LearnedStepSize,
    MinMax,
    fake_quantize,
    quantize,
)
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, ShapeError
from minidl.verify.gradients import Case, check_definition, cotangent, kink, spread
from minidl.verify.strategies import arrays, shapes
from minidl.verify.tolerances import assert_close, assert_same, composed_bound, slope_bound

SCHEMES = (
    ("symmetric", "int8"), ("affine", "uint8"), ("affine", "int8"), ("symmetric", "int4"),
    ("affine", "int4"),
)  # fmt: skip
KINDS = ("integers", "normal", "offset", "constant", "wide")


@st.composite
def gridded(draw):
    """x, the scheme, and how grids are shared."""
    x = draw(arrays(shapes(min_dims=1, max_dims=3), kinds=KINDS, plain=True)).values
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    size = draw(st.none() | st.integers(1, 4)) if axis is None else None
    return x, draw(st.sampled_from(SCHEMES)), {"axis": axis, "group_size": size}


def on_the_grid_of(q, x):
    return fake_quantize(
        x, q.scale, q.zero_point, q.scheme.low, q.scheme.high, q.axis, q.group_size
    )


@given(case=gridded())
def test_it_is_quantize_then_dequantize(backend, case):
    x, scheme, how = case
    t = minidl.tensor(x, backend=backend)
    q = quantize(t, *scheme, **how)
    expected = q.dequantize().numpy()
    assert_same(on_the_grid_of(q, t).numpy(), expected, signed_zero=False)


@given(case=gridded())
def test_twice_is_once(backend, case):
    x, scheme, how = case
    t = minidl.tensor(x, backend=backend)
    q = quantize(t, *scheme, **how)
    once = on_the_grid_of(q, t)
    assert_same(on_the_grid_of(q, once).numpy(), once.numpy(), signed_zero=False)


@given(case=gridded())
def test_within_the_range_the_gradient_passes_unchanged(backend, case):
    x, scheme, how = case
    q = quantize(minidl.tensor(x, backend=backend), *scheme, **how)
    t = minidl.tensor(x, requires_grad=True, backend=backend)
    y = on_the_grid_of(q, t)
    start = cotangent(y)
    y.backward(start)
    assert_same(t.grad.numpy(), start.numpy())


def test_the_gradient_is_zero_beyond_half_a_step_outside_of_the_range(backend):
    x = [-7.6, -7.4, 0.0, 7.4, 7.6, 1e30, np.inf, np.nan]
    passed = kink(lambda t: fake_quantize(t, 1.0, 0, -7, 7), x, backend)
    assert_same(passed, np.array([0, 1, 1, 1, 0, 0, 0, 0], np.float32))
    shifted = kink(lambda t: fake_quantize(t, 1.0, 5, -7, 7), [-12.4, -12.6, 2.4, 2.6], backend)
    assert_same(shifted, np.array([1, 0, 1, 0], np.float32))


CASES = [
    Case(
        f"fake_quantize: {how}",
        lambda x, s, z=zero, how=how: fake_quantize(
            x, s, minidl.tensor(np.full(s.shape, z), "int32", backend=x.backend), -8, 7, **how
        ),
        None,
        (4 * spread(3, 5), spread(*shape, low=0.25, high=0.75)),
    )
    for zero, shape, how in (
        (0, (), {}), (3, (3,), {"axis": 0}), (-2, (5,), {"axis": 1}),
        (1, (3, 3), {"group_size": 2}),
    )
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_definition_is_the_kernel(backend, case: Case):
    check_definition(backend, case)


def test_the_scales_gradient_outside_is_the_slope_of_the_function(backend):
    """Where x is clipped, y = scale * code is smooth: a difference tells its derivative."""
    x = minidl.tensor([100.0, -100.0, 50.0], "float64", backend=backend)
    weights = minidl.tensor([1.0, 2.0, -3.0], "float64", backend=backend)

    def loss(scale):
        return (fake_quantize(x, scale, 2, -8, 7) * weights).sum()

    scale = minidl.tensor(0.5, "float64", requires_grad=True, backend=backend)
    loss(scale).backward()
    step = 2.0**-12
    ends = [loss(minidl.tensor(0.5 + s, "float64", backend=backend)).item() for s in (step, -step)]
    expected = np.float64((ends[0] - ends[1]) / (2 * step))
    assert_close(scale.grad.numpy(), expected, slope_bound(6 * 10), np.float64)


def test_gradients_of_gradients_go_through_the_definition(backend):
    x = minidl.tensor([0.3, 9.0], "float64", requires_grad=True, backend=backend)
    y = (fake_quantize(x, 0.5, 0, -7, 7) * x).sum()
    (first,) = minidl.grad(y, [x], create_graph=True)
    assert_close(first.numpy(), np.array([0.5 + 0.3, 3.5]), composed_bound(np.float64), np.float64)
    (second,) = minidl.grad(first.sum(), [x])
    assert_close(second.numpy(), np.array([2.0, 0.0]), composed_bound(np.float64), np.float64)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"scale": 0.0}, ArgumentError, "scale must be positive"),
        ({"scale": "a"}, ArgumentError, "scale must be a number"),
        ({"zero_point": 0.5}, ArgumentError, "zero_point must be an integer"),
        ({"quant_max": -8}, ArgumentError, "quant_max"),
        ({"quant_max": 2**17}, ArgumentError, "16 bits"),
        ({"quant_min": -(2**17)}, ArgumentError, "quant_min"),
        ({"axis": 2}, ShapeError, "axis 2"),
        ({"axis": 0}, ShapeError, r"scale must have shape \(2,\), got \(\)"),
        ({"group_size": 0}, ArgumentError, "group_size"),
        ({"group_size": 2, "axis": 0}, ArgumentError, "leave out axis"),
    ],
)
def test_wrong_arguments_are_refused(backend, change, error, match):
    good = {"scale": 0.5, "zero_point": 0, "quant_min": -8, "quant_max": 7}
    with pytest.raises(error, match=match):
        fake_quantize(minidl.ones((2, 3), backend=backend), **{**good, **change})


def test_tensors_of_other_kinds_are_refused(backend, other):
    x = minidl.ones((2, 3), backend=backend)
    with pytest.raises(DTypeError, match="x must be floating"):
        fake_quantize(x.astype("int8"), 0.5, 0, -8, 7)
    with pytest.raises(DTypeError, match="scale is float64"):
        fake_quantize(x, minidl.ones((), "float64", backend=backend), 0, -8, 7)
    with pytest.raises(DTypeError, match="zero_point must hold integers"):
        fake_quantize(x, 0.5, minidl.ones((), backend=backend), -8, 7)
    with pytest.raises(BackendMismatch):
        fake_quantize(x, minidl.ones((), backend=other), 0, -8, 7)


# -- modules ---------------------------------------------------------------------------------------
def test_the_module_follows_its_observer(backend):
    layer = FakeQuantize("affine", observer=MinMax(), backend=backend)
    layer(minidl.tensor([0.0, 255.0], backend=backend))
    assert (layer.scale.item(), layer.zero_point.item()) == (1.0, 0)
    layer(minidl.tensor([-255.0, 0.0], backend=backend))
    assert (layer.scale.item(), layer.zero_point.item()) == (2.0, 128)


def test_in_eval_mode_or_without_its_observer_nothing_changes(backend):
    layer = FakeQuantize("symmetric", backend=backend)
    layer(minidl.tensor([127.0], backend=backend))
    for still in (layer.eval(), layer.train().disable_observer()):
        y = still(minidl.tensor([1000.0, 1.4], backend=backend))
        assert y.tolist() == [127.0, 1.0]
    layer.enable_observer()(minidl.tensor([1270.0], backend=backend))
    assert layer.scale.item() > 1


def test_switched_off_it_passes_everything_and_still_observes(backend):
    layer = FakeQuantize("symmetric", observer=MinMax(), backend=backend).disable_fake_quant()
    x = minidl.tensor([0.3, 254.0], backend=backend)
    assert layer(x) is x
    assert layer.scale.item() == 2.0
    assert layer.enable_fake_quant()(x).tolist() == [0.0, 254.0]


@pytest.mark.parametrize("how", [{"axis": 0}, {"axis": -1}, {"group_size": 2}])
def test_slices_have_grids_of_their_own(backend, how):
    weight = minidl.tensor(spread(4, 5), "float32", backend=backend)
    layer = FakeQuantize("symmetric", "int4", **how, like=weight)
    expected = quantize(weight, "symmetric", "int4", **how)
    y = layer(weight)
    assert layer.scale.shape == expected.scale.shape
    assert_same(layer.scale.numpy(), expected.scale.numpy())
    assert_same(y.numpy(), expected.dequantize().numpy(), signed_zero=False)


def test_its_state_is_saved_and_loaded(backend):
    weight = minidl.tensor(spread(4, 5), "float32", backend=backend)
    layers = [FakeQuantize("affine", "int8", 0, like=weight) for _ in range(2)]
    layers[0](weight)
    layers[1].load_state_dict(layers[0].state_dict())
    twice = [layer.eval()(weight).numpy() for layer in layers]
    assert_same(*twice)


@pytest.mark.parametrize("how", [{}, {"axis": 0}])
def test_its_observer_goes_on_from_where_the_saved_one_was(backend, how):
    weight = minidl.tensor(spread(4, 5), "float32", backend=backend)
    layers = [FakeQuantize("affine", "int8", **how, like=weight) for _ in range(2)]
    for factor in (1.0, 3.0, 0.5):
        layers[0](weight * factor)
    layers[1](weight * 7)
    layers[1].load_state_dict(layers[0].state_dict())
    for layer in layers:
        layer(weight * 100)
    assert_same(layers[0].scale.numpy(), layers[1].scale.numpy())
    assert_same(layers[0].zero_point.numpy(), layers[1].zero_point.numpy())


def test_a_graph_survives_the_next_observation(backend):
    layer = FakeQuantize("symmetric", observer=MinMax(), backend=backend)
    x = minidl.tensor([1.0, 2.0], requires_grad=True, backend=backend)
    y = layer(x)
    layer(x * 100)
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_layer_learns_through_it(backend):
    minidl.manual_seed(0)
    layer, rounding = nn.Linear(3, 2, backend=backend), FakeQuantize("symmetric", backend=backend)
    x = minidl.randn(8, 3, backend=backend)
    ops.linear(x, rounding(layer.weight), layer.bias).sum().backward()
    expected = np.broadcast_to(x.numpy().astype(np.float64).sum(0), (2, 3))
    bound = composed_bound(np.float32, 8 * x.numpy())
    assert_close(layer.weight.grad.numpy(), expected, bound, np.float32)


def test_a_module_without_a_shape_or_with_another_observer_is_refused(backend):
    with pytest.raises(ArgumentError, match="pass like=weight"):
        FakeQuantize("symmetric", axis=0)
    weight = minidl.ones((4, 5), backend=backend)
    layer = FakeQuantize("symmetric", axis=0, observer=MinMax(axis=1), like=weight)
    with pytest.raises(ShapeError, match="the same axis"):
        layer(weight)
    with pytest.raises(DTypeError, match="like"):
        FakeQuantize("symmetric", axis=0, like=weight.astype("int8"))


def test_repr_says_how():
    weight = minidl.ones((4, 5))
    assert (
        repr(FakeQuantize("affine", "int4", 0, like=weight)) == "FakeQuantize(affine int4, axis=0)"
    )


def test_a_step_is_learned_towards_the_better_one(backend):
    """Plain gradient descent on the squared error brings the step near the best of a scan."""
    minidl.manual_seed(1)
    x = minidl.randn(4000, backend=backend)
    layer = LearnedStepSize(x, -8, 7)
    optimizer = minidl.optim.SGD(layer.parameters(), lr=20.0)

    def error() -> minidl.Tensor:
        return ((layer(x) - x) ** 2).mean()

    before = error().item()
    for _ in range(150):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    scan = [
        float(np.mean((fake_quantize(x, s, 0, -8, 7).numpy() - x.numpy()) ** 2))
        for s in np.linspace(0.2, 0.6, 81).tolist()
    ]
    assert error().item() < before
    assert error().item() < 1.02 * min(scan)


def test_a_learned_step_is_divided_as_the_paper_says(backend):
    x = minidl.tensor([100.0, 100.0, 100.0, 100.0], backend=backend)
    layer = LearnedStepSize(minidl.ones(4, backend=backend), -8, 4, group_size=2)
    assert layer.scale.tolist() == [1.0, 1.0]
    layer(x).sum().backward()
    expected = np.full(2, 2 * 4 / np.sqrt(2 * 4))
    bound = composed_bound(np.float32, expected)
    assert_close(layer.scale.grad.numpy(), expected, bound, np.float32)


def test_a_learned_step_needs_numbers_to_begin_with(backend):
    with pytest.raises(ShapeError, match="no numbers"):
        LearnedStepSize(minidl.zeros((0, 3), backend=backend), -8, 7)
    with pytest.raises(ArgumentError, match="quant_max"):
        LearnedStepSize(minidl.ones(3, backend=backend), -8, 0)
    assert LearnedStepSize(minidl.zeros(3, backend=backend), -8, 7).scale.item() == 1.0
