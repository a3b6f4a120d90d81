"""An image's bytes as planes of quads, from which a quantized convolution reads (`int8_conv.py`).

First its lines are dealt out into frames: each phase of them together, with padding around. Then
the bytes of four frames, or of four neighbours in one, are put side by side, once for each phase of
the columns. Phases that no tap meets are left out, which for a kernel of 1 x 1 with a stride of 2
are three of four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba.extending
import numpy as np
from numba import types
from numba.core import cgutils as cgutils_untyped

from ..interface import Array, Pair
from .dots import LANES
from .ir_words import INT, Words, number
from .jit import helper
from .lines import copy_lines

cgutils: Any = cgutils_untyped
intrinsic: Any = numba.extending.intrinsic

AHEAD = 2 * LANES  # bytes behind the last that are read, and not used


@helper
def phase_lines(lines: int, taps: int, stride: int, dilation: int) -> int:
    """How many lines of each phase `lines` lines of the output see."""
    return ((lines - 1) * stride + (taps - 1) * dilation + stride) // stride


def places(
    planes: int, lined: bool, kernel_size: Pair, stride: Pair, dilation: Pair, high: int, width: int
) -> Array:
    """Where the quads of a window begin, in the order of `quads_of`; high x width is a phase."""
    step = 4 if lined else 1
    p, i, j = np.ogrid[:planes, : kernel_size[0], : -(-kernel_size[1] // step)]
    h, w = i * dilation[0], j * step * dilation[1]
    which = (p * stride[0] + h % stride[0]) * stride[1] + w % stride[1]
    table: Array = (which * high + h // stride[0]) * width + w // stride[1]
    return table.reshape(-1).astype(np.int64)


@helper
def frame(x: Array, image: int, count: int, first: int, seen: int, left: int, step: int, high: int,
          reach: int, frames: Array) -> None:  # fmt: skip
    """Put `seen` lines of `count` images of x, from line `first` on, into their frames.

    A frame has the lines of each of `step` phases, `high` of `reach` bytes; what is left of them
    and beyond stays as it is. Lines outside the image are the same in every image, so that they
    stay as well.
    """
    height, width = x.shape[2], x.shape[3]
    flat = x.reshape(-1)
    begin, end = max(0, -first), min(seen, height - first)
    if step == 1:  # without divisions
        for c in range(count):
            copy_lines(frames, (c * high + begin) * reach + left, reach, flat,
                       ((image + c) * height + first + begin) * width, width,
                       end - begin, width)  # fmt: skip
        return
    for c in range(count):
        for phase in range(step):
            h = begin + (phase - begin) % step
            to = ((c * step + phase) * high + h // step) * reach + left
            start = ((image + c) * height + first + h) * width
            copy_lines(frames, to, reach, flat, start, step * width,
                       (end - h + step - 1) // step, width)  # fmt: skip


@helper
def join(frames: Array, lined: bool, high: int, reach: int, kernel_size: Pair, stride: Pair,
         dilation: Pair, turned: np.int32, quads: Array, to: int) -> None:  # fmt: skip
    """The quads of a plane, for each phase of lines and columns that a tap meets: a byte of the
    frames, and those 1, 2 and 3 images or neighbours further on.

    All bits of `turned` are turned over. Vectors reach into the next phase, which therefore comes
    after.
    """
    size = high * reach  # bytes of a phase of lines
    count = size // stride[1]
    shift, step = (dilation[1], 4) if lined else (stride[0] * size, 1)
    columns = (kernel_size[1] + step - 1) // step
    for h in range(stride[0]):
        for w in range(stride[1]):
            if meets(h, kernel_size[0], dilation[0], stride[0]) and meets(
                w, columns, step * dilation[1], stride[1]
            ):
                at = h * size + w
                if stride[1] == 1:
                    join_bytes(quads, to, frames, at, shift, count, turned)
                elif stride[1] == 2:
                    join_every_second(quads, to, frames, at, shift, count, turned)
                else:
                    for i in range(count):
                        j = at + i * stride[1]
                        quad = quad_of(frames[j], frames[j + shift], frames[j + 2 * shift],
                                       frames[j + 3 * shift])  # fmt: skip
                        quads[to + i] = np.int32(quad) ^ turned
            to += count


@helper
def turn_of(flip: int) -> np.int32:
    """`flip` in each byte of a quad."""
    return np.int32(np.uint32(0x01010101 * flip))


@helper
def meets(phase: int, taps: int, dilation: int, stride: int) -> bool:
    """Whether a tap sees that phase."""
    found = False
    for i in range(min(taps, stride)):
        found = found or i * dilation % stride == phase
    return found


@helper
def quad_of(one: int, two: int, three: int, four: int) -> np.uint32:
    low = np.uint32(np.uint32(one) | np.uint32(np.uint32(two) << np.uint32(8)))
    high = np.uint32(np.uint32(three) | np.uint32(np.uint32(four) << np.uint32(8)))
    return np.uint32(low | np.uint32(high << np.uint32(16)))


def _joined(spacing: int) -> Callable[..., Any]:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        quads, to, frames, at, shift, count, turned = arguments
        whole = Words(context, builder, types.int32, 4 * LANES)
        line = Words(context, builder, types.uint8, spacing * LANES)
        target, source = (
            whole.data(signature.args[0], quads, to),
            line.data(signature.args[2], frames, at),
        )
        starts = [builder.gep(source, [builder.mul(shift, number(i))]) for i in range(4)]
        turn = whole.spread(turned)
        vectors = builder.sdiv(builder.add(count, number(LANES - 1)), number(LANES))
        chosen = list(range(0, spacing * LANES, spacing))

        def woven(first: Any, second: Any, size: int) -> Any:
            """Pieces of `size` bytes of both in turns."""
            length = first.type.count
            order = [
                side + i + k
                for i in range(0, length, size) for side in (0, length) for k in range(size)
            ]  # fmt: skip
            return line.shuffle(first, second, order)

        with cgutils.for_range(builder, vectors, intp=INT) as loop:
            place = builder.mul(loop.index, number(LANES))
            begin = builder.mul(place, number(spacing))
            loaded = [line.load(start, begin) for start in starts]
            a, b, c, d = (line.shuffle(x, x, chosen) for x in loaded)
            four = woven(woven(a, b, 1), woven(c, d, 1), 2)
            whole.store(builder.xor(builder.bitcast(four, whole.vector), turn), target, place)
        return context.get_dummy_value()

    return emit


@cast("Callable[[Any], Any]", intrinsic)
def join_bytes(typing: Any, quads: Any, to: Any, frames: Any, at: Any, shift: Any, count: Any,
               turned: Any) -> Any:  # fmt: skip
    """quads[to + i] = the bytes at + i, and shift, 2 shift and 3 shift further on, of frames.

    Up to LANES - 1 quads more than count are written.
    """
    n = types.intp
    return types.void(quads, n, frames, n, n, n, types.int32), _joined(1)


@cast("Callable[[Any], Any]", intrinsic)
def join_every_second(typing: Any, quads: Any, to: Any, frames: Any, at: Any, shift: Any,
                      count: Any, turned: Any) -> Any:  # fmt: skip
    """As `join_bytes`, but the bytes at + 2 i."""
    n = types.intp
    return types.void(quads, n, frames, n, n, n, types.int32), _joined(2)
