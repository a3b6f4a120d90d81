"""Backends with one mistake each, as people make them; the conformance kit must find every one.

Each is the NumPy backend but for what its first line says. `found_by` names the methods to which
the kit has to be pointed; `test_faults.py` points it there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from backends import Requantize, Rescale
from backends.numpy_backend import NumpyBackend, random
from backends.numpy_backend.conv import grouped, per_group
from backends.numpy_backend.pool import DENSE
from backends.numpy_backend.windows import framed, out_size, taps
from backends.quiet import quiet

Kind = TypeVar("Kind", bound=type)

FAULTS: list[Any] = []  # classes with a `name` and with `methods`, the names of those to check
MANY = 1 << 12  # elements from which some of them take their wrong path


def found_by(*methods: str, races: bool = False) -> Callable[[Kind], Kind]:
    """Register a class as a fault which cases of these methods find, if it is a race sometimes."""

    def register(kind: Kind) -> Kind:
        words = re.sub(r"(?<!^)(?=[A-Z][a-z0-9]|A[A-Z])", " ", kind.__name__)
        kind.name, kind.methods, kind.races = words.lower(), methods, races  # type: ignore[attr-defined]
        FAULTS.append(kind)
        return kind

    return register


# -- attention -------------------------------------------------------------------------------------


@found_by("attention")
class CausalAttentionLooksOneAhead(NumpyBackend):
    def attention(self, query, key, value, mask, causal, scale, p, seed, counter):
        if causal:
            seen = np.tri(query.shape[2], key.shape[2], 1, dtype=bool)
            hidden = -np.inf if mask is not None and mask.dtype.kind == "f" else False
            mask = seen if mask is None else np.where(seen, mask, hidden)
        return super().attention(query, key, value, mask, False, scale, p, seed, counter)


@found_by("attention")
class AttentionToNothingIsNan(NumpyBackend):
    @quiet
    def _weights(self, scores, logsumexp):
        return np.exp(scores - logsumexp[..., None])


@found_by("attention_grad")
class AttentionGradForgetsTheScaleOfTheKey(NumpyBackend):
    def attention_grad(self, grad, query, key, *args):
        scale = args[5]
        q, k, v = super().attention_grad(grad, query, key, *args)
        return q, k / scale, v


@found_by("attention_grad")
class AttentionDropsOtherWeightsOnTheWayBack(NumpyBackend):
    def attention_grad(self, *args):
        return super().attention_grad(*args[:-1], args[-1] + 1)


@found_by("attention")
class AttentionOfOneBlockOfKeysOnly(NumpyBackend):
    """Beyond 64 keys the maximum moves on and what came before is not scaled along."""

    def attention(self, query, key, value, mask, *settings):
        y, logsumexp = super().attention(query, key, value, mask, *settings)
        return y * (1 if key.shape[2] <= 64 else 1 + 1e-3), logsumexp


# -- arrays ----------------------------------------------------------------------------------------


@found_by("copy")
class CopyReturnsItsArgument(NumpyBackend):
    def copy(self, x):
        return x


@found_by("copy")
class CopyKeepsTheMemoryOrder(NumpyBackend):
    def copy(self, x):
        return x.copy(order="K")


@found_by("astype")
class AstypeIsFreeForTheSameDtype(NumpyBackend):
    @quiet
    def astype(self, x, dtype):
        return x.astype(dtype, copy=False)


@found_by("copyto")
class CopytoFillsACopyOfAView(NumpyBackend):
    @quiet
    def copyto(self, target, x):
        np.ascontiguousarray(target)[...] = x


@found_by("bounds")
class BoundsSkipNan(NumpyBackend):
    def bounds(self, x):
        return float(np.fmin.reduce(x, axis=None)), float(np.fmax.reduce(x, axis=None))


@found_by("all_finite")
class AllFiniteLooksAtTheSum(NumpyBackend):
    @quiet
    def all_finite(self, x):
        return bool(np.isfinite(x.sum()))


# -- elementwise -----------------------------------------------------------------------------------


@found_by("divide")
class DivideMultipliesByTheReciprocal(NumpyBackend):
    @quiet
    def divide(self, a, b):
        return self._array(np.multiply(a, 1 / b))


@found_by("divide")
class DivideByANumberMultipliesByItsReciprocal(NumpyBackend):
    def divide(self, a, b):
        if isinstance(b, (int, float)):
            return self.multiply(a, 1 / b)
        return super().divide(a, b)


@found_by("multiply")
class MultiplyOfTwoKindsOfIntegersIsPow(NumpyBackend):
    """One wrong entry in a table of kernels by dtypes; with ones for exponents it does not show."""

    def multiply(self, a, b):
        kinds = [getattr(x, "dtype", np.dtype(float)) for x in (a, b)]
        if kinds[0] != kinds[1] and all(k.kind in "iu" for k in kinds):
            return self.pow(a, b)
        return super().multiply(a, b)


@found_by("add")
class AddWidensForAPythonNumber(NumpyBackend):
    def add(self, a, b):
        return super().add(a, np.asarray(b))


@found_by("pow")
class PowOfLogarithms(NumpyBackend):
    def pow(self, a, b):
        return self.exp(self.multiply(b, self.log(a)))


@found_by("maximum")
class MaximumDropsNan(NumpyBackend):
    def maximum(self, a, b):
        return self._array(np.fmax(a, b))


@found_by("clip")
class ClipDropsNan(NumpyBackend):
    def clip(self, x, low, high):
        y = x.copy() if low is None else np.fmax(x, np.asarray(low, x.dtype))
        return self._array(y if high is None else np.fmin(y, np.asarray(high, x.dtype)))


@found_by("where")
class WhereMultipliesByTheMask(NumpyBackend):
    @quiet
    def where(self, condition, a, b):
        return self._array(condition * a + ~condition * b)


@found_by("sign")
class SignOfNanIsZero(NumpyBackend):
    def sign(self, x):
        return self._array(((x > 0) * 1.0 - (x < 0)).astype(x.dtype))


@found_by("sqrt")
class SqrtByTheReciprocalRoot(NumpyBackend):
    @quiet
    def sqrt(self, x):
        return self._array(x * (1 / np.sqrt(x)))


@found_by("exp")
class ExpClampsItsArgument(NumpyBackend):
    @quiet
    def exp(self, x):
        return self._array(np.exp(np.clip(x, -87, 88)))


@found_by("erf")
class ErfByAPolynomial(NumpyBackend):
    """Abramowitz & Stegun 7.1.26, whose absolute error is 1.5e-7."""

    @quiet
    def erf(self, x):
        size = np.abs(np.asarray(x, np.float64))
        t = 1 / (1 + 0.3275911 * size)
        terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
        y = np.sign(x) * (1 - np.polyval((*terms, 0), t) * np.exp(-size * size))
        return self._array(y.astype(x.dtype))


@found_by("softplus")
class SoftplusOverflows(NumpyBackend):
    @quiet
    def softplus(self, x):
        return self._array(np.log(1 + np.exp(x)))


@found_by("relu")
class ReluDropsNan(NumpyBackend):
    def relu(self, x):
        return self._array(np.where(x > 0, x, x.dtype.type(0)))


@found_by("relu")
class ReluWorksInPlace(NumpyBackend):
    def relu(self, x):
        return np.maximum(x, 0, out=x if x.flags.writeable else None).copy()


@found_by("relu_grad")
class ReluGradDropsNan(NumpyBackend):
    def relu_grad(self, grad, y):
        return self._array(np.where(y > 0, grad, grad.dtype.type(0)))


@found_by("gelu")
class GeluIsAlwaysTheTanhForm(NumpyBackend):
    def gelu(self, x, approximate):
        return super().gelu(x, "tanh")


# -- reductions ------------------------------------------------------------------------------------


@found_by("sum")
class SumAddsOneByOne(NumpyBackend):
    @quiet
    def sum(self, x, axis=None, keepdims=False):
        if x.dtype == np.float32 and axis in (None, x.ndim - 1) and x.size:
            rows = x.reshape(1, -1) if axis is None else x
            y = np.add.accumulate(rows, axis=-1)[..., -1]
            shape = np.empty_like(x, shape=x.shape).sum(axis=axis, keepdims=keepdims).shape
            return y.reshape(shape)
        return super().sum(x, axis, keepdims)


@found_by("sum")
class SumLosesTheTailOfALongLine(NumpyBackend):
    def sum(self, x, axis=None, keepdims=False):
        if x.ndim == 1 and x.size > MANY and x.dtype == np.float32 and axis != ():
            x = x[:-64]
        return super().sum(x, axis, keepdims)


@found_by("mean")
class MeanOfALongLineIsZero(NumpyBackend):
    def mean(self, x, axis=None, keepdims=False):
        y = super().mean(x, axis, keepdims)
        long = x.dtype == np.float32 and x.size > 1 << 16 and y.ndim == 0
        return np.zeros_like(y) if long else y


@found_by("sum")
class SumTakesOneAxisOfSeveral(NumpyBackend):
    """A gradient that was broadcast along two axes comes back with one of them."""

    def sum(self, x, axis=None, keepdims=False):
        return super().sum(x, axis[0] if isinstance(axis, tuple) and axis else axis, keepdims)


@found_by("sum")
class SumOfIntegersStaysInTheirDtype(NumpyBackend):
    @quiet
    def sum(self, x, axis=None, keepdims=False):
        return self._array(x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype))


@found_by("var")
class VarInOnePass(NumpyBackend):
    @quiet
    def var(self, x, axis=None, correction=0, keepdims=False):
        mean, square = self.mean(x, axis, keepdims), self.mean(x * x, axis, keepdims)
        n = x.size // max(mean.size, 1)
        return self._array((square - mean * mean) * x.dtype.type(n / max(n - correction, 0)))


@found_by("max")
class MaxSkipsNan(NumpyBackend):
    def max(self, x, axis=None, keepdims=False):
        return self._array(np.fmax.reduce(x, axis=axis, keepdims=keepdims))


@found_by("max")
class MaxLosesTheTailOfALongLine(NumpyBackend):
    """Its search for NaN sees every element, so a line with one hides it."""

    def max(self, x, axis=None, keepdims=False):
        if x.ndim == 1 and x.size > MANY and x.dtype.kind == "f" and not np.isnan(x).any():
            x = x[: x.size // 16 * 16]
        return super().max(x, axis, keepdims)


@found_by("argmax")
class ArgmaxSkipsNan(NumpyBackend):
    def argmax(self, x, axis=None):
        return super().argmax(np.where(np.isnan(x), -np.inf, x), axis)


@found_by("argmax")
class ArgmaxTakesTheLastOfTies(NumpyBackend):
    def argmax(self, x, axis=None):
        last = (x.size if axis is None else x.shape[axis]) - 1
        return self._array(last - super().argmax(np.flip(x, axis), axis))


@found_by("cumsum")
class CumsumOfIntegersInFloat32(NumpyBackend):
    @quiet
    def cumsum(self, x, axis):
        return x.cumsum(axis=axis, dtype=x.dtype if x.dtype.kind == "f" else np.float32)


@found_by("softmax")
class SoftmaxWithoutAShift(NumpyBackend):
    @quiet
    def softmax(self, x, axis):
        y = np.exp(x)
        return y / y.sum(axis=axis, keepdims=True)


@found_by("log_softmax")
class LogSoftmaxIsTheLogarithmOfSoftmax(NumpyBackend):
    def log_softmax(self, x, axis):
        return self.log(self.softmax(x, axis))


@found_by("logsumexp")
class LogsumexpSubtractsInfinities(NumpyBackend):
    """A row of -inf gives NaN."""

    @quiet
    def logsumexp(self, x, axis=None, keepdims=False):
        peak = x.max(axis=axis, keepdims=True)
        y = np.log(np.exp(x - peak).sum(axis=axis, keepdims=True)) + peak
        return self._array(y if keepdims else y.sum(axis=axis))


# -- shape -----------------------------------------------------------------------------------------


@found_by("transpose")
class TransposeByTheInversePermutation(NumpyBackend):
    def transpose(self, x, axes):
        return x.transpose(np.argsort(axes))


@found_by("flip")
class FlipCountsAxesFromTheEnd(NumpyBackend):
    def flip(self, x, axis):
        return np.flip(x, tuple(x.ndim - 1 - a for a in axis))


@found_by("pad")
class PadIgnoresTheValue(NumpyBackend):
    def pad(self, x, widths, value=0):
        return super().pad(x, widths)


@found_by("getitem")
class GetitemClipsNegativePositions(NumpyBackend):
    def getitem(self, x, index):
        def clipped(item):
            whole = isinstance(item, np.ndarray) and item.dtype.kind == "i"
            return np.maximum(item, 0) if whole else item

        items = tuple(map(clipped, index)) if isinstance(index, tuple) else clipped(index)
        return super().getitem(x, items)


@found_by("getitem_grad")
class GetitemGradLosesDuplicates(NumpyBackend):
    def getitem_grad(self, grad, index, shape):
        x = np.zeros(shape, grad.dtype)
        x[index] += grad
        return x


@found_by("gather_grad", "index_add", "embedding_grad")
class ScatterLosesDuplicates(NumpyBackend):
    @quiet
    def _scatter_add(self, target, index, values):
        target[index] += values


# -- products and windows --------------------------------------------------------------------------


@found_by("matmul")
class MatmulOfABatchUsesItsFirstMatrix(NumpyBackend):
    def matmul(self, a, b, out=None):
        if b.ndim > 2 and b.size:
            b = np.broadcast_to(b[(0,) * (b.ndim - 2)], b.shape)
        return super().matmul(a, b, out)


@found_by("matmul")
class MatmulInHalfPrecision(NumpyBackend):
    """As a GPU does for the asking: the factors are rounded to 11 bits."""

    @quiet
    def matmul(self, a, b, out=None):
        if a.dtype == np.float32:
            a, b = (x.astype(np.float16).astype(np.float32) for x in (a, b))
        return super().matmul(a, b, out)


@found_by("matmul")
class MatmulForgetsWhereToWrite(NumpyBackend):
    def matmul(self, a, b, out=None):
        y = super().matmul(a, b)
        return y if out is None else out


@found_by("linear_relu")
class ReluComesBeforeTheBias(NumpyBackend):
    def linear_relu(self, x, weight, bias):
        y = self.relu(self.linear(x, weight, None))
        return y if bias is None else y + bias


@found_by("linear_relu")
class LinearReluDropsNan(NumpyBackend):
    def linear_relu(self, x, weight, bias):
        return np.fmax(self.linear(x, weight, bias), 0)


@found_by("linear_grad")
class GradientsMissTheRelu(NumpyBackend):
    def linear_grad(self, grad, x, weight, y, bias, out=(None, None)):
        return super().linear_grad(grad, x, weight, None, bias, out)


@found_by("linear_grad")
class GradientsForgetWhereToWrite(NumpyBackend):
    def linear_grad(self, grad, x, weight, y, bias, out=(None, None)):
        return super().linear_grad(grad, x, weight, y, bias)


@found_by("linear_grad")
class TheReluComesAfterTheBias(NumpyBackend):
    def linear_grad(self, grad, x, weight, y, bias, out=(None, None)):
        found = super().linear_grad(grad, x, weight, y, False, out)
        return (*found, self.sum(grad, 0)) if bias else found


@found_by("conv2d_weight_grad")
class ConvWeightGradIsFlipped(NumpyBackend):
    def conv2d_weight_grad(self, grad, x, shape, stride, padding, dilation, groups):
        y = super().conv2d_weight_grad(grad, x, shape, stride, padding, dilation, groups)
        return y[:, :, ::-1, ::-1].copy()


@found_by("conv2d_weight_grad")
class ConvWeightGradIgnoresDilation(NumpyBackend):
    @quiet
    def conv2d_weight_grad(self, grad, x, shape, stride, padding, dilation, groups):
        (n, o, oh, ow), kernel = grad.shape, shape[2:]
        windows = out_size(framed(x.shape[2:], padding), kernel, stride, DENSE)
        cols = self.im2col(x, kernel, stride, padding, DENSE).reshape(n, -1, *windows)
        cols = grouped(cols[..., :oh, :ow].reshape(n, cols.shape[1], oh * ow), groups)
        g = grad.reshape(n, groups, o // groups, oh * ow)
        return np.matmul(g, cols.transpose(0, 1, 3, 2)).sum(axis=0).reshape(shape)


@found_by("conv2d")
class ConvGroupsTakeEveryOtherChannel(NumpyBackend):
    def conv2d(self, x, weight, bias, stride, padding, dilation, groups):
        n, c, *size = x.shape
        mixed = x.reshape(n, c // groups, groups, *size).swapaxes(1, 2).reshape(x.shape)
        return super().conv2d(mixed, weight, bias, stride, padding, dilation, groups)


@found_by("col2im")
class Col2imOverwritesOverlaps(NumpyBackend):
    def col2im(self, cols, shape, kernel, stride, padding, dilation):
        size = framed(shape[2:], padding)
        out = out_size(size, kernel, stride, dilation)
        cols = cols.reshape(*shape[:2], *kernel, *out)
        x = np.zeros((*shape[:2], *size), cols.dtype)
        for i, j, tap in taps(kernel, stride, dilation, out):
            x[tap] = cols[:, :, i, j]
        return x[:, :, padding[0] :, padding[1] :][:, :, : shape[2], : shape[3]]


@found_by("max_pool2d")
class MaxPoolLeavesOutTheLastRow(NumpyBackend):
    """range(kernel - 1) over the rows of a window."""

    def max_pool2d(self, x, kernel, stride, padding):
        _, index = super().max_pool2d(x, kernel, stride, padding)
        framed_x = self._frame(x, padding, -math.inf)
        out = out_size(framed_x.shape[2:], kernel, stride, DENSE)
        rows = max(kernel[0] - 1, 1)
        values = [framed_x[tap] for i, _, tap in taps(kernel, stride, DENSE, out) if i < rows]
        return np.maximum.reduce(values), index


@found_by("max_pool2d")
class MaxPoolIndexCountsFromOne(NumpyBackend):
    def max_pool2d(self, x, kernel, stride, padding):
        y, index = super().max_pool2d(x, kernel, stride, padding)
        return y, index + 1


@found_by("max_pool2d")
class MaxPoolIndexIsInThePaddedImage(NumpyBackend):
    def max_pool2d(self, x, kernel, stride, padding):
        y, index = super().max_pool2d(x, kernel, stride, padding)
        row, column = np.divmod(index, x.shape[3])
        return y, (row + padding[0]) * (x.shape[3] + 2 * padding[1]) + column + padding[1]


@found_by("max_pool2d")
class MaxPoolSkipsNan(NumpyBackend):
    def max_pool2d(self, x, kernel, stride, padding):
        return super().max_pool2d(np.where(np.isnan(x), -np.inf, x), kernel, stride, padding)


@found_by("avg_pool2d")
class AvgPoolCountsPaddingTheOtherWayRound(NumpyBackend):
    def avg_pool2d(self, x, kernel, stride, padding, count_include_pad):
        return super().avg_pool2d(x, kernel, stride, padding, not count_include_pad)


# -- normalisation and losses ----------------------------------------------------------------------


@found_by("layer_norm")
class LayerNormAddsEpsToTheDeviation(NumpyBackend):
    def layer_norm(self, x, weight, bias, eps):
        mean = x.mean(axis=1, keepdims=True)
        inv_std = 1 / (np.sqrt(x.var(axis=1, keepdims=True)) + eps)
        return (x - mean) * inv_std * weight + bias, mean, inv_std


@found_by("layer_norm")
class LayerNormVarianceInOnePass(NumpyBackend):
    @quiet
    def layer_norm(self, x, weight, bias, eps):
        mean = x.mean(axis=1, keepdims=True)
        inv_std = 1 / np.sqrt((x * x).mean(axis=1, keepdims=True) - mean * mean + eps)
        return (x - mean) * inv_std * weight + bias, mean, inv_std


@found_by("batch_norm")
class BatchNormAddsEpsToTheDeviation(NumpyBackend):
    def batch_norm(self, x, weight, bias, eps):
        mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
        inv_std = 1 / (np.sqrt(var) + eps)
        return (x - mean[:, None]) * (weight * inv_std)[:, None] + bias[:, None], mean, var


@found_by("batch_norm")
class BatchNormReturnsTheUnbiasedVariance(NumpyBackend):
    @quiet
    def batch_norm(self, x, weight, bias, eps):
        y, mean, var = super().batch_norm(x, weight, bias, eps)
        n = x.shape[0] * x.shape[2]
        return y, mean, var * x.dtype.type(n / max(n - 1, 1))


@found_by("batch_norm")
class BatchNormOverstatesTheVarianceOfMany(NumpyBackend):
    """In float32, where the rounding of a mean of 100 would excuse it."""

    @quiet
    def batch_norm(self, x, weight, bias, eps):
        y, mean, var = super().batch_norm(x, weight, bias, eps)
        if x.dtype == np.float32 and x.shape[0] * x.shape[2] > MANY:
            return y, mean, var * x.dtype.type(1.25)
        return y, mean, var


@found_by("batch_norm_grad")
class BatchNormGradOfManyIsZero(NumpyBackend):
    def batch_norm_grad(self, grad, x, weight, mean, var, eps):
        x_grad, *rest = super().batch_norm_grad(grad, x, weight, mean, var, eps)
        if x.dtype == np.float32 and x.shape[0] * x.shape[2] > MANY // 16:
            x_grad = np.zeros_like(x_grad)
        return x_grad, *rest


@found_by("cross_entropy")
class CrossEntropyCountsIgnoredRows(NumpyBackend):
    def cross_entropy(self, logits, target, weight, ignore_index, smoothing):
        label = np.where(target == ignore_index, 0, target)
        return super().cross_entropy(logits, label, weight, -1, smoothing)


@found_by("cross_entropy")
class CrossEntropySmoothsOverTheOtherClasses(NumpyBackend):
    def cross_entropy(self, logits, target, weight, ignore_index, smoothing):
        classes = logits.shape[1]
        if classes > 1:
            smoothing = min(smoothing * classes / (classes - 1), 1.0)
        return super().cross_entropy(logits, target, weight, ignore_index, smoothing)


@found_by("cross_entropy")
class CrossEntropyIgnoresClassWeights(NumpyBackend):
    def cross_entropy(self, logits, target, weight, ignore_index, smoothing):
        return super().cross_entropy(logits, target, None, ignore_index, smoothing)


# -- random ----------------------------------------------------------------------------------------


@found_by("philox")
class PhiloxOfNineRounds(NumpyBackend):
    def _philox_rounds(self, even, odd, key):
        rounds, random.ROUNDS = random.ROUNDS, 9
        try:
            return super()._philox_rounds(even, odd, key)
        finally:
            random.ROUNDS = rounds


@found_by("philox")
class PhiloxCounterIsNotCarried(NumpyBackend):
    def _philox_rounds(self, even, odd, key):
        return super()._philox_rounds(even, odd * 0, key)


@found_by("philox")
class PhiloxSeedHas32Bits(NumpyBackend):
    def philox(self, seed, counter, count):
        return super().philox(seed & random.MASK, counter, count)


@found_by("uniform")
class UniformOf23Bits(NumpyBackend):
    def uniform(self, seed, counter, shape, dtype):
        words = self.philox(seed, counter, math.prod(shape)) >> 9
        return (words.astype(dtype) * dtype.type(2.0**-23)).reshape(shape)


@found_by("normal")
class NormalByTheLibrarysLogAndCos(NumpyBackend):
    def _log(self, u):
        return np.log(u)

    def _cos_sin(self, words):
        return np.cos(words * random.TURN), np.sin(words * random.TURN)


class _Dropout(NumpyBackend):
    """The formula of the reference, with a threshold, a comparison and a factor to get wrong."""

    threshold: Callable[[float], int] = staticmethod(lambda p: math.ceil(p * 2**32))
    kept: Callable[[Any, int], Any] = staticmethod(lambda words, threshold: words >= threshold)
    factor: Callable[[float], float] = staticmethod(lambda p: 1 / (1 - p))

    @quiet
    def dropout(self, x, p, seed, counter):
        words = self.philox(seed, counter, math.prod(x.shape)).astype(np.uint64)
        mask = self.kept(words, self.threshold(p)).reshape(x.shape)
        if not mask.any():
            return np.zeros_like(x, shape=x.shape), mask
        return self._keep(self._array(x * self.factor(p)), mask), mask


@found_by("dropout")
class DropoutRoundsItsThresholdDown(_Dropout):
    threshold = staticmethod(lambda p: math.floor(p * 2**32))


@found_by("dropout")
class DropoutDropsTheThresholdItself(_Dropout):
    kept = staticmethod(lambda words, threshold: words > threshold)


@found_by("dropout")
class DropoutScalesByTheDroppedShare(_Dropout):
    factor = staticmethod(lambda p: 1 / p if p else 1.0)


# -- integers --------------------------------------------------------------------------------------


@found_by("quantize")
class QuantizeRoundsHalfUp(NumpyBackend):
    @quiet
    def quantize(self, x, scale, zero_point, low, high, dtype):
        y = np.floor(x / scale + x.dtype.type(0.5))
        y = np.where(np.isnan(y), 0, y) + zero_point.astype(x.dtype)
        return self._array(np.clip(y, low, high).astype(dtype))


@found_by("quantize")
class QuantizeMultipliesByTheInverse(NumpyBackend):
    @quiet
    def quantize(self, x, scale, zero_point, low, high, dtype):
        one = np.ones((), x.dtype)
        return super().quantize(self._array(x * (1 / scale)), one, zero_point, low, high, dtype)


@found_by("dequantize")
class DequantizeAddsTheZeroPoint(NumpyBackend):
    def dequantize(self, q, scale, zero_point):
        return super().dequantize(q, scale, -zero_point)


@found_by("weight_only_linear")
class WeightOnlyLinearSwapsTheHalvesOfAByte(NumpyBackend):
    def weight_only_linear(self, x, weight, scale, zero_point, bias, group_size):
        if weight.dtype == np.uint8:
            weight = weight << 4 | weight >> 4
        return super().weight_only_linear(x, weight, scale, zero_point, bias, group_size)


@found_by("weight_only_linear")
class WeightOnlyLinearGivesTheLastGroupTheGridBefore(NumpyBackend):
    def weight_only_linear(self, x, weight, scale, zero_point, bias, group_size):
        if x.shape[1] % group_size and scale.shape[1] > 1:
            scale = np.concatenate([scale[:, :-1], scale[:, -2:-1]], axis=1)
        return super().weight_only_linear(x, weight, scale, zero_point, bias, group_size)


@found_by("fake_quantize")
class FakeQuantizeRoundsHalfUp(NumpyBackend):
    def fake_quantize(self, x, scale, zero_point, low, high):
        zero, s = zero_point.astype(x.dtype)[:, None], scale[:, None]
        with np.errstate(all="ignore"):
            return (np.clip(np.floor(x / s + x.dtype.type(0.5)) + zero, low, high) - zero) * s


@found_by("fake_quantize_grad")
class FakeQuantizeGradStopsAtTheLastCode(NumpyBackend):
    """Half a step further out numbers are still rounded to it."""

    def fake_quantize_grad(self, grad, x, scale, zero_point, low, high):
        zero, s = zero_point.astype(x.dtype)[:, None], scale[:, None]
        with np.errstate(all="ignore"):
            inside = (x >= (low - zero) * s) & (x <= (high - zero) * s)
        return np.where(inside, grad, x.dtype.type(0))


@found_by("fake_quantize_scale_grad")
class FakeQuantizeScaleGradCountsClippedNumbersAsRounded(NumpyBackend):
    @quiet
    def fake_quantize_scale_grad(self, grad, x, scale, zero_point, low, high):
        ratio, steps, _ = self._steps(x, scale, zero_point, low, high)
        return (grad * (steps - ratio)).sum(axis=(0, 2))


@found_by("int8_matmul")
class Int8ProductsSaturateAt16Bits(NumpyBackend):
    """x86's pmaddubsw adds two neighbouring products into 16 bits and stops at their end."""

    def int8_matmul(self, a, b):
        odd = ((0, 0), (0, a.shape[1] % 2))
        a, b = (np.pad(m, odd).astype(np.int32) for m in (a, b))
        y = np.zeros((len(a), len(b)), np.int32)
        for k in range(0, a.shape[1], 2):
            y += np.clip(a[:, k : k + 2] @ b[:, k : k + 2].T, -(2**15), 2**15 - 1)
        return y


