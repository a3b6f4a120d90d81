"""Integer layers against an oracle in int64, and their manners as modules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import QuantConv2d, QuantLinear, clone
from minidl.compress.layers import LONGEST_SUM
from minidl.compress.qtensor import AFFINE, AFFINE_INT8, SYMMETRIC
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, GraphError, ShapeError
from minidl.verify import oracle
from minidl.verify.running import Approx
from minidl.verify.strategies import convolutions, fill, seeds
from minidl.verify.tolerances import (
    assert_close,
    assert_same,
    composed_bound,
    quantization_bound,
)

schemes = st.sampled_from((SYMMETRIC, AFFINE, AFFINE_INT8))


def on(backend, values) -> minidl.Tensor:
    return minidl.tensor(np.asarray(values, np.float32), backend=backend)


def linear(backend, weight, bias=None) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1], bias=bias is not None, backend=backend)
    return _filled(layer, weight, bias)


def conv(backend, weight, bias, stride, padding, dilation, groups) -> nn.Conv2d:
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride, padding, dilation,
        groups, bias is not None, backend=backend,
    )  # fmt: skip
    return _filled(layer, weight, bias)


def _filled(layer, weight, bias):
    with minidl.no_grad():
        layer.weight.copy_(on(layer.weight.backend, weight))
        if bias is not None:
            layer.bias.copy_(on(layer.weight.backend, bias))
    return layer


def codes_of(x: np.ndarray, layer) -> tuple[np.ndarray, np.float32, int]:
    """The input's codes, scale and zero point by the text of Jacob et al., not by ours."""
    scheme = layer.scheme
    low, high = float(x.min(initial=0)), float(x.max(initial=0))
    if scheme is SYMMETRIC:
        scale, zero = np.float32(max(-low, high) / 127), 0
    else:
        scale = np.float32((high - low) / 255)
        zero = scheme.low + round(-low / float(scale)) if scale else scheme.low
    scale = scale or np.float32(1)
    args = np.float32(scale), np.int32(zero), scheme.low, scheme.high, scheme.dtype
    return oracle.quantize(x, *args), scale, zero


def expected(x, layer, total) -> Approx:
    """s_x s_w total + b, with the error of its roundings. total(codes - zero, weight) is int64."""
    codes, scale, zero = codes_of(x, layer)
    exact = total(codes.astype(np.int64) - zero, layer.weight.numpy().astype(np.int64))
    tail = (-1,) + (1,) * (exact.ndim - 2)
    steps = np.broadcast_to(layer.weight_scale.numpy(), layer.weight.shape[:1]).reshape(tail)
    sums = Approx(exact, np.float32) * 1.0  # to float32: one rounding
    y = sums * (Approx(steps, np.float32) * float(scale))
    return y if layer.bias is None else y + layer.bias.numpy().reshape(tail)


settings = st.tuples(st.booleans(), schemes)  # per_channel, and the input's codes


@given(
    how=settings, sizes=st.tuples(*(st.integers(1, 9),) * 3), bias=st.booleans(), seed=seeds,
)  # fmt: skip
def test_linear_is_the_integer_sum_rescaled(backend, how, sizes, bias, seed):
    n, d, o = sizes
    x, weight = (
        fill((n, d), np.float32, "normal", seed),
        fill((o, d), np.float32, "normal", ~seed & 7),
    )
    layer = QuantLinear(linear(backend, weight, weight[:, 0] if bias else None), *how)
    want = expected(x, layer, lambda a, b: a @ b.T)
    assert_close(layer(on(backend, x)).numpy(), want.value, want.bound, np.float32)


@given(how=settings, case=convolutions(kinds=("normal",)))
def test_conv_is_the_integer_sum_rescaled(backend, how, case):
    x, weight = np.float32(case.x.values), np.float32(case.weight.values)
    bias = None if case.bias is None else np.float32(case.bias.values)
    layer = QuantConv2d(conv(backend, weight, bias, *case.options), *how)

    def total(a, b):
        return oracle.int8_conv2d(a, b, 0, *case.options).astype(np.int64)

    want = expected(x, layer, total)
    assert_close(layer(on(backend, x)).numpy(), want.value, want.bound, np.float32)


