"""Initial weights: the same bits everywhere, within their bounds, with their moments."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

import minidl
from minidl import Generator, nn
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.nn import init
from minidl.verify.tolerances import (
    FALSE_ALARM,
    assert_close,
    assert_same,
    sum_bound,
    unit_roundoff,
)

FILLS = {
    "uniform_": lambda x, g: init.uniform_(x, -0.3, 0.7, g),
    "normal_": lambda x, g: init.normal_(x, 0.1, 0.3, g),
    "kaiming_uniform_": lambda x, g: init.kaiming_uniform_(x, math.sqrt(5), generator=g),
    "kaiming_normal_": lambda x, g: init.kaiming_normal_(x, 0, "fan_out", "relu", g),
    "xavier_uniform_": lambda x, g: init.xavier_uniform_(x, 5 / 3, g),
    "xavier_normal_": lambda x, g: init.xavier_normal_(x, 5 / 3, g),
    "orthogonal_": lambda x, g: init.orthogonal_(x, 2.0, g),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_the_bits_are_the_same_on_every_backend(backend, reference, fill, dtype):
    found = []
    for target in (backend, reference):
        x = nn.Parameter(minidl.zeros((6, 2, 3, 3), dtype, backend=target))
        generator = Generator(11)
        assert fill(x, generator) is x
        assert generator.counter > 0
        found.append(x.numpy())
    assert_same(*found)
    assert len(np.unique(found[0])) > 100


def everything() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ConvTranspose2d(6, 4, 2), nn.BatchNorm2d(4), nn.Flatten(),
        nn.Linear(36, 5), nn.LayerNorm(5), nn.Embedding(7, 3),
    )  # fmt: skip


def test_a_seed_makes_the_same_model_on_every_backend(backend, reference):
    minidl.manual_seed(123)
    here = everything().state_dict()
    after = minidl.default_generator.state
    with minidl.use_backend(reference):
        minidl.manual_seed(123)
        there = everything().state_dict()
    assert minidl.default_generator.state == after
    for name, x in here.items():
        assert x.backend is backend
        assert_same(x.numpy(), there[name].numpy())
    other = everything().state_dict()
    assert (other["0.weight"].numpy() != here["0.weight"].numpy()).any()


def test_layers_draw_from_the_generator_they_get():
    state = minidl.default_generator.state
    first, second = (nn.Linear(4, 3, generator=Generator(2)) for _ in range(2))
    assert_same(first.weight.numpy(), second.weight.numpy())
    assert_same(first.bias.numpy(), second.bias.numpy())
    assert minidl.default_generator.state == state


def test_normal_and_uniform_scale_and_shift_what_the_generator_draws():
    x = minidl.zeros((3, 5))
    init.normal_(x, 0.5, 2, Generator(4))
    assert_same(x.numpy(), Generator(4).normal((3, 5)) * np.float32(2) + np.float32(0.5))
    init.uniform_(x, -0.5, 1.5, Generator(4))
    assert_same(x.numpy(), Generator(4).uniform((3, 5)) * np.float32(2) - np.float32(0.5))


def test_constants():
    x = minidl.zeros((2, 2), requires_grad=True)
    assert init.ones_(x).tolist() == [[1, 1], [1, 1]]
    assert init.constant_(x, 2.5).tolist() == [[2.5, 2.5], [2.5, 2.5]]
    assert init.zeros_(x) is x
    assert x.tolist() == [[0, 0], [0, 0]]


# Standard deviations within which an honest mean stays.
SIGMAS = NormalDist().inv_cdf(1 - FALSE_ALARM / 2)


def check_moments(x: np.ndarray, std: float, fourth: float) -> None:
    """Mean 0 and variance std^2, each within its own standard error; fourth is E[x^4] / std^4."""
    n = x.size
    x = x.astype(np.float64)
    assert abs(x.mean()) <= SIGMAS * std / math.sqrt(n)
    assert abs((x**2).mean() - std**2) <= SIGMAS * std**2 * math.sqrt((fourth - 1) / n)


SHAPE = (40, 20, 5, 5)  # fan-in 500, fan-out 1000
EXPECTED = {  # fill, standard deviation by the paper's formula, whether uniform
    "kaiming_uniform_": (lambda x: init.kaiming_uniform_(x), math.sqrt(2 / 500), True),
    "kaiming slope": (lambda x: init.kaiming_uniform_(x, 0.5), math.sqrt(1.6 / 500), True),
    "kaiming_normal_": (
        lambda x: init.kaiming_normal_(x, mode="fan_out", nonlinearity="relu"),
        math.sqrt(2 / 1000), False,
    ),
    "xavier_uniform_": (lambda x: init.xavier_uniform_(x, 3), 3 * math.sqrt(2 / 1500), True),
    "xavier_normal_": (lambda x: init.xavier_normal_(x), math.sqrt(2 / 1500), False),
    "normal_": (lambda x: init.normal_(x, 0, 0.5), 0.5, False),
    "uniform_": (lambda x: init.uniform_(x, -3, 3), math.sqrt(3), True),
    "linear_": (lambda x: init.linear_(x, None), 1 / math.sqrt(3 * 500), True),
}  # fmt: skip


@pytest.mark.parametrize(("fill", "std", "uniform"), EXPECTED.values(), ids=EXPECTED)
def test_moments(fill, std, uniform):
    x = minidl.zeros(SHAPE)
    fill(x)
    check_moments(x.numpy(), std, 9 / 5 if uniform else 3)
    largest = float(np.abs(x.numpy()).max())
    bound = std * math.sqrt(3)
    if uniform:  # n draws leave less than bound * k / n at the edge, but for e^-k
        gap = bound * -math.log(FALSE_ALARM) / x.size
        assert bound - gap <= largest <= bound * (1 + 2 * unit_roundoff(np.float32))
    else:
        assert largest > bound


def test_bias_is_bounded_by_the_fan_in_of_its_weight():
    bias = nn.Linear(16, 4000).bias.numpy()
    check_moments(bias, 1 / math.sqrt(3 * 16), 9 / 5)
    assert np.abs(bias).max() <= 1 / 4


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (4, 2, 3, 1)])
def test_orthogonal(shape):
    x = minidl.zeros(shape)
    init.orthogonal_(x, 2)
    matrix = x.numpy().reshape(shape[0], -1).astype(np.float64)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    n = matrix.shape[1]
    # Each element was rounded once to float32, which is two more roundings of every product.
    bound = sum_bound(np.abs(matrix) @ np.abs(matrix).T, n + 2, np.float32)
    assert_close(matrix @ matrix.T, 4 * np.eye(len(matrix)), bound)


def test_orthogonal_is_uniform_among_rotations():
    """With R's signs left as LAPACK makes them, the diagonal would never be positive."""
    signs = [
        init.orthogonal_(minidl.zeros((3, 3)), generator=Generator(s)).numpy()[0, 0] > 0
        for s in range(200)
    ]
    check_moments(np.where(signs, 1.0, -1.0), 1, 1)


