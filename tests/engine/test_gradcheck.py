"""gradcheck: passes what is right, and finds what is a little wrong."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import Function, gradcheck
from minidl.errors import ArgumentError, GraphError


class Scaled(Function):
    """x^3 with its derivative off by a factor, or by something in one element only."""

    def __init__(self, factor: float, only: int | None = None) -> None:
        self.factor, self.only = factor, only

    def forward(self, x):
        self.x = x
        return x * x * x

    def backward(self, grad):
        slope = 3 * self.x * self.x * grad
        if self.only is None:
            return slope * self.factor
        flag = np.arange(self.x.shape[0]) == self.only
        return slope * self.backend.asarray(np.where(flag, self.factor, 1.0))


def leaf(backend, *values: float) -> minidl.Tensor:
    return minidl.tensor(values, "float64", requires_grad=True, backend=backend)


def test_right_gradients_pass(backend):
    x, y = leaf(backend, 0.5, 1.5), leaf(backend, 2.0, -1.0)
    before = x.tolist()
    assert gradcheck(lambda x: minidl.apply(Scaled(1.0), x), x, order=3)
    assert gradcheck(lambda x, y: (x * y.exp()).sum(), [x, y], order=2)
    assert x.tolist() == before
    assert x.grad is None


@pytest.mark.parametrize("factor", [1.01, 0.99, -1.0, 0.0, float("nan")])
def test_a_wrong_factor_is_found(backend, factor):
    x = leaf(backend, 0.5, 1.5)
    with pytest.raises(GraphError, match=r"input 0, element \(0,\)"):
        gradcheck(lambda x: minidl.apply(Scaled(factor), x), x)


def test_one_wrong_element_is_named(backend):
    x = leaf(backend, 0.5, 1.5, 1.0, 2.0)
    with pytest.raises(GraphError, match=r"input 0, element \(2,\).*backward gives -3\.2669"):
        gradcheck(lambda x: minidl.apply(Scaled(1.1, only=2), x), x)


def test_errors_that_would_cancel_in_a_plain_sum_are_found(backend):
    """A transposed gradient: its sum is right."""

    class Turned(Function):
        def forward(self, x):
            self.backend.copy(x)
            return x * 2

        def backward(self, grad):
            return 2 * self.backend.flip(grad, (0,))

    with pytest.raises(GraphError, match="element"):
        gradcheck(lambda x: minidl.apply(Turned(), x), leaf(backend, 0.5, 1.5))


def test_a_wrong_second_derivative_is_found(backend):
    class Flat(Function):
        """x^2 whose slope forgets where it came from: right once, and constant afterwards."""

        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, grad):
            x = self.x.detach() if isinstance(self.x, minidl.Tensor) else self.x
            return 2 * x * grad

    def function(x):
        return minidl.apply(Flat(), x) * x

    x = leaf(backend, 0.5, 1.5)
    assert gradcheck(function, x)
    with pytest.raises(GraphError, match="gradcheck"):
        gradcheck(function, x, order=2)


def test_an_error_on_the_way_leaves_the_inputs_as_they_were(backend):
    x = leaf(backend, 0.5, 1.5)

    def function(x):
        if x.tolist() != [0.5, 1.5]:
            raise ZeroDivisionError
        return x * x

    with pytest.raises(ZeroDivisionError):
        gradcheck(function, x)
    assert x.tolist() == [0.5, 1.5]


def test_it_needs_float64_that_requires_grad(backend):
    for x in (
        minidl.ones(2, requires_grad=True, backend=backend),
        minidl.ones(2, "float64", backend=backend),
    ):
        with pytest.raises(ArgumentError, match="float64"):
            gradcheck(lambda x: x * 2, x)