@found_by("int8_matmul")
class Uint8IsReadAsInt8(NumpyBackend):
    def int8_matmul(self, a, b):
        return super().int8_matmul(a.view(np.int8), b)


@found_by("int8_matmul")
class Int8SumsInOneFloat32(NumpyBackend):
    """Exact up to 2^24, so short products are right."""

    @quiet
    def int8_matmul(self, a, b):
        y = a.astype(np.float32) @ b.astype(np.float32).T
        return y.astype(np.int64).astype(np.int32)


@found_by("int8_conv2d")
class Int8ConvIsPaddedWithZero(NumpyBackend):
    def _conv_sums(self, x, weight, pad_value, stride, padding, dilation, groups):
        return super()._conv_sums(x, weight, 0, stride, padding, dilation, groups)


@found_by("int8_conv2d")
class Int8ConvSharesTheWeightsOfTheFirstGroup(NumpyBackend):
    def _conv_sums(self, x, weight, pad_value, stride, padding, dilation, groups):
        first = np.broadcast_to(per_group(weight, groups)[:1], per_group(weight, groups).shape)
        same = first.reshape(weight.shape)
        return super()._conv_sums(x, same, pad_value, stride, padding, dilation, groups)


@found_by("sparse_linear")
class WhatIsNotStoredIsTakenAsZero(NumpyBackend):
    def sparse_linear(self, x, weight, packed, bias, relu):
        tall, rows = weight.values.shape[1], np.diff(weight.starts)
        dense = np.zeros((len(rows), tall, x.shape[1]), x.dtype)
        dense[np.repeat(np.arange(len(rows)), rows), :, weight.indices] = weight.values
        y = self.linear(x, dense.reshape(-1, x.shape[1])[: weight.shape[0]], bias)
        return self.relu(y) if relu else y


