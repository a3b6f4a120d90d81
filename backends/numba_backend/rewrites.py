"""Calls put in other words before they are lowered, so that loops and products do more of them.

A concatenation, and the gradient of a slice, become copies to parts of the result, which are loops.
A product of which only the gradient of a relu is taken does that on its way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..numpy_backend.lowering import aligned, view
from ..numpy_backend.shape import BASIC
from ..program import Call, Value
from .formulas import fusible
from .lowered import TABLE, Scope


def rewritten(calls: Sequence[Call]) -> list[Call]:
    """The calls in these other words."""
    kept = []
    for call in gated(calls):
        copies = COPIES[call.method](call) if call.method in COPIES else []
        kept += copies if copies and all(fusible([copy]) for copy in copies) else [call]
    return kept


def gated(calls: Sequence[Call]) -> list[Call]:
    """Where only the gradient of a relu reads a product, the product takes it on the way out."""
    kept = list(calls)
    for grad in calls:
        if grad.method != "relu_grad" or grad.writes:
            continue
        x, y = grad.arguments
        makers = [i for i, call in enumerate(kept) if call.method == "matmul" and x in call.results]
        readers = sum(x in (v.root for v in call.reads) for call in calls)
        if not makers or readers != 1 or kept[makers[0]].writes or not _fixed(y, kept, makers[0]):
            continue
        product = kept[makers[0]]
        operation = f"{product.operation} {grad.operation}".strip()
        fused = Call(
            "matmul_relu_grad", (*product.arguments[:2], y), grad.results, (), operation
        )  # fmt: skip
        if TABLE[fused.method](fused, Scope()) is not None:
            kept[makers[0]] = fused
            kept.remove(grad)
    return kept


def _fixed(y: Value, calls: Sequence[Call], at: int) -> bool:
    """Whether a temporary is made before this call, and not changed from there on."""
    made = any(y.root in call.results for call in calls[:at])
    return made and not any(y.root is v.root for call in calls[at:] for v in call.writes)


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
