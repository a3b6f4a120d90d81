"""Losses, against straightforward formulas."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import (
    ArgumentError,
    BackendMismatch,
    DTypeError,
    IndexRangeError,
    ShapeError,
)
from minidl.verify.gradients import Case, check_definition, spread
from minidl.verify.operations.loss import CASES, CLASS_WEIGHTS, CLASSIFICATION, LABELS, LOGITS
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("case", [c for c in CLASSIFICATION if c.label[:5] == "cross"], ids=str)
def test_the_definition_is_the_kernel(backend, case: Case):
    check_definition(backend, case)


def gradient(function, x, backend):
    t = minidl.tensor(x, requires_grad=True, backend=backend)
    function(t).backward()
    return t.grad.numpy()


def test_rules_at_kinks(backend):
    def target(x):
        return minidl.tensor([1.0, 1.0, 1.0], backend=backend)

    x = [1.0, 3.0, -2.0]
    l1 = gradient(lambda t: ops.l1_loss(t, target(t), "sum"), x, backend)
    assert_same(l1, np.array([0, 1, -1], np.float32))
    huber_at = gradient(lambda t: ops.huber_loss(t, target(t), "sum", 2.0), x, backend)
    assert_same(huber_at, np.array([0, 2, -2], np.float32))  # at d = delta both branches agree


def test_huber_is_a_parabola_where_prediction_and_target_meet(backend):
    """Not |d|^2 / 2, whose second derivative would be 0 there."""
    x = minidl.tensor([1.0, 1.5], requires_grad=True, backend=backend)
    target = minidl.ones(2, backend=backend)
    (slope,) = minidl.grad(ops.huber_loss(x, target, "sum"), x, create_graph=True)
    (curvature,) = minidl.grad(slope.sum(), x)
    assert_same(curvature.numpy(), np.ones(2, np.float32))


def test_extreme_logits_do_not_overflow(backend):
    x = minidl.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True, backend=backend)
    labels = minidl.tensor([0, 0], backend=backend)
    y = ops.cross_entropy(x, labels, reduction="none")
    assert_same(y.numpy(), np.array([0, 2e4], np.float32), signed_zero=False)
    y.sum().backward()
    assert_same(x.grad.numpy(), np.array([[0, 0], [-1, 1]], np.float32), signed_zero=False)
    target = minidl.tensor([[1.0, 0.0], [1.0, 1.0]], backend=backend)
    y = ops.binary_cross_entropy_with_logits(x, target, reduction="none")
    assert_same(y.numpy(), np.array([[0, 0], [1e4, 0]], np.float32), signed_zero=False)


def test_kl_div_of_one_number_is_a_batch_of_one(backend):
    x, target = (minidl.tensor(v, backend=backend) for v in (-1.0, 0.5))
    assert_same(ops.kl_div(x, target, "batchmean").numpy(), ops.kl_div(x, target, "sum").numpy())


def test_kl_div_counts_nothing_where_the_target_is_zero(backend):
    x = minidl.tensor([[0.5, 0.5]], backend=backend).log().requires_grad_()
    target = minidl.tensor([[1.0, 0.0]], backend=backend)
    y = ops.kl_div(x, target, "batchmean")
    assert_close(y.numpy(), np.log(2), composed_bound(np.float32))
    y.backward()
    assert_same(x.grad.numpy(), np.array([[-1, 0]], np.float32), signed_zero=False)


def test_all_rows_ignored(backend):
    x = minidl.tensor(LOGITS, requires_grad=True, backend=backend)
    t = minidl.full((4,), -100, "int64", backend=backend)
    assert np.isnan(ops.cross_entropy(x, t).item())
    assert ops.cross_entropy(x, t, reduction="sum").item() == 0
    ops.cross_entropy(x, t, reduction="sum").backward()
    assert_same(x.grad.numpy(), np.zeros((4, 3)), signed_zero=False)


def test_no_rows(backend):
    x = minidl.zeros((0, 3), requires_grad=True, backend=backend)
    t = minidl.zeros(0, "int64", backend=backend)
    for loss in (ops.cross_entropy, ops.nll_loss):
        assert np.isnan(loss(x, t).item())
        assert loss(x, t, reduction="sum").item() == 0
        assert loss(x, t, reduction="none").shape == (0,)


def test_kernels_get_labels_as_int64(backend):
    """Of whatever integer dtype they were: one compiled form is enough."""
    seen = []
    x = minidl.tensor(LOGITS, backend=backend)
    with minidl.observe(lambda phase, function, inputs, y: seen.append((function.name, inputs))):
        for dtype in ("uint8", "int32", "int64"):
            ops.cross_entropy(x, minidl.tensor(LABELS, dtype, backend=backend))
    kernels = [inputs[1].dtype for name, inputs in seen if name == "CrossEntropy"]
    assert kernels == [np.int64] * 3


def test_sequences_are_images_of_one_row(backend):
    """x (N, C, T) and target (N, T): the classes are not the last axis."""
    x = minidl.tensor(spread(2, 3, 4), backend=backend)
    target = minidl.tensor([[0, 2, 1, 1], [2, 2, 0, 1]], backend=backend)
    for loss in (ops.cross_entropy, ops.nll_loss):
        flat, image = (
            loss(a, t, reduction="none") for a, t in ((x, target), (x[:, :, None], target[:, None]))
        )
        assert_same(flat.numpy(), image.numpy()[:, 0])


def test_class_weights_are_constants(backend):
    """They get no gradient, neither from the kernel nor from the definition."""
    w = minidl.tensor(CLASS_WEIGHTS, requires_grad=True, backend=backend)
    x = minidl.tensor(LOGITS, requires_grad=True, backend=backend)
    labels = minidl.tensor(LABELS, backend=backend)
    for loss in (ops.cross_entropy, ops.nll_loss):
        for create_graph in (False, True):
            found = minidl.grad(
                loss(x, labels, w), [x, w], create_graph=create_graph, allow_unused=True
            )
            assert found[0] is not None
            assert found[1] is None


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_bad_classes(backend, other, name):
    loss = getattr(ops, name)
    x, t = minidl.tensor(LOGITS, backend=backend), minidl.tensor(LABELS, backend=backend)
    for wrong in (3, -1, -101):
        labels = minidl.tensor([0, 1, 2, wrong], backend=backend)
        with pytest.raises(IndexRangeError, match=f"{name}: target contains {wrong}, .* 0 to 2"):
            loss(x, labels)
    with pytest.raises(IndexRangeError, match="target contains -100"):
        loss(x, minidl.tensor([0, 1, 2, -100], backend=backend), ignore_index=-1)
    for wrong in (t[:3], t.reshape(4, 1), t[0]):
        with pytest.raises(ShapeError, match=rf"{name}: x \(4, 3\) must be \(N, C\)"):
            loss(x, wrong)
    with pytest.raises(ShapeError, match=rf"{name}: x \(4,\)"):
        loss(x[:, 0], t)
    with pytest.raises(ShapeError, match=rf"{name}: weight must have shape \(3,\), got \(4,\)"):
        loss(x, t, x[:, 0])
    with pytest.raises(DTypeError, match=f"{name}: target must hold integers, got float64"):
        loss(x, x[:, 0])
    with pytest.raises(DTypeError, match=f"{name}: target must be a Tensor"):
        loss(x, LABELS)
    with pytest.raises(DTypeError, match=f"{name}: x must be floating"):
        loss(x.astype("int32"), t)
    with pytest.raises(DTypeError, match=f"{name}: x is float64, but weight is float32"):
        loss(x, t, minidl.ones(3, backend=backend))
    with pytest.raises(DTypeError, match=f"{name}: weight must be a Tensor"):
        loss(x, t, [1.0, 1.0, 1.0])
    with pytest.raises(ArgumentError, match=f"{name}: reduction must be one of mean, sum, none"):
        loss(x, t, reduction="average")
    with pytest.raises(BackendMismatch):
        loss(x, t.to(other))


def test_bad_smoothing(backend):
    x, t = minidl.tensor(LOGITS, backend=backend), minidl.tensor(LABELS, backend=backend)
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ArgumentError, match="cross_entropy: label_smoothing must be from 0"):
            ops.cross_entropy(x, t, label_smoothing=wrong)


NAMES = ["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(backend, other, name):
    loss = getattr(ops, name)
    x = minidl.ones((2, 3), backend=backend)
    for shape in ((2,), (3, 2), (1, 3), ()):
        with pytest.raises(ShapeError, match=rf"{name}: target must have shape \(2, 3\)"):
            loss(x, minidl.ones(shape, backend=backend))
    with pytest.raises(DTypeError, match=f"{name}: target must be floating, got int64"):
        loss(x, x.astype("int64"))
    for foreign in (1.0, np.ones((2, 3)), [[1.0] * 3] * 2):
        with pytest.raises(DTypeError, match=f"{name}: target must be a Tensor"):
            loss(x, foreign)
    with pytest.raises(ArgumentError, match=f"{name}: reduction must be one of .*got 'average'"):
        loss(x, x, reduction="average")
    with pytest.raises(BackendMismatch):
        loss(x, x.to(other))


def test_bad_settings(backend):
    x = minidl.ones((2, 3), backend=backend)
    for delta in (0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="huber_loss: delta must be a number > 0"):
            ops.huber_loss(x, x, delta=delta)
    with pytest.raises(ShapeError, match="binary_cross_entropy_with_logits"):
        ops.binary_cross_entropy_with_logits(x, x, minidl.ones((4, 2, 3), backend=backend))
    with pytest.raises(DTypeError, match="binary_cross_entropy_with_logits: weight must be a Ten"):
        ops.binary_cross_entropy_with_logits(x, x, pos_weight=2.0)
    with pytest.raises(ArgumentError, match=r"kl_div: reduction must be one of .*batchmean"):
        ops.kl_div(x, x, "average")
