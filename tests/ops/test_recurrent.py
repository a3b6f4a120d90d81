"""Recurrent networks: against the oracle, and the kernels against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import DTypeError, IndexRangeError, ShapeError
from minidl.verify.doors import Inputs
from minidl.verify.gradients import Case, check_definition, spread
from minidl.verify.operations.recurrent import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_definition_is_the_kernel(backend, case: Case):
    check_definition(backend, case)


@pytest.mark.parametrize("operation", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_stands_behind_the_end_is_not_looked_at(backend, operation, reverse):
    """Neither in the results nor in the gradients, even if it is NaN."""
    found = []
    for behind in (0.0, np.nan):
        arguments = Inputs(backend).cell(operation)
        x = spread(4, 2, 3).astype(np.float32)
        x[3, 0] = x[1:, 1] = behind
        leaf = minidl.tensor(x, requires_grad=True, backend=backend)
        weight = arguments["weight_ih"].detach().requires_grad_()
        arguments |= {"x": leaf, "weight_ih": weight, "reverse": reverse}
        lengths = minidl.tensor([3, 1], backend=backend)
        results = getattr(ops, operation)(**arguments, lengths=lengths)
        sum(y.sum() for y in results).backward()
        assert (leaf.grad.numpy()[x != x] == 0).all()
        found.append([*(y.numpy() for y in results), leaf.grad.numpy(), weight.grad.numpy()])
    for there, here in zip(*found, strict=True):
        assert_same(here, there)


@pytest.mark.parametrize("operation", ["rnn", "lstm", "gru"])
def test_full_lengths_are_no_lengths(backend, operation):
    arguments = Inputs(backend).cell(
        operation, x=minidl.tensor(spread(4, 2, 3), "float32", backend=backend)
    )
    plain = getattr(ops, operation)(**arguments)
    for dtype in ("int64", "int32", "uint8"):
        lengths = minidl.tensor([4, 4], dtype, backend=backend)
        for y, expected in zip(
            getattr(ops, operation)(**arguments, lengths=lengths), plain, strict=True
        ):
            assert_same(y.numpy(), expected.numpy())


def test_an_empty_batch(backend):
    x = minidl.zeros((3, 0, 2), requires_grad=True, backend=backend)
    state = minidl.zeros((0, 4), backend=backend)
    weights = [minidl.ones(shape, backend=backend) for shape in ((16, 2), (16, 4))]
    y, h, c = ops.lstm(x, state, state, *weights)
    assert (y.shape, h.shape, c.shape) == ((3, 0, 4), (0, 4), (0, 4))
    y.sum().backward()
    assert x.grad.shape == (3, 0, 2)


def test_messages(backend):
    inputs = Inputs(backend)
    with pytest.raises(ShapeError, match=r"lstm: x \(2, 3\) must be \(T, N, D\) with T >= 1"):
        ops.lstm(**inputs.cell("lstm", x=inputs.x))
    with pytest.raises(ShapeError, match=r"gru: weight_ih must have shape \(6, 3\), got \(2, 4\)"):
        ops.gru(**inputs.cell("gru", weight_ih=inputs.long))
    with pytest.raises(DTypeError, match="rnn: lengths must hold integers, got float32"):
        ops.rnn(**inputs.cell("rnn", lengths=inputs.two))
    with pytest.raises(IndexRangeError, match="rnn: lengths contains 0, allowed are 1 to 4"):
        ops.rnn(**inputs.cell("rnn", lengths=inputs.labels))
