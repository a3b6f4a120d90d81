"""The contract: quantization, real and pretended, and layers that compute in integers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .words import Array, DType, Finish, Narrow, Pair, Requantize


class Integers(ABC):
    """Everything about codes."""

    # -- fake quantization: on x (N, C, L) with a grid for each slice along C ----------------------
    @abstractmethod
    def fake_quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        """x moved to the nearest numbers with a code; NaN stays NaN.

        y = (clip(round_half_even(x / scale) + zero_point, low, high) - zero_point) * scale, with
        scale (C,) > 0 in the dtype of x and zero_point (C,) int32; low <= zero_point <= high, and
        these two have at most 16 bits.
        """

    @abstractmethod
    def fake_quantize_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        """grad where x / scale rounds to a code, without clipping; else, and at NaN, 0."""

    @abstractmethod
    def fake_quantize_scale_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        """Gradient with respect to scale (C,): the sum over a slice of grad times y / scale, less
        x / scale where x has a code (there the rounding counts as the identity).
        """

    # -- integers ---------------------------------------------------------------------------------
    @abstractmethod
    def quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int, dtype: DType
    ) -> Array:
        """clip(round_half_even(x / scale) + zero_point, low, high) as dtype; NaN becomes
        zero_point.

        scale (x's dtype) and zero_point (int32) broadcast against x.
        """

    @abstractmethod
    def dequantize(self, q: Array, scale: Array, zero_point: Array) -> Array:
        """(q - zero_point) * scale in scale's dtype."""

    @abstractmethod
    def int8_matmul(self, a: Array, b: Array) -> Array:
        """a (M, K) int8 or uint8 @ b (N, K) int8 transposed -> (M, N) int32, exact modulo 2^32."""

    @abstractmethod
    def int8_pack(self, weight: Array, groups: int) -> Array:
        """A layer's weight (O, D) or (O, C / groups, kh, kw) int8 as this backend multiplies by it.

        Made once, it serves many calls of `int8_linear` and `int8_conv2d`. Its shape and contents
        are the backend's own; groups is 1 for a linear layer.
        """

    @abstractmethod
    def int8_linear(self, x: Array, weight: Array, packed: Array, finish: Finish) -> Array:
        """x (N, D) int8 or uint8 @ weight (O, D) int8 transposed, finished -> (N, O).

        packed is what `int8_pack` made of weight.
        """

    @abstractmethod
    def int8_conv2d(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Finish,
    ) -> Array:  # fmt: skip
        """conv2d of x (int8 or uint8) with weight (int8), finished; padding is filled with
        pad_value. packed is what `int8_pack` made of weight.
        """

    @abstractmethod
    def int8_conv2d_pool(
        self, x: Array, weight: Array, packed: Array, pad_value: int,
        stride: Pair, padding: Pair, dilation: Pair, groups: int, finish: Requantize, pool: Pair,
    ) -> Array:  # fmt: skip
        """int8_max_pool2d(int8_conv2d(...), pool, pool, (0, 0)), without the image in between.

        The largest sum becomes the largest code (multipliers are not negative), so that pooling may
        come first and leave less to requantize.
        """

    # What stands between the layers of a network in integers. A code is int8 or uint8, and stands
    # for scale * (code - zero_point). What has no arithmetic (embedding, concatenate, pad, reshape,
    # transpose, getitem) takes codes as it takes any number.
    @abstractmethod
    def int8_add(
        self, a: Array, b: Array, zero_points: Pair, multipliers: Pair, narrow: Narrow
    ) -> Array:
        """The sum of codes of two grids: n = (a - z0) * m0 + (b - z1) * m1, narrowed.

        a and b broadcast. |m0|, |m1| <= 2^21 and 1 <= shift <= 30, so that 32 bits hold all of it;
        m0 = s_a / s * 2^shift for scales s_a of a and s of the result, rounded once for both.
        """

    @abstractmethod
    def int8_lookup(self, x: Array, table: Array) -> Array:
        """Any function of one code: table[x mod 256], in the dtype of the table (256,).

        So the table of an int8 x starts with the codes 0 .. 127, then come -128 .. -1. A change of
        grid is such a function, and GELU, sigmoid, hard-swish and so on between two grids.
        """

    @abstractmethod
    def int8_max_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """The largest code of each window of x (N, C, H, W) -> (N, C, OH, OW); padding never is.

        The width of the padding is at most half the kernel's. `max_pool2d` tells positions as well.
        """

    @abstractmethod
    def int8_avg_pool2d(
        self, x: Array, zero_point: int, multiplier: Array, kernel: Pair, stride: Pair,
        padding: Pair, narrow: Narrow,
    ) -> Array:  # fmt: skip
        """The mean of each window's codes: n = sum(x - zero_point) * multiplier[count - 1],
        narrowed.

        The sum is over the `count` pixels of the window that lie in the image, and multiplier (kh *
        kw,) int32 says what to divide it by: the same number throughout if padding counts (as
        zeros), one that falls with 1 / count if it does not. The product has 64 bits, 1 <= shift <=
        62.
        """

    @abstractmethod
    def int8_layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: int, narrow: Narrow
    ) -> Array:
        """Rows of codes x (N, D), D <= 4096, brought to mean 0 and variance 1; scaled and shifted.

        c = D * x - sum(x) is D times the distance from the mean, exactly; and then, / being floor,
            R = max(isqrt((sum(c^2) + eps) * 2^12 / D), 1)      2^6 * D * the standard deviation
            h = (c * (2^40 / R) + 2^21) / 2^22                  the normalised code, times 2^12
            n = h * weight + bias, narrowed.
        weight (D,) int32 and bias (D,) int64; 64 bits hold all of it if sum(c^2) + eps < 2^51. eps
        is D^3 / s_x^2 times that of `layer_norm`. Source: Kim et al. (2021), "I-BERT",
        arXiv:2101.01321, section 3.6.
        """

    @abstractmethod
    def int8_attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        zero_points: tuple[int, int, int], multiplier: int, factor: int, narrow: Narrow,
    ) -> Array:  # fmt: skip
        """`attention` on codes: query (N, H, T, D), key (N, H, S, D), value (N, H, S, E) -> (N, H,
        T, E).

        With scores s = sum((query - z0) * (key - z1)), and d the largest score in sight less s,
            t = min(d * multiplier / 2^19, 2560)        how many 256ths of a halving
            u = (P + 2^(19 + i)) / 2^(20 + i)           the weight: 255 * 2^(-t / 256), rounded
                with P = 255 * 2^20 - f * (701440 - 700 * f), i = t / 256, f = t mod 256
            n = sum(u * (value - z2)) * (factor * 2^16 / max(sum(u), 1)), narrowed,
        where / is floor. u is 0 for keys out of sight: those that mask (bool, broadcasts to (N, H,
        T, S)) denies, and if causal those behind the query. multiplier is s_q * s_k / sqrt(D) *
        2^27 / ln 2, from 1 to 2^29; factor (below 2^31) is s_v / s * 2^(shift - 16). D <= 2^14 and
        1 <= S <= 2^15, so that 32 bits hold the sums. P is the parabola through 1, 2^-1/2 and 1/2.
        Source of the scheme: Kim et al. (2021), "I-BERT", arXiv:2101.01321, sections 3.4 and 3.5.
        """

    @abstractmethod
    def int8_lstm(
        self, x: Array, weight: Array, packed: Array, h: Array, c: Array, lengths: Array | None,
        reverse: bool, inputs: Requantize, hidden: Requantize, sigmoid: Array, tanh: Array,
        narrow: Narrow,
    ) -> tuple[Array, Array]:  # fmt: skip
        """`lstm` on codes: x (T, N, 4D) int32 holds the sums of int8_linear with finish None.

        A step adds the sums of h (N, D) int8 or uint8 and weight (4D, D) int8: the gates are
            p = clip(requantized(x[t], inputs) + requantized(h @ weight transposed, hidden))
        in units of 2^-12, where clip is to int16, and both finishes have zero point 0, the ends of
        int16 and its dtype. Tables (4096,) int16 hold sigmoid and tanh of p from -8 to 8, times
        2^15: i = sigmoid[p / 2^4 + 2048] and so on, / being floor. With c (N, D) int16 in units of
        2^-11, the cells and states are
            c = clip(round_half_even((f * c * 2^4 + i * g) / 2^19))
            h = o * tanh[max(min(c / 2^3, 2047), -2048) + 2048], narrowed.
        -> states (T + 1, N, D), h after each step (zero_point behind the end) and the last h, in
        h's dtype, which is narrow's; and the last c. 32 bits hold the sums: D <= 2^15, and
        1 <= narrow.shift <= 29. Source of the scheme: Jacob et al. (2018), arXiv:1712.05877, and
        the integer LSTM of TensorFlow Lite.
        """
