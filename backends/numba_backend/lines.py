"""Copying many short lines, without what a loop costs to start.

An image line of a dozen elements is too short for the loops that LLVM makes: they check for
overlap, then run a vector part, then a scalar rest. Here all lines of a call have one length: the
widest vector that fits is chosen once, and the last vector of a line ends where the line ends, even
if it overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numba.extending
from numba import types
from numba.core import cgutils as cgutils_untyped

from .ir_words import INT, Words, number
from .microkernel import isa
from .outline import outlined

cgutils: Any = cgutils_untyped
intrinsic: Any = numba.extending.intrinsic


@cast("Callable[[Any], Any]", intrinsic)
def copy_lines(typing: Any, target: Any, at: Any, target_step: Any, source: Any, start: Any,
               source_step: Any, lines: Any, count: Any) -> Any:  # fmt: skip
    """`count` elements of each of `lines` lines, between flat arrays of one dtype.

    Line i is copied from source[start + i * source_step] on to target[at + i * target_step] on.
    """
    n = types.intp
    return types.void(target, n, n, source, n, n, n, n), partial(_lines, _copied)


@cast("Callable[[Any], Any]", intrinsic)
def largest_of_four(typing: Any, target: Any, at: Any, target_step: Any, source: Any, start: Any,
                    source_step: Any, gap: Any, lines: Any, count: Any) -> Any:  # fmt: skip
    """As `copy_lines` of integers, but the largest of two neighbours and the two `gap` on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, target_step, source, start, source_step, gap, lines, count = arguments

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.icmp_signed(">", a, b), a, b)

        def pooled(words: Words, to: Any, out_of: Any, i: Any) -> None:
            first = builder.mul(i, number(2))
            pairs = [
                larger(words.load(out_of, p), words.load(out_of, builder.add(p, gap)))
                for p in (first, builder.add(first, number(words.lanes)))
            ]
            one, two = pairs
            even, odd = (
                words.shuffle(one, two, list(range(side, 2 * words.lanes, 2))) for side in (0, 1)
            )
            words.store(larger(even, odd), to, i)

        given = [target, at, target_step, source, start, source_step, lines, count]
        return _lines(pooled, context, builder, signature, given)

    n = types.intp
    return types.void(target, n, n, source, n, n, n, n, n), emit


_MOVES = "real", "n", "n", "real", "n", "n", "n", "n"


@outlined(*_MOVES)
def copy_numbers(typing: Any, target: Any, at: Any, target_step: Any, source: Any, start: Any,
                 source_step: Any, lines: Any, count: Any) -> Any:  # fmt: skip
    """`copy_lines` for float32 and float64, compiled once for all kernels."""
    n = types.intp
    return types.void(target, n, n, source, n, n, n, n), partial(_lines, _copied)


@outlined(*_MOVES)
def copy_every_second(typing: Any, target: Any, at: Any, target_step: Any, source: Any, start: Any,
                      source_step: Any, lines: Any, count: Any) -> Any:  # fmt: skip
    """As `copy_numbers`, but every second element of the source, `count` of them."""
    n = types.intp
    return types.void(target, n, n, source, n, n, n, n), partial(_lines, _every_second)


@outlined("real", "n", "n", "real", "n", "n", "n", "n", "n")
def weave_lines(typing: Any, target: Any, at: Any, target_step: Any, source: Any, start: Any,
                gap: Any, source_step: Any, lines: Any, count: Any) -> Any:  # fmt: skip
    """Two lines become one, their elements in turns: the second begins `gap` after the first.

    `count` elements of each; otherwise as `copy_numbers`.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, target_step, source, start, gap, source_step, lines, count = arguments

        def woven(words: Words, to: Any, out_of: Any, i: Any) -> None:
            pair = words.load(out_of, i), words.load(out_of, builder.add(i, gap))
            chosen = [k for i in range(words.lanes) for k in (i, words.lanes + i)]
            place = builder.mul(i, number(2))
            words.store(words.shuffle(*pair, chosen[: words.lanes]), to, place)
            place = builder.add(place, number(words.lanes))
            words.store(words.shuffle(*pair, chosen[words.lanes :]), to, place)

        given = [target, at, target_step, source, start, source_step, lines, count]
        return _lines(woven, context, builder, signature, given)

    n = types.intp
    return types.void(target, n, n, source, n, n, n, n, n), emit


@outlined("real", "n", "n")
def clear_run(typing: Any, target: Any, at: Any, count: Any) -> Any:
    """target[at : at + count] = 0, of a flat array."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, count = arguments

        def cleared(words: Words, to: Any, out_of: Any, i: Any) -> None:
            words.store(words.zero, to, i)

        zero, one = number(0), number(1)
        return _lines(
            cleared, context, builder, signature, [target, at, zero, target, at, zero, one, count]
        )

    n = types.intp
    return types.void(target, n, n), emit


def _copied(words: Words, to: Any, out_of: Any, i: Any) -> None:
    words.store(words.load(out_of, i), to, i)


def _every_second(words: Words, to: Any, out_of: Any, i: Any) -> None:
    """Two vectors that share an element, so that nothing behind the last one is read."""
    first = words.builder.mul(i, number(2))
    second = words.builder.add(first, number(words.lanes - 1))
    pair = words.load(out_of, first), words.load(out_of, second)
    half = (words.lanes + 1) // 2
    chosen = [2 * k if k < half else words.lanes + 2 * (k - half) + 1 for k in range(words.lanes)]
    words.store(words.shuffle(*pair, chosen), to, i)


def _lines(step: Any, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """For each line, `step` at every vector of it; one loop for each width of vectors."""
    target, at, target_step, source, start, source_step, lines, count = arguments
    kind = signature.args[0]
    done = builder.append_basic_block()
    width = isa().vector
    words = Words(context, builder, kind.dtype, width)
    to, out_of = words.data(kind, target, at), words.data(kind, source, start)
    while words.lanes:
        lanes = number(words.lanes)
        with builder.if_then(builder.icmp_signed(">=", count, lanes)):
            last = builder.sub(count, lanes)
            blocks = builder.sdiv(builder.sub(count, number(1)), lanes)
            with cgutils.for_range(builder, lines, intp=INT) as line:
                into = builder.gep(to, [builder.mul(line.index, target_step)])
                taken = builder.gep(out_of, [builder.mul(line.index, source_step)])
                with cgutils.for_range(builder, blocks, intp=INT) as block:
                    step(words, into, taken, builder.mul(block.index, lanes))
                step(words, into, taken, last)
            builder.branch(done)
        width //= 2
        words = Words(context, builder, kind.dtype, width)
    builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()