def test_gains():
    gains = {
        ("linear", None): 1, ("conv2d", None): 1, ("sigmoid", None): 1, ("tanh", None): 5 / 3,
        ("selu", None): 3 / 4, ("relu", None): math.sqrt(2),
        ("leaky_relu", None): math.sqrt(2 / 1.0001), ("leaky_relu", 1): 1,
    }  # fmt: skip
    assert {key: init.calculate_gain(*key) for key in gains} == gains
    with pytest.raises(ArgumentError, match="nonlinearity"):
        init.calculate_gain("softplus")


def test_what_has_no_fans_is_refused():
    for shape in ((3,), (), (0, 3)):
        with pytest.raises(ShapeError, match="fan-in"):
            init.xavier_uniform_(minidl.zeros(shape))
    with pytest.raises(ArgumentError, match="mode"):
        init.kaiming_uniform_(minidl.zeros((2, 2)), mode="fan_avg")


def test_bad_settings_are_refused():
    w = minidl.zeros((2, 2))
    for call in (
        lambda: init.uniform_(w, "a"),
        lambda: init.normal_(w, std=-1),
        lambda: init.constant_(w, None),
        lambda: init.kaiming_normal_(w, a="x"),
        lambda: init.xavier_normal_(w, gain="x"),
        lambda: init.orthogonal_(w, gain=None),
    ):
        with pytest.raises(ArgumentError, match="must be a number"):
            call()
    for wrong in (minidl.tensor([1, 2]), [1.0]):
        with pytest.raises(DTypeError, match="init: x must be"):
            init.normal_(wrong)
    with pytest.raises(DTypeError, match="generator"):
        init.uniform_(w, generator=3)
    assert w.tolist() == [[0, 0], [0, 0]]
