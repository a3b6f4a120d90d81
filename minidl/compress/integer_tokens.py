"""Steps of an integer program for sequences: embedding, attention and layer normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from backends import Array, Backend

from ..engine.creation import tensor
from ..engine.dtypes import float32, float64, int32
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..ops import check
from ..ops.attention import BY_HEAD
from .graph import Value
from .integer_parts import Step, layer_path
from .integer_plan import Plan
from .integer_steps import IntegerStep, Known, Prepared
from .layers import Coded
from .models import backend_of
from .requantize import Grid, narrow

_ROUGH = 2**50  # where `eps` would leave the room of 64 bits
_WEIGHT_BITS = 24  # of layer normalization's largest weight
_FACTOR_BITS = 30  # of attention's factor


class EmbeddingStep(IntegerStep, Coded):
    """Rows of codes, looked up by number; the table's grid is that of the result."""

    def __init__(self, plan: Plan, step: Step, known: Known, grids: Sequence[Grid]) -> None:
        super().__init__(plan, step, known)
        node, grid = step.nodes[0], grids[self.grid_out]
        self.path = layer_path(node)
        codes, where = grid.codes(known[node.inputs[0]].numpy()), backend_of(plan.graph.model)
        self.register_buffer("weight", tensor(codes, backend=where))
        self.register_buffer("weight_scale", tensor(grid.scale, float32, backend=where))
        self.register_buffer("bias", None)

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        table, rows = self.weight.data, self.weight.shape[0]

        def call(index: Array) -> Array:
            check.in_range("IntegerModel", "an index", Tensor(index, lib), 0, rows)
            return lib.embedding(table, index)

        return lambda batch: call


class LayerNormStep(IntegerStep):
    """Rows of codes brought to mean 0 and variance 1, scaled and shifted.

    Buffers: gain and shift (float32), the operation's weight and bias.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        node = step.nodes[0]
        self.eps: float = node.settings["eps"]
        for name, value in zip(("gain", "shift"), node.inputs[1:], strict=True):
            self.register_buffer(name, known[value].detach().clone())

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        given, result = grids[self.grid_in[0]], grids[self.grid_out]
        weight, bias = (x.numpy().astype(float64) / result.scale for x in (self.gain, self.shift))
        _, exponent = math.frexp(float(np.abs(weight).max(initial=1e-9)))
        fraction = min(_WEIGHT_BITS - exponent, 40)
        features = weight.size
        eps = min(round(self.eps * features**3 / given.scale**2), _ROUGH)
        whole = lib.asarray(np.rint(np.ldexp(weight, fraction)).astype(int32))
        added = lib.asarray(np.rint(np.ldexp(bias, fraction + 12)).astype(np.int64))
        finish = narrow(result, fraction + 12)
        return lambda batch: lambda x: lib.int8_layer_norm(x, whole, added, eps, finish)


class AttentionStep(IntegerStep):
    """`Attention` or `SelfAttention` on codes: scores, softmax and the mean of values in one."""

    mask: Tensor | None

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        node = step.nodes[0]
        self.packed = node.op == "SelfAttention"
        names = ("settings",) if self.packed else ("causal", "scale")
        found = [node.settings[name] for name in names]
        self.causal, self.scale = found[0][:2] if self.packed else found
        mask = node.inputs[-1]
        fixed = isinstance(mask, Value) and mask in known
        self.register_buffer("mask", known[mask].detach().clone() if fixed else None)
        self.masked = mask is not None and not fixed  # by a slot, which comes last
        sources = [x.value for x in step.inputs]
        self.order = [0] * 3 if self.packed else [sources.index(v) for v in node.inputs[:3]]

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        query, key, value = (grids[self.grid_in[i]] for i in self.order)
        result = grids[self.grid_out]
        zeros = (query.zero_point, key.zero_point, value.zero_point)
        multiplier = round(query.scale * key.scale * self.scale * 2**27 / math.log(2))
        if not 1 <= multiplier <= 2**29:
            raise ArgumentError(
                f"quantize_model: scores of {self.name} have steps of"
                f" {query.scale * key.scale * self.scale:g}, which 8 bits do not allow; look for a"
                " wild number in its queries or keys, or leave the layer out: modules=[...]"
            )
        ratio = value.scale / result.scale
        _, exponent = math.frexp(ratio)
        bits = _FACTOR_BITS - exponent
        factor, finish = round(math.ldexp(ratio, bits)), narrow(result, bits + 16)

        def call(*xs: Array) -> Array:
            mask = xs[-1] if self.masked else self.mask.data if self.mask is not None else None
            if not self.packed:
                q, k, v = (xs[i] for i in self.order)
            else:
                q, k, v = _parts(lib, xs[0])
            y = lib.int8_attention(q, k, v, mask, self.causal, zeros, multiplier, factor, finish)
            return lib.transpose(y, BY_HEAD) if self.packed else y

        return lambda batch: call


def _parts(lib: Backend, x: Array) -> list[Any]:
    """Queries, keys and values (N, H, T, D): views of x (N, T, 3, H, D)."""
    every = slice(None)
    return [lib.transpose(lib.getitem(x, (every, every, i)), BY_HEAD) for i in range(3)]
