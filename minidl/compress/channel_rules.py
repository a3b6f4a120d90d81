"""How each operation carries and ties the labels of channels; see `channels`.

A rule is given the labels of the operation's inputs and returns those of its result, or None where
everything must stay as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .graph import Node, Value

if TYPE_CHECKING:
    from .channels import Channels

PINNED = 0  # the label of what must stay
Labels = tuple[np.ndarray, ...]  # of a Value: one array for each axis, as long as the axis

UNARY = [
    "Negative", "Abs", "Exp", "Log", "Sqrt", "Sin", "Cos", "Tanh", "Erf", "Alias", "Clone",
    "AsType", "Sigmoid", "Softplus", "Relu", "LeakyRelu", "Gelu", "Silu", "Clip", "Not",
]  # fmt: skip
BINARY = [
    "Add", "Subtract", "Multiply", "Divide", "Pow", "Maximum", "Minimum", "Where", "Compare",
]  # fmt: skip
REDUCTIONS = ["Sum", "Mean", "Var", "Max", "Min", "LogSumExp"]
ALONG = ["Softmax", "LogSoftmax", "CumSum"]


def pinned(value: Value) -> Labels:
    """Labels of a Value of which everything stays."""
    return tuple(np.full(n, PINNED) for n in value.shape)


def setting(node: Node, name: str) -> Any:
    """A setting of the operation."""
    return getattr(node.function, name)


def _unary(c: Channels, node: Node, x: Labels) -> Labels:
    return x


def _elementwise(c: Channels, node: Node, *given: Labels | None) -> Labels:
    """Axes are matched from the right; one of length 1 is repeated."""
    result = list(pinned(node.output))
    for i in range(1, len(result) + 1):
        found = [x[-i] for x in given if x is not None and len(x) >= i]
        long = [axis for axis in found if axis.size == result[-i].size]
        c.pin(*(axis for axis in found if axis.size != result[-i].size))
        result[-i] = c.tie(*long)
    return tuple(result)


def _linear(c: Channels, node: Node, x: Labels, weight: Labels, bias: Labels | None) -> Labels:
    c.tie(weight[1], x[1])
    return x[0], c.tie(weight[0], *(bias or ()))


def _matmul(c: Channels, node: Node, a: Labels, b: Labels) -> Labels | None:
    """Only a weight can be zero where a channel went; two results that meet keep theirs."""
    if not any(_is_weight(x) for x in node.inputs):
        c.pin(a[-1], b[-2])
    c.tie(a[-1], b[-2])
    n = len(node.output.shape)
    lead = [[x[i - n] for x in (a, b) if len(x) >= n - i] for i in range(n - 2)]
    joined = []
    for axes, length in zip(lead, node.output.shape, strict=False):
        c.pin(*(axis for axis in axes if axis.size != length))
        joined.append(c.tie(*(axis for axis in axes if axis.size == length)))
    return (*joined, a[-2], b[-1])


def _is_weight(value: Any) -> bool:
    while isinstance(value, Value) and value.producer is not None:
        if value.producer.op not in ("Transpose", "Reshape"):
            return False
        value = value.producer.inputs[0]
    return isinstance(value, Value) and value.kind == "parameter"


def _conv2d(c: Channels, node: Node, x: Labels, weight: Labels, bias: Labels | None) -> Labels:
    """With groups, all groups keep as many channels; depthwise, whole groups go."""
    c.pin(*weight[2:])
    groups = setting(node, "geometry").groups
    each, out = weight[1].size, weight[0]
    if groups > 1 and each == 1:
        c.tie(np.repeat(x[1], out.size // groups), out)
        c.pin(weight[1])
    else:
        for group in np.split(x[1], groups):
            c.tie(weight[1], group)
        c.tie(*np.split(out, groups))
    c.tie(out, *(bias or ()))
    return (x[0], out, *pinned(node.output)[2:])


def _conv_transpose(c: Channels, node: Node, x: Labels, weight: Labels) -> Labels | None:
    if setting(node, "geometry").groups > 1:
        return None
    c.pin(*weight[2:])
    c.tie(weight[0], x[1])
    return (x[0], weight[1], *pinned(node.output)[2:])


def _windows(c: Channels, node: Node, x: Labels) -> Labels:
    return (*x[:2], *pinned(node.output)[2:])


def _batch_norm(c: Channels, node: Node, x: Labels, *affine: Labels) -> Labels | None:
    """In eval mode, only of layers without running statistics; those without weights do not show
    how many channels they have.
    """
    if any(isinstance(v, Value) and v.kind == "constant" for v in node.inputs):
        return None
    return (x[0], c.tie(x[1], *(labels[0] for labels in affine)), x[2])


def _layer_norm(c: Channels, node: Node, x: Labels, *affine: Labels) -> Labels | None:
    """Mean and variance of the features that are left are others than those with zeros."""
    if not c.through_layer_norm or any(v.kind == "constant" for v in node.inputs):
        return None
    return x[0], c.tie(x[1], *(labels[0] for labels in affine))


def _reduction(c: Channels, node: Node, x: Labels) -> Labels:
    axes, keep = setting(node, "axis"), setting(node, "keepdims")
    gone = set(range(len(x)) if axes is None else (a % len(x) for a in axes))
    c.pin(*(x[i] for i in gone))
    one = np.full(1, PINNED)
    return tuple(
        one if i in gone else labels for i, labels in enumerate(x) if keep or i not in gone
    )


def _along(c: Channels, node: Node, x: Labels) -> Labels:
    c.pin(x[setting(node, "axis")])
    return x


def _transpose(c: Channels, node: Node, x: Labels) -> Labels:
    return tuple(x[axis] for axis in setting(node, "axes"))


def _flip(c: Channels, node: Node, x: Labels) -> Labels:
    axes = {axis % len(x) for axis in setting(node, "axes")}
    return tuple(labels[::-1] if i in axes else labels for i, labels in enumerate(x))


def _concatenate(c: Channels, node: Node, *xs: Labels) -> Labels:
    at = setting(node, "axis")
    return tuple(
        np.concatenate(axes) if i == at else c.tie(*axes)
        for i, axes in enumerate(zip(*xs, strict=True))
    )


def _pad(c: Channels, node: Node, x: Labels) -> Labels:
    widths = setting(node, "widths")
    return tuple(
        np.pad(axis, tuple(w), constant_values=PINNED) for axis, w in zip(x, widths, strict=True)
    )


def _getitem(c: Channels, node: Node, x: Labels) -> Labels | None:
    """Whole axes pass. A part of one has its bounds in the model's code, which only our own layers
    adapt; elsewhere what it is taken from stays as it is.
    """
    index = setting(node, "index")
    items = list(index) if isinstance(index, tuple) else [index]
    if any(hasattr(item, "dtype") for item in items):
        return None
    if Ellipsis not in items:
        items.append(Ellipsis)
    at, taken = items.index(Ellipsis), sum(item is not None for item in items) - 1
    items[at : at + 1] = [slice(None)] * (len(x) - taken)
    axes, result = iter(x), []
    for item in items:
        labels = np.full(1, PINNED) if item is None else next(axes)
        if item is not None and item != slice(None) and not c.heads(node):
            c.pin(labels)
        if isinstance(item, slice):
            result.append(labels[item])
        elif item is None:
            result.append(labels)
        else:
            c.pin(labels)
    return tuple(result)


def _broadcast_to(c: Channels, node: Node, x: Labels) -> Labels:
    return _elementwise(c, node, x, None) if x else pinned(node.output)


def _embedding(c: Channels, node: Node, weight: Labels, index: Labels) -> Labels:
    c.pin(weight[0])
    return (*index, weight[1])


def _einsum(c: Channels, node: Node, *given: Labels) -> Labels:
    terms, output = setting(node, "terms"), setting(node, "output")
    axes: dict[str, list[np.ndarray]] = {}
    for term, labels in zip(terms, given, strict=True):
        for letter, axis in zip(term, labels, strict=True):
            axes.setdefault(letter, []).append(axis)
    joined = {letter: c.tie(*found) for letter, found in axes.items()}
    c.pin(*(axis for letter, axis in joined.items() if letter not in output))
    return tuple(joined[letter] for letter in output)


def _attention(c: Channels, node: Node, q: Labels, k: Labels, v: Labels, mask: Any) -> Labels:
    heads = c.tie(q[1], k[1], v[1])
    c.pin(q[3], k[3], *_per_head(mask, heads))
    return q[0], heads, q[2], v[3]


def _self_attention(c: Channels, node: Node, x: Labels, mask: Any) -> Labels:
    c.pin(x[2], x[4], *_per_head(mask, x[3]))
    return x[0], x[1], x[3], x[4]


def _per_head(mask: Labels | None, heads: np.ndarray) -> list[np.ndarray]:
    """The heads, if each has a mask of its own."""
    return [heads] if mask is not None and len(mask) >= 3 and mask[-3].size > 1 else []


def _recurrent(gates: int) -> Callable[..., Labels]:
    """A unit is a row of each gate, a column of the weights, and a place in every state."""

    def rule(c: Channels, node: Node, x: Labels, weight: Labels, *rest: Labels | None) -> Labels:
        units = c.tie(weight[1], *np.split(x[2], gates), *np.split(weight[0], gates))
        for labels in rest[:-1]:  # biases and states; the last are the lengths
            if labels is not None:
                for part in np.split(labels[-1], labels[-1].size // units.size):
                    c.tie(units, part)
        return (*pinned(node.output)[:2], units)

    return rule


def _reshape(c: Channels, node: Node, x: Labels) -> Labels:
    """Axes that are merged or split are found by their products."""
    result: list[np.ndarray] = []
    for old, new in _segments([axis.size for axis in x], node.output.shape):
        axes = [x[i] for i in old]
        lengths = [node.output.shape[i] for i in new]
        result += _regrouped(c, axes, lengths, c.heads(node))
    return tuple(result)


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of old and of new axes with the same product."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [i] if i < len(old) else [], [j] if j < len(new) else []
        if a and b and old[i] != new[j] and 1 in (old[i], new[j]):  # an axis that comes or goes
            a, b = (a, []) if old[i] == 1 else ([], b)
        while math.prod(old[n] for n in a) != math.prod(new[n] for n in b):
            if math.prod(old[n] for n in a) < math.prod(new[n] for n in b):
                a.append(a[-1] + 1)
            else:
                b.append(b[-1] + 1)
        found.append((a, b))
        i, j = i + len(a), j + len(b)
    return found


def _regrouped(
    c: Channels, axes: list[np.ndarray], lengths: list[int], heads: bool
) -> list[np.ndarray]:
    """Labels of the new axes; at most one of them can have labels of its own."""
    free = [i for i, axis in enumerate(axes) if c.free(axis)]
    if len(axes) == len(lengths) == 1:
        return axes
    stay = [np.full(n, PINNED) for n in lengths]
    if len(free) == 1 and len(lengths) == 1:
        shape = [-1 if i == free[0] else 1 for i in range(len(axes))]
        spread = axes[free[0]].reshape(shape)
        return [np.broadcast_to(spread, [axis.size for axis in axes]).ravel()]
    if free and len(axes) == 1 and len(lengths) > 1 and heads:
        at = len(lengths) - 2  # the features of one head are last
        rows = np.moveaxis(axes[0].reshape(lengths), at, -1).reshape(-1, lengths[at])
        stay[at] = c.tie(rows[0], *rows[1:])
        return stay
    c.pin(*axes)
    return stay


RULES: dict[str, Callable[..., Labels | None]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(ALONG, _along),
    "Linear": _linear, "LinearRelu": _linear, "MatMul": _matmul, "Einsum": _einsum,
    "Conv2d": _conv2d, "Conv2dInputGrad": _conv_transpose,
    "MaxPool2d": _windows, "AvgPool2d": _windows,
    "BatchNorm": _batch_norm, "LayerNorm": _layer_norm,
    "Attention": _attention, "SelfAttention": _self_attention, "Embedding": _embedding,
    "RNN": _recurrent(1), "LSTM": _recurrent(4), "GRU": _recurrent(3),
    "Reshape": _reshape, "Transpose": _transpose, "Flip": _flip, "Concatenate": _concatenate,
    "Pad": _pad, "GetItem": _getitem, "BroadcastTo": _broadcast_to,
}  # fmt: skip
