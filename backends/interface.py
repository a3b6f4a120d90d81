"""The contract: everything that a backend computes, on one page.

A backend turns native arrays into native arrays and knows nothing about gradients' meaning,
layers or Tensors. Methods whose name ends in `_grad` are given the gradient of the loss with
respect to the method's result, and return it with respect to the inputs. Arguments arrive checked:
shapes agree, indices are in range, axes are non-negative tuples. No method changes its inputs,
except where it says "in place". Results may be views of the inputs only where NumPy's would be.

Letters in shapes: N batch, C and O channels in and out, H and W height and width, D features,
R rows, K taps of a kernel, G groups, T steps in time; in attention H heads, T queries, S keys, E
features of a value. A `pair` is (vertical, horizontal).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from .registry import get

if TYPE_CHECKING:
    from .program import Lowering

Array: TypeAlias = Any  # np.ndarray, cupy.ndarray, or what a third-party backend calls an array
Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Axes: TypeAlias = int | tuple[int, ...] | None
DType: TypeAlias = np.dtype[Any]


class Rescale(NamedTuple):
    """Sums of products of codes become real numbers; every array has one element per output.

    y = float32(sum + offset) * scale + bias, and max(y, 0) if relu. The addition in the brackets is
    exact modulo 2^32; the conversion, the product and the second addition are rounded to float32
    one after the other, never fused.
    """

    offset: Array  # int32
    scale: Array  # float32
    bias: Array  # float32
    relu: bool


class Requantize(NamedTuple):
    """Sums of products of codes become codes again, in integers alone.

    q = clip(round_half_even((sum + offset) * multiplier / 2^shift) + zero_point, low, high). The
    addition in the brackets is exact modulo 2^32, the product has 64 bits; 0 <= multiplier < 2^31,
    1 <= shift <= 62. Source: Jacob et al. (2018), arXiv:1712.05877, section 2.2.
    """

    offset: Array  # int32
    multiplier: Array  # int32
    shift: Array  # int32
    zero_point: int
    low: int
    high: int
    dtype: DType  # int8 or uint8; int16 within `int8_lstm`


class Narrow(NamedTuple):
    """A whole number n, of which `shift` bits are a fraction, becomes a code, in integers alone.

    q = clip(round_half_even(n / 2^shift) + zero_point, low, high). A relu is a `low` that is the
    zero point. Source: Jacob et al. (2018), arXiv:1712.05877, section 2.2.
    """

    shift: int
    zero_point: int
    low: int
    high: int
    dtype: DType  # int8 or uint8


Finish: TypeAlias = Rescale | Requantize | None  # None: the sums themselves, int32


class SparseWeight(NamedTuple):
    """A matrix (O, D) of which only some blocks of R outputs x 1 input are stored; R is 1 or more.

    Blocks i R .. i R + R - 1 of the outputs make row i of blocks. Its blocks are those numbered
    starts[i] .. starts[i + 1] - 1, in any order: block k holds values[k, r] at (i R + r,
    indices[k]). What is beyond the last output, if R does not divide O, is not looked at. With
    R = 1 this is the format CSR, with others BCSR. Source: Saad (2003), "Iterative methods for
    sparse linear systems", 3.4.
    """

    values: Array  # (B, R)
    indices: Array  # int32 (B,)
    starts: Array  # int64 (ceil(O / R) + 1,), from 0 to B
    shape: Shape  # (O, D)


class Backend(ABC):
    """Arrays and kernels of one library. One instance exists per process; see `backends.get`."""

    name: str = "?"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # the one instance: copies of what lives on it live on it too

    def __reduce__(self) -> tuple[Any, ...]:
        return get, (self.name,)  # so does what was pickled, in this process or in another

    @property
    def lowering(self) -> Lowering | None:
        """How a step that `minidl.compile` recorded is replayed here; None where it cannot be."""
        return None

    # -- arrays ---------------------------------------------------------------------------------
    @abstractmethod
    def asarray(self, x: Any, dtype: DType | None = None) -> Array:
        """Bring a host array, scalar, nested list or native array here; copies only if it must."""

    @abstractmethod
    def to_numpy(self, x: Array) -> np.ndarray:
        """The values on the host; a view where the array lives there already."""

    @abstractmethod
    def is_array(self, x: object) -> bool:
        """Whether x is a native array of this backend."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything that was launched has finished (a CPU has nothing to wait for)."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Device, library versions, threads: whatever explains a timing. Values are for people."""

    @abstractmethod
    def set_num_threads(self, count: int) -> None:
        """Let all Python threads use at most count threads each from now on; see `registry`."""

    @abstractmethod
    def get_num_threads(self) -> int:
        """How many threads an operation may use, as far as that is known; 1 for a GPU."""

    @abstractmethod
    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        """A new array with every element equal to value."""

    @abstractmethod
    def copy(self, x: Array) -> Array:
        """A new C-contiguous array with the values of x."""

    @abstractmethod
    def astype(self, x: Array, dtype: DType) -> Array:
        """The values of x converted to dtype, as NumPy converts them; always a new array."""

    @abstractmethod
    def copyto(self, target: Array, x: Array) -> None:
        """In place: target[...] = x."""

    @abstractmethod
    def bounds(self, x: Array) -> tuple[float, float]:
        """(smallest, largest) element of a non-empty array, on the host; NaN if any is.
        Synchronises.
        """

    @abstractmethod
    def all_finite(self, x: Array) -> bool:
        """Whether no element is NaN or infinite. Synchronises."""

    # -- elementwise: shapes broadcast as in NumPy, dtypes promote as in NumPy 2 (NEP 50) ---------
    @abstractmethod
    def add(self, a: Array, b: Array) -> Array:
        """a + b."""

    @abstractmethod
    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""

    @abstractmethod
    def multiply(self, a: Array, b: Array) -> Array:
        """a * b."""

    @abstractmethod
    def divide(self, a: Array, b: Array) -> Array:
        """a / b (true division; by zero gives infinity or NaN without a warning)."""

    @abstractmethod
    def pow(self, a: Array, b: Array) -> Array:
        """a ** b."""

    @abstractmethod
    def maximum(self, a: Array, b: Array) -> Array:
        """The larger of a and b; NaN if either is."""

    @abstractmethod
    def minimum(self, a: Array, b: Array) -> Array:
        """The smaller of a and b; NaN if either is."""

    @abstractmethod
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """a where condition holds, else b."""

    @abstractmethod
    def clip(self, x: Array, low: float | None, high: float | None) -> Array:
        """x limited to [low, high]; NaN stays NaN."""

    @abstractmethod
    def negative(self, x: Array) -> Array:
        """-x."""

    @abstractmethod
    def abs(self, x: Array) -> Array:
        """|x|."""

    @abstractmethod
    def sign(self, x: Array) -> Array:
        """-1, 0 or 1; NaN stays NaN."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """e to the power x."""

    @abstractmethod
    def log(self, x: Array) -> Array:
        """Natural logarithm; log(0) = -inf, log(negative) = NaN, without a warning."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """Square root, correctly rounded; NaN for negatives, without a warning."""

    @abstractmethod
    def sin(self, x: Array) -> Array:
        """Sine of x in radians."""

    @abstractmethod
    def cos(self, x: Array) -> Array:
        """Cosine of x in radians."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

    @abstractmethod
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x), without overflow."""

    @abstractmethod
    def softplus(self, x: Array) -> Array:
        """log(1 + e^x), without overflow."""

    @abstractmethod
    def relu(self, x: Array) -> Array:
        """max(x, 0); NaN stays NaN."""

    @abstractmethod
    def relu_grad(self, grad: Array, y: Array) -> Array:
        """grad, but 0 where y = relu(x) is 0."""

    @abstractmethod
    def leaky_relu(self, x: Array, slope: float) -> Array:
        """x where x > 0, else slope * x."""

    @abstractmethod
    def gelu(self, x: Array, approximate: str) -> Array:
        """x * Phi(x), Phi the normal distribution function; approximate is "none" or "tanh"."""

    @abstractmethod
    def gelu_grad(self, grad: Array, x: Array, approximate: str) -> Array:
        """grad times the derivative of gelu at x."""

    @abstractmethod
    def silu(self, x: Array) -> Array:
        """x * sigmoid(x)."""

    @abstractmethod
    def silu_grad(self, grad: Array, x: Array) -> Array:
        """grad times the derivative of silu at x."""

    # -- reductions: axis is None (all axes), an int or a tuple -----------------------------------
    @abstractmethod
    def sum(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        """Sum over axis; integers and booleans add up in int64.

        Adjacent elements of a long row add up pairwise, in blocks or in float64, not one by one:
        float32 would be off by percents after a million terms.
        """

    @abstractmethod
    def mean(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        """Mean over axis, in the dtype of x."""

    @abstractmethod
    def var(
        self, x: Array, axis: Axes = None, correction: float = 0, keepdims: bool = False
    ) -> Array:
        """Mean squared distance from the mean, divided by n - correction."""

    @abstractmethod
    def max(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        """Largest element over axis; NaN if any is."""

    @abstractmethod
    def min(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        """Smallest element over axis; NaN if any is."""

    @abstractmethod
    def argmax(self, x: Array, axis: int | None = None) -> Array:
        """int64 index of the first largest element (of the first NaN, if there is one)."""

    @abstractmethod
    def argmin(self, x: Array, axis: int | None = None) -> Array:
        """int64 index of the first smallest element (of the first NaN, if there is one)."""

    @abstractmethod
    def cumsum(self, x: Array, axis: int) -> Array:
        """Running sum along axis; integers and booleans add up in int64."""

    @abstractmethod
    def logsumexp(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
        """log of the sum of exponentials, shifted by the maximum so that nothing overflows."""

    @abstractmethod
    def softmax(self, x: Array, axis: int) -> Array:
        """exp(x) / sum(exp(x)) along axis, shifted by the maximum."""

    @abstractmethod
    def softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        """y * (grad - sum(grad * y)), y = softmax(x)."""

    @abstractmethod
    def log_softmax(self, x: Array, axis: int) -> Array:
        """x - logsumexp(x) along axis."""

    @abstractmethod
    def log_softmax_grad(self, grad: Array, y: Array, axis: int) -> Array:
        """grad - exp(y) * sum(grad), y = log_softmax(x)."""

    # -- shape ------------------------------------------------------------------------------------
    @abstractmethod
    def reshape(self, x: Array, shape: Shape) -> Array:
        """The same elements in C order under another shape; a view where possible."""

    @abstractmethod
    def transpose(self, x: Array, axes: Shape) -> Array:
        """Axes in another order; a view."""

    @abstractmethod
    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """x repeated to shape without copying; read only."""

    @abstractmethod
    def concatenate(self, xs: Sequence[Array], axis: int) -> Array:
        """Arrays one behind another along axis."""

    @abstractmethod
    def pad(self, x: Array, widths: Sequence[Pair], value: float = 0) -> Array:
        """x framed by widths[axis] = (before, after) elements equal to value."""

    @abstractmethod
    def flip(self, x: Array, axis: Shape) -> Array:
        """x with the order along each given axis reversed."""

    @abstractmethod
    def getitem(self, x: Array, index: Any) -> Array:
        """x[index], basic or advanced; index arrays are native."""

    @abstractmethod
    def getitem_grad(self, grad: Array, index: Any, shape: Shape) -> Array:
        """Zeros of shape, to which grad is added at index (elements taken twice add up)."""

    @abstractmethod
    def setitem(self, x: Array, index: Any, value: Any) -> None:
        """In place: x[index] = value."""

    @abstractmethod
    def gather(self, x: Array, axis: int, index: Array) -> Array:
        """y[..., i, ...] = x[..., index[..., i, ...], ...] along axis (`take_along_axis`)."""

    @abstractmethod
    def gather_grad(self, grad: Array, axis: int, index: Array, shape: Shape) -> Array:
        """Zeros of shape, to which grad is added where gather took it."""

    @abstractmethod
    def index_add(self, x: Array, axis: int, index: Array, source: Array) -> Array:
        """A copy of x in which source's slice i is added to slice index[i] along axis."""

    @abstractmethod
    def embedding(self, weight: Array, index: Array) -> Array:
        """Rows of weight (R, D) at index (any shape) -> (*index.shape, D)."""

    @abstractmethod
    def embedding_grad(self, grad: Array, index: Array, rows: int) -> Array:
        """grad (*index.shape, D) added up into (rows, D)."""

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

    # -- random: counter-based, the same bits on every backend ------------------------------------
    @abstractmethod
    def philox(self, seed: int, counter: int, count: int) -> Array:
        """uint32 (count,): the words of Philox 4x32-10 blocks counter, counter + 1, ...

        seed has 64 bits, a key of two 32-bit words; a counter has 128 bits, four words, the lowest
        first. Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", 3.3.
        """

    @abstractmethod
    def uniform(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        """Multiples of 2^-24 in [0, 1), one Philox word each, whatever the floating dtype."""

    @abstractmethod
    def normal(self, seed: int, counter: int, shape: Shape, dtype: DType) -> Array:
        """Standard normal deviates, one Philox word each, by Box & Muller (1958).

        Every step is exact or correctly rounded (+ - * / sqrt in float64), so all backends agree
        bit for bit.
        """

    @abstractmethod
    def dropout(self, x: Array, p: float, seed: int, counter: int) -> tuple[Array, Array]:
        """x with each element dropped (0) with probability p and the others scaled up; and the bool
        mask.

        Element i (C order) is kept where Philox word i >= ceil(p * 2^32), and then multiplied by
        1 / (1 - p), rounded to the dtype of x.
        """

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
        h's dtype, which is narrow's; and the last c. 32 bits hold the sums: D <= 2^15. Source of
        the scheme: Jacob et al. (2018), arXiv:1712.05877, and the integer LSTM of TensorFlow Lite.
        """

    # -- optimizers: in place on flat arrays of one dtype; `grad` is left as it is ---------------
    @abstractmethod
    def sgd_step(
        self, param: Array, grad: Array, velocity: Array | None, lr: float, momentum: float,
        dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        """In place: one step of `minidl.optim.SGD`; on the first one velocity = grad."""

    @abstractmethod
    def rmsprop_step(
        self, param: Array, grad: Array, square: Array, velocity: Array | None,
        lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        """In place: one step of `minidl.optim.RMSprop`."""

    @abstractmethod
    def adagrad_step(
        self, param: Array, grad: Array, square: Array, lr: float, eps: float, weight_decay: float
    ) -> None:
        """In place: one step of `minidl.optim.Adagrad`; lr is already decayed."""

    @abstractmethod
    def adam_step(
        self, param: Array, grad: Array, mean: Array, square: Array, step: int, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In place: a step of `minidl.optim.Adam`, or of AdamW if decoupled; step counts from 1."""

    # -- limiting gradients -----------------------------------------------------------------------
    @abstractmethod
    def norm(self, x: Array) -> Array:
        """Square root of the sum of all squares, (), in the dtype of x.

        It is added up in float64: float32 neither overflows on the way nor loses small terms.
        """

    @abstractmethod
    def scale(self, x: Array, factor: Array) -> None:
        """In place: x *= factor, which is (), floating and rounded to the dtype of x first."""

    @abstractmethod
    def limit(self, x: Array, bound: float) -> None:
        """In place: x limited to [-bound, bound], bound >= 0; NaN stays NaN."""