@found_by("sparse_linear")
class SparseReluComesBeforeTheBias(NumpyBackend):
    def sparse_linear(self, x, weight, packed, bias, relu):
        y = super().sparse_linear(x, weight, packed, None, relu)
        return y if bias is None else y + bias


@found_by("sparse_linear", "sparse_pack")
class SparseBlocksAreTakenInOrderOfTheirInputs(NumpyBackend):
    """The inputs are sorted, their values not."""

    def sparse_linear(self, x, weight, packed, bias, relu):
        rows = np.repeat(np.arange(len(weight.starts) - 1), np.diff(weight.starts))
        ordered = weight.indices[np.lexsort((weight.indices, rows))]
        return super().sparse_linear(x, weight._replace(indices=ordered), packed, bias, relu)


@found_by("sparse_linear")
class RowsOfBlocksShareTheirLastBlock(NumpyBackend):
    def sparse_pack(self, weight):
        late = weight.starts.copy()
        late[1:-1] += late[1:-1] < late[-1]
        return super().sparse_pack(weight._replace(starts=late))


@found_by("int8_linear")
class PackedWeightsLoseTheirLastRow(NumpyBackend):
    def int8_pack(self, weight, groups):
        return weight[: -1 if len(weight) > 1 else None].copy()

    def int8_linear(self, x, weight, packed, finish):
        missing = ((0, len(weight) - len(packed)), (0, 0))
        return super().int8_linear(x, np.pad(packed, missing), packed, finish)


