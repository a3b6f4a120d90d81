"""The contract: arrays, elementwise functions, reductions and shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from .words import Array, Axes, DType, Pair, Shape


class Arrays(ABC):
    """What NumPy has too, under NumPy's names where it has one."""

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