@given(sizes=st.tuples(*(st.integers(1, 40),) * 3), seed=seeds)
def test_whole_numbers_come_out_exact_to_the_bit(backend, sizes, seed):
    """Scales of 1 leave nothing to round: input 0 to 255, weights with a largest one of 127."""
    n, d, o = sizes
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.integers(0, 256, (n, d)).astype(np.float32)
    weight = rng.integers(-127, 128, (o, d)).astype(np.float32)
    x[0, 0], weight[:, 0], bias = 255, 127, rng.integers(-99, 99, o).astype(np.float32)
    layer = QuantLinear(linear(backend, weight, bias), True, AFFINE)
    want = x.astype(np.int64) @ weight.astype(np.int64).T + bias.astype(np.int64)
    assert_same(layer(on(backend, x)).numpy(), want.astype(np.float32), signed_zero=False)


@given(shape=st.sampled_from(((3,), (2, 3), (2, 4, 3), (0, 3), (2, 0, 3))), how=settings)
def test_linear_takes_any_leading_axes(backend, shape, how):
    layer = QuantLinear(nn.Linear(3, 5, backend=backend), *how)
    x = on(backend, fill(shape, np.float32, "normal", 3))
    y = layer(x)
    assert y.shape == (*shape[:-1], 5)
    if x.size:
        assert_same(y.numpy().reshape(-1, 5), layer(x.reshape(-1, 3)).numpy())


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3)])
def test_the_kernel_gets_rows(backend, shape):
    layer, seen = QuantLinear(nn.Linear(3, 5, backend=backend), True, AFFINE), []
    with minidl.observe(lambda phase, f, inputs, y: seen.append((f.name, inputs[0].ndim))):
        layer(minidl.ones(shape, backend=backend))
    assert ("Int8Linear", 2) in seen


def test_a_layer_says_how_it_was_quantized():
    for per_channel, scheme, text in (
        (True, AFFINE, "QuantLinear(2, 3, per_channel, affine dynamic uint8)"),
        (False, SYMMETRIC, "QuantLinear(2, 3, per_tensor, symmetric dynamic int8)"),
    ):
        assert repr(QuantLinear(nn.Linear(3, 2), per_channel, scheme)) == text


def test_padding_counts_as_zero_and_not_as_code_zero(backend):
    """Code 0 stands for -1 here: the border must not see it."""
    float_layer = conv(backend, np.ones((1, 1, 3, 3)), None, (1, 1), (1, 1), (1, 1), 1)
    layer = QuantConv2d(float_layer, True, AFFINE)
    image = np.full((1, 1, 4, 4), 2.0)
    image[..., 3] = -1
    corner = layer(on(backend, image)).numpy()[0, 0, 0, 0]
    want = np.float64(4 * 2)  # four taps inside
    assert_close(corner, want, composed_bound(np.float32, want))


def test_pruned_weights_stay_exactly_zero(backend):
    weight = fill((6, 8), np.float32, "normal", 0)
    weight[weight < 0.3] = 0
    for per_channel in (True, False):
        layer = QuantLinear(linear(backend, weight), per_channel, AFFINE)
        assert not layer.weight.numpy()[weight == 0].any()
        assert not layer.qweight.dequantize().numpy()[weight == 0].any()


def test_qweight_is_the_weight_on_its_grid(backend):
    float_layer = nn.Linear(8, 6, backend=backend)
    q = QuantLinear(float_layer, True, AFFINE).qweight
    steps = q.scale.numpy()[:, None]
    weight = float_layer.weight.numpy()
    bound = quantization_bound(weight, steps.astype(np.float64))
    assert_close(q.dequantize().numpy(), weight.astype(np.float64), bound)
    whole = QuantLinear(float_layer, False, AFFINE).qweight
    assert (q.axis, whole.axis, whole.scale.shape) == (0, None, ())