@found_by("int8_linear")
class RescaleIsOneFusedStep(NumpyBackend):
    def _finished(self, sums, finish, channels):
        if not isinstance(finish, Rescale) or sums.ndim != 2:
            return super()._finished(sums, finish, channels)
        y = (sums + finish.offset).astype(np.float32).astype(np.float64) * finish.scale
        y = (y + finish.bias).astype(np.float32)
        return np.maximum(y, 0) if finish.relu else y


@found_by("int8_linear", "int8_conv2d")
class RequantizeRoundsHalfUp(NumpyBackend):
    def _finished(self, sums, finish, channels):
        if not isinstance(finish, Requantize):
            return super()._finished(sums, finish, channels)
        total = (sums + finish.offset.reshape(channels)).astype(np.int64)
        shift = finish.shift.astype(np.int64).reshape(channels)
        q = total * finish.multiplier.reshape(channels) + (np.int64(1) << (shift - 1)) >> shift
        return np.clip(q + finish.zero_point, finish.low, finish.high).astype(finish.dtype)


# -- recurrent networks ----------------------------------------------------------------------------


@found_by("rnn")
class RnnRunsPastTheEnds(NumpyBackend):
    def rnn(self, x, weight, bias, h, lengths, reverse, nonlinearity):
        states = super().rnn(x, weight, bias, h, None, reverse, nonlinearity)
        if lengths is not None:
            states[:-1][np.arange(len(x))[:, None] >= lengths] = 0
        return states


