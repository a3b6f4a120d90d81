"""Linear and Conv2d with 8-bit weights whose inputs become codes batch by batch: dynamic layers.

With x = s_x (q_x - z_x) and w = s_w q_w, a sum of products is

    sum x w = s_x s_w (sum q_x q_w - z_x sum q_w),

so the layer multiplies codes, subtracts a correction that is known beforehand, and rescales once.
The correction is exact, in int32; the bias stays float32 and is added last. Source: Jacob et al.
(2017), arXiv:1712.05877, section 2.2; Krishnamoorthi (2018), arXiv:1806.08342, section 3.1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from backends import Array, Backend, Rescale

from ..engine.apply import apply
from ..engine.creation import tensor
from ..engine.dtypes import float32, int32
from ..engine.function import Function, Version
from ..engine.graph import mismatch
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from ..nn import Conv2d, Linear, Module
from ..nn.summary import MULTIPLY_ADDS
from ..ops import check
from ..ops.conv import output_size
from .qtensor import SYMMETRIC, QTensor, Scheme, grid, quantize

# Beyond it a sum of products of 8-bit codes can leave int32.
LONGEST_SUM = (2**31 - 1) // (255 * 127)


class Constants(NamedTuple):
    """What a layer computes with, ready on one backend; one element of an array per output."""

    weight: Array  # int8 codes
    packed: Array  # the same as the backend multiplies by it
    scale: Array  # s_w
    sums: Array  # int32: the sum of each output's codes
    bias: Array
    scheme: Scheme

    def input(self, backend: Backend, x: Array) -> Input:
        """The grid that covers this batch, and what follows from it: s_x s_w and -z_x sum q_w."""
        low, high = backend.bounds(x) if x.size else (0.0, 0.0)
        scale, zero_point = grid(low, high, self.scheme, float32)
        s, z = backend.full((), scale, float32), backend.full((), zero_point, int32)
        offset = backend.multiply(self.sums, backend.full((), -zero_point, int32))
        finish = Rescale(offset, backend.multiply(self.scale, s), self.bias, relu=False)
        return Input(s, z, zero_point, finish)


class Input(NamedTuple):
    """The grid of the input, and what depends on it: how sums become numbers."""

    scale: Array
    zero_point: Array
    zero: int
    finish: Rescale


class _Int8(Function):
    """y = s_x s_w (sum q_x q_w - z_x sum q_w) + b; for inference only."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants

    def forward(self, x: Array) -> Array:
        c, lib = self.constants, self.backend
        grid, scheme = c.input(lib, x), c.scheme
        codes = lib.quantize(x, grid.scale, grid.zero_point, scheme.low, scheme.high, scheme.dtype)
        return self.product(codes, grid)

    def product(self, codes: Array, grid: Input) -> Array:
        """The sums of products of codes and weights as numbers."""
        raise NotImplementedError

    def backward(self, grad: Any) -> Any:
        raise GraphError(
            f"{self.name}: a quantized layer has no gradient. Train the float model, then quantize"
            " it again."
        )


class Int8Linear(_Int8):
    """Codes (N, D) times weight (O, D) transposed."""

    def product(self, codes: Array, grid: Input) -> Array:
        c = self.constants
        return self.backend.int8_linear(codes, c.weight, c.packed, grid.finish)


class Int8Conv2d(_Int8):
    """A convolution of codes, framed with the code of 0, so that the correction holds there too."""

    def __init__(self, constants: Constants, geometry: tuple[Any, ...]) -> None:
        super().__init__(constants)
        self.geometry = geometry

    def product(self, codes: Array, grid: Input) -> Array:
        c = self.constants
        return self.backend.int8_conv2d(
            codes, c.weight, c.packed, grid.zero, *self.geometry, grid.finish
        )


