"""Make layers smaller: their tensors, and the settings that say how large they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..nn import (
    GRU,
    LSTM,
    RNN,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    GRUCell,
    LayerNorm,
    Linear,
    LSTMCell,
    Module,
    MultiheadAttention,
    PositionalEncoding,
    RNNCell,
)
from .prune import mask_name


def narrow(model: Module, path: str, kept: Sequence[np.ndarray]) -> None:
    """Leave of a parameter or buffer, and of its pruning mask, these indices along each axis."""
    owner_path, _, name = path.rpartition(".")
    owner = dict(model.named_modules())[owner_path]
    for tensor in (getattr(owner, name), getattr(owner, mask_name(name), None)):
        if isinstance(tensor, Tensor) and any(
            k.size != n for k, n in zip(kept, tensor.shape, strict=True)
        ):
            _replace(tensor, np.ascontiguousarray(tensor.numpy()[np.ix_(*kept)]))


def transplant(model: Module, small: Module) -> None:
    """Give a model the tensors of a smaller copy."""
    pairs = [(model.parameters(), small.parameters()), (model.buffers(), small.buffers())]
    for olds, news in pairs:
        for old, new in zip(olds, news, strict=True):
            if old.shape != new.shape:
                _replace(old, new.numpy())
    adapt(model)


def _replace(tensor: Tensor, array: np.ndarray) -> None:
    tensor.data = tensor.backend.asarray(array, tensor.dtype)
    tensor.grad = tensor.grad_buffer = None
    tensor.version.change()  # a graph that saved the old array must not meet the new one


def adapt(model: Module) -> None:
    """Let the settings of all layers say what shapes their tensors have."""
    for module in model.modules():
        for kinds, settings in SETTINGS:
            if isinstance(module, kinds):
                for name, value in settings(module).items():
                    setattr(module, name, value)


def _conv(layer: Any) -> dict[str, int]:
    """Depthwise, a group goes with its channel."""
    out, each = layer.weight.shape[:2]
    groups = layer.groups
    if groups > 1 and groups == layer.in_channels:
        groups = out * groups // layer.out_channels
    return {"groups": groups, "in_channels": each * groups, "out_channels": out}


def _transposed(layer: Any) -> dict[str, int]:
    inputs, each = layer.weight.shape[:2]
    return {"in_channels": inputs, "out_channels": each * layer.groups}


def _batch_norm(layer: Any) -> dict[str, int]:
    known = layer.running_mean if layer.weight is None else layer.weight
    return {} if known is None else {"num_features": known.shape[0]}


def _attention(layer: Any) -> dict[str, int]:
    rows, features = layer.in_proj_weight.shape
    return {"num_heads": rows // (3 * layer.head_dim), "embed_dim": features}


def _recurrent(layer: Any) -> dict[str, int]:
    name = "weight_ih_l0" if hasattr(layer, "weight_ih_l0") else "weight_ih"
    hidden = getattr(layer, name.replace("ih", "hh")).shape[1]
    return {"input_size": getattr(layer, name).shape[1], "hidden_size": hidden}


SETTINGS: list[tuple[tuple[type[Module], ...], Callable[[Any], dict[str, Any]]]] = [
    ((Linear,), lambda m: dict(zip(("out_features", "in_features"), m.weight.shape, strict=True))),
    ((Conv2d,), _conv),
    ((ConvTranspose2d,), _transposed),
    ((BatchNorm1d, BatchNorm2d), _batch_norm),
    ((LayerNorm,), lambda m: {} if m.weight is None else {"normalized_shape": m.weight.shape}),
    ((Embedding,), lambda m: {"embedding_dim": m.weight.shape[1]}),
    ((PositionalEncoding,), lambda m: {"d_model": m.table.shape[1]}),
    ((MultiheadAttention,), _attention),
    ((RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell), _recurrent),
]
