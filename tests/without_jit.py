"""The Numba backend as plain Python, under NUMBA_DISABLE_JIT=1, so that coverage sees its kernels.

Missing then are the threading layer and the intrinsics, which are LLVM code: the copying of lines
and the micro-kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.numba_backend import (
    conv,
    conv_micro,
    conv_weights,
    dots,
    frames,
    int8,
    int8_attention,
    int8_between,
    int8_conv,
    int8_planes,
    int8_recurrent,
    jit,
    microkernel,
    sparse,
    sparse_micro,
)


def install() -> None:
    """Let the backend start, and its kernels run one after the other on the calling thread."""
    vector = microkernel.isa().vector
    for name, stand_in in (
        ("copy_numbers", _copy_lines), ("copy_every_second", _copy_every_second),
        ("clear_run", _clear_run), ("weave_lines", _weave_lines),
        ("transpose_block", _transpose_block),
        ("wide", _windows(2 * vector)), ("single", _windows(vector)),
        ("half", _windows(vector // 2)), ("across", _across(2, vector)),
                ("across_alone", _across(conv_micro.ALONE, vector)), ("dots", _dots),
    ):  # fmt: skip
        for module in (conv, conv_micro, conv_weights, frames):
            if hasattr(module, name):
                setattr(module, name, stand_in)
    microkernel.micro, microkernel.transpose_block = _micro, _transpose_block
    int8.linear_tile, int8.transpose_block = _linear_tile, _transpose_block
    int8_attention.linear_tile = int8_recurrent.linear_tile = _linear_tile
    int8_between.copy_lines = _copy_lines
    int8_conv.conv_tile, int8_conv.copy_lines = _conv_tile, _copy_lines
    int8_planes.copy_lines, int8_conv.codes_in_floats = _copy_lines, _too_close
    int8.row_in_floats, int8_conv.join_bytes = _too_close, _join(1)
    int8_planes.join_bytes, int8_planes.join_every_second = _join(1), _join(2)
    int8_conv.largest_of_four = _largest_of_four
    sparse.block_tile, sparse.panel_tile, sparse.row_tile = (
        _sparse_blocks, _sparse_lines(sparse_micro.OUTPUTS), _sparse_lines(1),
    )  # fmt: skip
    sparse.transpose_block = _transpose_block
    jit.Kernel._run = np.errstate(all="ignore")(jit.Kernel._run)  # compiled code never warns
    jit.THREADS.exclusive = False


def _lines(at: int, step: int, lines: int, count: int, spacing: int = 1) -> np.ndarray:
    return at + np.arange(max(lines, 0))[:, None] * step + np.arange(max(count, 0)) * spacing


def _copy_lines(
    target: np.ndarray, at: int, target_step: int, source: np.ndarray, start: int,
    source_step: int, lines: int, count: int, spacing: int = 1,
) -> None:  # fmt: skip
    into = _lines(at, target_step, lines, count)
    elements = source.reshape(-1)[_lines(start, source_step, lines, count, spacing)]
    target.reshape(-1)[into] = elements


def _largest_of_four(
    target: np.ndarray, at: int, target_step: int, source: np.ndarray, start: int,
    source_step: int, gap: int, lines: int, count: int,
) -> None:  # fmt: skip
    first = _lines(start, source_step, lines, count, 2)
    four = source[np.stack([first, first + 1, first + gap, first + gap + 1])]
    target[_lines(at, target_step, lines, count)] = four.max(axis=0)


def _copy_every_second(*arguments: Any) -> None:
    _copy_lines(*arguments, 2)


def _weave_lines(
    target: np.ndarray, at: int, target_step: int, source: np.ndarray, start: int, gap: int,
    source_step: int, lines: int, count: int,
) -> None:  # fmt: skip
    for second in (0, 1):
        into = _lines(at + second, target_step, lines, count, 2)
        target[into] = source[_lines(start + second * gap, source_step, lines, count)]


def _clear_run(target: np.ndarray, at: int, count: int) -> None:
    target[at : at + count] = 0


def _windows(width_bytes: int) -> Any:
    def windows(
        rows: int, c: np.ndarray, c_at: int, start: np.ndarray, s_at: int, s_row: int,
        x: np.ndarray, x_at: int, row: np.ndarray, r_at: int, col: np.ndarray, k_at: int,
        b: np.ndarray, b_at: int, depth: int,
    ) -> None:  # fmt: skip
        width = width_bytes // c.itemsize
        lines, lanes = np.arange(rows)[:, None], np.arange(width)
        seen = x[x_at + row[r_at : r_at + rows, None] + col[k_at : k_at + depth]]
        total = seen @ b[b_at + np.arange(depth)[:, None] * width + lanes]
        c[c_at + lines * width + lanes] = total + start[s_at + lines * s_row + lanes]

    return windows


def _across(vectors: int, vector_bytes: int) -> Any:
    def across(
        rows: int, y: np.ndarray, y_at: int, y_row: int, x: np.ndarray, x_at: int,
        spots: np.ndarray, s_at: int, col: np.ndarray, k_at: int, b: np.ndarray, b_at: int,
        w_at: int, width: int, depth: int,
    ) -> None:  # fmt: skip
        m, lanes = np.arange(rows), np.arange(vector_bytes // y.itemsize)
        weights = b[w_at + np.arange(depth) * width + m[:, None]]
        for begin, to in spots[s_at : s_at + vectors]:
            seen = x[x_at + begin + col[k_at : k_at + depth, None] + lanes]
            y[y_at + m[:, None] * y_row + to + lanes] = weights @ seen + b[b_at + m, None]

    return across


def _dots(
    rows: int, y: np.ndarray, y_at: int, y_row: int, g: np.ndarray, g_at: int, g_row: int,
    x: np.ndarray, x_at: int, spots: np.ndarray, whole: int, first: int, partly: int, rest: int,
    col: np.ndarray, k_at: int,
) -> None:  # fmt: skip
    m, taps = np.arange(rows)[:, None], col[k_at : k_at + conv_micro.TAPS]
    lanes = microkernel.isa().vector // y.itemsize
    for begin, stop, count in ((0, whole, lanes), (first, first + partly, rest)):
        for start, to in spots[begin:stop]:
            i = np.arange(count)
            seen = x[x_at + start + taps[:, None] + i]
            y[y_at + m * y_row + np.arange(taps.size)] += g[g_at + m * g_row + to + i] @ seen.T


def _micro(
    rows: int, c: np.ndarray, c_at: int, c_row: int, a: np.ndarray, a_at: int, a_row: int,
    a_step: int, b: np.ndarray, b_at: int, b_step: int, depth: int, add: bool,
) -> None:  # fmt: skip
    width = microkernel.PANEL // c.itemsize
    k, columns = np.arange(depth), np.arange(width)
    left = a[a_at + np.arange(rows)[:, None] * a_row + k * a_step]
    right = b[b_at + k[:, None] * b_step + columns]
    tile = c_at + np.arange(rows)[:, None] * c_row + columns
    c[tile] = left @ right + (c[tile] if add else 0)


def _transpose_block(
    source: np.ndarray, at: int, row: int, target: np.ndarray, to: int, to_row: int
) -> None:
    side = np.arange(microkernel.isa().vector // source.itemsize)
    target[to + side[:, None] * to_row + side] = source[at + side * row + side[:, None]]


def _quads(array: np.ndarray, signed: bool) -> np.ndarray:
    """All bytes of an array as int32, four to a row."""
    kind = np.int8 if signed or dots.SIGNED else np.uint8
    return array.view(kind).reshape(-1, 4).astype(np.int32)


def _linear_tile(
    count: int, c: np.ndarray, c_at: int, c_row: int, a: np.ndarray, a_at: int, a_step: int,
    b: np.ndarray, b_at: int, b_step: int, depth: int,
) -> None:  # fmt: skip
    k, lanes = np.arange(depth), np.arange(dots.WIDTH)
    left = _quads(a, False)[a_at + np.arange(count)[:, None] * a_step + k]
    right = _quads(b, True)[b_at + k[:, None] * b_step + lanes]
    c[_lines(c_at, c_row, count, dots.WIDTH)] = np.einsum("mkq,klq->ml", left, right)


def _conv_tile(
    count: int, c: np.ndarray, c_at: int, c_row: int, a: np.ndarray, a_at: int, a_step: int,
    b: np.ndarray, b_at: int, b_step: np.ndarray, depth: int, tiles: int,
) -> None:  # fmt: skip
    k, lanes = np.arange(depth), np.arange(tiles * dots.PIXELS)
    left = _quads(a, True)[a_at + np.arange(count)[:, None] + k * a_step]
    right = _quads(b, False)[b_at + b_step[k][:, None] + lanes]
    c[_lines(c_at, c_row, count, lanes.size)] = np.einsum("mkq,klq->ml", left, right)


def _too_close(*arguments: Any) -> bool:
    """All codes are computed in integers then."""
    return True


def _join(spacing: int) -> Any:
    def join(
        quads: np.ndarray, to: int, frames: np.ndarray, at: int, shift: int, count: int, turned: int
    ) -> None:
        four = frames[at + np.arange(count)[:, None] * spacing + np.arange(4) * shift]
        quads[to : to + count] = four.view(np.int32)[:, 0] ^ turned

    return join


def _sparse_blocks(
    samples: int, c: np.ndarray, c_at: int, c_row: int, bias: np.ndarray, b_at: int, relu: bool,
    values: np.ndarray, v_at: int, v_step: int, indices: np.ndarray, i_at: int, depth: int,
    x: np.ndarray, x_at: int, x_step: int,
) -> None:  # fmt: skip
    lanes, row = np.arange(microkernel.isa().vector // c.itemsize), np.arange(samples)[:, None]
    inputs = x[x_at + indices[i_at : i_at + depth] * x_step + row]
    stored = values[v_at + np.arange(depth)[:, None] * v_step + lanes]
    sums = inputs @ stored + bias[b_at + lanes]
    c[c_at + row * c_row + lanes] = np.maximum(sums, 0) if relu else sums


def _sparse_lines(outputs: int) -> Any:
    def tile(
        vectors: int, c: np.ndarray, c_at: int, c_row: int, bias: np.ndarray, b_at: int, relu: bool,
        values: np.ndarray, v_at: int, v_step: int, indices: np.ndarray, i_at: int, depth: int,
        x: np.ndarray, x_at: int, x_step: int,
    ) -> None:  # fmt: skip
        samples = np.arange(max(vectors * (microkernel.isa().vector // c.itemsize), 1))
        row = np.arange(outputs)[:, None]
        inputs = x[x_at + indices[i_at : i_at + depth, None] * x_step + samples]
        stored = values[v_at + np.arange(depth) * v_step + row]
        sums = stored @ inputs + bias[b_at + row]
        c[c_at + row * c_row + samples] = np.maximum(sums, 0) if relu else sums

    return tile
