"""Replaying a recorded program as native code.

Neighbouring elementwise calls become one loop (`formulas.py`). Methods that have a kernel call it
(`lowered.py`) on memory that is there already. What is in neither is called from Python, between
stretches of native code, and the source of a program shows that.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..interface import Array
from ..numpy_backend.lowering import NumpyLowering, PythonReplay, text
from ..program import Call, Program, Step, Value
from . import jit, native
from .elementwise import PARALLEL_FROM
from .formulas import fusible, loop_lines, target
from .launches import FINITE, Launched, launched
from .lowered import TABLE
from .optimizer import adam_constants
from .rewrites import rewritten
from .scope import Scope, launch_lines

HEADER = '''"""A step that minidl.compile recorded. This file is a cache: it may be deleted."""

import math

import numpy as np
from numba import prange

from backends.numba_backend import lowered, native
from backends.numba_backend import vector_math as vm
from backends.numba_backend.activation import FAR
from backends.numba_backend.native import b1, f32, f64, i8, i32, i64, u8, view
'''


class NumbaLowering(NumpyLowering):
    """See `backends.program.Lowering`."""

    def steps(self, calls: Sequence[Call]) -> list[Step]:
        """Neighbouring elementwise calls are joined where one loop can do them."""
        steps: list[Step] = []
        for call in rewritten(calls):
            if steps and steps[-1].kind == "loop" and fusible([*steps[-1].calls, call]):
                steps[-1].calls.append(call)
            elif fusible([call]):
                steps.append(Step([call], "loop"))
            elif call.method in TABLE and TABLE[call.method](call, Scope()) is not None:
                steps.append(Step([call], "native"))
            else:
                steps.append(self.launched(call, steps) or self.single(call))
        return steps

    def launched(self, call: Call, before: Sequence[Step]) -> Step | None:
        """The call as launches of kernels, if it is one of this backend's and nothing else."""
        own = getattr(type(self.backend), call.method, None)
        if own is getattr(self.reference, call.method, None):  # or an operator of arrays
            return None
        needed = finite(call)
        changed = [w.root for step in before for c in step.calls for w in (*c.results, *c.writes)]
        if needed is not None and needed.root in changed:
            return None  # it could be found infinite only when much has been changed
        return launched(call, getattr(self.backend, call.method))

    def build(self, program: Program) -> NativeReplay:
        """The program as native functions, and one of Python that calls them."""
        return NativeReplay(program, self)


def finite(call: Call) -> Value | None:
    """The argument that must be finite for the call to be what it was seen to be."""
    at = FINITE.get(call.method)
    return None if at is None else call.arguments[at]