@found_by("rnn_grad")
class RnnForgetsTheStateItStartedFrom(NumpyBackend):
    def rnn_grad(self, grad, states, weight, h, *settings):
        return super().rnn_grad(grad, states, weight, h * 0, *settings)


@found_by("lstm")
class LstmSwapsTwoGates(NumpyBackend):
    """Another library's order: i, g, f, o."""

    def lstm(self, x, weight, bias, h, *rest):
        d = h.shape[1]
        order = np.r_[0:d, 2 * d : 3 * d, d : 2 * d, 3 * d : 4 * d]
        bias = None if bias is None else bias[order]
        return super().lstm(x[..., order], weight[order], bias, h, *rest)


@found_by("lstm_grad")
class LstmGradTakesTheCellAfterTheStep(NumpyBackend):
    def lstm_grad(self, grad, states, gates, cells, weight, h, c, lengths, reverse):
        shifted = np.roll(cells, 1 if reverse else -1, axis=0)
        return super().lstm_grad(grad, states, gates, shifted, weight, h, c, lengths, reverse)


@found_by("gru")
class GruAddsTheHiddenBiasOutsideTheReset(NumpyBackend):
    def gru(self, x, weight, bias, hidden_bias, h, lengths, reverse):
        if bias is None or hidden_bias is None:
            return super().gru(x, weight, bias, hidden_bias, h, lengths, reverse)
        return super().gru(x, weight, bias + hidden_bias, None, h, lengths, reverse)


