"""Operations of one's own: what a Function may save, and what it is told when it goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import Function
from minidl.errors import DTypeError, GraphError
from minidl.verify.tolerances import assert_same


class Cube(Function):
    """Elementary: backward uses an input and operators, so it has derivatives of any order."""

    def forward(self, x):
        self.x = x
        return x * x * x

    def backward(self, grad):
        return 3 * self.x * self.x * grad


class Exponential(Function):
    """Saves its result."""

    def forward(self, x):
        self.y = self.backend.exp(x)
        return self.y

    def backward(self, grad):
        return grad * self.y


class Derived(Function):
    """x^2, with 2 x worked out in forward: an array that the graph does not know."""

    def forward(self, x):
        self.twice = 2 * x
        return x * x

    def backward(self, grad):
        return self.twice * grad


class Defined(Derived):
    """The same with a definition, which serves for higher derivatives."""

    def definition(self, x):
        return x * x


def leaf(backend, values=(1.0, 2.0)) -> minidl.Tensor:
    return minidl.tensor(values, "float64", requires_grad=True, backend=backend)


def same(x: minidl.Tensor, expected) -> None:
    assert_same(x.numpy(), np.array(expected, np.float64))


@pytest.mark.parametrize("values", [(1.0, 2.0), 2.0], ids=["vector", "scalar"])
def test_elementary_backward_is_differentiated_again(backend, values):
    x = leaf(backend, values)
    y = minidl.apply(Cube(), x)
    for expected in (lambda v: 3 * v * v, lambda v: 6 * v, lambda v: 6 * v**0):
        (y,) = minidl.grad(y.sum(), x, create_graph=True)
        same(y, expected(np.array(values)))


def test_a_saved_result_is_part_of_the_graph(backend):
    x = leaf(backend, (0.0, 1.0))
    y = minidl.apply(Exponential(), x)
    for _ in range(3):
        (slope,) = minidl.grad(y.sum(), x, create_graph=True)
        same(slope, y.numpy())


def test_a_derived_value_refuses_second_derivatives(backend):
    x = leaf(backend)
    minidl.apply(Derived(), x).sum().backward()
    same(x.grad, [2, 4])
    with pytest.raises(GraphError, match=r"Derived saved 'twice'.*definition"):
        minidl.grad(minidl.apply(Derived(), x).sum(), x, create_graph=True)


def test_a_derived_scalar_is_no_constant(backend):
    """NumPy makes scalars of 0-d results; they too would give a wrong second derivative."""
    x = leaf(backend, 3.0)
    with pytest.raises(GraphError, match="'twice'"):
        minidl.grad(minidl.apply(Derived(), x), x, create_graph=True)


def test_a_definition_serves_for_higher_derivatives(backend):
    x = leaf(backend)
    (slope,) = minidl.grad(minidl.apply(Defined(), x).sum(), x, create_graph=True)
    same(slope, [2, 4])
    (curvature,) = minidl.grad(slope.sum(), x, create_graph=True, allow_unused=True)
    same(curvature, [2, 2])


def test_an_input_of_a_definition_may_depend_on_another(backend):
    """Each input counts for itself; what runs from one to the other is the outer graph's to add."""

    class Product(Function):
        def forward(self, a, b):
            self.both = (a, b)
            return a * b

        def backward(self, grad):
            a, b = self.both
            return grad * b, grad * a

        def definition(self, a, b):
            return a * b

    x = leaf(backend)
    y = minidl.apply(Product(), x, x * x).sum()
    for expected in ([3, 12], [6, 12], [6, 6]):
        (y,) = minidl.grad(y.sum(), x, create_graph=True)
        same(y, expected)


def test_results_are_arrays_even_where_operators_make_scalars(backend):
    y = minidl.apply(Cube(), leaf(backend, 2.0))
    assert backend.is_array(y.data)
    assert y.shape == ()


class Wrong(Function):
    """A backward that returns whatever it is told to."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def forward(self, a, b):
        return a + b

    def backward(self, grad):
        return self.answer(grad)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda g: g, "Wrong.backward: 1 gradients for 2 inputs"),
        (lambda g: (g, g, g), "Wrong.backward: 3 gradients for 2 inputs"),
        (
            lambda g: (g[:1], g),
            r"Wrong.backward: a gradient of shape \(1,\) for an input of \(2,\)",
        ),
        (lambda g: (g[0:0], g), r"shape \(0,\)"),
        (lambda g: (g, 2.0), r"Wrong\.backward: 2\.0 is no array"),
    ],
    ids=["too few", "too many", "too small", "empty", "a number"],
)
def test_a_wrong_number_or_shape_of_gradients_is_named(backend, answer, message):
    with pytest.raises(GraphError, match=message):
        minidl.apply(Wrong(answer), leaf(backend), leaf(backend)).sum().backward()


def test_a_list_of_gradients_is_as_good_as_a_tuple(backend):
    a, b = leaf(backend), leaf(backend)
    minidl.apply(Wrong(lambda g: [g, 2 * g]), a, b).sum().backward()
    same(a.grad, [1, 1])
    same(b.grad, [2, 2])


def test_none_means_no_gradient(backend):
    a, b = leaf(backend), leaf(backend)
    minidl.apply(Wrong(lambda g: (None, g)), a, b).sum().backward()
    assert a.grad is None
    same(b.grad, [1, 1])


def test_an_instance_is_one_call(backend):
    cube, x = Cube(), leaf(backend)
    minidl.apply(cube, x).sum().backward()
    minidl.apply(cube, x)  # it was freed, so it may serve again
    with pytest.raises(GraphError, match=r"Cube: one instance is one call"):
        minidl.apply(cube, x)


def test_missing_parts_are_named(backend):
    class Half(Function):
        def forward(self, x):
            return x + 1

    class Empty(Function):
        pass

    with pytest.raises(NotImplementedError, match=r"Half\.backward"):
        minidl.apply(Half(), leaf(backend)).sum().backward()
    with pytest.raises(NotImplementedError, match=r"Empty\.forward"):
        minidl.apply(Empty(), leaf(backend))


def test_needs_tells_backward_which_gradients_count(backend):
    seen = []

    class Watch(Wrong):
        def backward(self, grad):
            seen.append(list(self.needs))
            return grad, grad

    constant = minidl.ones(2, "float64", backend=backend)
    minidl.apply(Watch(None), leaf(backend), constant).sum().backward()
    minidl.apply(Watch(None), 2.0, leaf(backend)).sum().backward()
    assert seen == [[True, False], [False, True]]
    assert constant.grad is None


def test_integer_results_have_no_history(backend):
    class Floor(Function):
        def forward(self, x):
            return self.backend.astype(x, np.dtype(np.int64))

    y = minidl.apply(Floor(), leaf(backend))
    assert not y.requires_grad
    assert y.is_leaf


def test_apply_takes_tensors_of_one_backend_and_numbers(backend, other):
    x = leaf(backend)
    assert minidl.apply(Wrong(None), x, 1).dtype == np.float64
    for foreign in ([1.0], np.ones(2), "x", minidl):
        with pytest.raises(DTypeError, match=r"Wrong.*minidl\.tensor"):
            minidl.apply(Wrong(None), x, foreign)
    with pytest.raises(DTypeError, match="Wrong"):
        minidl.apply(Wrong(None), 1.0, 2.0)
    with pytest.raises(minidl.errors.BackendMismatch, match="Wrong"):
        minidl.apply(Wrong(None), x, leaf(other))
