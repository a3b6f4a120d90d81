"""Elementwise methods as formulas on single elements, and the loops in which they are fused.

Each formula rounds as the method itself does, so that the bits agree. A method that is not here, or
a dtype that NumPy would treat otherwise, ends a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..interface import DType, Shape
from ..program import Call, Value

# {a} and {b} are the operands in the dtype of the result, {T}.
ARITHMETIC = {
    "add": "{a} + {b}",
    "subtract": "{a} - {b}",
    "multiply": "{a} * {b}",
    "divide": "{a} / {b}",
    "maximum": "{a} if {a} >= {b} or {a} != {a} else {b}",
    "minimum": "{a} if {a} <= {b} or {a} != {a} else {b}",
    "negative": "-{a}",
    "abs": "abs({a})",
    "sqrt": "math.sqrt({a})",
    "relu": "{T}(0) if {a} <= 0 else {a}",
    "relu_grad": "{T}(0) if {b} <= 0 else {a}",
    "leaky_relu": "{a} if {a} > 0 else {b} * {a}",
    **{name: f"vm.{name}({{a}})" for name in ("exp", "log", "tanh", "erf", "sigmoid", "softplus")},
    "silu": "({a} if {a} >= {T}(-FAR) or {a} != {a} else {T}(-FAR)) * vm.sigmoid({a})",
    "copy": "{a}",
    "astype": "{a}",
    "copyto": "{a}",
}
INTEGERS_TOO = ("add", "subtract", "multiply", "copy", "astype", "copyto")
# Here the operands are in the dtype in which NumPy compares them.
COMPARISONS = {
    "equal": "{a} == {b}", "not_equal": "{a} != {b}", "less": "{a} < {b}",
    "less_equal": "{a} <= {b}", "greater": "{a} > {b}", "greater_equal": "{a} >= {b}",
}  # fmt: skip
KINDS = {
    np.dtype(name): short for name, short in (
        ("float32", "f32"), ("float64", "f64"), ("int64", "i64"), ("int32", "i32"),
        ("int8", "i8"), ("uint8", "u8"), ("bool", "b1"),
    )
}  # fmt: skip


def operands(call: Call) -> tuple[object, ...]:
    """What an elementwise call computes with: values and numbers."""
    if call.method == "copyto":
        return call.arguments[1:]
    return call.arguments[:1] if call.method in ("copy", "astype") else call.arguments


def target(call: Call) -> Value:
    """What an elementwise call writes."""
    return (call.results or call.writes)[0]


def formula(call: Call, names: dict[Value, str]) -> str | None:
    """The expression for one element, given the operands' names; None where there is none."""
    if call.method not in (*ARITHMETIC, *COMPARISONS, "where") or call.tests:
        return None
    given, dtype = operands(call), target(call).dtype
    for x in (*given, target(call)):
        if not (x.dtype in KINDS if isinstance(x, Value) else type(x) in (int, float, bool)):
            return None
    if call.method == "where":
        a, b = (_cast(x, names, dtype) for x in given[1:])
        return f"{a} if {names.get(given[0])} else {b}"  # type: ignore[call-overload]
    if call.method in COMPARISONS:
        common = np.result_type(*(x.dtype if isinstance(x, Value) else x for x in given))  # type: ignore[arg-type]
        if common not in KINDS:
            return None
        a, b = (_cast(x, names, common) for x in given)
        return COMPARISONS[call.method].format(a=a, b=b)
    if dtype.kind != "f" and call.method not in INTEGERS_TOO:
        return None
    texts = dict(zip("ab", (_cast(x, names, dtype) for x in given), strict=False))
    return ARITHMETIC[call.method].format(T=KINDS[dtype], **texts)


def _cast(x: object, names: dict[Value, str], dtype: DType) -> str:
    """An operand in a dtype."""
    if isinstance(x, Value):
        name = names.get(x, "x")
        return name if x.dtype == dtype else f"{KINDS[dtype]}({name})"
    name = repr(x) if np.isfinite(x) else f"np.{x!r}".replace("np.-", "-np.")  # type: ignore[call-overload]
    return f"{KINDS[dtype]}({name})"


class Walk(NamedTuple):
    """How a loop goes through memory: rows times columns, and each value's strides in elements."""

    rows: int
    columns: int
    strides: dict[Value, tuple[int, int]]


