"""The contract: what layers compute, forward and backward, and the losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from .words import Array, Pair, Shape, SparseWeight


class Layers(ABC):
    """Products, convolution, normalisation, attention, recurrent networks, losses."""

    # -- products ---------------------------------------------------------------------------------
    @abstractmethod
    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix product over the last two axes, batched and broadcast over the others.

        out, if given, is an array of the result's shape and dtype to write it to; it shares no
        memory with a and b.
        """

    @abstractmethod
    def einsum(self, subscripts: str, *operands: Array) -> Array:
        """Einstein summation with an explicit output ("ij,jk->ik")."""

    @abstractmethod
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """x (N, D) @ weight (O, D) transposed + bias (O,) -> (N, O)."""

    @abstractmethod
    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """relu(linear(x, weight, bias)), without a second pass where that can be had."""

    @abstractmethod
    def linear_grad(
        self, grad: Array, x: Array | None, weight: Array | None, y: Array | None, bias: bool,
        out: tuple[Array | None, Array | None] = (None, None),
    ) -> tuple[Array, ...]:  # fmt: skip
        """Gradients of linear; of linear_relu if y, its result, is given.

        Those that are wanted, in this order: with respect to x unless weight is None; to weight
        unless x is None; to bias if bias. out: contiguous arrays of the shape and dtype of weight
        and bias to write theirs to, or None; they share no memory with the arguments.
        """

    @abstractmethod
    def sparse_pack(self, weight: SparseWeight) -> Any:
        """A sparse weight as this backend multiplies by it: made once, for many `sparse_linear`.

        An array or a tuple of arrays; its contents are the backend's own.
        """

    @abstractmethod
    def sparse_linear(
        self, x: Array, weight: SparseWeight, packed: Any, bias: Array | None, relu: bool
    ) -> Array:
        """x (N, D) @ weight (O, D) transposed + bias (O,), and relu of it if asked for -> (N, O).

        Only stored blocks are multiplied: NaN and infinity reach no output without a weight for
        them. packed is what `sparse_pack` made of weight.
        """

    @abstractmethod
    def weight_only_linear(
        self, x: Array, weight: Array, scale: Array, zero_point: Array, bias: Array | None,
        group_size: int,
    ) -> Array:  # fmt: skip
        """linear(x, (codes - zero_point) * scale, bias) for a weight that is held as codes.

        x (N, D), scale (O, G) and bias (O,) are of one floating dtype, zero_point (O, G) is int32.
        Each row of the weight has G = ceil(D / group_size) groups of neighbours, the last perhaps
        shorter. weight is int8 (O, D), or uint8 (O, ceil(D / 2)): two codes from -8 to 7 to a byte,
        each stored as code + 8, the earlier one in the lower four bits. D >= 1.
        """

    # -- convolution and pooling on (N, C, H, W) --------------------------------------------------
    @abstractmethod
    def im2col(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, value: float = 0
    ) -> Array:
        """Every window of x as a column, (N, C * kh * kw, OH * OW); value fills the padding."""

    @abstractmethod
    def col2im(
        self, cols: Array, shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        """The transpose of im2col: columns added back to where they were taken, (N, C, H, W)."""

    @abstractmethod
    def conv2d(
        self, x: Array, weight: Array, bias: Array | None,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """Cross-correlate x with weight (O, C / groups, kh, kw), bias (O,) -> (N, O, OH, OW)."""

    @abstractmethod
    def conv2d_input_grad(
        self, grad: Array, weight: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """Gradient of conv2d with respect to x of that shape; also the transposed convolution."""

    @abstractmethod
    def conv2d_weight_grad(
        self, grad: Array, x: Array, shape: Shape,
        stride: Pair, padding: Pair, dilation: Pair, groups: int,
    ) -> Array:  # fmt: skip
        """Gradient of conv2d with respect to weight of the given shape."""

    @abstractmethod
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """Largest element of each window, and its int64 position h * W + w in x (the first, or the
        first NaN).

        Padding counts as -inf; its width is at most half the kernel's. Both results are (N, C, OH,
        OW).
        """

    @abstractmethod
    def max_pool2d_grad(self, grad: Array, index: Array, shape: Shape) -> Array:
        """Zeros of shape (N, C, H, W), to which grad is added at the positions index."""

    @abstractmethod
    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
    ) -> Array:
        """Mean of each window; padding is 0, and in the divisor only if count_include_pad."""

    @abstractmethod
    def avg_pool2d_grad(
        self,
        grad: Array,
        shape: Shape,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        """Gradient of avg_pool2d with respect to x of the given shape."""

    # -- normalisation ----------------------------------------------------------------------------
    @abstractmethod
    def layer_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Bring each row of x to mean 0 and variance 1, then scale and shift it.

        x (N, D), weight (D,), bias (D,) -> y (N, D), mean (N, 1), inv_std (N, 1).
        """

    @abstractmethod
    def layer_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        """Gradients of layer_norm with respect to x, weight and bias."""

    @abstractmethod
    def batch_norm(
        self, x: Array, weight: Array, bias: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Bring each channel of x to mean 0 and variance 1, then scale and shift it.

        x (N, C, L), weight (C,), bias (C,) -> y (N, C, L), mean (C,), var (C,) (biased).
        """

    @abstractmethod
    def batch_norm_grad(
        self, grad: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Gradients of batch_norm with respect to x, weight and bias."""

    # -- attention --------------------------------------------------------------------------------
    @abstractmethod
    def attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Mean of the values, weighted by softmax(scale * query key^T + mask) with dropout.

        query (N, H, T, D), key (N, H, S, D), value (N, H, S, E), of one dtype -> y (N, H, T, E) and
        the logsumexp (N, H, T) of each row of scores. mask is None or broadcasts to (N, H, T, S):
        bool, False where a query must not look, or floating, added to the scores. If causal, query
        t looks at the keys up to t only. A row that may look nowhere has y = 0 and logsumexp =
        -inf. Weight i (C order) is dropped as by `dropout`, with p, seed and counter. Values that
        some query must not look at have to be finite: 0 times infinity is NaN.
        """

    @abstractmethod
    def attention_grad(
        self, grad: Array, query: Array, key: Array, value: Array, mask: Array | None, y: Array,
        logsumexp: Array, causal: bool, scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Gradients of attention with respect to query, key and value."""

    # -- recurrent networks: whole sequences of T >= 1 steps of N samples, D units -----------------
    # x is what the input brings to each step: its product with a weight, without a bias. Sample n
    # ends after lengths[n] steps (int64, 1 to T; None: all after T); what stands in x behind that
    # is not looked at, and its gradient is 0. With `reverse` steps run from the end to the start.
    # The first result, `states`, has a row (N, D) for each step, h after it or 0 behind the end,
    # then a row for the last h (in LSTM another for the last c). Gradients are for all its rows.
    @abstractmethod
    def rnn(
        self, x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> Array:  # fmt: skip
        """h = f(x[t] + bias + h @ weight transposed), step by step; f is "tanh" or "relu".

        x (T, N, D), weight (D, D), bias (D,), h (N, D) -> states (T + 1, N, D).
        """

    @abstractmethod
    def rnn_grad(
        self, grad: Array, states: Array, weight: Array, h: Array, lengths: Array | None,
        reverse: bool, nonlinearity: str,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        """Gradients of rnn with respect to x, weight, bias and h."""

    @abstractmethod
    def lstm(
        self, x: Array, weight: Array, bias: Array | None, h: Array, c: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """c = f * c + i * g and h = o * tanh(c), step by step.

        The gates i, f, g, o, each D wide, are x[t] + bias + h @ weight transposed, under sigmoid (g
        under tanh). x (T, N, 4D), weight (4D, D), bias (4D,), h and c (N, D) -> states (T + 2, N,
        D), gates (T, N, 4D) (0 behind the end), cells (T, N, D): c after each step.
        """

    @abstractmethod
    def lstm_grad(
        self, grad: Array, states: Array, gates: Array, cells: Array, weight: Array, h: Array,
        c: Array, lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        """Gradients of lstm with respect to x, weight, bias, h and c."""

    @abstractmethod
    def gru(
        self, x: Array, weight: Array, bias: Array | None, hidden_bias: Array | None, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array]:  # fmt: skip
        """h = (1 - z) * n + z * h with n = tanh(x_n + r * q), step by step.

        r and z are the sigmoid of the first two thirds of x[t] + bias + p, p = h @ weight
        transposed + hidden_bias; x_n is the last third of x[t] + bias, q that of p. x (T, N, 3D),
        weight (3D, D), both biases (3D,), h (N, D) -> states (T + 1, N, D), gates (T, N, 4D): r, z,
        n, q (0 behind the end).
        """

    @abstractmethod
    def gru_grad(
        self, grad: Array, states: Array, gates: Array, weight: Array, h: Array,
        lengths: Array | None, reverse: bool,
    ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
        """Gradients of gru with respect to x, weight, bias, hidden_bias and h."""

    # -- losses -----------------------------------------------------------------------------------
    @abstractmethod
    def cross_entropy(
        self,
        logits: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        smoothing: float,
    ) -> tuple[Array, Array]:
        """Loss of each row and its log-probabilities: (N, C), int64 (N,) -> (N,), (N, C).

        loss = -(1 - smoothing) * w[t] * logp[t] - smoothing / C * sum_c w[c] * logp[c];
        rows whose target is ignore_index have loss 0. weight (C,) or None for ones.
        """

    @abstractmethod
    def cross_entropy_grad(
        self, grad: Array, log_probs: Array, target: Array, weight: Array | None,
        ignore_index: int, smoothing: float,
    ) -> Array:  # fmt: skip
        """Gradient with respect to the logits; grad is (N,)."""