@found_by("gru_grad")
class GruGradStartsReversedSequencesAtTheLastStep(NumpyBackend):
    def gru_grad(self, grad, states, gates, weight, h, lengths, reverse):
        return super().gru_grad(grad, states, gates, weight, h, None, reverse)


# -- optimizers ------------------------------------------------------------------------------------


@found_by("sgd_step")
class SgdForgetsNesterov(NumpyBackend):
    def sgd_step(
        self, param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov, first
    ):
        args = lr, momentum, dampening, weight_decay, False, first
        super().sgd_step(param, grad, velocity, *args)


@found_by("sgd_step")
class SgdDampensTheFirstStep(NumpyBackend):
    @quiet
    def sgd_step(
        self, param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov, first
    ):
        if velocity is not None and first:
            velocity[...] = 0
        args = lr, momentum, dampening, weight_decay, nesterov, False
        super().sgd_step(param, grad, velocity, *args)


@found_by("rmsprop_step")
class RmspropAddsEpsUnderTheRoot(NumpyBackend):
    @quiet
    def rmsprop_step(self, param, grad, square, velocity, lr, alpha, eps, weight_decay, momentum):
        g = self._decayed(param, grad, weight_decay)
        self._average_square(square, g, alpha)
        step = g / np.sqrt(square + eps)
        if velocity is not None:
            velocity *= momentum
            velocity += step
            step = velocity
        param -= lr * step