def test_moving_and_loading_refresh_what_was_prepared(backend, reference):
    x = fill((4, 8), np.float32, "normal", 1)
    first, second = (
        QuantLinear(linear(backend, fill((6, 8), np.float32, "normal", s)), True, AFFINE)
        for s in (1, 2)
    )
    want = second(on(backend, x)).numpy()
    assert (first(on(backend, x)).numpy() != want).any()
    first.load_state_dict(second.state_dict())
    assert_same(first(on(backend, x)).numpy(), want)
    moved = second.to(reference)
    assert moved(on(reference, x)).backend is reference
    back = moved.to(backend)
    assert_same(back(on(backend, x)).numpy(), want)


def test_a_clone_forgets_what_was_prepared_for_the_first(backend):
    """The first was loaded once before it ran, the clone once after: their counts are equal."""
    x = on(backend, fill((4, 8), np.float32, "normal", 1))
    first, second = (
        QuantLinear(linear(backend, fill((6, 8), np.float32, "normal", s)), True, AFFINE)
        for s in (1, 2)
    )
    first.load_state_dict(first.state_dict())
    first(x)
    twin = clone(first)
    twin.load_state_dict(second.state_dict())
    assert_same(twin(x).numpy(), second(x).numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_dynamic_layer_passes_nan_on(backend, bad):
    layer = QuantLinear(nn.Linear(2, 3, backend=backend), True, AFFINE)
    assert np.isnan(layer(on(backend, [[1.0, bad]])).numpy()).all()


def test_a_quantized_layer_refuses_to_be_differentiated(backend):
    model = nn.Sequential(
        nn.Linear(2, 2, backend=backend),
        QuantLinear(nn.Linear(2, 2, backend=backend), True, AFFINE),
    )
    with pytest.raises(GraphError, match="no gradient"):
        model(on(backend, [[1.0, 2.0]])).sum().backward()


def test_wrong_inputs_are_refused(backend, reference):
    layer = QuantLinear(nn.Linear(3, 2, backend=backend), True, AFFINE)
    with pytest.raises(ShapeError, match=r"\(\.\.\., D\) with 3 features"):
        layer(on(backend, np.ones((2, 4))))
    with pytest.raises(ShapeError, match="got \\(\\)"):
        layer(on(backend, 1.0))
    with pytest.raises(DTypeError, match="must be float32, got float64"):
        layer(minidl.ones((2, 3), "float64", backend=backend))
    images = QuantConv2d(nn.Conv2d(2, 1, 3, backend=backend), True, AFFINE)
    with pytest.raises(ShapeError, match="with 2 features or channels"):
        images(on(backend, np.ones((1, 3, 4, 4))))
    with pytest.raises(ShapeError, match="kernel"):
        images(on(backend, np.ones((1, 2, 2, 2))))
    wide = QuantConv2d(nn.Conv2d(2, 1, 3, dilation=2, backend=backend), True, AFFINE)
    with pytest.raises(ShapeError, match="kernel"):
        wide(on(backend, np.ones((1, 2, 4, 5))))
    if backend is not reference:
        with pytest.raises(BackendMismatch, match="QuantLinear"):
            layer(on(reference, np.ones((2, 3))))


def test_a_sum_that_may_leave_int32_is_refused():
    assert LONGEST_SUM * 255 * 127 < 2**31 <= (LONGEST_SUM + 1) * 255 * 127
    with pytest.raises(ArgumentError, match="may not fit 32 bits"):
        QuantLinear(nn.Linear(LONGEST_SUM + 1, 1), True, AFFINE)
    QuantLinear(nn.Linear(LONGEST_SUM, 1), True, AFFINE)