def walk(calls: Sequence[Call]) -> Walk | None:
    """The way through all operands and results of these calls, which have one shape.

    Axes are taken as they lie in memory, and merged to two, so that each value moves by 0 or 1 from
    column to column; None where that cannot be.
    """
    first = target(calls[0])
    axes = sorted(range(len(first.shape)), key=lambda axis: -abs(first.strides[axis]))
    shape = tuple(first.shape[axis] for axis in axes)
    values = {x for c in calls for x in (*operands(c), target(c)) if isinstance(x, Value)}
    for k in range(len(shape) + 1):
        strides = {}
        for value in values:
            along = [0] * (len(shape) - len(value.shape)) + [
                0 if n == 1 else s // value.dtype.itemsize
                for n, s in zip(value.shape, value.strides, strict=True)
            ]
            along = [along[axis] for axis in axes]
            row, column = _merged(shape[:k], along[:k]), _merged(shape[k:], along[k:])
            if row is None or column not in (0, 1):
                break
            strides[value] = row, column
        else:
            rows = int(np.prod(shape[:k], dtype=np.int64))
            return Walk(rows, int(np.prod(shape[k:], dtype=np.int64)), strides)
    return None


def _merged(shape: Shape, strides: Sequence[int]) -> int | None:
    """The stride of several axes walked as one, 0 for no axes; None if it is not constant."""
    step: int | None = None
    reach = 0
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 1:
            continue
        if step is not None and stride != reach:
            return None
        step = stride if step is None else step
        reach = stride * n
    return step or 0


def fusible(calls: Sequence[Call]) -> bool:
    """Whether these calls, in this order, can be one loop.

    One shape; a way through all of it; and nothing that is written is read as other elements.
    """
    if any(formula(c, {}) is None for c in calls):
        return False
    if len({target(c).shape for c in calls}) > 1 or not target(calls[0]).size:
        return False
    if walk(calls) is None:
        return False
    written: list[Value] = []
    read: list[Value] = []
    for call in calls:
        own = [x for x in operands(call) if isinstance(x, Value)]
        if any(_apart(r, w) for r in own for w in written):
            return False
        read += own
        if any(_apart(r, target(call)) for r in (*read, *written)):
            return False
        written.append(target(call))
    return True


def _apart(a: Value, b: Value) -> bool:
    """Whether two values share memory, but not element by element."""
    if a is b:
        return False
    if a.root is b.root:
        return (a.offset, a.shape, a.strides) != (b.offset, b.shape, b.strides)
    first, second = a.root.array, b.root.array
    return first is not None and second is not None and np.may_share_memory(first, second)


def loop_lines(
    calls: Sequence[Call], names: dict[Value, str], kept: set[Value], parallel: bool
) -> list[str]:
    """A loop that runs these calls element by element; names are those of flat arrays, kept what
    must be in memory afterwards.
    """
    way = walk(calls)
    assert way is not None
    head, body, elements = list[str](), list[str](), dict[Value, str]()
    flat = way.rows == 1

    def place(value: Value) -> str:
        row, column = way.strides[value]
        if flat:
            return f"{names[value]}[i]" if column else f"{names[value]}[0]"
        if not column:
            return f"{names[value]}[r * {row}]"
        line = f"{names[value]}_row"
        made = f"{line} = {names[value]}[r * {row} : r * {row} + {way.columns}]"
        if made not in head:
            head.append(made)
        return f"{line}[i]"

    for call in calls:
        for x in operands(call):
            if isinstance(x, Value) and x not in elements:
                elements[x] = f"e{len(elements)}"
                moves = way.strides[x][1] or flat
                (body if moves else head).append(f"{elements[x]} = {place(x)}")
        y = target(call)
        expression = formula(call, elements)
        element = elements.get(y) or f"e{len(elements)}"
        body.append(f"{element} = {KINDS[y.dtype]}({expression})")
        elements[y] = element
        if y in kept:
            body.append(f"{place(y)} = {element}")
    outer, inner = ("range", "prange") if flat else ("prange", "range")
    if not parallel:
        outer = inner = "range"
    lines = [f"for i in {inner}({way.columns}):", *("    " + line for line in body)]
    if flat:
        return lines
    return [f"for r in {outer}({way.rows}):", *("    " + line for line in (*head, *lines))]
