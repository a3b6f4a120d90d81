"""How a program calls this backend's kernels on memory that is there already, method by method.

An entry gets a call and a `Scope`, which names arrays and kernels, and returns the lines to run;
None where the kernels do not take such arguments. To add a method, write its entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..interface import Array
from ..numpy_backend.lowering import SIGNS
from ..program import Call, Value
from . import linear, normalize, optimizer, reduce, softmax
from .formulas import KINDS
from .jit import helper, kernel
from .layout import F32, F64
from .rows import block_of_rows
from .scope import Scope, plain

Lines = list[str] | None
Entry = Callable[[Call, Scope], Lines]
TABLE: dict[str, Entry] = {}


def lowers(*methods: str) -> Callable[[Entry], Entry]:
    """Enter a function into the table."""

    def enter(entry: Entry) -> Entry:
        TABLE.update(dict.fromkeys(methods, entry))
        return entry

    return enter


@kernel()
def all_finite(x: Array) -> bool:
    """Whether no element is infinite or NaN."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] * x.dtype.type(0)
    return bool(total == 0)


def suits(*values: Any) -> bool:
    """Whether all are contiguous values of one floating dtype, or None."""
    given = [v for v in values if v is not None]
    return all(
        v.dtype == given[0].dtype and v.dtype in (F32, F64) and v.contiguous and v.size
        for v in given
    )


@lowers("bounds")
def bounds(call: Call, scope: Scope) -> Lines:
    """A guard: leave before anything is changed, unless comparisons turn out as they did."""
    (x,) = call.arguments
    if x.dtype.kind not in "iu" or not x.contiguous or x.dtype not in KINDS or not x.size:
        return None
    tests = " and ".join(
        f"(bounds[{i}] {SIGNS[name]} {other!r}) == {outcome}"
        for i, name, other, outcome in call.tests
    )
    return [
        f"bounds = {scope.kernel('reduce.extremes')}({scope.flat(x)})",
        f"if not ({tests}):",
        "    return False",
    ]


@helper
def spread(x: Array, count: int, step: int) -> Array:
    """Every step-th element; step 0 repeats one."""
    y = np.empty(count, x.dtype)
    for i in range(count):
        y[i] = x[i * step]
    return y


# -- products -------------------------------------------------------------------------------------
def product(
    scope: Scope, a: Value, b: Value, bias: Value | None, y: Value, turned: bool = False,
    relu: bool = False,
) -> Lines:  # fmt: skip
    """y = a @ b + bias, or with `turned` a @ b transposed + bias, and relu of it if asked for."""
    if not suits(y, bias) or any(v.dtype != y.dtype or not v.size for v in (a, b)):
        return None
    first, second = _strides(a), _strides(b)
    if first is None or second is None:
        return None
    if turned:
        second = second[0], second[2], second[1]
    batch, (rows, columns) = y.size // (y.shape[-2] * y.shape[-1]), y.shape[-2:]
    if b.shape[:-2] == () and batch > 1 and first[0] == rows * first[1]:
        batch, rows = 1, batch * rows  # all rows of the matrices in a meet one b
    elif any(math.prod(v.shape[:-2]) not in (1, batch) for v in (a, b)):
        return None
    depth, work = a.shape[-1], batch * rows * columns * a.shape[-1]
    tile, tiles = (rows, columns), batch  # on one thread, no b is packed twice
    if work >= linear.LARGE:
        read = b.size * b.dtype.itemsize if second[2] == 1 else 0
        tile, tiles = linear.tile_size(batch, rows, columns, read, y.dtype.itemsize)
    real = np.empty(1, y.dtype)
    sample = 1, real, (0,) * 3, real, (0,) * 3, real, real.reshape(1, 1, 1), 1, (1, 1), False
    scope.samples.append(("linear.products", sample))
    use = scope.kernel("linear.products", work, linear.LARGE)
    start = scope.nothing(y.dtype) if bias is None else scope.flat(bias)
    return [
        f"{use}({plain(tiles)}, {scope.flat(a)}, {plain(*first)}, {scope.flat(b)}, "
        f"{plain(*second)}, {start}, {scope.array(y, batch, rows, columns)}, {plain(depth)}, "
        f"{plain(*tile)}, b1({relu}))"
    ]


