"""Pooling layers; they have no parameters."""

from __future__ import annotations

from .. import ops
from ..engine.tensor import Tensor
from ..ops.conv import Size
from .module import Module


class MaxPool2d(Module):
    """Largest element of each window; see `ops.max_pool2d`.

    >>> import minidl
    >>> MaxPool2d(2)(minidl.ones((1, 3, 8, 8))).shape
    (1, 3, 4, 4)
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        ops.pool.windows("MaxPool2d", kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """Mean of each window; see `ops.avg_pool2d`. PyTorch's ceil_mode is not here.

    >>> import minidl
    >>> AvgPool2d(2)(minidl.ones((1, 3, 8, 8))).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, *,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        ops.pool.windows("AvgPool2d", kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding,
            count_include_pad=self.count_include_pad,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """Mean over windows that lead to the size output_size; see `ops.adaptive_avg_pool2d`.

    >>> import minidl
    >>> AdaptiveAvgPool2d(1)(minidl.ones((1, 3, 8, 8))).shape
    (1, 3, 1, 1)
    """

    def __init__(self, output_size: Size) -> None:
        super().__init__()
        ops.check.pair(type(self).__name__, "output_size", output_size)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """Largest element of such windows; see `ops.adaptive_max_pool2d`.

    >>> import minidl
    >>> AdaptiveMaxPool2d(1)(minidl.ones((1, 3, 8, 8))).shape
    (1, 3, 1, 1)
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.output_size)
