"""An integer program, prepared for a batch size, as one operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from backends import Array

from ..engine.function import Function, Version
from ..engine.tensor import Tensor
from ..errors import GraphError
from ..nn import Module
from ..nn.summary import MULTIPLY_ADDS


class Watched(Module):
    """A module from whose buffers something was prepared: another buffer is a change, too."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Tensor):
            Version().change()  # of nothing that exists: programs look at their buffers again


class Loop(NamedTuple):
    """A program that is ready to run: calls, the slots that each reads, and the one it writes."""

    calls: list[tuple[Callable[..., Array], tuple[int, ...], int]]
    slots: int
    result: int
    begin: int = 0

    def on_codes(self) -> Loop:
        """The calls without the first, which quantizes, and the last, which does the reverse."""
        first, *between, last = self.calls
        return Loop(between, self.slots, last[1][0], first[2])

    def run(self, x: Array) -> Array:
        """What the result's slot holds at the end; x begins in slot `begin`."""
        held: list[Any] = [None] * self.slots
        held[self.begin] = x
        for call, inputs, output in self.calls:
            if len(inputs) == 1:
                held[output] = call(held[inputs[0]])
            else:
                held[output] = call(*[held[i] for i in inputs])
        return held[self.result]


class IntegerProgram(Function):
    """All steps as one operation; for inference only."""

    def __init__(self, loop: Loop, multiply_adds: int, buffers: Callable[[], Any]) -> None:
        self.loop, self.multiply_adds, self.buffers = loop, multiply_adds, buffers

    @property
    def rests_on(self) -> Sequence[Tensor]:  # type: ignore[override]
        return list(self.buffers())

    def forward(self, x: Array) -> Array:
        return self.loop.run(x)

    def backward(self, grad: Any) -> Any:
        raise GraphError(
            "IntegerProgram: codes have no gradient. Train the float model, or prepare_qat(model)"
        )


def _multiply_adds(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    count: int = function.multiply_adds
    return count


MULTIPLY_ADDS["IntegerProgram"] = _multiply_adds