def _strides(x: Value) -> tuple[int, int, int] | None:
    """Distances in elements between the matrices (0 for one), rows and columns of x."""
    if len(x.shape) < 2:
        return None
    steps = [s // x.dtype.itemsize for s in x.strides]
    matrix, reach = 0, None
    for n, step in zip(reversed(x.shape[:-2]), reversed(steps[:-2]), strict=True):
        if n == 1:
            continue
        if reach is not None and step != reach:
            return None
        matrix, reach = (step if reach is None else matrix), step * n
    return matrix, steps[-2], steps[-1]


@lowers("linear", "linear_relu")
def linear_entry(call: Call, scope: Scope) -> Lines:
    x, weight, bias = call.arguments
    relu = call.method == "linear_relu"
    return product(scope, x, weight, bias, call.results[0], turned=True, relu=relu)


@lowers("matmul")
def matmul_entry(call: Call, scope: Scope) -> Lines:
    a, b, _ = call.arguments
    return product(scope, a, b, None, call.results[0])


# -- sums -----------------------------------------------------------------------------------------
@kernel()
def sum_all(x: Array, y: Array, count: int) -> None:
    """y[0] = the sum of x divided by count."""
    total = 0.0
    for i in range(x.size):
        total += x[i]
    y[0] = x.dtype.type(total) / x.dtype.type(count)


@lowers("sum", "mean")
def sum_entry(call: Call, scope: Scope) -> Lines:
    x, axis, _ = call.arguments
    y = call.results[0]
    axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    kept = [a for a in range(len(x.shape)) if a not in axes]
    total = not math.prod(x.shape[a] for a in kept) > 1
    whole = x.contiguous or (total and x.dense)
    if not suits(y) or x.dtype != y.dtype or not (x.size and whole):
        return None
    if total:
        count = x.size if call.method == "mean" else 1
        return [
            f"{scope.kernel('lowered.sum_all')}({scope.flat(x)}, {scope.flat(y)}, {plain(count)})"
        ]
    first, last = kept[0], kept[-1] + 1
    if call.method == "mean" or last - first != len(kept):
        return None
    before, after = math.prod(x.shape[:first]), math.prod(x.shape[last:])
    if after == 1:
        use = scope.kernel("reduce.sum_columns", x.size, reduce.COLUMNS_PARALLEL_FROM)
        return [f"{use}({scope.array(x, before, y.size)}, {scope.flat(y)})"]
    use = scope.kernel("reduce.sum_blocks", x.size, reduce.SUM_FROM)
    return [f"{use}({scope.array(x, before, y.size, after)}, {scope.flat(y)})"]


# -- rows: losses, normalisation ------------------------------------------------------------------
@lowers("cross_entropy_grad")
def cross_entropy_grad_entry(call: Call, scope: Scope) -> Lines:
    grad, log_probs, target, weight, ignore_index, smoothing = call.arguments
    own, (y,) = scope.contiguous(grad), call.results  # mostly one number, repeated
    if own is None or not suits(log_probs, weight, y) or grad.dtype != y.dtype:
        return None
    if target.dtype != np.int64 or not target.contiguous:
        return None
    use = scope.kernel("loss.backward", y.size, softmax.PARALLEL_FROM)
    given = [
        own[1], scope.flat(log_probs), scope.array(target),
        scope.nothing(y.dtype) if weight is None else scope.array(weight),
        plain(ignore_index), repr(float(smoothing)), plain(block_of_rows(y.shape[1])),
        scope.flat(y),
    ]  # fmt: skip
    return [*own[0], f"{use}({', '.join(given)})"]


@lowers("layer_norm_grad")
def layer_norm_grad_entry(call: Call, scope: Scope) -> Lines:
    if not suits(*call.arguments, *call.results):
        return None
    x_grad, *sums = call.results
    rows, columns = x_grad.shape
    use = scope.kernel("normalize.rows_backward", x_grad.size, normalize.PARALLEL_FROM)
    names = [scope.array(v) for v in (*call.arguments, x_grad)]
    return [
        f"parts = np.empty(({min(rows, normalize.PARTS)}, 2, {columns}), {KINDS[x_grad.dtype]})",
        f"{use}({', '.join(names)}, parts)",
        *(f"{scope.array(v)}[:] = parts[:, {i}].sum(axis=0)" for i, v in enumerate(sums)),
    ]


# -- numbers that change: optimizers, dropout -----------------------------------------------------
def update(scope: Scope, name: str, arrays: Sequence[Value], constants: Sequence[str],
           *rest: str) -> Lines:  # fmt: skip
    """A step of an optimizer, whose constants are rounded to the dtype of the parameters."""
    if not suits(*arrays) or any(len(v.shape) != 1 for v in arrays):
        return None
    kind = KINDS[arrays[0].dtype]
    use = scope.kernel(f"optimizer.{name}", arrays[0].size, optimizer.PARALLEL_FROM)
    rounded = [f"{kind}({constant})" for constant in constants]
    return [f"{use}({', '.join([*map(scope.array, arrays), *rounded, *rest])})"]


@lowers("adam_step")
def adam_entry(call: Call, scope: Scope) -> Lines:
    arrays, numbers = call.arguments[:4], call.arguments[4:]
    made = "adam_constants({0}, {1}, {2}, {3}, {4}, {5}, {6})"
    return update(scope, "adam", arrays, scope.numbers(made, numbers, 9))


@lowers("sgd_step")
def sgd_entry(call: Call, scope: Scope) -> Lines:
    param, grad, velocity, *numbers, nesterov, first = call.arguments  # lr, momentum, dampening,
    if velocity is None:  # and weight decay
        return update(scope, "sgd", (param, grad), scope.numbers("{0}, {3}", numbers, 2))
    constants = scope.numbers("{0}, {3}, {1}, 1 - {2}", numbers, 4)
    settings = repr(nesterov), repr(first)
    return update(scope, "sgd_momentum", (param, grad, velocity), constants, *settings)


@lowers("rmsprop_step")
def rmsprop_entry(call: Call, scope: Scope) -> Lines:
    param, grad, square, velocity, *numbers = call.arguments  # lr, alpha, eps, decay, momentum
    if velocity is None:
        constants = scope.numbers("{0}, {3}, {1}, 1 - {1}, {2}", numbers, 5)
        return update(scope, "rmsprop", (param, grad, square), constants)
    constants = scope.numbers("{0}, {3}, {1}, 1 - {1}, {2}, {4}", numbers, 6)
    return update(scope, "rmsprop_momentum", (param, grad, square, velocity), constants)


@lowers("adagrad_step")
def adagrad_entry(call: Call, scope: Scope) -> Lines:
    arrays, numbers = call.arguments[:3], call.arguments[3:]  # lr, eps, weight decay
    return update(scope, "adagrad", arrays, scope.numbers("{0}, {2}, {1}", numbers, 3))
