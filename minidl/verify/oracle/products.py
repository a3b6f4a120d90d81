"""Sums of products, added up exactly."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., M, K) @ (..., K, N), the leading axes broadcast."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    a = np.broadcast_to(a, (*lead, rows, inner)).astype(np.float64)
    b = np.broadcast_to(b, (*lead, inner, columns)).astype(np.float64)
    y = np.empty((*lead, rows, columns))
    for batch in np.ndindex(lead):
        left, right = a[batch].tolist(), b[batch].T.tolist()
        for m, n in itertools.product(range(rows), range(columns)):
            pairs = zip(left[m], right[n], strict=True)
            y[(*batch, m, n)] = math.fsum(p * q for p, q in pairs)
    return y


def integer_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (M, K) @ b (N, K) transposed in Python integers, then wrapped to 32 bits."""
    y = [
        [sum(p * q for p, q in zip(row, column, strict=True)) for column in b.tolist()]
        for row in a.tolist()
    ]
    return wrap32(np.array(y, object).reshape(len(a), len(b)))


def wrap32(x: np.ndarray) -> np.ndarray:
    """Integers modulo 2^32, from -2^31."""
    return ((x + 2**31) % 2**32 - 2**31).astype(np.int32)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    y = matmul(x, weight.T)
    return y if bias is None else y + bias.astype(np.float64)


def linear_relu(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    y = linear(x, weight, bias)
    for index in np.ndindex(y.shape):
        if y[index] < 0:
            y[index] = 0
    return y


def linear_grad(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, y: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For x, weight and bias; y is what a relu made of the result, if there was one."""
    g = grad.astype(np.float64)
    for index in np.ndindex(g.shape):
        if y is not None and y[index] <= 0:
            g[index] = 0
    bias = [math.fsum(column) for column in g.T.tolist()]
    return matmul(g, weight), matmul(g.T, x), np.array(bias)


def sparse_linear(x: np.ndarray, weight: Any, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    """One stored number of a SparseWeight after another."""
    values, indices, starts, shape = weight
    outputs, tall = shape[0], values.shape[1]
    y = np.zeros((x.shape[0], outputs))
    for n, o in np.ndindex(y.shape):
        blocks = range(int(starts[o // tall]), int(starts[o // tall + 1]))
        terms = [float(x[n, indices[k]]) * float(values[k, o % tall]) for k in blocks]
        y[n, o] = math.fsum(terms) + (0 if bias is None else float(bias[o]))
        if relu and y[n, o] < 0:
            y[n, o] = 0
    return y


def einsum(subscripts: str, *operands: np.ndarray) -> np.ndarray:
    """For every value of every output letter, the sum over all values of the other letters."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    size: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        size.update(zip(term, x.shape, strict=True))
    summed = sorted(set(size) - set(output))
    y = np.empty([size[c] for c in output])
    for outer in itertools.product(*(range(size[c]) for c in output)):
        products = []
        for inner in itertools.product(*(range(size[c]) for c in summed)):
            at = dict(zip((*output, *summed), (*outer, *inner), strict=True))
            factors = zip(terms, operands, strict=True)
            products.append(math.prod(float(x[tuple(at[c] for c in t)]) for t, x in factors))
        y[outer] = math.fsum(products)
    return y
