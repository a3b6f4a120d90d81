"""Attention: every query takes a mean of all values, weighted by how well their keys fit it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.apply import apply
from ..engine.creation import from_numpy
from ..engine.function import Function
from ..engine.random import Generator, source_of
from ..engine.tensor import Tensor
from ..errors import DTypeError, ShapeError
from . import check
from .dropout import Dropout
from .elementwise import where
from .indexing import getitem
from .linear import matmul
from .reduce import logsumexp
from .shape import broadcast_to, reshape, swapaxes, transpose
from .unary import exp

BY_HEAD = (0, 2, 1, 3)  # (N, T, H, D) <-> (N, H, T, D)


class Attention(Function):
    """y = softmax(scale query key^T + mask) value, with dropout of the weights.

    Sources: Vaswani et al. (2017), arXiv:1706.03762, equation 1; the gradient, for which only the
    logsumexp of each row is kept: Dao et al. (2022), arXiv:2205.14135, appendix B.2.
    """

    def __init__(self, causal: bool, scale: float, p: float, seed: int, counter: int) -> None:
        self.causal, self.scale, self.dropout = causal, scale, (p, seed, counter)

    def forward(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
        self.query, self.key, self.value, self.mask = query, key, value, mask
        self.y, self.logsumexp = self.backend.attention(
            query, key, value, mask, self.causal, self.scale, *self.dropout
        )
        return self.y

    def backward(self, grad: Any) -> Any:
        grads = self.backend.attention_grad(
            grad, self.query, self.key, self.value, self.mask, self.y, self.logsumexp,
            self.causal, self.scale, *self.dropout,
        )  # fmt: skip
        return *grads, None

    def definition(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        weights = _weights(query, key, mask, self.causal, self.scale)
        return matmul(apply(Dropout(*self.dropout), weights) if self.dropout[0] else weights, value)


class SelfAttention(Function):
    """`Attention` among the tokens of a sequence, whose queries, keys and values lie side by side:
    x is (N, T, 3, H, D) and y (N, T, H, D), as linear layers write and read them.
    """

    def __init__(self, causal: bool, scale: float, p: float, seed: int, counter: int) -> None:
        self.settings = (causal, scale, p, seed, counter)

    def forward(self, x: Any, mask: Any) -> Any:
        self.x, self.mask, lib = x, mask, self.backend
        y, self.logsumexp = lib.attention(*_parts(lib, x), mask, *self.settings)
        self.y = lib.transpose(y, BY_HEAD)
        return self.y

    def backward(self, grad: Any) -> Any:
        lib, parts = self.backend, _parts(self.backend, self.x)
        grad, y = (lib.transpose(a, BY_HEAD) for a in (grad, self.y))
        grads = lib.attention_grad(grad, *parts, self.mask, y, self.logsumexp, *self.settings)
        one = (*self.x.shape[:2], 1, *self.x.shape[3:])
        return lib.concatenate(
            [lib.reshape(lib.transpose(g, BY_HEAD), one) for g in grads], 2
        ), None

    def definition(self, x: Tensor, mask: Tensor | None) -> Tensor:
        parts = (getitem(x, (slice(None), slice(None), i)) for i in range(3))
        query, key, value = (transpose(part, BY_HEAD) for part in parts)
        return transpose(Attention(*self.settings).definition(query, key, value, mask), BY_HEAD)


def _parts(lib: Any, x: Any) -> list[Any]:
    """Queries, keys and values (N, H, T, D): views of x (N, T, 3, H, D)."""
    return [lib.transpose(lib.getitem(x, (slice(None), slice(None), i)), BY_HEAD) for i in range(3)]


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    scores = matmul(query, swapaxes(key, -1, -2)) * scale
    if mask is not None:
        scores = where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    if causal:
        seen = from_numpy(np.tri(*scores.shape[-2:], dtype=bool), scores.backend)
        scores = where(seen, scores, -math.inf)
    total = logsumexp(scores, -1, True)
    return exp(scores - where(total == -math.inf, 0.0, total))  # no -inf - -inf, which is NaN


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """The mean of the values with weights softmax(scale * query key^T), where scale is 1 / sqrt(D)
    by default.

    attn_mask is bool, True where a query may look, or floating and added to the scores; with
    is_causal query t looks at no key after t, whatever the mask says (PyTorch takes only one of the
    two). A query that may look nowhere gets zeros. With dropout_p, which always acts, weights are
    dropped; which ones depends only on the generator's state.

    Shapes: query (..., T, D), key (..., S, D), value (..., S, E), attn_mask broadcastable to (...,
    T, S) -> (..., T, E); the leading axes broadcast, so that several query heads can share a key.
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import tensor
    >>> key, value = tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[10.0], [20.0]])
    >>> scaled_dot_product_attention(tensor([[0.0, 0.0]]), key, value)
    Tensor([[15.]])
    >>> scaled_dot_product_attention(key, key, value, is_causal=True)
    Tensor([[10.    ],
            [16.6976]])
    """
    name = "scaled_dot_product_attention"
    check.floating(name, query=query, key=key, value=value)
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{name}: query {query.shape} and key {key.shape} must be (..., T, D) and (..., S, D)"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{name}: key {key.shape} and value {value.shape} must be (..., S, D) and (..., S, E), "
            "a value for each key"
        )
    check.same_dtype(name, query, key=key, value=value)
    lead = check.broadcast(name, *(x.shape[:-2] for x in (query, key, value)))
    shape = (*lead, query.shape[-2], key.shape[-2])
    _check_mask(name, query, attn_mask, shape)
    settings = _settings(name, query, shape, dropout_p, is_causal, scale, generator)
    four = (math.prod(lead[:-1]), lead[-1] if lead else 1)
    q, k, v = (_with_lead(x, lead, four) for x in (query, key, value))
    if attn_mask is not None and len(lead) > 2:
        attn_mask = _with_lead(broadcast_to(attn_mask, shape), lead, four)
    y = _run(Attention(*settings), (q, k, v), attn_mask, dropout_p)
    return y if len(lead) == 2 else reshape(y, (*lead, *y.shape[2:]))


def self_attention(
    x: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """`scaled_dot_product_attention` of queries, keys and values that lie side by side in x, as one
    linear layer makes them; nothing is copied on the way.

    Shapes: x (N, T, 3, H, D), attn_mask broadcastable to (N, H, T, T) -> (N, T, H, D).
    Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import ones
    >>> self_attention(ones((2, 5, 3, 4, 8))).shape
    (2, 5, 4, 8)
    """
    name = "self_attention"
    check.floating(name, x=x)
    if x.ndim != 5 or x.shape[2] != 3:
        raise ShapeError(f"{name}: x must be (N, T, 3, H, D), got {x.shape}")
    shape = (x.shape[0], x.shape[3], x.shape[1], x.shape[1])
    _check_mask(name, x, attn_mask, shape)
    settings = _settings(name, x, shape, dropout_p, is_causal, scale, generator)
    return _run(SelfAttention(*settings), (x,), attn_mask, dropout_p)


def attention_weights(
    query: Tensor, key: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """The weights of `scaled_dot_product_attention`, to look at: softmax(scale * query key^T), and
    0 where a query may look nowhere.

    Shapes: query (..., T, D), key (..., S, D), attn_mask broadcastable to (..., T, S) -> (..., T,
    S). Raises: ShapeError, DTypeError, ArgumentError.

    >>> from minidl import ones
    >>> attention_weights(ones((2, 8)), ones((2, 8)), is_causal=True)
    Tensor([[1. , 0. ],
            [0.5, 0.5]])
    """
    name = "attention_weights"
    check.floating(name, query=query, key=key)
    if min(query.ndim, key.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{name}: query {query.shape} and key {key.shape} must be (..., T, D) and (..., S, D)"
        )
    check.same_dtype(name, query, key=key)
    lead = check.broadcast(name, query.shape[:-2], key.shape[:-2])
    shape = (*lead, query.shape[-2], key.shape[-2])
    _check_mask(name, query, attn_mask, shape)
    causal, factor, *_ = _settings(name, query, shape, 0, is_causal, scale, None)
    return _weights(query, key, attn_mask, causal, factor)


def _check_mask(name: str, x: Tensor, mask: Tensor | None, shape: tuple[int, ...]) -> None:
    if mask is None:
        return
    check.tensors(name, attn_mask=mask)
    if mask.dtype.kind != "b" and mask.dtype != x.dtype:
        raise DTypeError(
            f"{name}: attn_mask must be bool or {x.dtype}, got {mask.dtype}; convert it: "
            f".astype('bool') or .astype('{x.dtype}')"
        )
    if check.broadcast(name, mask.shape, shape) != shape:
        raise ShapeError(f"{name}: attn_mask {mask.shape} must be broadcastable to {shape}")


def _settings(
    name: str, x: Tensor, shape: tuple[int, ...], p: float, causal: bool, scale: float | None,
    generator: Generator | None,
) -> tuple[bool, float, float, int, int]:  # fmt: skip
    """What `Attention` is made with; weights of that shape are drawn from the generator."""
    p = float(check.number(name, "dropout_p", p, 0, 1))
    if scale is None:
        scale = 1 / math.sqrt(max(x.shape[-1], 1))
    scale = float(check.number(name, "scale", scale))
    if p in (0, 1):
        return bool(causal), scale, 0.0, 0, 0
    source = source_of(name, generator)
    return bool(causal), scale, p, source.seed, source.reserve(math.prod(shape))


def _with_lead(x: Tensor, lead: tuple[int, ...], four: tuple[int, int]) -> Tensor:
    """x (..., R, D) with the leading axes `lead`, as two axes."""
    end = x.shape[-2:]
    x = x if x.shape[:-2] == lead else broadcast_to(x, (*lead, *end))
    return x if len(lead) == 2 else reshape(x, (*four, *end))


def _run(function: Any, inputs: tuple[Tensor, ...], mask: Tensor | None, p: float) -> Tensor:
    """The fused operation, or its definition for a mask that is learned: the kernels have no
    gradient for it.
    """
    if mask is not None and mask.requires_grad:
        y: Tensor = function.definition(*inputs, mask)
    else:
        y = apply(function, *inputs, mask)
    return y * 0.0 if p == 1 else y
