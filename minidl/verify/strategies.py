"""Hypothesis strategies, named by what they vary: layout, shape, values, parameters.

Values come from a seed and a kind rather than element by element: large enough cases stay fast,
and Hypothesis still shrinks shapes, layouts and kinds to the simplest that fails. Kinds:

- "integers", "eighths": sums and products are exact in float32, so results must be bit-equal;
- "normal", "offset" (a large mean, where variances cancel), "constant", "wide" (many magnitudes);
- "special": zeros, subnormals, infinities, NaN and the ends of the range; "bits": any bit pattern.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from . import oracle

Shape = tuple[int, ...]
Pair = tuple[int, int]
Axes = int | tuple[int, ...] | None

FLOATS = (np.float32, np.float64)
EXACT = ("integers", "eighths")
BOUNDED = ("integers", "normal", "offset", "constant")
RACES = 3  # times that a call is made in which threads could get in each other's way
LAYOUTS = ("contiguous", "fortran", "reversed", "strided", "offset", "broadcast")

seeds = st.integers(0, 2**32 - 1)
float_dtypes = st.sampled_from(FLOATS)


def special_values(dtype: type) -> np.ndarray:
    """Zeros, subnormals, powers of two, range ends, infinities and NaN, with both signs."""
    info = np.finfo(dtype)
    positive: list[float | np.floating] = [0.0, info.smallest_subnormal, info.tiny, info.eps]
    positive += [0.5, 1.0, 1.5, 2.0, 88.0, 104.0, 710.0, 1e4, 2.0**24 + 1, info.max, np.inf]
    return np.array([*positive, *(-p for p in positive), np.nan], dtype)


def fill(shape: Shape, dtype: type, kind: str, seed: int) -> np.ndarray:
    """An array of the given kind of values; the same for the same arguments."""
    rng = np.random.Generator(np.random.PCG64(seed))
    if kind == "bits":
        word = np.uint32 if dtype == np.float32 else np.uint64
        raw = rng.integers(0, np.iinfo(word).max, shape, word, endpoint=True)
        x: np.ndarray = np.asarray(raw).view(dtype)
        return np.where(np.isnan(x), dtype(np.nan), x)  # casting a signalling NaN would warn
    if kind == "special":
        often_nan = np.append(special_values(dtype), [np.nan] * 4)
        return np.asarray(rng.choice(often_nan, shape), dtype)
    if kind == "integers":
        x = rng.integers(-4, 5, shape)
    elif kind == "eighths":
        x = rng.integers(-64, 65, shape) / 8
    elif kind == "normal":
        x = rng.standard_normal(shape)
    elif kind == "offset":
        x = 100 + rng.standard_normal(shape)
    elif kind == "constant":
        x = np.full(shape, rng.standard_normal())
    elif kind == "wide":
        x = rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 31, shape)
    else:
        raise ValueError(f"no kind of values is called {kind!r}")
    return np.asarray(x, dtype)


@dataclass(frozen=True)
class Laid:
    """Values, and how they shall lie in a backend's memory."""

    values: np.ndarray
    layout: str = "contiguous"

    @property
    def shape(self) -> Shape:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def on(self, backend: Backend) -> Any:
        """A native array with these values in this layout, made with the backend's own views."""
        return self.within(backend)[0]

    def within(self, backend: Backend) -> tuple[Any, Any]:
        """That array, and the contiguous and writable one that it is, or is a view of."""
        x, ndim = self.values, self.values.ndim
        if self.layout == "fortran":
            axes = tuple(range(ndim))[::-1]
            base = backend.asarray(x.transpose(axes).copy())
            return backend.transpose(base, axes), base
        if self.layout == "reversed":
            step = (slice(None, None, -1),) * ndim
            base = backend.asarray(x[step].copy())
            return backend.getitem(base, step), base
        if self.layout == "strided":
            step = (slice(None, None, 2),) * ndim
            gaps = np.full([2 * n for n in x.shape], _poison(x.dtype), x.dtype)
            gaps[step] = x
            base = backend.asarray(gaps)
            return backend.getitem(base, step), base
        if self.layout == "offset":
            flat = np.concatenate([np.full(1, _poison(x.dtype), x.dtype), x.ravel()])
            base = backend.asarray(flat)
            return backend.reshape(backend.getitem(base, slice(1, None)), x.shape), base
        if self.layout == "broadcast":
            base = backend.asarray(x[:1].copy())
            return backend.broadcast_to(base, x.shape), base
        base = backend.asarray(x.copy())
        return base, base


