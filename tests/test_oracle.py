"""The oracle against itself: its gradients are the slopes of its functions.

A central difference of step h is off by h^2 f''' / 6 through curvature and by u |f| / h through
rounding; `slope_bound` in the table of tolerances adds the two up.
"""

from __future__ import annotations

import numpy as np
import pytest

from minidl.verify import oracle
from minidl.verify.cases.random import PUBLISHED
from minidl.verify.strategies import fill
from minidl.verify.tolerances import DIFFERENCE_STEP, assert_close, slope_bound


def slopes(function, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """Central differences of <cotangent, function(x)> in every element of x."""
    y = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = DIFFERENCE_STEP
        difference = np.asarray(function(x + step)) - np.asarray(function(x - step))
        y[index] = np.sum(cotangent * difference) / (2 * DIFFERENCE_STEP)
    return y


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return fill(shape, np.float64, "normal", seed)


def check(function, x: np.ndarray, gradient) -> None:
    cotangent = values(*np.shape(function(x)), seed=9)
    bound = slope_bound(cotangent.size)
    assert_close(np.asarray(gradient(cotangent)), slopes(function, x, cotangent), bound)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu(form):
    x = values(7)
    check(
        lambda v: oracle.map1(lambda e: oracle.gelu(e, form), v),
        x,
        lambda g: g * oracle.map1(lambda e: oracle.gelu_grad(e, form), x),
    )


def test_silu():
    x = values(7)
    check(
        lambda v: oracle.map1(oracle.UNARY["silu"], v),
        x,
        lambda g: g * oracle.map1(oracle.silu_grad, x),
    )


def test_softmax_and_log_softmax():
    x = values(2, 4)
    for axis in (0, 1):
        y = oracle.softmax(x, axis)
        check(
            lambda v, a=axis: oracle.softmax(v, a),
            x,
            lambda g, a=axis, y=y: oracle.softmax_grad(g, y, a),
        )
        y = oracle.log_softmax(x, axis)
        check(
            lambda v, a=axis: oracle.log_softmax(v, a),
            x,
            lambda g, a=axis, y=y: oracle.log_softmax_grad(g, y, a),
        )


OPTIONS = ((2, 1), (1, 2), (1, 2), 2)  # stride, padding, dilation, groups


def test_conv2d():
    x, weight = values(2, 4, 5, 4, seed=1), values(6, 2, 3, 2, seed=2)
    check(
        lambda v: oracle.conv2d(v, weight, None, *OPTIONS),
        x,
        lambda g: oracle.conv2d_input_grad(g, weight, x.shape, *OPTIONS),
    )
    check(
        lambda v: oracle.conv2d(x, v, None, *OPTIONS),
        weight,
        lambda g: oracle.conv2d_weight_grad(g, x, weight.shape, *OPTIONS),
    )


def test_conv2d_is_im2col_times_weight():
    x, weight = values(2, 2, 5, 6, seed=1), values(3, 2, 2, 3, seed=2)
    options = ((1, 2), (1, 0), (2, 1))
    cols = oracle.im2col(x, (2, 3), *options, 0)
    y = oracle.conv2d(x, weight, None, *options, 1)
    product = oracle.matmul(weight.reshape(3, -1), cols).reshape(y.shape)
    assert_close(product, y, slope_bound(12))


def test_im2col():
    x = values(1, 2, 4, 5)
    window = ((2, 3), (2, 1), (1, 1), (1, 1))
    check(
        lambda v: oracle.im2col(v, *window, 0),
        x,
        lambda g: oracle.col2im(g, x.shape, *window),
    )


@pytest.mark.parametrize("include", [True, False])
def test_avg_pool2d(include):
    x = values(1, 2, 5, 4)
    window = ((3, 2), (2, 1), (1, 1))
    check(
        lambda v: oracle.avg_pool2d(v, *window, include),
        x,
        lambda g: oracle.avg_pool2d_grad(g, x.shape, *window, include),
    )


def test_max_pool2d():
    x = values(1, 2, 5, 4)
    window = ((3, 2), (1, 2), (1, 0))
    index = oracle.max_pool2d(x, *window)[1]
    check(
        lambda v: oracle.max_pool2d(v, *window)[0],
        x,
        lambda g: oracle.max_pool2d_grad(g, index, x.shape),
    )


def test_layer_norm():
    x, weight, bias = values(2, 4), values(4, seed=1), values(4, seed=2)
    _, mean, inv_std = oracle.layer_norm(x, weight, bias, 0.1)
    for position, argument in enumerate((x, weight, bias)):

        def forward(v, position=position):
            args = [x, weight, bias]
            args[position] = v
            return oracle.layer_norm(*args, 0.1)[0]

        check(
            forward,
            argument,
            lambda g, p=position: oracle.layer_norm_grad(g, x, weight, mean, inv_std)[p],
        )


def test_batch_norm():
    x, weight, bias = values(2, 3, 2), values(3, seed=1), values(3, seed=2)
    _, mean, var = oracle.batch_norm(x, weight, bias, 0.1)
    for position, argument in enumerate((x, weight, bias)):

        def forward(v, position=position):
            args = [x, weight, bias]
            args[position] = v
            return oracle.batch_norm(*args, 0.1)[0]

        check(
            forward,
            argument,
            lambda g, p=position: oracle.batch_norm_grad(g, x, weight, mean, var, 0.1)[p],
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(smoothing):
    logits, target = values(3, 4), np.array([1, 3, 0])
    weight = np.abs(values(4, seed=1))
    for w in (None, weight):
        options = (target, w, 0, smoothing)
        log_probs = oracle.log_softmax(logits, 1)
        check(
            lambda v, o=options: oracle.cross_entropy(v, *o)[0],
            logits,
            lambda g, o=options, y=log_probs: oracle.cross_entropy_grad(g, y, *o),
        )


def test_getitem_and_gather():
    x, index = values(4, 3), np.array([[2, 0, 2], [0, 1, -1]])
    check(lambda v: v[index], x, lambda g: oracle.getitem_grad(g, index, x.shape))
    check(
        lambda v: oracle.gather(v, 0, index),
        x,
        lambda g: oracle.gather_grad(g, 0, index, x.shape),
    )


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_philox_gives_the_published_answers(counter, key, words):
    assert oracle.philox_block(counter, key) == words
