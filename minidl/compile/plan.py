"""From what was recorded to what is run: nothing superfluous, guards first, memory shared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backends.program import ALIGNMENT, Call, Lowering, Program, Step, Value

from ..errors import CompileError


def prepare(program: Program, lowering: Lowering) -> None:
    """Simplify a recorded program, divide it into steps and place its temporaries."""
    program.eager = sum(v.span for c in program.calls for v in c.results if v.base is None)
    program.calls = guards_first(without_copies(with_relu(needed(program))))
    program.steps = lowering.steps([c for c in program.calls if not _only_views(c)])
    place(program)
    program.name_values()


def _only_views(call: Call) -> bool:
    """Whether the call only looks at memory in another way, for which nothing has to run."""
    return bool(call.results) and all(v.base is not None for v in call.results)


def needed(program: Program) -> list[Call]:
    """The calls on which the outputs, memory that outlives the step, or a guard depend."""
    wanted: set[Value] = set()
    kept: list[Call] = []
    for call in reversed(program.calls):
        lasting = any(v.root.kind in ("live", "output") for v in call.writes)
        made = {v.root for v in (*call.results, *call.writes)}
        if call.tests or lasting or made & wanted:
            kept.append(call)
            wanted.update(v.root for v in call.reads)
            wanted.update(v for v in call.results if v.base is None)
    return kept[::-1]


def with_relu(calls: Sequence[Call]) -> list[Call]:
    """Let a linear layer whose result only a relu reads compute both in one pass."""
    kept, uses = list[Call](), uses_of(calls)
    makers = {call.results[0]: call for call in calls if call.method == "linear"}
    for call in calls:
        x = call.arguments[0] if call.method == "relu" else None
        if x not in makers or uses[x] != 2:
            kept.append(call)
            continue
        linear = makers[x]
        operation = f"{linear.operation} {call.operation}".strip()
        fused = Call("linear_relu", linear.arguments, call.results, (), operation)
        kept[kept.index(linear)] = fused
    return kept


def uses_of(calls: Sequence[Call]) -> dict[Value, int]:
    """How many calls read or make each value that is no view, or views of it."""
    uses: dict[Value, int] = {}
    for call in calls:
        for value in dict.fromkeys(v.root for v in (*call.reads, *call.results)):
            uses[value] = uses.get(value, 0) + 1
    return uses


def without_copies(calls: Sequence[Call]) -> list[Call]:
    """Let a result that is only copied somewhere be computed there in the first place.

    Gradients thus arrive in the optimizer's flat buffer, and results in the arrays that are
    returned. Not if the memory there is used between the two calls.
    """
    kept, uses = list(calls), uses_of(calls)
    for copy in calls:
        if copy.method != "copyto" or not isinstance(copy.arguments[1], Value):
            continue
        target, source = copy.arguments
        alike = (source.shape, source.dtype, source.strides, source.base, source.kind) == (
            target.shape, target.dtype, target.strides, None, "temporary")  # fmt: skip
        makers = [i for i, call in enumerate(kept) if source in call.results]
        if not alike or uses[source] != 2 or not makers:
            continue
        between = kept[makers[0] : kept.index(copy)]
        if not any(_meets(v, target) for call in between for v in (*call.reads, *call.results)):
            maker = between[0]
            maker.results = tuple(target if v is source else v for v in maker.results)
            maker.writes = (*maker.writes, target)
            kept.remove(copy)
    return kept


def _meets(a: Value, b: Value) -> bool:
    """Whether two values may share memory."""
    if a.root is b.root:
        return True
    first, second = a.root.array, b.root.array
    if first is None or second is None:
        return False
    return not isinstance(first, np.ndarray) or np.may_share_memory(first, second)


def guards_first(calls: Sequence[Call]) -> list[Call]:
    """Guards and what they depend on before all else, so that a guard that fails changes nothing.

    Raises: CompileError for a guard on something that the step itself changes.
    """
    wanted: set[Value] = set()
    early: set[Call] = set()
    for call in reversed(calls):
        if call.tests or any(v.root in wanted for v in (*call.results, *call.writes)):
            early.add(call)
            wanted.update(v.root for v in (*call.reads, *call.results))
    changed = {v.root for call in calls for v in call.writes}
    if changed & wanted:
        raise CompileError(
            "compile: the step checks the range of values that it changes itself, such as labels "
            "or indices. Likely fix: compute them outside, and pass them as an argument."
        )
    return sorted(calls, key=lambda call: call not in early)


def place(program: Program) -> None:
    """Give each temporary its place in the arena: two may share bytes if their lives do not meet.

    The largest come first, each at the lowest place that is free during its life. Source: Pisarchyk
    & Lee (2020), "Efficient memory management for deep neural net inference", arXiv:2001.03288,
    section 5.
    """
    lives = lifetimes(program.steps)
    placed: list[tuple[int, int, int, int]] = []  # first and last byte, first and last step
    program.offsets, program.arena = {}, 0
    for value in sorted(lives, key=lambda v: -v.span):
        first, last = lives[value]
        size = -(-max(value.span, 1) // ALIGNMENT) * ALIGNMENT
        start = 0
        for low, high, begin, end in sorted(placed):
            if begin <= last and first <= end:
                if start + size <= low:
                    break
                start = max(start, high)
        placed.append((start, start + size, first, last))
        program.offsets[value] = start
        program.arena = max(program.arena, start + size)


def lifetimes(steps: Sequence[Step]) -> dict[Value, tuple[int, int]]:
    """The first and the last step that each temporary is part of.

    What appears in one fused loop only lives in a register, and is not among them; nor is what a
    graph on a device works with, which its library allocates.
    """
    if any(step.kind == "graph" for step in steps):
        return {}
    lives: dict[Value, tuple[int, int]] = {}
    for i, step in enumerate(steps):
        for value in step.values():
            if value.root.kind == "temporary":
                lives[value.root] = (lives.get(value.root, (i, i))[0], i)
    return {
        value: (first, last) for value, (first, last) in lives.items()
        if first != last or steps[first].kind != "loop"
    }  # fmt: skip