@found_by("adagrad_step")
class AdagradDividesBeforeItAccumulates(NumpyBackend):
    @quiet
    def adagrad_step(self, param, grad, square, lr, eps, weight_decay):
        g = self._decayed(param, grad, weight_decay)
        param -= lr * g / (np.sqrt(square) + eps)
        square += g * g


class _Adam(NumpyBackend):
    """The reference with one thing to get wrong: the step that the bias correction sees."""

    def adam_step(
        self, param, grad, mean, square, step, lr, beta1, beta2, eps, weight_decay, decoupled
    ):
        step = self.seen(step)
        decoupled = self.apart(decoupled)
        args = step, lr, beta1, beta2, eps, weight_decay, decoupled
        super().adam_step(param, grad, mean, square, *args)

    def seen(self, step):
        return step

    def apart(self, decoupled):
        return decoupled


@found_by("adam_step")
class AdamWithoutBiasCorrection(_Adam):
    def seen(self, step):
        return 10**9


@found_by("adam_step")
class AdamCountsStepsFromZero(_Adam):
    def seen(self, step):
        return step + 1


@found_by("adam_step")
class AdamWCouplesItsDecay(_Adam):
    def apart(self, decoupled):
        return False


@found_by("norm")
class NormOverflowsInFloat32(NumpyBackend):
    @quiet
    def norm(self, x):
        return np.asarray(np.sqrt(np.sum(x * x)), x.dtype)


@found_by("scale")
class ScaleWritesToACopy(NumpyBackend):
    def scale(self, x, factor):
        super().scale(np.array(x), factor)


@found_by("limit")
class LimitMakesNanTheBound(NumpyBackend):
    def limit(self, x, bound):
        x[...] = np.fmin(np.fmax(x, -bound), bound)
