"""Fake quantization in one pass over memory, forward and backward."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..interface import Array
from ..numpy_backend import NumpyBackend
from .jit import kernel
from .layout import flat, plain, suits
from .memory import empty

PARALLEL_FROM = 1 << 15  # elements
PART = 1 << 12  # elements of a task, about
VALUES, STRAIGHT, SLOPES = range(3)


@kernel(exact=True)
def walk(x: Array, grad: Array, scale: Array, zero: Array, low: int, high: int, length: int,
         room: float, what: int, parts: int, y: Array) -> None:  # fmt: skip
    """What of a flat x (N, C, length): its values with a code, its gradient, or grad times the
    derivative by the scale.

    Ends first: what is left to round is small, and adding `room`, 1.5 * 2^23 in float32, leaves no
    place for its fraction, so that the processor rounds it, half to even. For gradients the ends
    are one step further out, so that what lies beyond still shows. NaN passes all comparisons.
    """
    for part in prange(parts):
        at, end = part * x.size // parts, (part + 1) * x.size // parts
        while at < end:
            line = at // length
            stop = min(end, (line + 1) * length)
            c = line % scale.size
            first, last = x.dtype.type(low - zero[c]), x.dtype.type(high - zero[c])
            s, one, nothing = scale[c], x.dtype.type(1), x.dtype.type(0)
            numbers, out = x[at:stop], y[at:stop]
            if what == VALUES:
                for i in range(out.size):
                    v = numbers[i] / s
                    v = first if v < first else v
                    v = last if v > last else v
                    out[i] = ((v + room) - room) * s
            else:
                g, before, after = grad[at:stop], first - one, last + one
                if what == STRAIGHT:
                    for i in range(out.size):
                        v = numbers[i] / s
                        v = before if v < before else v
                        v = after if v > after else v
                        v = (v + room) - room
                        out[i] = g[i] if first <= v <= last else nothing
                else:
                    for i in range(out.size):
                        ratio = numbers[i] / s
                        v = before if ratio < before else ratio
                        v = after if v > after else v
                        v = (v + room) - room
                        inside = v - ratio if first <= v <= last else (
                            first if v < first else (last if v > last else v))  # fmt: skip
                        out[i] = g[i] * inside
            at = stop


class FakeQuantize(NumpyBackend):
    """Slices along the middle axis of (N, C, L) are walked through where they lie."""

    def fake_quantize(
        self, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        if not suits(x, scale):
            return super().fake_quantize(x, scale, zero_point, low, high)
        x = plain(x)
        return _walk(VALUES, x, x, scale, zero_point, low, high)

    def fake_quantize_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        if not suits(x, scale, grad):
            return super().fake_quantize_grad(grad, x, scale, zero_point, low, high)
        return _walk(STRAIGHT, grad, x, scale, zero_point, low, high)

    def fake_quantize_scale_grad(
        self, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
    ) -> Array:
        if not suits(x, scale, grad):
            return super().fake_quantize_scale_grad(grad, x, scale, zero_point, low, high)
        return self.sum(_walk(SLOPES, grad, x, scale, zero_point, low, high), (0, 2))


def _walk(
    what: int, grad: Array, x: Array, scale: Array, zero_point: Array, low: int, high: int
) -> Array:
    y, kind = empty(x.shape, x.dtype), x.dtype.type
    room = kind(1.5 * 2.0 ** np.finfo(x.dtype).nmant)
    walk.sized(x.size, PARALLEL_FROM)(
        flat(plain(x)), flat(plain(grad)), plain(scale), plain(zero_point), low, high, x.shape[2],
        room, what, -(-x.size // PART), flat(y),
    )  # fmt: skip
    return y
