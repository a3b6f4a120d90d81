"""One recorded step: whether it still is what the step would do, and running it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from backends.program import Call, Replay, Value

from ..engine.function import Version
from ..engine.tensor import Tensor
from .plan import prepare
from .record import Recorder
from .traced import Traced


class Recording:
    """A program, the conditions under which it holds, and what Python does besides running it:
    counting steps, moving generators on, setting `.grad`.
    """

    def __init__(
        self, recorder: Recorder, arguments: Sequence[Tensor], given: Sequence[Tensor], result: Any
    ) -> None:
        """arguments are the tensors that the step was run on, given those of the caller."""
        self.backend, self.program = recorder.backend, recorder.program
        self.updates, self.draws = recorder.updates, recorder.draws
        self.result = mapped(result, lambda tensor: self._output(recorder, tensor))
        self._outside(recorder)
        self.input_grads = [(i, self._grad(recorder, x)) for i, x in enumerate(arguments)]
        for x, own in zip(given, arguments, strict=True):
            x.grad = own.grad
        self.rests_on = list(recorder.rests_on.values())
        self.modules = [vars(module) for module in recorder.modules.values()]
        self.attributes = self._attributes()
        self.replay: Replay | None = None
        self.lock = threading.Lock()  # two runs at once would share the arena
        recorder.forget()

    # -- what was recorded ----------------------------------------------------------------------
    def _output(self, recorder: Recorder, tensor: Tensor) -> int:
        """Let the program end with copying a tensor to a new array; which output that is."""
        traced = tensor.data if isinstance(tensor.data, Traced) else recorder.traced(tensor.data)
        made, size = traced.value, traced.dtype.itemsize
        strides = tuple(size * math.prod(made.shape[i + 1 :]) for i in range(len(made.shape)))
        output = Value(made.shape, made.dtype, strides, "output")
        self.program.outputs.append(output)
        self.program.calls.append(Call("copyto", (output, made), writes=(output,)))
        return len(self.program.outputs) - 1

    def _grad(self, recorder: Recorder, x: Tensor) -> Tensor | int | None:
        """A gradient that stays in its buffer, or the output that it becomes, or None."""
        if x.grad is None or not isinstance(x.grad.data, Traced):
            return x.grad
        return self._output(recorder, x.grad)

    def _outside(self, recorder: Recorder) -> None:
        """Tensors that took part: their arrays, and what becomes of gradients and versions."""
        part = [x for x, _ in recorder.leaves.values() if x.backend is self.backend]
        entry = [recorder.gradient_at_entry(x) for x in part]
        self.leaves = [
            (x, x.data, x.requires_grad, grad is None) for x, grad in zip(part, entry, strict=True)
        ]
        self.read = [
            (x, grad) for x, grad in zip(part, entry, strict=True)
            if x.requires_grad and grad is not None and grad is not True
        ]  # fmt: skip
        self.changed = [
            x for x, version in recorder.leaves.values() if x.version.changed != version
        ]
        grads = [(x, self._grad(recorder, x)) for x in part if x.requires_grad]
        self.made_grads = [(x, grad) for x, grad in grads if isinstance(grad, int)]
        self.kept_grads = [(x, grad) for x, grad in grads if not isinstance(grad, int)]

    # -- whether it applies ---------------------------------------------------------------------
    def stale(self) -> str | None:
        """What is other than it was while recording; None if nothing is."""
        for x, array, needs, without in self.leaves:
            if x.data is not array:
                return f"a tensor of shape {x.shape} has another array"
            if x.requires_grad is not needs:
                return f"a tensor of shape {x.shape} was frozen or released"
            if needs and (x.grad is None) is not without:
                return "a parameter has a gradient already, or has none"
        for x, array in self.read:
            if x.grad is None or x.grad.data is not array:
                return "a parameter has another gradient"
        for x, version, changed in self.rests_on:
            if x.version is not version or version.changed != changed:
                return f"a tensor of shape {x.shape} changed, from which others were computed"
        now = self._attributes()
        if len(now) != len(self.attributes) or not all(map(is_, now, self.attributes)):
            return "a module changed: its mode, a setting or a part"
        return None

    def _attributes(self) -> list[Any]:
        """What the modules consist of."""
        found: list[Any] = []
        for attributes in self.modules:
            found += attributes.values()
        return found

    def numbers(self) -> list[Any] | None:
        """What changes from run to run; None where an optimizer would do something else now."""
        found: list[Any] = [None] * self.program.numbers
        for update in self.updates:
            now = update.now()
            if now is None:
                return None
            found[update.first : update.stop] = now
        return found

    # -- running it -----------------------------------------------------------------------------
    def build(self) -> Replay:
        """The program ready to run, made when it is first needed."""
        if self.replay is None:
            lowering = self.backend.lowering
            assert lowering is not None
            prepare(self.program, lowering)
            self.replay = lowering.build(self.program)
        return self.replay

    def run(self, given: Sequence[Tensor]) -> tuple[Any, str | None]:
        """(The step's result, None), or (None, the reason) if it does not apply to this call."""
        reason = self.stale()
        if reason is not None:
            return None, reason
        with self.lock:
            numbers = self.numbers()
            if numbers is None:
                return None, "an optimizer changed: its state was loaded, or a setting switched"
            before = [draw.take(numbers) for draw in self.draws]
            arrays = self.build().run([x.data for x in given], numbers)
            if arrays is None:
                for draw, counter in zip(reversed(self.draws), reversed(before), strict=True):
                    draw.generator.counter = counter
                return None, "labels or indices are in another range, or weights are infinite"
            for update in self.updates:
                update.advance()
        tensors = [Tensor(array, self.backend) for array in arrays]
        self._after(given, tensors)
        if type(self.result) is int:  # one tensor, as mostly
            return tensors[self.result], None
        return mapped(self.result, tensors.__getitem__, int), None

    def _after(self, given: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """What else the step leaves behind: gradients, and counts of changes in place."""
        if self.changed:
            Version.change(*[x.version for x in self.changed])
        for i, grad in self.input_grads:
            given[i].grad = tensors[grad] if isinstance(grad, int) else grad
        for x, grad in self.kept_grads:
            x.grad = grad
        for x, at in self.made_grads:
            x.grad = tensors[at]


def mapped(result: Any, new: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """A result with each tensor in it exchanged; tuples, lists and dicts are looked into."""
    if isinstance(result, kind) and not isinstance(result, bool):
        return new(result)
    if isinstance(result, (tuple, list)):
        return type(result)(mapped(item, new, kind) for item in result)
    if isinstance(result, dict):
        return {key: mapped(item, new, kind) for key, item in result.items()}
    return result
