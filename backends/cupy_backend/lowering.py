"""Replaying a recorded program on the GPU as CUDA graphs.

A graph is launched as one thing, with the arguments that its kernels had while it was captured. So
calls whose numbers change from run to run (a learning rate, a random counter), and guards, which
the host has to see, are made from Python; all that is between two of them is one graph. What goes
in and out of graphs has memory of its own that stays.

Not run on hardware; the tests capture and launch on the stand-in. See CuPy's documentation of
`cupy.cuda.Stream.begin_capture`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ..interface import Array, Backend
from ..program import Call, Number, Program, Step, Value, replaced


class GraphLowering:
    """See `backends.program.Lowering`."""

    def __init__(self, backend: Backend, xp: Any) -> None:
        self.backend, self.xp = backend, xp

    def steps(self, calls: Sequence[Call]) -> list[Step]:
        """Stretches that become graphs, and between them single calls from Python."""
        steps: list[Step] = []
        for call in calls:
            if call.tests or any(isinstance(a, Number) for a in call.arguments):
                steps.append(Step([call], "python"))
            elif steps and steps[-1].kind == "graph":
                steps[-1].calls.append(call)
            else:
                steps.append(Step([call], "graph"))
        return steps

    def build(self, program: Program) -> GraphReplay:
        """The program with its graphs captured."""
        return GraphReplay(program, self)


class GraphReplay:
    """Graphs and calls, over arrays that keep their place on the device."""

    def __init__(self, program: Program, lowering: GraphLowering) -> None:
        self.program, self.lowering, self.xp = program, lowering, lowering.xp
        self.arrays: dict[Value, Array] = {}
        for value in program.values():
            if value.array is not None:
                self.arrays[value] = value.array
        made = [v for s in program.steps if s.kind == "python" for v in s.calls[0].results]
        for value in (*program.inputs, *program.outputs, *made):
            self.arrays[value] = self.xp.zeros(value.shape, value.dtype)  # which any index may be
        self.graphs = [self.capture(step) for step in program.steps]
        self.source = "\n".join(map(self.line, range(len(program.steps))))

    def capture(self, step: Step) -> Any:
        """The graph of a step; None for a call from Python."""
        if step.kind == "python":
            return None
        stream = self.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                for call in step.calls:
                    self.call(call, ())
            finally:  # or the stream would capture on
                graph = stream.end_capture()
        return graph

    def call(self, call: Call, numbers: Sequence[Any]) -> Any:
        """Make a call, and put its results where they belong."""
        arguments = [
            replaced(a, lambda x: isinstance(x, (Value, Number)), lambda x: self.given(x, numbers))
            for a in call.arguments
        ]
        backend: Any = self.lowering.backend
        if hasattr(backend, call.method):
            made = getattr(backend, call.method)(*arguments)
        else:
            made = getattr(self.xp, call.method)(*arguments)
        parts = made if isinstance(made, tuple) else (made,)
        for value, part in zip(call.results, parts, strict=False):
            if value in self.arrays:
                self.arrays[value][...] = part
            else:
                self.arrays[value] = part
        return made

    def given(self, argument: Value | Number, numbers: Sequence[Any]) -> Any:
        """What an argument stands for."""
        if isinstance(argument, Value):
            return self.arrays[argument]
        return numbers[argument.index]

    def run(self, inputs: Sequence[Array], numbers: Sequence[Any]) -> list[Array] | None:
        """See `backends.program.Replay`."""
        for value, x in zip(self.program.inputs, inputs, strict=True):
            self.arrays[value][...] = x
        for step, graph in zip(self.program.steps, self.graphs, strict=True):
            if graph is not None:
                graph.launch()
                continue
            made = self.call(step.calls[0], numbers)
            for i, name, other, outcome in step.calls[0].tests:
                if bool(getattr(operator, name)(made[i], other)) is not outcome:
                    return None
        return [self.arrays[value].copy() for value in self.program.outputs]

    def line(self, i: int) -> str:
        """A step in words."""
        step = self.program.steps[i]
        head = f"graph {i}:" if step.kind == "graph" else f"call {i}:"
        return "\n".join([head, *(f"    {c.method}  # {c.operation}" for c in step.calls)])
