"""Convolutional layers."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..engine.creation import Where, zeros
from ..engine.dtypes import float32
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..ops.conv import Size
from . import init
from .module import Module, Parameter


class _Conv(Module):
    """What both directions share: a bank of kernels, and how it moves."""

    def _build(
        self, channels: tuple[int, int], kernel_size: Size, stride: Size, padding: Size,
        dilation: Size, groups: int, bias: bool, backend: Where, dtype: Any,
        generator: Generator | None, transposed: bool = False,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.in_channels, self.out_channels = channels
        init.positive(name, in_channels=channels[0], out_channels=channels[1], groups=groups)
        if channels[0] % groups or channels[1] % groups:
            raise ArgumentError(f"{name}: groups = {groups} must divide the channels {channels}")
        self.kernel_size = ops.check.pair(name, "kernel_size", kernel_size)
        self.stride = ops.check.pair(name, "stride", stride)
        self.padding = ops.check.pair(name, "padding", padding, 0)
        self.dilation = ops.check.pair(name, "dilation", dilation)
        self.groups = groups
        first, second = channels if transposed else channels[::-1]
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(zeros(shape, dtype, backend=backend))
        self.bias = Parameter(zeros(channels[1], dtype, backend=backend)) if bias else None
        init.linear_(self.weight, self.bias, generator)


class Conv2d(_Conv):
    """Slides a bank of learned kernels over images; see `ops.conv2d`.

    Shapes: x (N, in_channels, H, W) -> (N, out_channels, OH, OW); weight (out_channels,
    in_channels / groups, kh, kw). Raises: ArgumentError.

    >>> import minidl
    >>> Conv2d(1, 6, 5, padding=2)(minidl.ones((2, 1, 28, 28))).shape
    (2, 6, 28, 28)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
        padding: Size = 0, dilation: Size = 1, groups: int = 1, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        geometry = (kernel_size, stride, padding, dilation, groups)
        self._build((in_channels, out_channels), *geometry, bias, backend, dtype, generator)

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Conv):
    """Spreads each pixel over a window, so it enlarges images; see `ops.conv_transpose2d`.

    Shapes: x (N, in_channels, H, W) -> (N, out_channels, OH, OW); weight (in_channels,
    out_channels / groups, kh, kw). Raises: ArgumentError.

    >>> import minidl
    >>> ConvTranspose2d(4, 1, 2, stride=2)(minidl.ones((2, 4, 7, 7))).shape
    (2, 1, 14, 14)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
        padding: Size = 0, output_padding: Size = 0, groups: int = 1, bias: bool = True,
        dilation: Size = 1, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        geometry = (kernel_size, stride, padding, dilation, groups)
        self._build((in_channels, out_channels), *geometry, bias, backend, dtype, generator, True)
        self.output_padding = ops.check.pair("ConvTranspose2d", "output_padding", output_padding, 0)

    def forward(self, x: Tensor) -> Tensor:
        settings = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return ops.conv_transpose2d(x, self.weight, self.bias, *settings)
