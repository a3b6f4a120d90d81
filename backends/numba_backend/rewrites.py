"""Calls put in other words before they are lowered, so that loops and products do more of them.

A concatenation, and the gradient of a slice, become copies to parts of the result, which are loops.
The gradient of a linear layer takes that of a relu on its way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..numpy_backend.lowering import aligned, view
from ..numpy_backend.shape import BASIC
from ..program import Call, Value
from .formulas import fusible


def rewritten(calls: Sequence[Call]) -> list[Call]:
    """The calls in these other words."""
    kept = []
    for call in gated(calls):
        copies = COPIES[call.method](call) if call.method in COPIES else []
        kept += copies if copies and all(fusible([copy]) for copy in copies) else [call]
    return kept


def gated(calls: Sequence[Call]) -> list[Call]:
    """Where only a linear layer's gradient reads that of a relu, it takes the relu's on the way."""
    kept = list(calls)
    makers = {call.results[0]: call for call in calls if call.method == "relu_grad"}
    for call in calls:
        if call.method != "linear_grad":
            continue
        grad, x, weight, before, *rest = call.arguments
        relu = makers.get(grad)
        readers = sum(grad in (v.root for v in other.reads) for other in calls)
        if relu is None or readers != 1 or before is not None or grad.kind != "temporary":
            continue
        inner, y = relu.arguments
        between = calls[calls.index(relu) : calls.index(call)]
        if inner.contiguous and y.contiguous and _unchanged((inner, y), between):
            call.arguments = (inner, x, weight, y, *rest)
            call.operation = f"{call.operation} {relu.operation}".strip()
            kept.remove(relu)
    return kept


def _unchanged(values: Sequence[Value], calls: Sequence[Call]) -> bool:
    """Whether none of these calls writes to the memory of a value."""
    roots = [value.root for value in values]
    return not any(v.root in roots for call in calls for v in call.writes)


def _concatenated(call: Call) -> list[Call]:
    parts, axis = call.arguments
    (y,) = call.results
    copies, offset = [], 0
    for x in parts:
        copies.append(_copy(call, _part(y, x.shape, y.strides, offset), x))
        offset += x.shape[axis] * y.strides[axis]
    return copies


def _put_back(call: Call) -> list[Call]:
    """Zeros, and the gradient where the slice was."""
    grad, index, shape = call.arguments
    (y,) = call.results
    if not all(isinstance(i, BASIC) for i in (index if isinstance(index, tuple) else (index,))):
        return []
    whole = view(aligned(y.span), 0, shape, y.dtype, y.strides)
    part = whole[index]
    if not np.may_share_memory(part, whole):
        return []
    offset = part.ctypes.data - whole.ctypes.data
    target = _part(y, part.shape, part.strides, offset)
    return [_copy(call, y, 0.0), _copy(call, target, grad)]


COPIES = {"concatenate": _concatenated, "getitem_grad": _put_back}


def _part(y: Value, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Value:
    """A part of a value that begins some bytes from its first element."""
    return Value(shape, y.dtype, strides, y.root.kind, base=y.root, offset=y.offset + offset)


def _copy(call: Call, y: Value, x: Any) -> Call:
    return Call("copyto", (y, x), writes=(y,), operation=call.operation)
