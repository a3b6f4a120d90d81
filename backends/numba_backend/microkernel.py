"""The innermost loops of a matrix product, written for the vector registers of this processor.

A micro-kernel keeps a small tile of the result, `rows` x `vectors`, in registers. For each k it
loads one row piece of b, as vectors, and multiplies it by one number of each row of a:

    c[m, :] += a[m, k] * b[k, :]      for k = 0, 1, ...; m = 0 .. rows - 1

so that 2 + rows loads feed 2 * rows fused multiply-adds, and the tile is stored once at the end.
Neither a nor b is copied: a may have any strides (transposed operands and windows of images are
read where they are), b needs contiguous rows. Source of the scheme: Goto & van de Geijn (2008),
"Anatomy of high-performance matrix multiplication", section 4; Van Zee & van de Geijn (2015),
"BLIS", section 5.

LLVM IR is written here because no loop in Python is compiled to this: the vectoriser would need to
see that 28 accumulators fit the registers.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

from ..errors import BackendUnavailable
from ..interface import Array
from .jit import helper
from .outline import outlined

intrinsic: Any = numba.extending.intrinsic

_INT = ir.IntType(64)


class Isa(NamedTuple):
    """An instruction set: bytes of a vector, and how many rows of two vectors fit the registers.

    `dot` names what it has for products of bytes, of which a tile holds `dot_rows` rows of
    `dot_vectors` vectors: see `dots.py`.
    """

    name: str
    vector: int
    rows: int
    dot: str
    dot_rows: int
    dot_vectors: int


AVX512_VNNI = Isa("avx512-vnni", 64, 14, "vnni", 6, 4)
AVX512 = Isa("avx512", 64, 14, "madd", 4, 4)  # 32 registers: 28 for the tile, 2 for b, rest for a
AVX2_VNNI = Isa("avx2-vnni", 32, 6, "vnni", 6, 2)
AVX2 = Isa("avx2", 32, 6, "madd", 4, 2)  # 16 registers: 12 for the tile
NEON_DOT = Isa("neon-dot", 16, 12, "sdot", 6, 4)
NEON = Isa("neon", 16, 12, "plain", 4, 2)  # 32 registers
PORTABLE = Isa("portable", 16, 4, "plain", 4, 2)  # whatever LLVM makes of it; without FMA two steps


@cache
def isa() -> Isa:
    """What this processor has, or what MINIDL_ISA names if the processor has it.

    A vector of 64 bytes on a processor without AVX-512 would end the process: no wish raises it.
    Raises: BackendUnavailable for a wish that cannot be had.
    """
    found = present(llvmlite.binding.get_host_cpu_features(), platform.machine().lower())
    wish = os.environ.get("MINIDL_ISA") or found[-1].name
    for known in found:
        if known.name == wish:
            return known
    raise BackendUnavailable(
        f"MINIDL_ISA={wish}: this processor has {', '.join(known.name for known in found)}; unset "
        "MINIDL_ISA, or name one of these"
    )


def present(features: Mapping[str, bool], machine: str) -> list[Isa]:
    """The instruction sets of a processor with these features, the best one last.

    >>> [known.name for known in present({"avx2": True, "fma": True, "avx512f": True}, "x86_64")]
    ['portable', 'avx2']
    """
    found = [PORTABLE]

    def add(known: Isa, *needed: str) -> bool:
        has = all(features.get(name) for name in needed)
        found.extend([known] if has else [])
        return has

    if machine in ("aarch64", "arm64"):
        add(NEON)
        add(NEON_DOT, "dotprod")
    if add(AVX2, "avx2", "fma"):
        add(AVX2_VNNI, "avxvnni")
        # Products of 16-bit numbers in 64 bytes came with the second part, BW, which only the
        # first processors with AVX-512 lacked.
        if add(AVX512, "avx512f", "avx512bw"):
            add(AVX512_VNNI, "avx512vnni")
    return found


VECTORS = 2  # of b at a time
ROWS = isa().rows


@outlined("n", "real", "n", "n", "real", "n", "n", "n", "real", "n", "n", "n", "flag")
def micro(
    typing: Any, rows: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_row: Any,
    a_step: Any, b: Any, b_at: Any, b_step: Any, depth: Any, add: Any,
) -> Any:  # fmt: skip
    """c[m, :] (+)= sum over k of a[m, k] * b[k, :] for m < rows, one register tile.

    Arrays are flat; a tile starts at its `_at`, its rows are `_row` apart and its k `_step`, all in
    elements. Without `add` what was in c is overwritten. 1 <= rows <= isa().rows, depth >= 1.
    """
    n = types.intp
    return types.void(n, c, n, n, a, n, n, n, b, n, n, n, types.boolean), _emit


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """A switch over the number of rows: each has loops of its own."""
    rows, *rest = arguments
    done = builder.function.append_basic_block()
    switch = builder.switch(rows, done)
    for count in range(1, isa().rows + 1):
        block = builder.function.append_basic_block()
        switch.add_case(ir.Constant(_INT, count), block)
        builder.position_at_end(block)
        _tile(count, context, builder, signature.args[1:], rest)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _tile(rows: int, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
    c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_step, depth, add = arguments
    element = context.get_data_type(kinds[0].dtype)
    size = context.get_abi_sizeof(element)
    lanes = isa().vector // size
    vector = ir.VectorType(element, lanes)
    multiply_add = builder.module.declare_intrinsic(
        f"llvm.fmuladd.v{lanes}f{8 * size}", (), ir.FunctionType(vector, [vector] * 3)
    )

    def start(which: int, array: Any, at: Any) -> Any:
        data = context.make_array(kinds[which])(context, builder, array).data
        return builder.gep(data, [at])

    def load(base: Any, i: Any, kind: Any) -> Any:
        value = builder.load(builder.bitcast(builder.gep(base, [i]), kind.as_pointer()))
        value.align = size
        return value

    def spread(x: Any) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        zero = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        first = builder.insert_element(undefined, x, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, zero)

    def number(value: int) -> Any:
        return ir.Constant(_INT, value)

    columns = [number(v * lanes) for v in range(VECTORS)]
    line = [builder.gep(start(0, c, c_at), [builder.mul(c_row, number(m))]) for m in range(rows)]
    far = [builder.mul(a_row, number(m)) for m in range(rows)]
    a_start, b_start = start(3, a, a_at), start(7, b, b_at)

    before, function = builder.block, builder.function
    old, entry, loop, end = (function.append_basic_block() for _ in range(4))
    builder.cbranch(add, old, entry)
    builder.position_at_end(old)  # start from what is in c
    present = [[load(line[m], column, vector) for column in columns] for m in range(rows)]
    builder.branch(entry)

    builder.position_at_end(entry)
    zero = ir.Constant(vector, None)
    first = [[builder.phi(vector) for _ in columns] for _ in range(rows)]
    for tile_row, present_row in zip(first, present, strict=True):
        for phi, value in zip(tile_row, present_row, strict=True):
            phi.add_incoming(zero, before)
            phi.add_incoming(value, old)
    builder.branch(loop)

    builder.position_at_end(loop)
    k, a_k, b_k = builder.phi(_INT), builder.phi(a_start.type), builder.phi(b_start.type)
    sums = [[builder.phi(vector) for _ in columns] for _ in range(rows)]
    pieces = [load(b_k, column, vector) for column in columns]
    after = []
    for m in range(rows):
        factor = spread(load(a_k, far[m], element))
        after.append([
            builder.call(multiply_add, [factor, piece, total])
            for piece, total in zip(pieces, sums[m], strict=True)
        ])  # fmt: skip
    following = builder.add(k, number(1))
    for phi, begin, step in (
        (k, number(0), following),
        (a_k, a_start, builder.gep(a_k, [a_step])),
        (b_k, b_start, builder.gep(b_k, [b_step])),
        *((s, f, n) for ss, fs, ns in zip(sums, first, after, strict=True)
          for s, f, n in zip(ss, fs, ns, strict=True)),
    ):  # fmt: skip
        phi.add_incoming(begin, entry)
        phi.add_incoming(step, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)

    builder.position_at_end(end)
    for m in range(rows):
        for column, value in zip(columns, after[m], strict=True):
            place = builder.bitcast(builder.gep(line[m], [column]), vector.as_pointer())
            builder.store(value, place).align = size


@helper
def tile_rows(
    c: Array, c_at: int, c_row: int, a: Array, a_at: int, a_row: int, a_step: int,
    b: Array, b_at: int, b_step: int, rows: int, depth: int, add: bool,
) -> None:  # fmt: skip
    """`micro` for any number of rows, in register tiles as equal as possible."""
    tiles = (rows + ROWS - 1) // ROWS
    done = 0
    for t in range(tiles):
        count = (rows - done) // (tiles - t)
        micro(count, c, c_at + done * c_row, c_row, a, a_at + done * a_row, a_row, a_step,
              b, b_at, b_step, depth, add)  # fmt: skip
        done += count


@outlined("real", "n", "n", "real", "n", "n")
def transpose_block(typing: Any, source: Any, at: Any, row: Any, target: Any, to: Any,
                    to_row: Any) -> Any:  # fmt: skip
    """target block = the transpose of a square block of source, as many elements a side as a vector
    has.

    In log2(lanes) rounds, each of which interleaves the first half of the vectors with the second.
    """
    n = types.intp
    return types.void(source, n, n, target, n, n), _emit_transpose


def _emit_transpose(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    source, at, row, target, to, to_row = arguments
    element = context.get_data_type(signature.args[0].dtype)
    size = context.get_abi_sizeof(element)
    lanes = isa().vector // size
    vector = ir.VectorType(element, lanes)

    def place(which: int, array: Any, start: Any, step: Any, i: int) -> Any:
        data = context.make_array(signature.args[which])(context, builder, array).data
        offset = builder.add(start, builder.mul(step, ir.Constant(_INT, i)))
        return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

    lines = []
    for i in range(lanes):
        lines.append(builder.load(place(0, source, at, row, i)))
        lines[-1].align = size
    half = lanes // 2
    low, high = (
        ir.Constant(ir.VectorType(ir.IntType(32), lanes),
                    [start + i // 2 + lanes * (i % 2) for i in range(lanes)])
        for start in (0, half)
    )  # fmt: skip
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(lines[:half], lines[half:], strict=True)
        lines = [builder.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
    for i, line in enumerate(lines):
        builder.store(line, place(3, target, to, to_row, i)).align = size
    return context.get_dummy_value()


PANEL = VECTORS * isa().vector  # bytes of a row piece of b
DEPTH = 384  # rows of a panel of b that are used while they are in the first cache


@helper
def pack(b: Array, at: int, step: int, column: int, depth: int, columns: int, panel: Array) -> None:
    """panel[k, j] = b[at + k * step + j * column], the missing columns filled with 0."""
    width, lanes = PANEL // b.itemsize, PANEL // VECTORS // b.itemsize
    if step == 1:  # b is transposed: its columns are contiguous
        blocks = depth // lanes * lanes
        squares = columns // lanes * lanes
        for k in range(0, blocks, lanes):
            for j in range(0, squares, lanes):
                transpose_block(b, at + k + j * column, column, panel, k * width + j, width)
        for j in range(columns):
            line = b[at + j * column : at + j * column + depth]
            for k in range(blocks if j < squares else 0, depth):
                panel[k * width + j] = line[k]
    else:
        for k in range(depth):
            for j in range(columns):
                panel[k * width + j] = b[at + k * step + j * column]
    if columns < width:
        for k in range(depth):
            panel[k * width + columns : (k + 1) * width] = 0


@helper
def product(a: Array, a_at: int, a_row: int, a_step: int, b: Array, b_at: int, b_step: int,
            b_column: int, y: Array, y_at: int, y_row: int, rows: int, columns: int, depth: int,
            add: bool) -> None:  # fmt: skip
    """y (+)= a @ b on flat arrays: a (rows, depth) and b (depth, columns) of any strides.

    b is read where it is if its rows are contiguous, else a panel of it is packed.
    """
    width = PANEL // y.itemsize
    panel = np.empty(DEPTH * width, y.dtype)
    edge = np.empty(rows * width if columns % width else 0, y.dtype)
    for k in range(0, depth, DEPTH):
        part = min(DEPTH, depth - k)
        for n in range(0, columns, width):
            count = min(width, columns - n)
            source, at, step = b, b_at + k * b_step + n * b_column, b_step
            if b_column != 1 or count < width:
                pack(b, at, b_step, b_column, part, count, panel)
                source, at, step = panel, 0, width
            adding = add or k > 0
            into, to, line, keep = y, y_at + n, y_row, adding
            if count < width:
                into, to, line, keep = edge, 0, width, False
            tile_rows(into, to, line, a, a_at + k * a_step, a_row, a_step, source, at, step,
                      rows, part, keep)  # fmt: skip
            if count < width:
                for m in range(rows):
                    for j in range(count):
                        i = y_at + m * y_row + n + j
                        y[i] = edge[m * width + j] + (y[i] if adding else 0)