def different(x: np.ndarray) -> np.ndarray:
    """An array like x in which every element is another: 0 for 1, else 1."""
    return np.asarray(x != 1).astype(x.dtype)


def _poison(dtype: np.dtype) -> Any:
    """What lies between the elements of a strided array: reading it shows."""
    return {"f": np.nan, "b": True}.get(dtype.kind, 77)


def layouts(ndim: int) -> st.SearchStrategy[str]:
    return st.sampled_from(LAYOUTS) if ndim else st.sampled_from(("contiguous", "offset"))


def lay(values: np.ndarray, layout: str) -> Laid:
    """A zero-stride array repeats its first slice; the values are made to agree."""
    if layout == "broadcast":
        values = np.broadcast_to(values[:1], values.shape).copy() if values.ndim else values
    return Laid(values, layout)


def shapes(
    min_dims: int = 0, max_dims: int = 4, min_side: int = 0, max_side: int = 5
) -> st.SearchStrategy[Shape]:
    sides = st.integers(min_side, max_side)
    return st.lists(sides, min_size=min_dims, max_size=max_dims).map(tuple)


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    dtype: type | None = None,
    kinds: tuple[str, ...] = BOUNDED,
    plain: bool = False,
) -> Laid:
    """A floating-point array in any layout (contiguous if plain)."""
    if not isinstance(shape, tuple):
        shape = draw(shapes() if shape is None else shape)
    dtype = dtype or draw(float_dtypes)
    values = fill(shape, dtype, draw(st.sampled_from(kinds)), draw(seeds))
    layout = "contiguous" if plain else draw(layouts(len(shape)))
    if layout == "broadcast" and 0 in shape:
        layout = "contiguous"
    return lay(values, layout)


@st.composite
def broadcastable(
    draw: st.DrawFn, count: int = 2, dtype: type | None = None, kinds: tuple[str, ...] = BOUNDED
) -> tuple[Laid, ...]:
    """Arrays of one dtype whose shapes broadcast: some axes of length 1, leading ones left out."""
    full = draw(shapes(max_dims=3))
    dtype = dtype or draw(float_dtypes)
    found = []
    for _ in range(count):
        kept = tuple(n if draw(st.booleans()) else 1 for n in full)
        kept = kept[draw(st.integers(0, len(kept))) :]
        found.append(draw(arrays(kept, dtype, kinds)))
    return tuple(found)


@st.composite
def axes_of(draw: st.DrawFn, ndim: int) -> Axes:
    """None, one axis, or a tuple of different axes; non-negative, as the contract asks."""
    if ndim == 0:
        return draw(st.sampled_from((None, ())))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim))
    form = draw(st.sampled_from(("all", "one", "some")))
    if form == "all":
        return None
    return chosen[0] if form == "one" and chosen else tuple(chosen)


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@dataclass(frozen=True)
class Convolution:
    """A convolution that is valid by construction: the image is built around the window."""

    x: Laid
    weight: Laid
    bias: Laid | None
    grad: Laid
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def options(self) -> tuple[Pair, Pair, Pair, int]:
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def window(self) -> tuple[Pair, Pair, Pair, Pair]:
        """kernel, stride, padding, dilation, as im2col takes them."""
        height, width = self.weight.shape[2:]
        return (height, width), self.stride, self.padding, self.dilation


def _image_side(kernel: int, stride: int, padding: int, dilation: int, windows: int) -> int:
    """The smallest side into which so many windows fit, at least 1."""
    return max(dilation * (kernel - 1) + 1 + stride * (windows - 1) - 2 * padding, 1)


