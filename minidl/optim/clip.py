"""Limiting gradients before a step, in place and without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import ops
from ..engine.creation import zeros
from ..engine.function import Version
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import NonFiniteError
from ..ops import check
from .flat import joined


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients down so that their joint norm is at most max_norm; returns the old norm.

    Source: Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063, algorithm 1, with 1e-6 added to the
    norm as in PyTorch. norm_type may be infinity. Raises: ArgumentError; with error_if_nonfinite,
    which waits for the device, NonFiniteError, and no gradient is changed then.

    >>> import minidl
    >>> x = minidl.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> clip_grad_norm_(x, 1.0).item(), x.grad.numpy().round(4).tolist()
    (5.0, [0.6..., 0.8...])
    """
    max_norm = check.number("clip_grad_norm_", "max_norm", max_norm, 0)
    norm_type = check.number("clip_grad_norm_", "norm_type", norm_type, 0, above=True)
    grads = _gradients("clip_grad_norm_", parameters)
    if not grads:
        return zeros(())
    with no_grad():
        pieces = joined(grads)
        norms = [_norm(piece, norm_type) for piece in pieces]
        norm = norms[0] if len(norms) == 1 else _norm(ops.stack(norms), norm_type)
        if error_if_nonfinite and not norm.backend.all_finite(norm.data):
            raise NonFiniteError(
                f"clip_grad_norm_: the norm of the gradients is {norm.item()}; look at the loss, "
                "lower the learning rate, or pass error_if_nonfinite=False"
            )
        scale = ops.minimum(max_norm / (norm + 1e-6), 1.0)
        for piece in pieces:
            piece.backend.scale(piece.data, scale.data)
        _changed(grads)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]. Raises: ArgumentError.

    >>> import minidl
    >>> x = minidl.tensor([3.0, -0.5], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_value_(x, 2.0)
    >>> x.grad.tolist()
    [2.0, -1.0]
    """
    clip_value = check.number("clip_grad_value_", "clip_value", clip_value, 0)
    with no_grad():
        grads = _gradients("clip_grad_value_", parameters)
        for piece in joined(grads):
            piece.backend.limit(piece.data, clip_value)
        _changed(grads)


def _gradients(operation: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    check.instance(operation, "parameters", parameters, Iterable, "; pass model.parameters()")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in given:
        check.tensors(operation, parameter=p)
    grads = [p.grad for p in given if p.grad is not None and p.size]
    with no_grad():
        for grad in grads:
            grad.check_mutable(operation)
    return grads


def _changed(grads: list[Tensor]) -> None:
    if grads:
        Version.change(*[grad.version for grad in grads])


def _norm(x: Tensor, p: float) -> Tensor:
    if p == math.inf:
        return ops.max(ops.abs(x))
    if p == 2:
        return x.linked(x.backend.norm(x.data), None)
    return ops.sum(ops.abs(x) ** p) ** (1 / p)
