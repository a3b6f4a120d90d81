"""The same numbers elsewhere: values and gradients, dtypes, backends."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.errors import DTypeError
from minidl.verify.gradients import covers, eighths, spread
from minidl.verify.operations.copies import CASES
from minidl.verify.tolerances import assert_same

from .cases import OperationCases


class TestCases(OperationCases):
    cases = CASES


@covers("to_backend")
def test_to_backend(backend, other):
    x = minidl.tensor(eighths(2, 3), requires_grad=True, backend=backend)
    y = ops.to_backend(x, other)
    assert y.backend is other
    assert_same(y.numpy(), x.numpy())
    y.backward(minidl.tensor(spread(2, 3), backend=other))
    assert_same(x.grad.numpy(), spread(2, 3))


def test_there_and_back_is_another_tensor(backend, other):
    """In a graph of gradients, each saved value must be found to be the one or the other."""
    x = minidl.tensor([2.0], requires_grad=True, backend=backend)
    back = x.to(other).to(backend)
    (slope,) = minidl.grad(x * back, x, create_graph=True)  # back, and x through back
    (for_back,) = minidl.grad(slope, back)
    assert for_back.tolist() == [1]


def test_astype_passes_the_gradient_back_in_the_first_dtype(backend):
    x = minidl.tensor([1.0, 2.0], requires_grad=True, backend=backend)
    (x.astype("float64") * 3).sum().backward()
    assert_same(x.grad.numpy(), np.array([3, 3], np.float32))
    assert not x.astype("int64").requires_grad
    with pytest.raises(DTypeError, match="float16"):
        x.astype("float16")
