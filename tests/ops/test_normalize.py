"""Normalisation: against its formula in NumPy, and the fused kernels against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.gradients import Case, check_definition, spread
from minidl.verify.operations.normalize import BATCH, CASES, GROUP, LAYER, PLAIN
from minidl.verify.tolerances import assert_close, composed_bound

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


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
        assert running.version.changed > 0


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
