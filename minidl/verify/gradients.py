"""What is checked of every operation of the engine: its values, its gradients to second order, its
dtypes, and the fused kernels against their definitions.

`operations/` lists the cases, one file for each file of `minidl.ops`:

    CASES = [case("exp", ops.exp, np.exp, spread(3, 4))]
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from backends import Backend

from .. import ops
from ..engine.creation import tensor
from ..engine.graph import grad
from ..engine.modes import observe
from ..engine.tensor import Tensor
from .tolerances import assert_close, assert_same, composed_bound, difference_bound

Function = Callable[..., Tensor]
Test = TypeVar("Test", bound=Callable[..., Any])

COVERED: dict[str, int] = {}  # public name in minidl.ops -> number of its cases
STEP = 2.0**-10  # of the differences; a power of two, so that x + step is exact


def covers(*names: str) -> Callable[[Test], Test]:
    """Register a test that is no Case as one of these operations."""
    for name in names:
        assert hasattr(ops, name), f"minidl.ops has no {name}"
        COVERED[name] = COVERED.get(name, 0) + 1
    return lambda test: test


@dataclass(frozen=True, eq=False)
class Case:
    """An operation at a point where it is smooth.

    `formula` computes in NumPy what `function` computes on tensors; None if a test beside it does.
    Floating inputs are differentiated, except those at the positions `constant`.
    """

    label: str
    function: Function
    formula: Callable[..., Any] | None
    inputs: tuple[np.ndarray, ...]
    constant: tuple[int, ...] = ()
    order: int = 2

    def __str__(self) -> str:
        return self.label

    @property
    def subjects(self) -> tuple[str, ...]:
        """The operations that it covers."""
        return tuple(self.label.partition(":")[0].split())

    @property
    def wanted(self) -> list[int]:
        """Positions of the inputs that get a gradient."""
        floats = [i for i, a in enumerate(self.inputs) if a.dtype.kind == "f"]
        return [i for i in floats if i not in self.constant]

    def tensors(self, backend: Backend, dtype: type = np.float64) -> list[Tensor]:
        """The inputs on the backend; those that are floating in the given dtype."""
        return [
            tensor(
                a, dtype if a.dtype.kind == "f" else None,
                requires_grad=i in self.wanted, backend=backend,
            )
            for i, a in enumerate(self.inputs)
        ]  # fmt: skip


def case(
    label: str, function: Function, formula: Callable[..., Any] | None, *inputs: Any, **options: Any
) -> Case:
    """A Case; the first words of its label, up to a colon, are the operations that it covers."""
    found = Case(label, function, formula, tuple(np.asarray(a) for a in inputs), **options)
    covers(*found.subjects)
    return found


def spread(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """Different numbers in [low, high], none near 0 or near another, exact in float32."""
    count = int(np.prod(shape))
    x = low + (high - low) * (np.arange(count) + 0.37) / max(count, 1)
    np.random.Generator(np.random.PCG64(seed)).shuffle(x)
    return x.reshape(shape).astype(np.float32).astype(np.float64)


def eighths(*shape: int, seed: int = 0) -> np.ndarray:
    """Multiples of 1/8 in [-4, 4], whose sums of products are exact in float32."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(-32, 33, shape) / 8


def cotangent(y: Tensor) -> Tensor:
    """A gradient to start from, all of whose elements differ."""
    return tensor(spread(*y.shape, seed=99), y.dtype, backend=y.backend)


def kink(
    function: Function, x: Any, backend: Backend, grad: np.ndarray | None = None
) -> np.ndarray:
    """The gradient of function at the points x, starting from grad or ones."""
    t = tensor(x, "float32", requires_grad=True, backend=backend)
    y = function(t)
    y.backward(tensor(np.ones(y.shape) if grad is None else grad, "float32", backend=backend))
    assert t.grad is not None
    return t.grad.numpy()


def slope(function: Function, wanted: Sequence[int]) -> Function:
    """The gradients of function as one differentiable vector."""

    def gradients(*xs: Tensor) -> Tensor:
        y = function(*xs)
        found = grad(y, [xs[i] for i in wanted], cotangent(y), create_graph=True, allow_unused=True)
        return ops.concatenate([g.reshape(-1) for g in found if g is not None])

    return gradients


