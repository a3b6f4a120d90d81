"""Normalisation: against its formula in NumPy, and the fused kernels against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.tolerances import assert_close, composed_bound

from .cases import Case, OperationCases, case, check_definition, spread

EPS = 0.25  # large, so that forgetting it, or adding it in the wrong place, shows


def normal(x: np.ndarray, axes: tuple[int, ...], eps: float = EPS) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def per_channel(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


def group_norm(x, groups, weight, bias):
    grouped = x.reshape(x.shape[0], groups, -1)
    return normal(grouped, (2,)).reshape(x.shape) * per_channel(weight, x) + per_channel(bias, x)


def channels(n: int) -> tuple[np.ndarray, np.ndarray]:
    return spread(n, low=0.5, seed=11), spread(n, seed=12)


W4, B4 = channels(4)
LAYER = [
    case("layer_norm", lambda x, w, b: ops.layer_norm(x, 4, w, b, EPS),
         lambda x, w, b: normal(x, (1,)) * w + b, spread(3, 4), W4, B4),
    case("layer_norm: two axes", lambda x, w, b: ops.layer_norm(x, (2, 2), w, b, EPS),
         lambda x, w, b: normal(x, (1, 2)) * w + b, spread(3, 2, 2), W4.reshape(2, 2),
         B4.reshape(2, 2)),
    case("layer_norm: plain", lambda x: ops.layer_norm(x, 3, eps=EPS),
         lambda x: normal(x, (2,)), spread(2, 2, 3), order=3),
    case("layer_norm: weight", lambda x, w: ops.layer_norm(x, (4,), w, eps=EPS),
         lambda x, w: normal(x, (1,)) * w, spread(2, 4), W4),
    case("layer_norm: only the weight", lambda x, w: ops.layer_norm(x, (4,), w, eps=EPS),
         lambda x, w: normal(x, (1,)) * w, spread(2, 4), W4, constant=(0,)),
    case("layer_norm: weight from x", lambda x: ops.layer_norm(x, 4, x[0] * x[1], eps=EPS),
         lambda x: normal(x, (1,)) * x[0] * x[1], spread(2, 4)),
    case("layer_norm: default eps", lambda x: ops.layer_norm(x, 4), lambda x: normal(x, (1,), 1e-5),
         spread(2, 4)),
]  # fmt: skip
BATCH = [
    case(f"batch_norm: {shape}",
         lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True, eps=EPS),
         lambda x, w, b: normal(x, (0, *range(2, x.ndim))) * per_channel(w, x) + per_channel(b, x),
         spread(*shape), *channels(shape[1]))
    for shape in ((4, 3), (2, 2, 3), (2, 2, 2, 2), (1, 2, 3))
]  # fmt: skip
RUNNING = [
    case(f"batch_norm: evaluation {shape}",
         lambda x, w, b, m, v: ops.batch_norm(x, m, v, w, b, eps=EPS),
         lambda x, w, b, m, v: (x - per_channel(m, x)) / np.sqrt(per_channel(v, x) + EPS)
         * per_channel(w, x) + per_channel(b, x),
         spread(*shape), *channels(3), spread(3, seed=4), spread(3, low=0.2, seed=5),
         constant=(3, 4))
    for shape in ((4, 3), (2, 3, 2, 2))
]  # fmt: skip
GROUP = [
    case(f"group_norm: {groups}", lambda x, w, b, g=groups: ops.group_norm(x, g, w, b, EPS),
         lambda x, w, b, g=groups: group_norm(x, g, w, b), spread(2, 4, 2), W4, B4)
    for groups in (1, 2, 4)
]  # fmt: skip
PLAIN = [
    case("group_norm: plain", lambda x: ops.group_norm(x, 2, eps=EPS),
         lambda x: group_norm(x, 2, np.ones(4), np.zeros(4)), spread(2, 4)),
    case("batch_norm: plain", lambda x: ops.batch_norm(x, None, None, training=True, eps=EPS),
         lambda x: normal(x, (0,)), spread(4, 2)),
]  # fmt: skip


class TestCases(OperationCases):
    cases = (*LAYER, *BATCH, *RUNNING, *GROUP, *PLAIN)


@pytest.mark.parametrize("case", [*LAYER, *BATCH, *GROUP, *PLAIN], ids=str)
def test_the_definition_is_the_kernel(backend, case: Case):
    check_definition(backend, case)


def statistics(backend, n: int) -> list[minidl.Tensor]:
    return [minidl.tensor(v, backend=backend) for v in (spread(n), spread(n, low=0.5))]


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0])
def test_running_statistics_move_by_momentum(backend, momentum):
    x = spread(3, 2, 4)
    mean, var = statistics(backend, 2)
    before = mean.numpy().copy(), var.numpy().copy()
    t = minidl.tensor(x, requires_grad=True, backend=backend)
    ops.batch_norm(t, mean, var, training=True, momentum=momentum)
    batch = x.mean((0, 2)), x.var((0, 2), ddof=1)
    for running, old, new in zip((mean, var), before, batch, strict=True):
        expected = (1 - momentum) * old + momentum * new
        assert_close(running.numpy(), expected, composed_bound(np.float64, x))
        assert not running.requires_grad
        assert running.version.count == 1


def test_running_statistics_rest_in_evaluation(backend):
    mean, var = statistics(backend, 2)
    before = mean.tolist(), var.tolist()
    ops.batch_norm(minidl.ones((3, 2), "float64", backend=backend), mean, var)
    assert (mean.tolist(), var.tolist()) == before


def test_a_constant_row_has_no_direction(backend):
    """x - mean is 0: the result is the bias and the gradient 0, not 0 / 0."""
    x = minidl.full((2, 4), 3.0, requires_grad=True, backend=backend)
    bias = minidl.tensor([1.0, 2.0, 3.0, 4.0], backend=backend)
    y = ops.layer_norm(x, 4, bias=bias)
    assert y.tolist() == [[1, 2, 3, 4]] * 2
    (y * y).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_nothing_to_normalise(backend):
    x = minidl.zeros((0, 4), requires_grad=True, backend=backend)
    y = ops.layer_norm(x, 4)
    assert y.shape == (0, 4)
    y.sum().backward()
    assert x.grad.shape == (0, 4)


def ones(backend, *shape, dtype="float32"):
    return minidl.ones(shape, dtype, backend=backend)


def test_bad_layer_norm(backend):
    x = ones(backend, 2, 3, 4)
    for shape in (3, (4, 3), (2, 3, 4, 1), (), (3, 4, 5)):
        with pytest.raises(ShapeError, match=r"layer_norm: x \(2, 3, 4\) must end in the axes"):
            ops.layer_norm(x, shape)
    with pytest.raises(ShapeError, match="layer_norm"):
        ops.layer_norm(ones(backend, 2, 0), 0)
    with pytest.raises(ShapeError, match=r"layer_norm: weight must have shape \(4,\), got \(3,\)"):
        ops.layer_norm(x, 4, ones(backend, 3))
    with pytest.raises(DTypeError, match="layer_norm: x is float32, but bias is float64"):
        ops.layer_norm(x, 4, bias=ones(backend, 4, dtype="float64"))
    with pytest.raises(DTypeError, match="layer_norm: x must be floating"):
        ops.layer_norm(x.astype("int8"), 4)
    with pytest.raises(DTypeError, match="layer_norm: weight must be a Tensor"):
        ops.layer_norm(x, 4, [1.0] * 4)


def test_bad_batch_norm(backend):
    x, two, three = ones(backend, 4, 2), ones(backend, 2), ones(backend, 3)
    with pytest.raises(ArgumentError, match="needs running_mean and running_var"):
        ops.batch_norm(x, None, two)
    with pytest.raises(ShapeError, match=r"training needs at least 2 values per channel"):
        ops.batch_norm(x[:1], two, two, training=True)
    for arguments in ((three, two), (two, three), (two, two, three), (two, two, two, three)):
        with pytest.raises(ShapeError, match=r"must have shape \(2,\), got \(3,\)"):
            ops.batch_norm(x, *arguments)
    with pytest.raises(ShapeError, match=r"batch_norm: x must be \(N, C\)"):
        ops.batch_norm(two, two, two)
    with pytest.raises(DTypeError, match="batch_norm: x is float32, but weight is float64"):
        ops.batch_norm(x, two, two, two.astype("float64"))


def test_batch_norm_refuses_statistics_of_another_backend(backend, other):
    x, here, there = ones(backend, 4, 2), ones(backend, 2), ones(other, 2)
    for training in (True, False):
        for pair in ((here, there), (there, here)):
            with pytest.raises(minidl.errors.BackendMismatch):
                ops.batch_norm(x, *pair, training=training)


def test_bad_group_norm(backend):
    x = ones(backend, 2, 4, 3)
    for groups in (0, -2, 2.0):
        with pytest.raises(ArgumentError, match="group_norm: num_groups must be an integer >= 1"):
            ops.group_norm(x, groups)
    for groups in (3, 8):
        with pytest.raises(ShapeError, match=r"group_norm: .* do not divide"):
            ops.group_norm(x, groups)
    with pytest.raises(ShapeError, match=r"group_norm: x .* has no elements"):
        ops.group_norm(ones(backend, 2, 4, 0), 2)
    with pytest.raises(ShapeError, match=r"group_norm: weight must have shape \(4,\)"):
        ops.group_norm(x, 2, ones(backend, 2))