@st.composite
def convolutions(draw: st.DrawFn, kinds: tuple[str, ...] = BOUNDED) -> Convolution:
    """All parameters vary, and the image may end in a remainder that no window covers."""
    kernel, stride = draw(pairs(1, 3)), draw(pairs(1, 3))
    padding, dilation = draw(pairs(0, 2)), draw(pairs(1, 2))
    windows, rest = draw(pairs(1, 3)), draw(pairs(0, 2))
    groups = draw(st.integers(1, 3))
    batch = draw(st.integers(0, 3))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    sides = [
        _image_side(*v) + r
        for *v, r in zip(kernel, stride, padding, dilation, windows, rest, strict=True)
    ]
    dtype = draw(float_dtypes)
    x = draw(arrays((batch, inputs, *sides), dtype, kinds))
    weight = draw(arrays((outputs, inputs // groups, *kernel), dtype, kinds))
    bias = draw(st.none() | arrays((outputs,), dtype, kinds))
    measures = zip(sides, kernel, stride, padding, dilation, strict=True)
    out = (batch, outputs, *(oracle.output_size(*m) for m in measures))
    return Convolution(
        x, weight, bias, draw(arrays(out, dtype, kinds)), stride, padding, dilation, groups
    )


@st.composite
def int8_convolutions(draw: st.DrawFn) -> tuple[Convolution, int]:
    """The same with x in int8 or uint8, weight in int8 and a value for the padding."""
    case = draw(convolutions(kinds=("integers",)))
    dtype = draw(st.sampled_from((np.int8, np.uint8)))
    x = Laid(draw(integers_like(case.x.shape, dtype)), case.x.layout)
    weight = Laid(draw(integers_like(case.weight.shape, np.int8)), case.weight.layout)
    x, weight = lay(x.values, x.layout), lay(weight.values, weight.layout)
    value = draw(st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))
    return replace(case, x=x, weight=weight, bias=None), value


@st.composite
def integers_like(draw: st.DrawFn, shape: Shape, dtype: type) -> np.ndarray:
    """Integers over the whole range of dtype, both ends among them."""
    info = np.iinfo(dtype)
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    ends = rng.random(shape) < 0.2
    return np.where(ends, rng.choice([info.min, info.max], shape), values).astype(dtype)


@dataclass(frozen=True)
class Pooling:
    """Windows over an image; padding is at most half the kernel."""

    x: Laid
    grad: Laid
    kernel: Pair
    stride: Pair
    padding: Pair

    @property
    def window(self) -> tuple[Pair, Pair, Pair]:
        return self.kernel, self.stride, self.padding


@st.composite
def poolings(draw: st.DrawFn, kinds: tuple[str, ...] = BOUNDED) -> Pooling:
    kernel, stride = draw(pairs(1, 4)), draw(pairs(1, 4))
    padding = draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2))
    windows, rest = draw(pairs(1, 3)), draw(pairs(0, 2))
    sides = [
        _image_side(k, s, p, 1, n) + r
        for k, s, p, n, r in zip(kernel, stride, padding, windows, rest, strict=True)
    ]
    lead, dtype = draw(st.tuples(st.integers(0, 2), st.integers(1, 3))), draw(float_dtypes)
    x = draw(arrays((*lead, *sides), dtype, kinds))
    measures = zip(sides, kernel, stride, padding, strict=True)
    out = (*lead, *(oracle.output_size(*m) for m in measures))
    return Pooling(x, draw(arrays(out, dtype, kinds)), kernel, stride, padding)


@st.composite
def index_arrays(draw: st.DrawFn, shape: Shape, size: int, negative: bool = False) -> np.ndarray:
    """int64 positions below size, with duplicates; from the end as well where negative."""
    rng = np.random.Generator(np.random.PCG64(draw(seeds)))
    crowd = max(1, size // draw(st.sampled_from((1, 1, 3))))
    low = -crowd if negative else 0
    return np.asarray(rng.integers(low, crowd, shape), np.int64)
