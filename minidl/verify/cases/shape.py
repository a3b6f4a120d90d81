"""Moving elements: no arithmetic but the additions of a scatter, so results are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends import Backend

from .. import oracle
from ..conformance import call, call_in_place, covers, drawn, each
from ..strategies import EXACT, FLOATS, RACES, Laid, Shape, arrays, fill, index_arrays, shapes
from ..tolerances import assert_same

ANY_BITS = ("bits", "integers")


@covers("reshape")
@drawn(x=arrays(kinds=ANY_BITS), data=st.data())
def reshape_keeps_c_order(backend: Backend, x: Laid, data: st.DataObject) -> None:
    size = x.values.size
    candidates = [(size,), (1, size, 1), *([(2, size // 2)] if size % 2 == 0 else []), x.shape]
    shape = data.draw(st.sampled_from(candidates), label="shape")
    expected = np.array(x.values.ravel().tolist(), x.dtype).reshape(shape)
    assert_same(call(backend, "reshape", x, shape), expected)


@covers("transpose")
@drawn(x=arrays(kinds=ANY_BITS), data=st.data())
def transpose_permutes(backend: Backend, x: Laid, data: st.DataObject) -> None:
    axes = tuple(data.draw(st.permutations(range(x.values.ndim)), label="axes"))
    assert_same(call(backend, "transpose", x, axes), oracle.transpose(x.values, axes))


@covers("broadcast_to")
@drawn(x=arrays(shapes(max_dims=3), kinds=ANY_BITS), data=st.data())
def broadcast_to_repeats(backend: Backend, x: Laid, data: st.DataObject) -> None:
    lead = data.draw(shapes(max_dims=2, max_side=3), label="lead")
    times = data.draw(st.integers(0, 3), label="times")
    shape = (*lead, *(times if n == 1 else n for n in x.shape))
    expected = np.empty(shape, x.dtype)
    for index in np.ndindex(shape):
        own = index[len(lead) :]
        source = tuple(0 if n == 1 else i for i, n in zip(own, x.shape, strict=True))
        expected[index] = x.values[source]
    assert_same(call(backend, "broadcast_to", x, shape), expected)


@covers("concatenate")
@drawn(data=st.data())
def concatenate_puts_one_behind_another(backend: Backend, data: st.DataObject) -> None:
    shape = data.draw(shapes(min_dims=1, max_dims=3), label="shape")
    axis = data.draw(st.integers(0, len(shape) - 1), label="axis")
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4), label="lengths")
    parts = []
    for n in lengths:
        own = (*shape[:axis], n, *shape[axis + 1 :])
        parts.append(data.draw(arrays(own, kinds=ANY_BITS)))
    expected = oracle.concatenate([p.values for p in parts], axis)
    assert_same(call(backend, "concatenate", parts, axis), expected)


@covers("pad")
@drawn(x=arrays(shapes(max_dims=3), kinds=ANY_BITS), data=st.data())
def pad_frames(backend: Backend, x: Laid, data: st.DataObject) -> None:
    side = st.integers(0, 3)
    widths = [(data.draw(side), data.draw(side)) for _ in x.shape]
    value = data.draw(st.sampled_from((0, -1.5, float("inf"), float("nan"))), label="value")
    assert_same(call(backend, "pad", x, widths, value), oracle.pad(x.values, widths, value))


@covers("flip")
@drawn(x=arrays(shapes(min_dims=1), kinds=ANY_BITS), data=st.data())
def flip_reverses(backend: Backend, x: Laid, data: st.DataObject) -> None:
    axes = st.lists(st.integers(0, x.values.ndim - 1), unique=True)
    axis = tuple(data.draw(axes, label="axis"))
    assert_same(call(backend, "flip", x, axis), oracle.flip(x.values, axis))


@st.composite
def indices(draw: st.DrawFn, shape: Shape) -> Any:
    """Basic, advanced and mixed indices, with negative and repeated positions and masks."""
    kind = draw(st.sampled_from(("basic", "integers", "mixed", "mask", "list")))
    if kind == "basic" or not shape or 0 in shape:
        return draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    if kind == "integers":
        count = draw(st.integers(1, len(shape)))
        result = draw(shapes(max_dims=2, max_side=3))
        return tuple(draw(index_arrays(result, n, negative=True)) for n in shape[:count])
    if kind == "mask":
        dims = draw(st.integers(1, len(shape)))
        rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 99))))
        return rng.random(shape[:dims]) < 0.5
    if kind == "list":
        return draw(index_arrays((3,), shape[0], negative=True))
    items = []
    for n in shape:  # slices and index arrays side by side, in any order
        take = draw(st.sampled_from(("slice", "array", "number")))
        if take == "slice":
            items.append(
                draw(st.sampled_from((slice(None), slice(1, None), slice(None, None, -1))))
            )
        elif take == "array":
            items.append(draw(index_arrays((2,), n, negative=True)))
        else:
            items.append(draw(st.integers(-n, n - 1)))
    return tuple(items)


@covers("getitem")
@drawn(x=arrays(kinds=ANY_BITS), data=st.data())
def getitem_takes_what_numpy_takes(backend: Backend, x: Laid, data: st.DataObject) -> None:
    index = data.draw(indices(x.shape), label="index")
    assert_same(call(backend, "getitem", x, index), np.asarray(x.values[index]))


@covers("getitem", "getitem_grad")
@each("index", [(np.array([-1, 0, -3]),), (slice(None), np.array([[3, -4], [-1, -1]])), (-2,)])
def negative_positions_count_from_the_end(backend: Backend, method: str, index: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    if method == "getitem":
        assert_same(call(backend, method, x, index), x[index])
        return
    grad = 1 + np.arange(x[index].size, dtype=np.float32).reshape(x[index].shape)
    expected = oracle.getitem_grad(grad, index, x.shape).astype(np.float32)
    assert_same(call(backend, method, grad, index, x.shape), expected, signed_zero=False)


@covers("getitem_grad")
@drawn(shape=shapes(), data=st.data())
def getitem_grad_adds_back(backend: Backend, shape: Shape, data: st.DataObject) -> None:
    index = data.draw(indices(shape), label="index")
    taken = np.zeros(shape)[index].shape
    grad = data.draw(arrays(taken, kinds=EXACT), label="grad")
    expected = oracle.getitem_grad(grad.values, index, shape).astype(grad.dtype)
    actual = call(backend, "getitem_grad", grad, index, shape)
    assert_same(actual, expected, signed_zero=False)


@covers("setitem")
@drawn(x=arrays(kinds=("integers",)), data=st.data())
def setitem_writes_what_numpy_writes(backend: Backend, x: Laid, data: st.DataObject) -> None:
    index = data.draw(indices(x.shape), label="index")
    expected = x.values.copy()
    taken = np.asarray(expected[index])
    same = data.draw(st.sampled_from(("scalar", "one", "full")), label="value")
    if same == "full" and isinstance(index, tuple):
        # Which of two values written to one position stays is not defined.
        positions = np.arange(x.values.size).reshape(x.shape)[index]
        assume(np.unique(positions).size == np.size(positions))
    value = {
        "scalar": 2.5,
        "one": np.asarray(7, x.dtype),
        "full": np.arange(taken.size, dtype=x.dtype).reshape(taken.shape),
    }[same]
    if same == "full" and isinstance(index, np.ndarray) and index.dtype != np.bool_:
        value = np.asarray(7, x.dtype)
    expected[index] = value
    target = Laid(x.values, "contiguous" if x.layout == "broadcast" else x.layout)
    (after,) = call_in_place(backend, "setitem", target, index, value, changes=(0,))
    assert_same(after, expected)


Gather = tuple[Shape, int, np.ndarray]  # the shape of x, an axis, and positions along it


@st.composite
def gathers(draw: st.DrawFn) -> Gather:
    """The shape of x, an axis, and an index array that differs from x along that axis only."""
    shape = draw(shapes(min_dims=1, max_dims=3, min_side=1))
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(0, 6))
    index = draw(index_arrays((*shape[:axis], count, *shape[axis + 1 :]), shape[axis]))
    return shape, axis, index


@covers("gather")
@drawn(case=gathers(), data=st.data())
def gather_takes_along_axis(backend: Backend, case: Gather, data: st.DataObject) -> None:
    shape, axis, index = case
    x = data.draw(arrays(shape, kinds=ANY_BITS), label="x")
    expected = oracle.gather(x.values, axis, index)
    assert_same(call(backend, "gather", x, axis, index), expected)


@covers("gather_grad")
@drawn(case=gathers(), data=st.data())
def gather_grad_adds_back(backend: Backend, case: Gather, data: st.DataObject) -> None:
    shape, axis, index = case
    grad = data.draw(arrays(index.shape, kinds=EXACT), label="grad")
    expected = oracle.gather_grad(grad.values, axis, index, shape).astype(grad.dtype)
    actual = call(backend, "gather_grad", grad, axis, index, shape)
    assert_same(actual, expected, signed_zero=False)


@covers("index_add")
@drawn(data=st.data())
def index_add_adds_slices(backend: Backend, data: st.DataObject) -> None:
    x = data.draw(arrays(shapes(min_dims=1, max_dims=3, min_side=1), kinds=EXACT), label="x")
    axis = data.draw(st.integers(0, x.values.ndim - 1), label="axis")
    count = data.draw(st.integers(0, 6), label="count")
    index = data.draw(index_arrays((count,), x.shape[axis]), label="index")
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    source = data.draw(arrays(shape, x.dtype.type, EXACT), label="source")
    expected = oracle.index_add(x.values, axis, index, source.values).astype(x.dtype)
    assert_same(call(backend, "index_add", x, axis, index, source), expected, signed_zero=False)


@covers("embedding", "embedding_grad")
@drawn(data=st.data())
def embedding_takes_rows_and_adds_them_back(
    backend: Backend, method: str, data: st.DataObject
) -> None:
    rows, width = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 4))
    index = data.draw(index_arrays(data.draw(shapes(max_dims=3, max_side=4)), rows), label="index")
    if method == "embedding":
        weight = data.draw(arrays((rows, width), kinds=ANY_BITS), label="weight")
        expected = np.empty((*index.shape, width), weight.dtype)
        for position in np.ndindex(index.shape):
            expected[position] = weight.values[index[position]]
        assert_same(call(backend, method, weight, index), expected)
        return
    grad = data.draw(arrays((*index.shape, width), kinds=EXACT), label="grad")
    expected = np.zeros((rows, width))
    for position in np.ndindex(index.shape):
        expected[index[position]] += grad.values[position]
    actual = call(backend, method, grad, index, rows)
    assert_same(actual, expected.astype(grad.dtype), signed_zero=False)


SCATTERS = ("getitem_grad", "gather_grad", "index_add", "embedding_grad")


@covers(*SCATTERS)
@each("crowd", [1, 3, 1000])
def scatters_of_many_elements_lose_nothing(backend: Backend, method: str, crowd: int) -> None:
    """Where threads share a target, an addition that is not atomic would go missing."""
    n, shape = 400_009, (1000, 5)
    index = np.random.Generator(np.random.PCG64(crowd)).integers(0, crowd, n)
    for dtype in FLOATS:
        grad = fill((n, 5), dtype, "integers", 3)
        columns = [np.bincount(index, g, shape[0]) for g in grad.T]
        args: tuple[Any, ...] = {
            "getitem_grad": (grad, (index,), shape),
            "gather_grad": (grad, 0, np.repeat(index[:, None], 5, axis=1), shape),
            "index_add": (np.zeros(shape, dtype), 0, index, grad),
            "embedding_grad": (grad, index, 1000),
        }[method]
        expected = np.stack(columns, axis=1).astype(dtype)
        for _ in range(RACES if dtype == np.float32 else 1):
            assert_same(call(backend, method, *args), expected, signed_zero=False)


@covers("embedding_grad")
@each("where", ["nowhere", "first and last", "one in the middle", "everywhere"])
def rows_that_nobody_looked_up_get_no_gradient(backend: Backend, where: str) -> None:
    """Wherever a table is cut into ranges, and however uneven the work is in them."""
    rows, n = 5003, 70_000
    index: np.ndarray = {
        "nowhere": np.zeros(0, np.int64),
        "first and last": np.arange(n) % 2 * (rows - 1),
        "one in the middle": np.where(np.arange(n) % 7, rows // 3, np.arange(n) % rows),
        "everywhere": np.arange(n) * 7919 % rows,
    }[where]
    for dtype in FLOATS:
        grad = fill((len(index), 3), dtype, "integers", 5)
        expected = np.stack([np.bincount(index, g, rows) for g in grad.T], axis=1)
        actual = call(backend, "embedding_grad", grad, index, rows)
        assert_same(actual, expected.astype(dtype), signed_zero=False)


@covers("getitem", "gather", "embedding", "concatenate", "pad", "flip", "reshape", "transpose")
def integers_and_booleans_move_too(backend: Backend, method: str) -> None:
    for dtype in (np.bool_, np.int8, np.uint8, np.int64):
        x = (np.arange(12) % 2 if dtype == np.bool_ else np.arange(12)).astype(dtype).reshape(3, 4)
        index = np.array([2, 0, 2])
        along = np.array([[1, 0, 3]])
        args, expected = {
            "getitem": ((x, (index, slice(1, 3))), x[index, 1:3]),
            "gather": ((x, 1, along.repeat(3, 0)), np.take_along_axis(x, along.repeat(3, 0), 1)),
            "embedding": ((x, index), x[index]),
            "concatenate": (([x, x], 1), np.hstack([x, x])),
            "pad": ((x, [(1, 0), (0, 2)], 1), np.pad(x, [(1, 0), (0, 2)], constant_values=1)),
            "flip": ((x, (0, 1)), x[::-1, ::-1]),
            "reshape": ((x, (2, 6)), x.reshape(2, 6)),
            "transpose": ((x, (1, 0)), x.T),
        }[method]
        assert_same(call(backend, method, *args), expected)


@covers("getitem", "reshape", "transpose", "broadcast_to")
def views_where_numpy_has_views(backend: Backend, method: str) -> None:
    """Writing to the argument shows in the result: nothing was copied."""
    x = backend.asarray(np.zeros((2, 3), np.float32))
    args = {
        "getitem": (slice(0, 1),),
        "reshape": ((3, 2),),
        "transpose": ((1, 0),),
        "broadcast_to": ((4, 2, 3),),
    }[method]
    view = getattr(backend, method)(x, *args)
    backend.copyto(x, backend.asarray(np.ones((2, 3), np.float32)))
    assert (backend.to_numpy(view) == 1).all()