class NativeReplay(PythonReplay):
    """A Python function that calls native ones, to which all memory is known by its address.

    `slots` holds the addresses: first the arena's, then those of the values that are not in it.
    `given` holds the numbers that are new in each run.
    """

    def __init__(self, program: Program, lowering: NumbaLowering, serial: bool = False) -> None:
        roots = dict.fromkeys(v.root for v in program.values() if v.root.kind != "temporary")
        self.slot = {root: i for i, root in enumerate(roots, 1)}
        self.scope, self._lowering = Scope(self.place, serial, len(roots) + 1), lowering
        self.loops: list[str] = []
        self.stretches: list[str] = []
        super().__init__(program, lowering)
        if not self.from_python:
            self.run = self.space["run"]  # NumPy has nothing to warn of
        if self.scope.parallel:
            self.run, self._parallel = self._threaded, self.run

    def _threaded(self, inputs: Sequence[Array], numbers: Sequence[Any]) -> list[Array] | None:
        """Run on Numba's threads, or where a fork lost them as a program without."""
        if jit.THREADS.lost:
            jit.warn_of_fork()
            self.run = NativeReplay(self.program, self._lowering, serial=True).run
            return self.run(inputs, numbers)
        return jit.launch(self._parallel, inputs, numbers)  # type: ignore[no-any-return]

    def place(self, value: Value) -> tuple[int, int]:
        """The slot in which the address is, and how many bytes from there a value begins."""
        root = value.root
        if root.kind == "temporary":
            return 0, self.program.offsets[root] + value.offset
        return self.slot[root], value.offset

    # -- the Python function ----------------------------------------------------------------------
    def prepare(self) -> None:
        """Compile the native functions, and let the Python one see them and the memory."""
        self.native = "\n".join(
            [HEADER, *self.scope.kernels.values(), *self.loops, *self.stretches]
        )
        for name, sample in self.scope.samples:
            native.prepare(name, sample)
        module = native.load(self.native)
        for i in range(len(self.stretches)):
            self.space[f"stretch{i}"] = getattr(module, f"stretch{i}")
        self.slots = np.zeros(1 + len(self.slot) + len(self.scope.tables), np.int64)
        self.slots[0] = self.arena.ctypes.data
        for root, slot in self.slot.items():
            self.slots[slot] = 0 if root.array is None else root.array.ctypes.data
        for slot, table in enumerate(self.scope.tables, self.scope.free):
            self.slots[slot] = table.ctypes.data
        self.space.update(
            slots=self.slots, given=np.zeros(self.scope.given),
            pack_into=struct.pack_into, adam_constants=adam_constants,
        )  # fmt: skip
        self.source = f"{self.native}\n\n{self.source}"

    def lines(self) -> list[str]:
        """Native stretches, and calls from Python between them."""
        steps, at, body = self.program.steps, 0, list[str]()
        while at < len(steps):
            stop = at
            while stop < len(steps) and steps[stop].kind != "python":
                stop += 1
            if stop > at or not at:
                body += self.stretch(steps[at:stop])
            if stop < len(steps):
                body += self.called(steps[stop].calls[0], stop)
            at = stop + 1
        before = [
            line.format(*(text(a, self.space) for a in arguments))
            for line, arguments in self.scope.before
        ]
        return [*self.opening(), *before, *body, self.closing()]

    def views(self, base: Value) -> list[str]:
        """As in Python alone; native code gets to know memory that was made."""
        known = [f"slots[{self.slot[base]}] = {base.name}.ctypes.data"]
        return [*(known if base.kind == "made" else []), *super().views(base)]

    # -- the native functions ---------------------------------------------------------------------
    def stretch(self, steps: Sequence[Step]) -> list[str]:
        """Write a native function for these steps; the lines that call it."""
        number = len(self.stretches)
        self.scope.views = {}
        body = [] if number else self.guards()
        for step in steps:
            label = " ".join(dict.fromkeys(c.operation for c in step.calls if c.operation))
            body += [f"# {label}"] if label else []
            body += self.loop(step) if step.kind == "loop" else self.kernel(step)
        new = [*self.program.inputs, *self.program.outputs] if not number else []
        arguments = ", ".join(["slots", "given", *(v.name for v in new)])
        known = [f"slots[{self.slot[v]}] = {v.name}.ctypes.data" for v in new]
        lines = [*known, *self.scope.views.values(), *body, "return True"]
        self.stretches.append(_function("native.program", f"stretch{number}({arguments})", lines))
        if any("return False" in line for line in body):
            return [f"if not stretch{number}({arguments}):", "    return None"]
        return [f"stretch{number}({arguments})"]

    def guards(self) -> list[str]:
        """Leave before anything is changed, where numbers are infinite that must not be."""
        found = []
        for call in (step.calls[0] for step in self.program.steps if isinstance(step, Launched)):
            needed = finite(call)
            if needed is not None:
                test = f"{self.scope.kernel('lowered.all_finite')}({self.scope.flat(needed)})"
                found += [f"if not {test}:", "    return False"]
        return found

    def kernel(self, step: Step) -> list[str]:
        """The lines of the table, or those that launch what the call was seen to launch."""
        if isinstance(step, Launched):
            return launch_lines(step, self.scope)
        lines = TABLE[step.calls[0].method](step.calls[0], self.scope)
        assert lines is not None
        return lines

    def loop(self, step: Step) -> list[str]:
        """Write a loop; the line that calls it.

        It gets its arrays as arguments: in a parallel function Numba removes what is written to an
        array of the function's own.
        """
        kept = {target(call) for call in step.calls if self.has_place(target(call))}
        names = {v: self.scope.flat(v) for v in step.values() if self.has_place(v)}
        size = target(step.calls[0]).size * len(step.calls)
        parallel = size >= PARALLEL_FROM and not self.scope.serial
        self.scope.parallel = self.scope.parallel or parallel
        signature = f"loop{len(self.loops)}({', '.join(names.values())})"
        lines = loop_lines(step.calls, names, kept, parallel)
        self.loops.append(_function(f"native.loop({parallel})", signature, lines))
        return [signature]

    def has_place(self, value: Value) -> bool:
        """Only what lives in one loop alone has none."""
        return value.root.kind != "temporary" or value.root in self.program.offsets


def _function(decorator: str, signature: str, lines: Sequence[str]) -> str:
    return "\n".join(["", "", f"@{decorator}", f"def {signature}:", *("    " + x for x in lines)])
