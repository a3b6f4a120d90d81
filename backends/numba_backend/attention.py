"""Attention in blocks: neither scores nor weights are ever whole in memory.

A block holds the scores of QUERIES queries (its columns) and KEYS keys (its rows), so that what is
summed over keys is summed over rows, a vector of queries at a time, and that both products of a
block find what they read in place: the micro-kernel takes its first operand with any strides.

Sources: Milakov & Gimelshein (2018), arXiv:1805.02867, algorithm 3 (running maximum and sum);
Rabe & Staats (2021), arXiv:2112.05682; Dao et al. (2022), arXiv:2205.14135, algorithms 1 and 4.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from ..interface import Array, DType, Shape
from ..numpy_backend import NumpyBackend
from ..numpy_backend.random import MASK
from .jit import helper
from .layout import in_memory, plain, suits
from .memory import empty
from .microkernel import PANEL, micro, pack, product, tile_rows, transpose_block
from .outline import tasks
from .random import Word, block, halves
from .vector_math import exp, log

# Columns and rows of a block, in float32 32 kB; 64 columns took 5 to 10 % longer. The columns are
# whole panels of the micro-kernel on every instruction set; of a short block only some are used.
QUERIES: Any = np.int64(128)
KEYS: Any = np.int64(64)
# Numba compiles a helper anew for every Python number that it is called with, but not for these.
ZERO, ONE, NO, YES = (cast("Any", kind(i)) for kind in (np.int64, np.bool_) for i in (0, 1))
PARALLEL_FROM = 1 << 17  # multiply-adds: 1 us of one thread's
INFINITY = math.inf

Strides = tuple[int, int, int]  # of samples, heads and rows, in elements; columns are adjacent
Draw = tuple[Word, Word, Word, Word]  # of dropout: key, the halves of the counter, threshold


@helper
def place(strides: Strides, n: int, h: int, row: int) -> int:
    """Where a row of a head of a sample starts."""
    start: int = n * strides[0] + h * strides[1] + row * strides[2]
    return start


@helper
def multiply(a: Array, a_at: int, a_row: int, a_step: int, b: Array, b_at: int, b_row: int,
             y: Array, y_at: int, y_row: int, rows: int, columns: int, depth: int,
             add: bool) -> None:  # fmt: skip
    """y (+)= a @ b, where the rows of b are contiguous; whole panels need no copy of it."""
    width = PANEL // y.itemsize
    if columns % width:
        product(a, a_at, a_row, a_step, b, b_at, b_row, ONE, y, y_at, y_row, rows, columns, depth,
                add)  # fmt: skip
    else:
        for n in range(0, columns, width):
            tile_rows(y, y_at + n, y_row, a, a_at, a_row, a_step, b, b_at + n, b_row, rows, depth,
                      add)  # fmt: skip


@helper
def panels(x: Array, at: int, row: int, count: int, depth: int, scale: float,
           packed: Array) -> int:  # fmt: skip
    """The transpose of count rows of x, scaled, in panels; the last one is filled up with zeros.
    Returns how many columns that makes.
    """
    width = PANEL // x.itemsize
    for n in range(0, count, width):
        panel = packed[n * depth : (n + width) * depth]
        pack(x, at + n * row, ONE, row, depth, min(width, count - n), panel)
        for i in range(panel.size):
            panel[i] *= scale
    wide: int = (count + width - 1) // width * width
    return wide


@helper
def against(x: Array, at: int, row: int, rows: int, packed: Array, depth: int, wide: int,
            products: Array) -> None:  # fmt: skip
    """products (rows, QUERIES) of rows of x with the `wide` vectors in `packed`."""
    width = PANEL // x.itemsize
    for n in range(0, wide, width):
        tile_rows(products, n, QUERIES, x, at, row, ONE, packed, n * depth, width, rows, depth, NO)


@helper
def hide(scores: Array, mask: Array, at: int, row: int, column: int, keys: int, queries: int,
         hidden: int) -> None:  # fmt: skip
    """Add the mask, of which -inf hides whatever is there; then hide key k from query q where
    k - q > hidden.
    """
    real = scores.dtype.type
    for k in range(keys):
        line = scores[k * QUERIES : k * QUERIES + queries]
        if mask.size and column == 0:
            same = mask[at + k * row]
            for q in range(queries):
                line[q] = same if same == -INFINITY else line[q] + same
        elif mask.size:
            extra = mask[at + k * row : at + k * row + queries]
            for q in range(queries):
                line[q] = extra[q] if extra[q] == -INFINITY else line[q] + extra[q]
        for q in range(min(max(k - hidden, 0), queries)):
            line[q] = real(-INFINITY)


@helper
def factors(draw: Draw, first: int, keys: int, queries: int, row: int, scale: float,
            factor: Array) -> None:  # fmt: skip
    """factor (KEYS, QUERIES) of dropout: 0 or scale; query q's words start at first + q * row."""
    words = np.empty((KEYS // 4 + 2, 4), np.uint32)
    word = words.reshape(-1)
    zero = factor.dtype.type(0)
    for q in range(queries):
        start = first + q * row
        skipped = start % 4
        for i in range((skipped + keys + 3) // 4):
            out = words[i]
            out[0], out[1], out[2], out[3] = block(draw[0], (draw[1], draw[2]), start // 4 + i)
        for k in range(keys):
            factor[k * QUERIES + q] = scale if word[skipped + k] >= draw[3] else zero


@helper
def advance(weights: Array, keys: int, wide: int, top: Array, total: Array,
            factor: Array) -> None:  # fmt: skip
    """Scores become e^(score - shift); top and total, the running maximum and sum of each query,
    move on, and factor is by what all that came before has to be multiplied.

    The shift is the maximum, where it is finite: infinity less itself would be NaN.
    """
    real = weights.dtype.type
    shift, before = np.empty(QUERIES, weights.dtype), np.empty(QUERIES, weights.dtype)
    before[:wide] = top[:wide]
    for k in range(keys):
        line = weights[k * QUERIES : k * QUERIES + wide]
        for q in range(wide):
            top[q] = line[q] if line[q] > top[q] else top[q]
    for q in range(wide):
        shift[q] = top[q] if abs(top[q]) < INFINITY else real(0)
        factor[q] = exp(real(before[q] - shift[q]))
        before[q] = 0
    for k in range(keys):
        line = weights[k * QUERIES : k * QUERIES + wide]
        for q in range(wide):
            line[q] = exp(real(line[q] - shift[q]))
            before[q] += line[q]
    for q in range(wide):
        total[q] = total[q] * factor[q] + before[q]


@tasks(calls=[micro, transpose_block])
def forward(query: Array, q_strides: Strides, key: Array, k_strides: Strides, value: Array,
            v_strides: Strides, mask: Array, m_strides: tuple[int, int, int, int], y: Array,
            y_strides: Strides, logsumexp: Array, sizes: tuple[int, int, int], causal: bool,
            scale: float, draw: Draw, keep: float, task: int) -> None:  # fmt: skip
    """One block of queries of one head.

    logsumexp (N, H, T); sizes are those of S, D and E. The mask, if it is not empty, has strides
    for (N, H, S, T). keep is 1 / (1 - p), or 0 for no dropout.
    """
    heads, queries = logsumexp.shape[1:]
    keys, depth, columns = sizes
    real = y.dtype.type
    blocks = (queries + QUERIES - 1) // QUERIES
    n, h, start = task // blocks // heads, task // blocks % heads, task % blocks * QUERIES
    count = min(QUERIES, queries - start)
    weights = np.empty(KEYS * QUERIES, y.dtype)
    factor, packed = np.empty_like(weights), np.empty(depth * QUERIES, y.dtype)
    top, total = np.full(QUERIES, real(-INFINITY)), np.zeros(QUERIES, y.dtype)
    change = np.empty(QUERIES, y.dtype)
    y_at, m_at = place(y_strides, n, h, start), n * m_strides[0] + h * m_strides[1]
    wide = panels(query, place(q_strides, n, h, start), q_strides[2], count, depth, scale, packed)
    seen = min(keys, start + count) if causal else keys
    for first in range(0, seen, KEYS):
        rows = min(KEYS, seen - first)
        against(
            key, place(k_strides, n, h, first), k_strides[2], rows, packed, depth, wide, weights
        )
        if mask.size or (causal and first + rows > start + 1):
            hide(weights, mask, m_at + first * m_strides[2] + start * m_strides[3], m_strides[2],
                 m_strides[3], rows, count, start - first if causal else KEYS)  # fmt: skip
        advance(weights, rows, wide, top, total, change)
        if first:
            for q in range(count):
                line = y[y_at + q * y_strides[2] : y_at + q * y_strides[2] + columns]
                for e in range(columns):
                    line[e] *= change[q]
        if keep:
            word = ((n * heads + h) * queries + start) * keys + first
            factors(draw, word, rows, count, keys, keep, factor)
            for i in range(rows * QUERIES):
                weights[i] *= factor[i]
        multiply(weights, ZERO, ONE, QUERIES, value, place(v_strides, n, h, first), v_strides[2],
                 y, y_at, y_strides[2], count, columns, rows, first > 0)  # fmt: skip
    for q in range(count):
        change[q] = real(0) if total[q] == 0 else real(1) / total[q]
        top[q] = (top[q] if abs(top[q]) < INFINITY else real(0)) + log(total[q])
    logsumexp[n, h, start : start + count] = top[:count]
    for q in range(count):
        line = y[y_at + q * y_strides[2] : y_at + q * y_strides[2] + columns]
        for e in range(columns):
            line[e] *= change[q]


@helper
def clear(x: Array, at: int, row: int, rows: int, columns: int) -> None:
    """Zeros in some rows of x."""
    for i in range(rows):
        x[at + i * row : at + i * row + columns] = 0


@helper
def deltas(grad: Array, g_at: int, g_row: int, y: Array, y_at: int, y_row: int, columns: int,
           count: int, delta: Array) -> None:  # fmt: skip
    """delta[q] = grad[q] . y[q], which is the sum over all keys of weight times its slope."""
    delta[:] = 0
    for q in range(count):
        g = grad[g_at + q * g_row : g_at + q * g_row + columns]
        line = y[y_at + q * y_row : y_at + q * y_row + columns]
        dot = y.dtype.type(0)
        for e in range(columns):
            dot += g[e] * line[e]
        delta[q] = dot


@helper
def slopes(weights: Array, slope: Array, factor: Array, keys: int, wide: int, shift: Array,
           delta: Array, scale: float, dropping: bool) -> None:  # fmt: skip
    """Scores become weights, those of the values; slopes of weights those of products q . k."""
    real = weights.dtype.type
    for k in range(keys):
        w = weights[k * QUERIES : k * QUERIES + wide]
        s = slope[k * QUERIES : k * QUERIES + wide]
        f = factor[k * QUERIES : k * QUERIES + wide]
        if dropping:
            for q in range(wide):
                w[q] = exp(real(w[q] - shift[q]))
                s[q] = w[q] * (s[q] * f[q] - delta[q]) * scale
                w[q] *= f[q]
        else:
            for q in range(wide):
                w[q] = exp(real(w[q] - shift[q]))
                s[q] = w[q] * (s[q] - delta[q]) * scale


@tasks(calls=[micro, transpose_block])
def backward(grad: Array, g_strides: Strides, query: Array, q_strides: Strides, key: Array,
             k_strides: Strides, value: Array, v_strides: Strides, mask: Array,
             m_strides: tuple[int, int, int, int], y: Array, y_strides: Strides, logsumexp: Array,
             query_grad: Array, dq_strides: Strides, key_grad: Array, dk_strides: Strides,
             value_grad: Array, dv_strides: Strides, sizes: tuple[int, int, int], causal: bool,
             scale: float, draw: Draw, keep: float, task: int) -> None:  # fmt: skip
    """One head of one sample: its keys' gradients are sums over its queries. See `forward`."""
    heads, queries = logsumexp.shape[1:]
    keys, depth, columns = sizes
    real = y.dtype.type
    n, h = task // heads, task % heads
    weights = np.empty(KEYS * QUERIES, y.dtype)
    slope, factor = np.empty_like(weights), np.empty_like(weights)
    packed_query = np.empty(depth * QUERIES, y.dtype)
    packed_grad = np.empty(columns * QUERIES, y.dtype)
    shift, delta = np.empty(QUERIES, y.dtype), np.empty(QUERIES, y.dtype)
    m_at = n * m_strides[0] + h * m_strides[1]
    clear(key_grad, place(dk_strides, n, h, ZERO), dk_strides[2], keys, depth)
    clear(value_grad, place(dv_strides, n, h, ZERO), dv_strides[2], keys, columns)
    for start in range(0, queries, QUERIES):
        count = min(QUERIES, queries - start)
        q_at, g_at = place(q_strides, n, h, start), place(g_strides, n, h, start)
        dq_at = place(dq_strides, n, h, start)
        panels(query, q_at, q_strides[2], count, depth, scale, packed_query)
        wide = panels(grad, g_at, g_strides[2], count, columns, real(1), packed_grad)
        deltas(grad, g_at, g_strides[2], y, place(y_strides, n, h, start), y_strides[2], columns,
               count, delta)  # fmt: skip
        shift[:] = 0
        for q in range(count):
            at = logsumexp[n, h, start + q]
            shift[q] = real(0) if at == -INFINITY else at
        seen = min(keys, start + count) if causal else keys
        for first in range(0, seen, KEYS):
            rows = min(KEYS, seen - first)
            k_at, v_at = place(k_strides, n, h, first), place(v_strides, n, h, first)
            against(key, k_at, k_strides[2], rows, packed_query, depth, wide, weights)
            against(value, v_at, v_strides[2], rows, packed_grad, columns, wide, slope)
            if mask.size or (causal and first + rows > start + 1):
                hide(weights, mask, m_at + first * m_strides[2] + start * m_strides[3],
                     m_strides[2], m_strides[3], rows, count,
                     start - first if causal else KEYS)  # fmt: skip
            if keep:
                word = ((n * heads + h) * queries + start) * keys + first
                factors(draw, word, rows, count, keys, keep, factor)
            slopes(weights, slope, factor, rows, wide, shift, delta, scale, keep > 0)
            multiply(weights, ZERO, QUERIES, ONE, grad, g_at, g_strides[2], value_grad,
                     place(dv_strides, n, h, first), dv_strides[2], rows, columns, count,
                     YES)  # fmt: skip
            multiply(slope, ZERO, QUERIES, ONE, query, q_at, q_strides[2], key_grad,
                     place(dk_strides, n, h, first), dk_strides[2], rows, depth, count,
                     YES)  # fmt: skip
            multiply(slope, ZERO, ONE, QUERIES, key, k_at, k_strides[2],
                     query_grad, dq_at, dq_strides[2], count, depth, rows, first > 0)  # fmt: skip


class Attention(NumpyBackend):
    """Results lie in memory as (N, T, H, E), so that to merge the heads nothing is moved."""

    def attention(
        self, query: Array, key: Array, value: Array, mask: Array | None, causal: bool,
        scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array]:  # fmt: skip
        dropout = (p, seed, counter)
        if not fits(query, key, value, mask=mask, p=p):
            return super().attention(query, key, value, mask, causal, scale, *dropout)
        real = query.dtype
        y = by_token((*query.shape[:3], value.shape[3]), real)
        logsumexp = np.empty(query.shape[:3], real)
        sizes = (key.shape[2], query.shape[3], value.shape[3])
        blocks = -(-query.shape[2] // QUERIES)
        forward.sized(query.size * (sizes[0] + 1), PARALLEL_FROM)(
            logsumexp.shape[0] * logsumexp.shape[1] * blocks,
            *in_memory(query), *in_memory(key), *in_memory(value),
            *added(mask, (*query.shape[:3], sizes[0]), real), *in_memory(y), logsumexp, sizes,
            causal, real.type(scale), *drawn(real, *dropout),
        )  # fmt: skip
        return y, logsumexp

    def attention_grad(
        self, grad: Array, query: Array, key: Array, value: Array, mask: Array | None, y: Array,
        logsumexp: Array, causal: bool, scale: float, p: float, seed: int, counter: int,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        dropout = (p, seed, counter)
        if not fits(query, key, value, grad, y, logsumexp, mask=mask, p=p):
            return super().attention_grad(
                grad, query, key, value, mask, y, logsumexp, causal, scale, *dropout
            )
        real = query.dtype
        grads = [by_token(x.shape, real) for x in (query, key, value)]
        written = (part for x in grads for part in in_memory(x))
        sizes = (key.shape[2], query.shape[3], value.shape[3])
        backward.sized(query.size * (sizes[0] + 1), PARALLEL_FROM)(
            logsumexp.shape[0] * logsumexp.shape[1],
            *in_memory(grad), *in_memory(query), *in_memory(key), *in_memory(value),
            *added(mask, (*query.shape[:3], sizes[0]), real), *in_memory(y), plain(logsumexp),
            *written, sizes, causal, real.type(scale), *drawn(real, *dropout),
        )  # fmt: skip
        return grads[0], grads[1], grads[2]


def fits(*arrays: Array, mask: Array | None, p: float) -> bool:
    """Whether these are the kernels' dtypes, and something is kept."""
    known = mask is None or mask.dtype in (np.bool_, arrays[0].dtype)
    return known and suits(*arrays) and math.ceil(p * 2**32) <= MASK


def by_token(shape: Shape, dtype: DType) -> Array:
    """An array (N, H, T, D) whose memory has the order (N, T, H, D)."""
    n, h, t, d = shape
    return empty((n, t, h, d), dtype).transpose(0, 2, 1, 3)


def added(mask: Array | None, shape: Shape, dtype: DType) -> tuple[Array, tuple[int, ...]]:
    """The mask as numbers to add, flat, and its strides for (N, H, S, T), 0 where it broadcasts."""
    if mask is None:
        return np.empty(0, dtype), (0, 0, 0, 0)
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape).swapaxes(2, 3)
    numbers = np.where(mask, 0, -math.inf) if mask.dtype.kind == "b" else mask
    stored = plain(np.asarray(numbers, dtype))
    steps = zip(stored.strides, stored.shape, strict=True)
    return stored.reshape(-1), tuple(0 if n == 1 else s // dtype.itemsize for s, n in steps)


def drawn(dtype: DType, p: float, seed: int, counter: int) -> tuple[Draw, float]:
    """What kernels need to know of dropout; the factor is 0 if there is none."""
    keep = dtype.type(1 / (1 - p) if p else 0)
    return (np.uint64(seed), *halves(counter), np.uint64(math.ceil(p * 2**32))), keep
