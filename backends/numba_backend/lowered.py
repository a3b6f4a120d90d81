"""How a program calls this backend's kernels on memory that is there already, method by method.

An entry gets a call and a `Scope`, which names arrays and kernels, and returns the lines to run;
None where the kernels do not take such arguments. To add a method, write its entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..interface import Array, DType, Shape
from ..numpy_backend.lowering import SIGNS
from ..program import Call, Number, Value
from . import activation, linear, normalize, optimizer, random, reduce, softmax
from .formulas import KINDS
from .jit import helper, kernel
from .launches import Launched, Place, Word
from .layout import F32, F64
from .rows import block_of_rows

Lines = list[str] | None
Entry = Callable[[Call, "Scope"], Lines]
TABLE: dict[str, Entry] = {}


class Scope:
    """Names in the text of a native function, and what they stand for.

    place says in which slot a value is, and how many bytes from its address on; slots from `free`
    on are for tables.
    """

    def __init__(
        self, place: Callable[[Value], tuple[int, int]] = lambda value: (0, 0),
        serial: bool = False, free: int = 0,
    ) -> None:  # fmt: skip
        self.place, self.serial, self.free = place, serial, free
        self.tables: list[Array] = []  # which kernels only read
        self.views: dict[str, str] = {}
        self.kernels: dict[str, str] = {}
        self.samples: list[tuple[str, tuple[Any, ...]]] = []  # of arguments of outlined kernels
        self.before: list[tuple[str, tuple[Any, ...]]] = []  # what Python does before each run
        self.given = 0  # numbers that are new in each run
        self.parallel = False

    def array(self, value: Value, *shape: int) -> str:
        """A contiguous value as an array, of its own shape or another."""
        shape = shape or value.shape or (1,)
        name = value.name if shape == value.shape else f"{value.name}_{'x'.join(map(str, shape))}"
        slot, offset = self.place(value)
        kind = KINDS[value.dtype]
        self.views[name] = f"{name} = view(slots, {slot}, {offset}, {shape}, {kind})"
        return name

    def part(self, value: Value, offset: int, shape: Shape, dtype: DType) -> str:
        """An array that begins some bytes from the first element of a value."""
        slot, start = self.place(value)
        return self._view(value.name, slot, start + offset, shape, dtype)

    def nothing(self, dtype: DType) -> str:
        """An empty array, for what is left out."""
        return self._view("nothing", 0, 0, (0,), dtype)

    def table(self, array: Array) -> str:
        """An array that is the same in all runs."""
        known = [i for i, other in enumerate(self.tables) if other is array]
        at = known[0] if known else len(self.tables)
        self.tables += [] if known else [array]
        return self._view(f"table{at}", self.free + at, 0, array.shape, array.dtype)

    def _view(self, name: str, slot: int, offset: int, shape: Shape, dtype: DType) -> str:
        name = "_".join([name, str(offset), "x".join(map(str, shape)), KINDS[dtype]])
        self.views[name] = f"{name} = view(slots, {slot}, {offset}, {shape}, {KINDS[dtype]})"
        return name

    def named(self, kind: type) -> str:
        """A class of this folder whose objects kernels take."""
        file = kind.__module__.rpartition(".")[2]
        name = f"{file}_{kind.__name__}"
        self.kernels[name] = f"{name} = native.known('{file}.{kind.__name__}')"
        return name

    def flat(self, value: Value) -> str:
        """All elements from the first to the last that a value of any strides touches."""
        return self.array(value, value.span // value.dtype.itemsize)

    def contiguous(self, value: Value) -> tuple[list[str], str] | None:
        """A vector as an array in which elements are neighbours, after these lines."""
        if value.contiguous:
            return [], self.array(value)
        if len(value.shape) != 1:
            return None
        step = value.strides[0] // value.dtype.itemsize
        made = f"{value.name}_copy"
        return [f"{made} = lowered.spread({self.flat(value)}, {value.size}, {step})"], made

    def kernel(self, name: str, work: int = 0, parallel_from: int = 1) -> str:
        """The name of a kernel, given as file.name, in the form that pays for this much work."""
        parallel = work >= parallel_from and not self.serial
        self.parallel = self.parallel or parallel
        form = "parallel" if parallel else "serial"
        known = f"{name.replace('.', '_')}_{form}"
        self.kernels[known] = f"{known} = native.kernel({name!r}, {form!r})"
        return known

    def numbers(self, expression: str, arguments: Sequence[Any], count: int) -> list[str]:
        """The names of what a Python expression makes of arguments before each run: floats."""
        first, self.given = self.given, self.given + count
        pack = f"pack_into('{count}d', given, {8 * first}, *({expression}))"
        self.before.append((pack, tuple(arguments)))
        return [f"given[{i}]" for i in range(first, self.given)]

    def integers(self, arguments: Sequence[Any], *expressions: str) -> list[str]:
        """The same for integers of 64 bits."""
        first, self.given = self.given, self.given + len(expressions)
        pack = f"pack_into('{len(expressions)}Q', given, {8 * first}, {', '.join(expressions)})"
        self.before.append((pack, tuple(arguments)))
        return [f"given.view(np.uint64)[{i}]" for i in range(first, self.given)]


def lowers(*methods: str) -> Callable[[Entry], Entry]:
    """Enter a function into the table."""

    def enter(entry: Entry) -> Entry:
        TABLE.update(dict.fromkeys(methods, entry))
        return entry

    return enter


def plain(*values: int) -> str:
    """Integers as the text of an argument. As literals they would be types of their own to Numba,
    and the kernel compiled for each.
    """
    texts = [f"i64({value})" for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def launch_lines(step: Launched, scope: Scope) -> list[str]:
    """The lines that do what a call was seen to do."""
    numbers = [a for a in step.calls[0].arguments if isinstance(a, Number)]

    def text(argument: Any) -> str:
        if isinstance(argument, Place):
            owner = argument.owner
            value = step.scratch[owner] if isinstance(owner, int) else owner
            return scope.part(value, argument.offset, argument.shape, argument.dtype)
        if isinstance(argument, np.ndarray):
            return scope.table(argument)
        if isinstance(argument, Word):
            return scope.integers(numbers, argument.expression)[0]
        if isinstance(argument, tuple):
            inner = "".join(f"{text(item)}, " for item in argument)
            return f"{scope.named(type(argument)) if hasattr(argument, '_make') else ''}({inner})"
        dtype = np.dtype(type(argument))
        number = argument.item() if isinstance(argument, np.generic) else argument
        return f"{KINDS.get(dtype) or f'np.{dtype}'}({number!r})"

    lines = []
    for launch in step.launches:
        use = scope.kernel(launch.kernel, launch.form == "parallel")
        lines.append(f"{use}({', '.join(map(text, launch.arguments))})")
    return lines


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
    relu: bool = False, gate: Value | None = None,
) -> Lines:  # fmt: skip
    """y = a @ b + bias, or with `turned` a @ b transposed + bias, and relu of it if asked for; 0
    where a gate is not positive.
    """
    if not suits(y, bias, gate) or any(v.dtype != y.dtype or not v.size for v in (a, b)):
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
    sample = 1, real, (0,) * 3, real, (0,) * 3, real, real.reshape(1, 1, 1), 1, (1, 1), False, real
    scope.samples.append(("linear.products", sample))
    use = scope.kernel("linear.products", work, linear.LARGE)
    start, end = (scope.nothing(y.dtype) if v is None else scope.flat(v) for v in (bias, gate))
    return [
        f"{use}({plain(tiles)}, {scope.flat(a)}, {plain(*first)}, {scope.flat(b)}, "
        f"{plain(*second)}, {start}, {scope.array(y, batch, rows, columns)}, {plain(depth)}, "
        f"{plain(*tile)}, b1({relu}), {end})"
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


@lowers("matmul_relu_grad")  # no method of the contract: `lowering.gated` makes it
def gated_entry(call: Call, scope: Scope) -> Lines:
    a, b, gate = call.arguments
    return product(scope, a, b, None, call.results[0], gate=gate)


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


# -- rows: softmax, losses, normalisation ---------------------------------------------------------
@lowers("softmax", "softmax_grad", "log_softmax", "log_softmax_grad")
def softmax_entry(call: Call, scope: Scope) -> Lines:
    *arrays, axis = call.arguments
    y = call.results[0]
    if not suits(*arrays, y) or axis != len(y.shape) - 1:
        return None
    use = scope.kernel(f"softmax.{call.method}", y.size, softmax.PARALLEL_FROM)
    block = plain(y.shape[axis], block_of_rows(y.shape[axis]))
    return [f"{use}({', '.join(map(scope.flat, [*arrays, y]))}, *{block})"]


@lowers("gelu", "gelu_grad", "silu_grad")
def activation_entry(call: Call, scope: Scope) -> Lines:
    arrays = [a for a in call.arguments if isinstance(a, Value)]
    y = call.results[0]
    if not suits(*arrays, y) or any(a.shape != y.shape for a in arrays):
        return None
    name = call.method.replace("gelu", "gelu_tanh" if "tanh" in call.arguments else "gelu")
    use = scope.kernel(f"activation.{name}", y.size, activation.PARALLEL_FROM)
    return [f"{use}({', '.join(map(scope.flat, [*arrays, y]))})"]


@lowers("cross_entropy")
def cross_entropy_entry(call: Call, scope: Scope) -> Lines:
    logits, *settings = call.arguments
    if not suits(logits, settings[1], *call.results) or not _labels(settings[0]):
        return None
    use = scope.kernel("loss.forward", logits.size, softmax.PARALLEL_FROM)
    return _loss(scope, use, [scope.flat(logits)], settings, logits.shape[1], call)


@lowers("cross_entropy_grad")
def cross_entropy_grad_entry(call: Call, scope: Scope) -> Lines:
    grad, log_probs, *settings = call.arguments
    own = scope.contiguous(grad)
    if own is None or grad.dtype != log_probs.dtype or not _labels(settings[0]):
        return None
    if not suits(log_probs, settings[1], *call.results):
        return None
    use = scope.kernel("loss.backward", log_probs.size, softmax.PARALLEL_FROM)
    names = [own[1], scope.flat(log_probs)]
    return [*own[0], *_loss(scope, use, names, settings, log_probs.shape[1], call)]


def _labels(target: Value) -> bool:
    return target.dtype == np.int64 and target.contiguous


def _loss(
    scope: Scope, use: str, names: Sequence[str], settings: Sequence[Any], classes: int, call: Call
) -> list[str]:
    target, weight, ignore_index, smoothing = settings
    weights = scope.nothing(call.results[0].dtype)
    given = [
        *names, scope.array(target), weights if weight is None else scope.array(weight),
        plain(ignore_index), repr(float(smoothing)), plain(block_of_rows(classes)),
        *map(scope.flat, call.results),
    ]  # fmt: skip
    return [f"{use}({', '.join(given)})"]


@lowers("layer_norm")
def layer_norm_entry(call: Call, scope: Scope) -> Lines:
    x, weight, bias, eps = call.arguments
    if not suits(x, weight, bias, *call.results):
        return None
    use = scope.kernel("normalize.rows_forward", x.size, normalize.PARALLEL_FROM)
    first, rest = [scope.array(v) for v in (x, weight, bias)], map(scope.array, call.results)
    return [f"{use}({', '.join(first)}, {eps!r}, {', '.join(rest)})"]


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


@lowers("batch_norm")
def batch_norm_entry(call: Call, scope: Scope) -> Lines:
    x, weight, bias, eps = call.arguments
    if not suits(x, weight, bias, *call.results):
        return None
    use, own, length = _channels(scope, x, "forward")
    first = [own(x), scope.array(weight), scope.array(bias), repr(eps), *length]
    y, *rest = call.results
    return [f"{use}({', '.join([*first, own(y), *map(scope.array, rest)])})"]


@lowers("batch_norm_grad")
def batch_norm_grad_entry(call: Call, scope: Scope) -> Lines:
    grad, x, *rest, eps = call.arguments
    if not suits(grad, x, *rest, *call.results):
        return None
    use, own, length = _channels(scope, x, "backward")
    first = [own(grad), own(x), *map(scope.array, rest), repr(eps), *length]
    x_grad, *sums = call.results
    return [f"{use}({', '.join([*first, own(x_grad), *map(scope.array, sums)])})"]


def _channels(scope: Scope, x: Value, way: str) -> tuple[str, Callable[[Value], str], list[str]]:
    """The kernel for channels of this length, how it takes images, and what it wants to know."""
    n, channels, length = x.shape
    short = length < normalize.SHORT
    name = f"normalize.{'stripes' if short else 'channels'}_{way}"
    use = scope.kernel(name, x.size, normalize.PARALLEL_FROM)
    if not short:
        return use, scope.array, []
    return use, lambda value: scope.array(value, n, channels * length), [plain(length)]


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


@lowers("dropout")
def dropout_entry(call: Call, scope: Scope) -> Lines:
    x, p, *key = call.arguments
    y, mask = call.results
    threshold = math.ceil(p * 2**32)
    if not suits(x, y) or threshold >= 2**32:
        return None
    seed, low, high = scope.integers(key, "{0}", "{1} % 2**64", "{1} >> 64")
    use = scope.kernel("random.drop", x.size, random.PARALLEL_FROM)
    return [
        f"{use}({seed}, ({low}, {high}), np.uint32({threshold}), {KINDS[x.dtype]}"
        f"({1 / (1 - p)!r}), {scope.flat(x)}, {scope.flat(y)}, {scope.flat(mask)})"
    ]
