"""Linear and Embedding whose weights alone are codes of 8 or 4 bits; all else stays float32.

A batch of one sample waits for its weights, not for arithmetic, so a layer of a quarter or an
eighth of the bytes is faster and needs no calibration data: sums and activations are float32.
Sources: Dettmers et al. (2022), arXiv:2208.07339, section 2.1; Frantar et al. (2023),
arXiv:2210.17323, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from backends import Array

from ..engine.apply import apply
from ..engine.creation import from_numpy
from ..engine.dtypes import float32
from ..engine.function import Function
from ..engine.graph import mismatch
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from ..nn import Embedding, Linear, Module
from ..nn.summary import MULTIPLY_ADDS
from ..ops import check
from .layers import Coded
from .least_error import mse_bounds
from .models import clone, replace
from .packing import pack_int4, unpack_int4
from .qtensor import AFFINE_INT4, SYMMETRIC, QTensor, Scheme, quantize

GROUP = 128  # neighbours that share a grid of 4 bits, as in Frantar et al. (2023), table 5


class _Frozen(Function):
    """A layer on codes; for inference only."""

    def backward(self, grad: Any) -> Any:
        raise GraphError(
            f"{self.name}: a quantized layer has no gradient. Train the float model, then quantize"
            " it again."
        )


class WeightOnlyProduct(_Frozen):
    """y = x @ (s (q - z)) transposed + b."""

    def __init__(self, layer: WeightOnlyLinear) -> None:
        self.layer = layer

    def forward(self, x: Array) -> Array:
        a = self.layer
        bias = None if a.bias is None else a.bias.data
        grid = a.weight_scale.data, a.weight_zero_point.data
        return self.backend.weight_only_linear(x, a.codes.data, *grid, bias, a.group_size)


class WeightOnlyLookUp(_Frozen):
    """y = s (q - z) of the rows that were asked for."""

    def __init__(self, layer: QuantEmbedding) -> None:
        self.layer = layer

    def forward(self, index: Array) -> Array:
        lib, a = self.backend, self.layer
        codes, scale, zero = (
            lib.embedding(t.data, index) for t in (a.codes, a.weight_scale, a.weight_zero_point)
        )
        return lib.dequantize(codes, scale, zero)


def _multiply_adds(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    return result.size * int(function.layer.columns)


MULTIPLY_ADDS.update(WeightOnlyProduct=_multiply_adds)


class WeightOnly(Coded):
    """What both layers share. Buffers: codes, int8 (O, D) or packed uint8 (O, ceil(D / 2));
    weight_scale and weight_zero_point (int32), both (O, G) for G groups in a row; bias or None.
    """

    codes: Tensor
    weight_zero_point: Tensor

    def __init__(
        self, layer: Linear | Embedding, scheme: Scheme, group_size: int | None = None,
        least_error: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        weight = layer.weight.detach()
        self.scheme, self.columns = scheme, weight.shape[1]
        self.group_size = self.columns if group_size is None else group_size
        how = {"scheme": scheme.name, "dtype": scheme.kind, "group_size": self.group_size}
        bounds = mse_bounds(weight, **how) if least_error else None  # type: ignore[arg-type]
        q = quantize(weight, **how, bounds=bounds)  # type: ignore[arg-type]
        held = from_numpy(pack_int4(q.numpy()), q.backend) if scheme.bits == 4 else Tensor(
            q.data, q.backend)  # fmt: skip
        self.register_buffer("codes", held)
        self.register_buffer("weight_scale", q.scale)
        self.register_buffer("weight_zero_point", q.zero_point)
        bias = getattr(layer, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The codes (O, D), one to a byte."""
        if self.scheme.bits == 8:
            return self.codes
        return from_numpy(unpack_int4(self.codes.numpy(), self.columns), self.codes.backend)

    @property
    def qweight(self) -> QTensor:
        """The weight as a QTensor: the codes with their grids."""
        return QTensor(
            self.weight.data, self.codes.backend, self.weight_scale, self.weight_zero_point,
            self.scheme, group_size=self.group_size,
        )  # fmt: skip

    def words(self) -> dict[str, Any]:
        """How it was quantized, for the header of a file."""
        words = {"weight_only": self.scheme.kind, "scheme": self.scheme.name}
        whole = self.group_size == self.columns
        return words if whole else {**words, "group_size": self.group_size}

    def extra_repr(self) -> str:
        shape = f"{self.columns}, {self.codes.shape[0]}"
        return f"{shape}, {self.scheme.name} {self.scheme.kind}, group_size={self.group_size}"


