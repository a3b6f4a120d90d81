"""Element by element over large arrays, on all threads; small ones are NumPy's."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from . import vector_math as vm
from .jit import Kernel, kernel
from .layout import F32, F64, flat
from .memory import empty

# Elements, for one operation each. NumPy's exp, log and tanh are vectorised too: for as many they
# take 22, 17 and 10 us, these kernels 10, 12 and 11; for 8 times as many 165, 130 and 81,
# these 54, 65 and 56.
PARALLEL_FROM = 1 << 16
SERIAL_FROM = 1 << 12  # elements, where NumPy needs several passes


@kernel(exact=True)
def add(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] + b[i]


@kernel(exact=True)
def subtract(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] - b[i]


@kernel(exact=True)
def multiply(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] * b[i]


@kernel(exact=True)
def divide(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] / b[i]


@kernel(exact=True)
def relu(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = 0 if x[i] <= 0 else x[i]  # NaN compares false and stays


@kernel(exact=True)
def relu_grad(grad: Array, y: Array, x_grad: Array) -> None:
    for i in prange(y.size):
        x_grad[i] = 0 if y[i] <= 0 else grad[i]


@kernel(exact=True)
def leaky_relu(x: Array, slope: float, y: Array) -> None:
    for i in prange(y.size):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


@kernel(exact=True)
def exp(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.exp(x[i])


@kernel(exact=True)
def log(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.log(x[i])


@kernel(exact=True)
def tanh(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = vm.tanh(x[i])


def same_shape(*arrays: Array) -> bool:
    """Whether a kernel can walk through these arrays side by side.

    Reading and writing go in memory order, so the arrays must be C-contiguous; a read-only one
    would cost a compilation of its own.
    """
    x = arrays[0]
    if x.dtype is not F32 and x.dtype is not F64:
        return False
    for a in arrays:  # written out, as the loop of a generator takes 0.3 us more
        if type(a) is not np.ndarray or a.dtype is not x.dtype or a.shape != x.shape:
            return False
        if not a.flags.carray:
            return False
    return True


def launch(loop: Kernel, parallel_from: int, *arrays: Array) -> Array:
    """Run loop over the flattened arrays and a new one, which is the result."""
    y = empty(arrays[0].shape, arrays[0].dtype)
    loop.sized(y.size, parallel_from)(*[a.reshape(-1) for a in arrays], y.reshape(-1))
    return y


class Elementwise(NumpyBackend):
    """Arithmetic on arrays of one shape, and the activations that are arithmetic.

    A call on a small array takes a microsecond, so sizes are looked at before anything else; either
    operand may be a Python number, as in 1 / x.
    """

    def add(self, a: Array, b: Array) -> Array:
        if type(a) is not np.ndarray or a.size < PARALLEL_FROM or not same_shape(a, b):
            return self._ufunc(np.add, a, b)
        return launch(add, PARALLEL_FROM, a, b)

    def subtract(self, a: Array, b: Array) -> Array:
        if type(a) is not np.ndarray or a.size < PARALLEL_FROM or not same_shape(a, b):
            return self._ufunc(np.subtract, a, b)
        return launch(subtract, PARALLEL_FROM, a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        if type(a) is not np.ndarray or a.size < PARALLEL_FROM or not same_shape(a, b):
            return self._ufunc(np.multiply, a, b)
        return launch(multiply, PARALLEL_FROM, a, b)

    def divide(self, a: Array, b: Array) -> Array:
        if type(a) is not np.ndarray or a.size < PARALLEL_FROM or not same_shape(a, b):
            return self._ufunc(np.divide, a, b)
        return launch(divide, PARALLEL_FROM, a, b)

    def relu(self, x: Array) -> Array:
        if x.size < SERIAL_FROM or not same_shape(x):
            return self._ufunc(np.maximum, x, 0)
        return launch(relu, PARALLEL_FROM, x)

    def relu_grad(self, grad: Array, y: Array) -> Array:
        if y.size < SERIAL_FROM or not same_shape(grad, y):
            return super().relu_grad(grad, y)
        return launch(relu_grad, PARALLEL_FROM, grad, y)

    def leaky_relu(self, x: Array, slope: float) -> Array:
        if x.size < SERIAL_FROM or not same_shape(x):
            return super().leaky_relu(x, slope)
        y = empty(x.shape, x.dtype)
        leaky_relu.sized(x.size, PARALLEL_FROM)(flat(x), x.dtype.type(slope), flat(y))
        return y

    def exp(self, x: Array) -> Array:
        if x.size < PARALLEL_FROM or not same_shape(x):
            return super().exp(x)
        return launch(exp, PARALLEL_FROM, x)

    def log(self, x: Array) -> Array:
        if x.size < PARALLEL_FROM or not same_shape(x):
            return super().log(x)
        return launch(log, PARALLEL_FROM, x)

    def tanh(self, x: Array) -> Array:
        if x.size < PARALLEL_FROM or not same_shape(x):
            return super().tanh(x)
        return launch(tanh, PARALLEL_FROM, x)
