"""Attention with its projections: several heads at once."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..engine.creation import Where, zeros
from ..engine.dtypes import float32
from ..engine.random import Generator, source_of
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import init
from .linear import Linear
from .module import Module, Parameter


class MultiheadAttention(Module):
    """Attention in num_heads subspaces of embed_dim / num_heads features each; see
    `ops.scaled_dot_product_attention`.

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.2.2. in_proj_weight (3 embed_dim,
    embed_dim) makes queries, keys and values of the input; out_proj mixes the heads.
    Raises: ArgumentError.

    >>> import minidl
    >>> x = minidl.ones((2, 5, 8))
    >>> y, weights = MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> y.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *,
        batch_first: bool = False, backend: Where = None, dtype: Any = float32,
        generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        init.positive("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: num_heads = {num_heads} must divide embed_dim = {embed_dim}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = ops.check.number("MultiheadAttention", "dropout", dropout, 0, 1)
        self.batch_first = batch_first
        self.generator = source_of("MultiheadAttention", generator) and generator
        where: dict[str, Any] = {"backend": backend, "dtype": dtype}
        self.in_proj_weight = Parameter(zeros((3 * embed_dim, embed_dim), **where))
        self.in_proj_bias = Parameter(zeros(3 * embed_dim, **where)) if bias else None
        init.xavier_uniform_(self.in_proj_weight, generator=generator)
        self.out_proj = Linear(embed_dim, embed_dim, bias, generator=generator, **where)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(y, weights): weights (N, T, S) are the mean over the heads, (N, H, T, S) without
        average_attn_weights, None without need_weights, which is much faster.

        Masks are True where a query must *not* look (`ops.scaled_dot_product_attention` has it the
        other way round), or floating and added. is_causal needs no mask beside it (in PyTorch it is
        a hint about the mask). A query that may look nowhere gets zeros for its heads (in PyTorch
        NaN with need_weights).

        Shapes: query (T, N, E), key and value (S, N, E), or (N, T, E) and (N, S, E) if batch_first,
        or without N; key_padding_mask (N, S), attn_mask (T, S) or (N * H, T, S) -> y as query.
        Raises: ShapeError, DTypeError.
        """
        self._check(query, key, value)
        if query.ndim == 2:
            alone = key_padding_mask.unsqueeze(0) if key_padding_mask is not None else None
            axis = 0 if self.batch_first else 1
            one = {id(x): x.unsqueeze(axis) for x in (query, key, value)}  # one tensor stays one
            y, weights = self.forward(
                one[id(query)], one[id(key)], one[id(value)], alone, need_weights, attn_mask,
                average_attn_weights, is_causal,
            )  # fmt: skip
            return y.squeeze(axis), None if weights is None else weights.squeeze(0)
        mask = self._mask(query, key, key_padding_mask, attn_mask)
        p = self.dropout if self.training else 0.0
        weights = None
        if query is key is value and not need_weights:
            y = ops.self_attention(self._packed(query), mask, p, is_causal, None, self.generator)
        else:
            q, k, v = (ops.swapaxes(x, 1, 2) for x in self._projected(query, key, value))
            if need_weights:
                weights = ops.attention_weights(q, k, mask, is_causal)
                weights = ops.dropout(weights, p, True, self.generator)
                y = ops.matmul(weights, v)
                weights = ops.mean(weights, 1) if average_attn_weights else weights
            else:
                y = ops.scaled_dot_product_attention(
                    q, k, v, mask, p, is_causal, None, self.generator
                )
            y = ops.swapaxes(y, 1, 2)
        y = y if self.batch_first else ops.swapaxes(y, 0, 1)
        return self.out_proj(y.reshape(*query.shape[:2], self.num_heads * self.head_dim)), weights

    def _heads(self, x: Tensor, *parts: int) -> Tensor:
        """x (N, T, parts * E), or (T, N, ...), as (N, T, *parts, H, D)."""
        x = x.reshape(*x.shape[:2], *parts, self.num_heads, self.head_dim)
        return x if self.batch_first else ops.swapaxes(x, 0, 1)

    def _packed(self, x: Tensor) -> Tensor:
        return self._heads(ops.linear(x, self.in_proj_weight, self.in_proj_bias), 3)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values (N, T, H, D); one product where they come from one tensor."""
        if query is key is value:
            packed = self._packed(query)
            return [packed[:, :, i] for i in range(3)]
        size = self.num_heads * self.head_dim
        weights = ops.split(self.in_proj_weight, size)
        biases: Any = (None,) * 3
        if self.in_proj_bias is not None:
            biases = ops.split(self.in_proj_bias, size)
        rows = zip((query, key, value), weights, biases, strict=True)
        return [self._heads(ops.linear(x, weight, bias)) for x, weight, bias in rows]

    def _mask(
        self, query: Tensor, key: Tensor, padding: Tensor | None, mask: Tensor | None
    ) -> Tensor | None:
        """Both masks as one, broadcastable to (N, H, T, S) and with True where to look."""
        batch, queries, keys = *query.shape[:2], key.shape[1 if self.batch_first else 0]
        if not self.batch_first:
            batch, queries = queries, batch
        if padding is not None:
            ops.check.shape_is("MultiheadAttention", "key_padding_mask", padding, (batch, keys))
            padding = padding.reshape(batch, 1, 1, keys)
        if mask is not None:
            ops.check.tensors("MultiheadAttention", attn_mask=mask)
            each = (batch * self.num_heads, queries, keys)
            if mask.shape not in (each[1:], each):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask must be {each[1:]} or {each}, got {mask.shape}"
                )
            if mask.ndim == 3:
                mask = mask.reshape(batch, self.num_heads, queries, keys)
        given = [m for m in (padding, mask) if m is not None]
        if all(m.dtype.kind == "b" for m in given):
            seen = [ops.logical_not(m) for m in given]
            return ops.logical_and(*seen) if len(seen) == 2 else seen[0] if seen else None
        added = [_to_add(m, query) for m in given]
        return added[0] + added[1] if len(added) == 2 else added[0]

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        ops.check.floating("MultiheadAttention", query=query, key=key, value=value)
        shapes = [x.shape for x in (query, key, value)]
        if {x[-1:] for x in shapes} != {(self.embed_dim,)} or {len(x) for x in shapes} not in (
            {2},
            {3},
        ):
            listed = ", ".join(map(str, shapes))
            raise ShapeError(
                f"MultiheadAttention: query, key and value must have 3 axes (2 without a batch), "
                f"the last of {self.embed_dim} features, got {listed}"
            )
        at = 0 if self.batch_first else 1
        if key.shape[:-1] != value.shape[:-1] or (
            query.ndim == 3 and query.shape[at] != key.shape[at]
        ):
            raise ShapeError(
                f"MultiheadAttention: query {query.shape}, key {key.shape} and value {value.shape} "
                f"must agree in the batch (axis {at}), key and value in length, too"
            )


def _to_add(mask: Tensor, like: Tensor) -> Tensor:
    """A bool mask as numbers to add to scores; others as they are."""
    if mask.dtype.kind != "b":
        return mask
    zero = zeros((), like.dtype, backend=like.backend)
    return ops.where(mask, -float("inf"), zero)
