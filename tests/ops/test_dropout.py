"""Dropout: a mask that depends on the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import Generator, ops
from minidl.errors import ArgumentError, DTypeError
from minidl.verify.gradients import spread
from minidl.verify.operations.dropout import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_masks_are_the_same_everywhere(backend, reference, p):
    x = spread(7, 9).astype(np.float32)
    masks = []
    for where in (backend, reference):
        g = Generator(21)
        t = minidl.from_numpy(x, backend=where)
        first, second = (ops.dropout(t, p, generator=g).numpy() for _ in range(2))
        assert (first != second).any()
        assert g.state == (21, 2 * 16)  # 63 words are 16 blocks of 4
        masks.append((first, second))
    for here, there in zip(*masks, strict=True):
        assert_same(here, there)


def test_the_gradient_has_the_mask_of_the_forward_pass(backend):
    x = minidl.ones(1000, requires_grad=True, backend=backend)
    y = ops.dropout(x, 0.25, generator=Generator(5))
    y.sum().backward()
    assert_same(x.grad.numpy(), y.numpy())


def test_the_default_generator_is_used_and_advanced(backend):
    x = minidl.ones(8, backend=backend)
    minidl.manual_seed(4)
    first = ops.dropout(x).tolist()
    second = ops.dropout(x).tolist()
    assert minidl.default_generator.state == (4, 4)
    minidl.manual_seed(4)
    assert [ops.dropout(x).tolist(), ops.dropout(x).tolist()] == [first, second]
    for idle in (lambda: ops.dropout(x, 0.0), lambda: ops.dropout(x, training=False)):
        idle()
        assert minidl.default_generator.state == (4, 4)


@pytest.mark.parametrize("p", [1.5, -0.1, float("nan")])
def test_probabilities_lie_between_0_and_1(backend, p):
    with pytest.raises(ArgumentError, match=r"dropout: p must be from 0 to 1, got"):
        ops.dropout(minidl.ones(2, backend=backend), p)


def test_a_numpy_probability_does_not_widen(backend):
    assert ops.dropout(minidl.ones(3, backend=backend), np.float64(0.5)).dtype == np.float32


def test_it_needs_floats(backend):
    with pytest.raises(DTypeError, match="dropout: x must be floating"):
        ops.dropout(minidl.tensor([1, 2], backend=backend))
