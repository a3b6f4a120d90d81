"""The encoder of the Transformer. Source: Vaswani et al. (2017), arXiv:1706.03762, section 3."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..engine.creation import Where, from_numpy
from ..engine.dtypes import as_dtype, float32
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ShapeError
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalize import LayerNorm

ACTIVATIONS = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then a network of two linear layers on every token, each added to its input.

    norm_first normalises what goes into either (pre-LN: Xiong et al. 2020, arXiv:2002.04745) rather
    than their sums. activation is "relu", "gelu" or a function.

    Shapes: src (T, N, d_model), or (N, T, d_model) if batch_first, or without N -> the same.
    Raises: ArgumentError.

    >>> import minidl
    >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> layer(minidl.ones((3, 5, 8))).shape
    (3, 5, 8)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = "TransformerEncoderLayer"
        init.positive(name, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        if not callable(activation):
            ops.check.choice(name, "activation", activation, tuple(ACTIVATIONS))
        where: dict[str, Any] = {"backend": backend, "dtype": dtype}
        drawn = {**where, "generator": generator}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, **drawn
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, **drawn)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **drawn)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.dropout1 = Dropout(dropout, generator=generator)
        self.dropout2 = Dropout(dropout, generator=generator)
        self.activation = activation

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None, is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """Masks are those of `MultiheadAttention.forward`: True where not to look."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            src = src + self._attend(self.norm1(src), *masks)
            return src + self._transform(self.norm2(src))
        src = self.norm1(src + self._attend(src, *masks))
        return self.norm2(src + self._transform(src))

    def _attend(
        self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Any:
        y, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        return self.dropout1(y)

    def _transform(self, x: Tensor) -> Any:
        chosen = self.activation
        function: Any = chosen if callable(chosen) else ACTIVATIONS[chosen]
        return self.dropout2(self.linear2(self.dropout(function(self.linear1(x)))))


class TransformerEncoder(Module):
    """num_layers copies of a layer, one after the other, and at the end norm if there is one.

    As in PyTorch, all copies start with the same weights. Raises: ArgumentError, DTypeError.

    >>> import minidl
    >>> from minidl import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=True)
    >>> TransformerEncoder(layer, 2, nn.LayerNorm(8))(minidl.ones((5, 3, 8))).shape
    (5, 3, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        init.positive("TransformerEncoder", num_layers=num_layers)
        ops.check.instance("TransformerEncoder", "encoder_layer", encoder_layer, Module)
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None, is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """Masks are those of `MultiheadAttention.forward`: True where not to look."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class PositionalEncoding(Module):
    """x plus a pattern of sines that differs at every position: attention alone knows no order.

    Feature 2i of position t is sin(t / 10000^(2i / d_model)), feature 2i + 1 the cosine. Source:
    Vaswani et al. (2017), arXiv:1706.03762, section 3.5. There is nothing to learn or to save.

    Shapes: x (T, N, d_model), or (N, T, d_model) if batch_first, with T up to max_len.
    Raises: ArgumentError; ShapeError when called.

    >>> import minidl
    >>> PositionalEncoding(2)(minidl.zeros((2, 1, 2))).reshape(2, 2)
    Tensor([[0.    , 1.    ],
            [0.8415, 0.5403]])
    """

    table: Tensor

    def __init__(
        self, d_model: int, max_len: int = 5000, *, batch_first: bool = False,
        backend: Where = None, dtype: Any = float32,
    ) -> None:  # fmt: skip
        super().__init__()
        init.positive("PositionalEncoding", d_model=d_model, max_len=max_len)
        self.d_model, self.max_len, self.batch_first = d_model, max_len, batch_first
        feature = np.arange(d_model)
        angle = np.arange(max_len)[:, None] / 10000 ** (feature // 2 * 2 / d_model)
        table = np.where(feature % 2, np.cos(angle), np.sin(angle)).astype(as_dtype(dtype))
        self.register_buffer("table", from_numpy(table, backend), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        ops.check.tensors("PositionalEncoding", x=x)
        length = x.shape[1 if self.batch_first else 0] if x.ndim == 3 else 0
        if x.ndim != 3 or x.shape[2] != self.d_model or length > self.max_len:
            raise ShapeError(
                f"PositionalEncoding: x must have 3 axes, the last of {self.d_model} features, and "
                f"at most {self.max_len} positions, got {x.shape}"
            )
        table = self.table[:length]
        return x + (table if self.batch_first else table.unsqueeze(1))