def _differences(
    function: Function, xs: list[Tensor], i: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """d sum(weights * function) / d xs[i] with a coarse and a fine step, and the sum's size."""
    base, size = xs[i].numpy().copy(), 0.0
    estimates = np.zeros((2, *base.shape))

    def value(position: tuple[int, ...], step: float) -> float:
        nonlocal size
        moved = base.copy()
        moved[position] += step
        at = [
            *xs[:i],
            tensor(moved, backend=xs[i].backend, requires_grad=True),
            *xs[i + 1 :],
        ]
        terms = function(*at).numpy() * weights
        size = max(size, float(np.abs(terms).sum()))
        return float(terms.sum())

    for position in np.ndindex(base.shape):
        for k, step in enumerate((STEP, STEP / 2)):
            up, down = value(position, step), value(position, -step)
            estimates[(k, *position)] = (up - down) / (2 * step)
    return estimates[0], estimates[1], size


def check_gradient(function: Function, xs: list[Tensor], wanted: Sequence[int]) -> None:
    """Every element of every vector-Jacobian product against extrapolated differences."""
    y = function(*xs)
    start = cotangent(y)
    found = grad(y, [xs[i] for i in wanted], start, allow_unused=True)
    for i, gradient in zip(wanted, found, strict=True):
        coarse, fine, size = _differences(function, xs, i, start.numpy())
        actual = np.zeros(xs[i].shape) if gradient is None else gradient.numpy()
        bound = difference_bound(coarse, fine, size, STEP)
        assert_close(actual, (4 * fine - coarse) / 3, bound, np.float64)


def check_order(function: Function, xs: list[Tensor], wanted: Sequence[int], order: int) -> None:
    """The derivative of that order; nothing is left to check where a lower one is constant."""
    for _ in range(order - 1):
        function = slope(function, wanted)
        if not function(*xs).requires_grad:
            return
    check_gradient(function, xs, wanted)


def check_versions(y: Tensor, xs: list[Tensor]) -> None:
    """A result that shares memory with an input shares its version: changes must be noticed."""
    for x in xs:
        if isinstance(y.data, np.ndarray) and np.shares_memory(y.data, x.data):
            assert y.version is x.version


def check_definition(backend: Backend, case: Case) -> None:
    """Kernel and definition of the fused operation in a case: values and gradients."""
    for dtype in (np.float32, np.float64):
        seen: list[tuple[Any, tuple[Any, ...], Any]] = []
        with observe(lambda phase, *event, seen=seen: seen.append(event)):
            case.function(*case.tensors(backend, dtype))
        node, inputs, kernel = next(event for event in seen if event[0].definition is not None)
        leaves = [
            x.detach().requires_grad_(need) if isinstance(x, Tensor) and need else x
            for x, need in zip(inputs, node.needs, strict=True)
        ]
        defined = node.definition(*leaves)
        floats = [a for a in case.inputs if a.dtype.kind == "f"]
        assert_close(defined.numpy(), kernel.numpy(), composed_bound(dtype, *floats), dtype)
        start = cotangent(kernel)
        quick = node.backward(start.data)
        quick = quick if isinstance(quick, tuple) else (quick,)
        wanted = [i for i, need in enumerate(node.needs) if need]
        found = grad(defined, [leaves[i] for i in wanted], start)
        for i, slow in zip(wanted, found, strict=True):
            fast = backend.to_numpy(quick[i])
            assert_close(slow.numpy(), fast, composed_bound(dtype, *floats, fast), dtype)


def check_values(backend: Backend, case: Case) -> None:
    """The formula's, in both dtypes; a result that shares memory shares its version."""
    for dtype in (np.float32, np.float64):
        xs = case.tensors(backend, dtype)
        y = case.function(*xs)
        assert y.backend is backend
        check_versions(y, xs)
        if case.formula is None:
            continue
        expected = np.asarray(case.formula(*case.inputs))
        if expected.dtype.kind != "f":
            assert_same(y.numpy(), expected)
        else:
            bound = composed_bound(dtype, *case.inputs, expected)
            assert_close(y.numpy(), expected, bound, dtype)


def check_gradients(backend: Backend, case: Case) -> None:
    """Every order up to the case's, in float64 against differences."""
    for order in range(1, case.order + 1):
        check_order(case.function, case.tensors(backend), case.wanted, order)


def check_float32_gradient(backend: Backend, case: Case) -> None:
    """In float32 the gradients are float32, and close to those in float64."""
    if not case.order:
        return
    found = []
    for dtype in (np.float32, np.float64):
        xs = case.tensors(backend, dtype)
        y = case.function(*xs)
        assert y.dtype == dtype
        y.backward(cotangent(y))
        found.append([xs[i].grad for i in case.wanted])
    for narrow, wide in zip(*found, strict=True):
        assert (narrow is None) == (wide is None)
        if wide is not None and narrow is not None:
            bound = composed_bound(np.float32, *case.inputs, wide.numpy())
            assert_close(narrow.numpy(), wide.numpy(), bound, np.float32)
            assert narrow.backend is backend


CHECKS = (check_values, check_gradients, check_float32_gradient)


def every_case() -> list[Case]:
    """The cases of all operations, file by file.

    >>> len(every_case()) > 200
    True
    """
    folder = f"{__package__}.operations"
    found: list[Case] = []
    for module in pkgutil.iter_modules(importlib.import_module(folder).__path__):
        found += importlib.import_module(f"{folder}.{module.name}").CASES
    return found