def _multiply_adds(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    depth: int = math.prod(function.constants.weight.shape[1:])
    return result.size * depth


MULTIPLY_ADDS.update(Int8Linear=_multiply_adds, Int8Conv2d=_multiply_adds)


class Coded(Module):
    """A module whose weight is codes. Buffers: weight (int8), weight_scale (float32, () or (O,))
    and bias; `qweight` is the weight as a QTensor.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    @property
    def qweight(self) -> QTensor:
        """The weight as a QTensor: the codes with their scales."""
        axis = None if self.weight_scale.ndim == 0 else 0
        zeros = tensor(np.zeros(self.weight_scale.shape, int32), backend=self.weight.backend)
        return QTensor(
            self.weight.data, self.weight.backend, self.weight_scale, zeros, SYMMETRIC, axis
        )


class QuantLayer(Coded):
    """What both quantized layers share; the grid of the input is chosen for each batch."""

    groups = 1  # of a convolution

    def __init__(self, layer: Linear | Conv2d, per_channel: bool, scheme: Scheme) -> None:
        super().__init__()
        weight = layer.weight
        if weight.size // max(weight.shape[0], 1) > LONGEST_SUM:
            raise ArgumentError(
                f"quantize_model: a sum of {weight.size // weight.shape[0]} products of 8-bit codes"
                f" may not fit 32 bits; at most {LONGEST_SUM}. Leave the layer out: modules=[...]."
            )
        codes = quantize(weight.detach(), axis=0 if per_channel else None)
        self.scheme = scheme
        self.register_buffer("weight", Tensor(codes.data, codes.backend))
        self.register_buffer("weight_scale", codes.scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self._ready: tuple[Version, int, Constants] | None = None

    @property
    def constants(self) -> Constants:
        """The constants of the forward pass; computed anew after the buffers moved or changed.

        Both count as a change of the weight's version; a clone has a Version object of its own.
        """
        version = self.weight.version
        ready = self._ready
        if ready is None or ready[0] is not version or ready[1] != version.changed:
            ready = self._ready = version, version.changed, self._prepare()
        return ready[2]

    def _prepare(self) -> Constants:
        weight, backend = self.weight, self.weight.backend
        outputs = weight.shape[:1]
        sums = backend.astype(backend.sum(weight.data, tuple(range(1, weight.ndim))), int32)
        bias = backend.full(outputs, 0, float32) if self.bias is None else self.bias.data
        scale = backend.copy(backend.broadcast_to(self.weight_scale.data, outputs))
        packed = backend.int8_pack(weight.data, self.groups)
        return Constants(weight.data, packed, scale, sums, bias, self.scheme)

    def _check(self, x: Tensor, ndim: str, channels: int | None, expected: int) -> None:
        if x.backend is not self.weight.backend:
            raise mismatch(type(self).__name__, x.backend.name, self.weight.backend.name)
        if x.dtype != float32:
            raise DTypeError(
                f"{type(self).__name__}: x must be float32, got {x.dtype}; .astype('float32')"
            )
        if channels != expected:
            raise ShapeError(
                f"{type(self).__name__}: x must be {ndim} with {expected} features or channels,"
                f" got {x.shape}"
            )

    def extra_repr(self) -> str:
        per = "tensor" if self.weight_scale.ndim == 0 else "channel"
        shape = ", ".join(map(str, self.weight.shape))
        return f"{shape}, per_{per}, {self.scheme.name} dynamic {self.scheme.dtype}"


class QuantLinear(QuantLayer):
    """nn.Linear with int8 weights and 8-bit inputs.

    Shapes: x (..., D) -> (..., O). Raises: ShapeError, DTypeError, BackendMismatch.

    >>> import minidl
    >>> layer = minidl.nn.Linear(2, 3)
    >>> QuantLinear(layer, True, SYMMETRIC)(minidl.ones((5, 2))).shape
    (5, 3)
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        check.tensors("QuantLinear", x=x)
        features = self.weight.shape[1]
        self._check(x, "(..., D)", x.shape[-1] if x.ndim else None, features)
        if x.ndim == 2:
            return apply(Int8Linear(self.constants), x)
        flat = x.reshape((-1, features) if x.size else (0, features))
        return apply(Int8Linear(self.constants), flat).reshape(
            (*x.shape[:-1], self.weight.shape[0])
        )


class QuantConv2d(QuantLayer):
    """nn.Conv2d with int8 weights and 8-bit inputs.

    Shapes: x (N, C, H, W) -> (N, O, OH, OW). Raises: ShapeError, DTypeError, BackendMismatch.

    >>> import minidl
    >>> layer = minidl.nn.Conv2d(1, 2, 3)
    >>> QuantConv2d(layer, True, SYMMETRIC)(minidl.ones((5, 1, 4, 4))).shape
    (5, 2, 2, 2)
    """

    def __init__(self, layer: Conv2d, per_channel: bool, scheme: Scheme) -> None:
        super().__init__(layer, per_channel, scheme)
        self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        self.groups = layer.groups

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        check.tensors("QuantConv2d", x=x)
        channels = self.weight.shape[1] * self.groups
        self._check(x, "(N, C, H, W)", x.shape[1] if x.ndim == 4 else None, channels)
        kernel, fit = self.weight.shape[2:], zip(*self.geometry[:3], strict=True)
        sizes = zip(x.shape[2:], kernel, fit, strict=True)
        if min(output_size(n, k, *moves) for n, k, moves in sizes) < 1:
            raise ShapeError(f"QuantConv2d: a kernel of {kernel} does not fit into x {x.shape}")
        return apply(Int8Conv2d(self.constants, self.geometry), x)
