"""Showing where a program's memory is."""

from __future__ import annotations

from typing import NamedTuple

from backends.program import Program, Value

from .plan import lifetimes


class Buffer(NamedTuple):
    """One temporary: its place in the arena in bytes, and the steps of its life."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    offset: int
    first: int
    last: int


class Plan:
    """The buffers of a program. `arena` is what all of them need together, in bytes, `eager` what
    an eager step allocates for its results.
    """

    def __init__(self, program: Program) -> None:
        lives = lifetimes(program.steps)
        self.buffers = [
            Buffer(v.name, v.shape, v.dtype.name, v.span, program.offsets[v], *lives[v])
            for v in lives
        ]  # fmt: skip
        self.arena, self.eager = program.arena, program.eager
        self.fused = sum(v.span for v in _temporaries(program) if v not in lives)

    def __str__(self) -> str:
        lines = [f"{'buffer':8}{'shape':>20} {'dtype':9}{'bytes':>12}{'at byte':>12}  steps"]
        for b in self.buffers:
            shape = "x".join(map(str, b.shape)) or "()"
            lines.append(
                f"{b.name:8}{shape:>20} {b.dtype:9}{b.bytes:>12,}{b.offset:>12,}  "
                f"{b.first} to {b.last}"
            )
        lines.append(
            f"arena {self.arena:,} bytes; {self.fused:,} bytes stay in registers of fused loops; "
            f"an eager step allocates {self.eager:,}"
        )
        return "\n".join(lines)

    __repr__ = __str__


def _temporaries(program: Program) -> list[Value]:
    return [v for v in program.values() if v.kind == "temporary" and v.base is None]
