"""Convolution as one matrix product per group, over windows laid out as columns.

Source of the layout: Chellapilla, Puri & Simard (2006), "High performance convolutional neural
networks for document processing", section 3.
"""

from __future__ import annotations

from ..interface import Array, Pair, Shape
from ..quiet import quiet
from .windows import Windows, framed, grouped, out_size, per_group


class Conv(Windows):
    """Letters as in the interface; P is the number of windows, OH * OW."""

    @quiet
    def conv2d(
        self, x: Array, weight: Array, bias: Array | None,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        kernel = weight.shape[2:]
        cols = grouped(self.im2col(x, kernel, stride, padding, dilation), groups)
        y = self.xp.matmul(per_group(weight, groups), cols)
        size = out_size(framed(x.shape[2:], padding), kernel, stride, dilation)
        y = y.reshape(x.shape[0], weight.shape[0], *size)
        if bias is not None:
            y += bias.reshape(-1, 1, 1)
        return y

    @quiet
    def conv2d_input_grad(
        self, grad: Array, weight: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """d/dcols of W @ cols is W transposed; `col2im` takes it back to x."""
        n, o, oh, ow = grad.shape
        g = grad.reshape(n, groups, o // groups, oh * ow)
        cols = self.xp.matmul(per_group(weight, groups).transpose(0, 2, 1), g)
        return self.col2im(cols, shape, weight.shape[2:], stride, padding, dilation)

    @quiet
    def conv2d_weight_grad(
        self, grad: Array, x: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        n, o, oh, ow = grad.shape
        cols = grouped(self.im2col(x, (shape[2], shape[3]), stride, padding, dilation), groups)
        g = grad.reshape(n, groups, o // groups, oh * ow)
        return self.xp.matmul(g, cols.transpose(0, 1, 3, 2)).sum(axis=0).reshape(shape)