class WeightOnlyLinear(WeightOnly):
    """nn.Linear with a weight of codes, which are decoded inside of the product.

    Shapes: x (..., D) -> (..., O). Raises: ShapeError, DTypeError, BackendMismatch.

    >>> import minidl
    >>> layer = minidl.nn.Linear(8, 3)
    >>> WeightOnlyLinear(layer, AFFINE_INT4, 4)(minidl.ones((5, 8))).shape
    (5, 3)
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        check.tensors("WeightOnlyLinear", x=x)
        if x.backend is not self.codes.backend:
            raise mismatch("WeightOnlyLinear", x.backend.name, self.codes.backend.name)
        if x.dtype != float32:
            raise DTypeError(
                f"WeightOnlyLinear: x must be float32, got {x.dtype}; .astype('float32')"
            )
        if not x.ndim or x.shape[-1] != self.columns:
            raise ShapeError(
                f"WeightOnlyLinear: x must be (..., D) with {self.columns} features, got {x.shape}"
            )
        rows = x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), self.columns))
        y = apply(WeightOnlyProduct(self), rows)
        return y if x.ndim == 2 else y.reshape((*x.shape[:-1], self.codes.shape[0]))


class QuantEmbedding(WeightOnly):
    """nn.Embedding with rows of int8 codes and a scale for each row.

    Shapes: index of integers, any shape -> (*index.shape, D) float32.
    Raises: DTypeError, IndexRangeError, BackendMismatch.

    >>> import minidl
    >>> layer = minidl.nn.Embedding(10, 4)
    >>> QuantEmbedding(layer, SYMMETRIC)(minidl.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def forward(self, index: Tensor) -> Tensor:
        """See the class."""
        check.integers("QuantEmbedding", "index", index)
        if index.backend is not self.codes.backend:
            raise mismatch("QuantEmbedding", index.backend.name, self.codes.backend.name)
        check.in_range("QuantEmbedding", "index", index, 0, self.codes.shape[0])
        return apply(WeightOnlyLookUp(self), index)


def quantize_weights(
    model: Module,
    bits: int = 8,
    group_size: int | None = None,
    modules: Iterable[str] | None = None,
    least_error: bool = False,
    inplace: bool = False,
) -> Module:
    """A copy of the model whose Linear and Embedding layers hold codes in place of weights.

    bits: 8 (symmetric, a scale for each output unless there is a group_size) or 4 (affine, so that
    no code is wasted, two codes to a byte, in groups of 128 unless told otherwise; Embedding stays
    at 8). group_size: neighbours along the inputs that share a grid; smaller is more exact, and
    slower below 64. least_error: ranges by `mse_bounds` in place of the full ones. modules: the
    dotted names of the layers to quantize (default: all). inplace: change the model itself. Sums
    and activations stay float32, so no calibration data is needed; `quantize_model` computes in
    integers. The result is in eval mode.
    Source: Frantar et al. (2023), arXiv:2210.17323, section 4 (the storage; rounding here is to the
    nearest). Raises: ArgumentError, DTypeError; NonFiniteError for weights with NaN or infinity.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(256, 10), nn.ReLU(), nn.Linear(10, 2))
    >>> quantize_weights(model, bits=4)
    Sequential(
      (0): WeightOnlyLinear(256, 10, affine int4, group_size=128)
      (1): ReLU()
      (2): WeightOnlyLinear(10, 2, affine int4, group_size=10)
    )
    """
    check.instance("quantize_weights", "model", model, Module)
    bits = check.integer("quantize_weights", "bits", bits)
    if bits not in (4, 8):
        raise ArgumentError(f"quantize_weights: bits must be 8 or 4, got {bits}")
    if group_size is not None:
        group_size = check.integer("quantize_weights", "group_size", group_size, 1)
    result = model if inplace else clone(model)
    scheme = SYMMETRIC if bits == 8 else AFFINE_INT4
    size = GROUP if bits == 4 and group_size is None else group_size
    twins: dict[Module, Module] = {
        layer: weight_only(layer, scheme, size, least_error) for layer in _layers(result, modules)
    }
    return replace(result, twins).eval()


def weight_only(
    layer: Linear | Embedding, scheme: Scheme, group_size: int | None, least_error: bool = False
) -> WeightOnly:
    """The twin of a layer; groups are no longer than its rows."""
    if isinstance(layer, Embedding):
        return QuantEmbedding(layer, SYMMETRIC, None, least_error)
    size = layer.in_features if group_size is None else min(group_size, layer.in_features)
    return WeightOnlyLinear(layer, scheme, size, least_error)


def _layers(model: Module, modules: Iterable[str] | None) -> list[Linear | Embedding]:
    """The layers to quantize. Raises: ArgumentError, DTypeError."""
    every = dict(model.named_modules())
    chosen = list(every) if modules is None else list(modules)
    unknown = [path for path in chosen if path not in every]
    if unknown:
        raise ArgumentError(
            f"quantize_weights: no module {unknown[0]!r}; there are {sorted(every)}"
        )
    found = [m for path in chosen if isinstance(m := every[path], (Linear, Embedding))]
    if not found:
        raise ArgumentError("quantize_weights: there is no Linear or Embedding to quantize")
    for layer in found:
        if layer.weight.dtype != np.dtype(float32):
            raise DTypeError(
                f"quantize_weights: a weight is {layer.weight.dtype}; convert the model first:"
                " model.float()"
            )
    return found
