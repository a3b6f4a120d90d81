"""Are the gradients right? Compare them with differences of the function itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, GraphError
from .dtypes import float64
from .graph import grad
from .operations import operations as ops
from .tensor import Tensor


def gradcheck(
    function: Callable[..., Tensor], inputs: Tensor | Sequence[Tensor], eps: float = 1e-6,
    atol: float = 1e-5, rtol: float = 1e-3, order: int = 1,
) -> bool:  # fmt: skip
    """Compare the gradients of function at inputs with central differences; True if they agree.

    With order 2 the gradients of the gradients are checked as well. The error of a central
    difference is about eps^2 |f'''| / 6 + u |f| / eps, hence float64. Source: Nocedal & Wright
    (2006), "Numerical Optimization", 8.1.
    Raises: GraphError naming the input and element that differs; ArgumentError unless inputs are
    float64 and some require grad.

    >>> import minidl
    >>> x = minidl.tensor([0.5, 2.0], dtype="float64", requires_grad=True)
    >>> gradcheck(lambda x: (x * x).exp(), x, order=2)
    True
    """
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
    if not checked or any(x.dtype != float64 for x in checked):
        raise ArgumentError("gradcheck: needs float64 inputs of which at least one requires grad")
    y = function(*xs)
    seed = _cosines(y)
    _compare(function, xs, checked, seed, eps, atol, rtol)
    if order > 1:

        def slope(*arguments: Tensor) -> Tensor:
            """All gradients of the function as one vector."""
            wanted = [x for x in arguments if x.requires_grad]
            pieces = grad(function(*arguments), wanted, seed, None, True, True)
            return ops.concatenate([p.reshape(-1) for p in pieces if p is not None])

        if slope(*xs).requires_grad:  # otherwise the function is linear: nothing more to check
            gradcheck(slope, xs, eps, atol, rtol, order - 1)
    return True


def _cosines(y: Tensor) -> Tensor:
    """Weights for the elements of y, all different, so that no error cancels in their sum."""
    return y.linked(y.backend.asarray(np.cos(np.arange(y.size) + 1.0).reshape(y.shape)), None)


def _compare(
    function: Callable[..., Tensor], xs: list[Any], checked: list[Tensor], seed: Tensor,
    eps: float, atol: float, rtol: float,
) -> None:  # fmt: skip
    found = grad(function(*xs), checked, seed, allow_unused=True)
    weights = seed.numpy()
    for i, (x, analytic) in enumerate(zip(checked, found, strict=True)):
        numeric = np.zeros(x.shape)
        for position in np.ndindex(x.shape):
            original = x.numpy()[position].item()
            ends = []
            try:
                for step in (eps, -eps):
                    x.backend.setitem(x.data, position, original + step)
                    ends.append((function(*xs).numpy() * weights).sum())
            finally:
                x.backend.setitem(x.data, position, original)
            numeric[position] = (ends[0] - ends[1]) / (2 * eps)
        actual = np.zeros(x.shape) if analytic is None else analytic.numpy()
        wrong = ~(np.abs(actual - numeric) <= atol + rtol * np.abs(numeric))
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise GraphError(
                f"gradcheck: input {i}, element {at}: backward gives {actual[at]:.8g}, "
                f"differences {numeric[at]:.8g}"
            )
