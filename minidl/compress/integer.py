"""A model as an integer program: codes between the first quantize and the last dequantize.

What a program computes is said in integers in `backends.interface`, so its results are the same
bits on every backend. Source: Jacob et al. (2018), arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backends import Array

from ..engine.apply import apply
from ..engine.creation import tensor
from ..engine.dtypes import float32, int32
from ..engine.function import Version
from ..engine.graph import mismatch
from ..engine.modes import aside, no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError
from ..nn import Module, ModuleList
from ..ops import check
from .graph import Node, Value, trace
from .integer_loop import IntegerProgram, Loop, Watched
from .integer_parts import Door, Slot, Step, layer_path
from .integer_plan import Plan
from .integer_recurrent import FillStep, LSTMStep, StatesStep
from .integer_steps import PLAIN, IntegerStep, LayerStep
from .integer_tokens import AttentionStep, EmbeddingStep, LayerNormStep
from .models import backend_of
from .qtensor import AFFINE, SYMMETRIC, Scheme, scheme_of
from .requantize import Grid


class How(NamedTuple):
    """The settings of quantization that a file must remember."""

    weights: str = "per_channel"
    activations: Scheme = AFFINE
    weight_scheme: Scheme = SYMMETRIC
    modules: tuple[str, ...] | None = None
    quantize_output: bool = False

    def chooses(self, node: Node) -> bool:
        """Whether a layer is to be quantized: it, or a module that it belongs to, is listed."""
        path = layer_path(node)
        return self.modules is None or any(within(path, name) for name in self.modules)

    def words(self) -> dict[str, Any]:
        """The settings as a file's header has them; see `from_words`."""
        words: dict[str, Any] = {
            "weights": self.weights, "activations": self.activations.name,
            "bits": self.weight_scheme.high.bit_length() + 1,
        }  # fmt: skip
        if self.modules is not None:
            words["modules"] = ",".join(self.modules)
        return {**words, "output": "codes"} if self.quantize_output else words

    @staticmethod
    def from_words(words: Mapping[str, str]) -> How:
        """The settings that `words` gave."""
        listed = words.get("modules")
        return How(
            words["weights"], scheme_of(words["activations"]), weight_scheme(int(words["bits"])),
            None if listed is None else tuple(listed.split(",")), words.get("output") == "codes",
        )  # fmt: skip


def within(path: str, name: str) -> bool:
    """Whether the module at path is the one called name, or inside it.

    >>> within("layers.0.linear", "layers.0"), within("layers.01", "layers.0"), within("0", "")
    (True, False, True)
    """
    return not name or f"{path}.".startswith(f"{name}.")


def weight_scheme(bits: int) -> Scheme:
    """Symmetric codes of that many bits, each in a byte. Raises: ArgumentError."""
    if not 2 <= bits <= 8:
        raise ArgumentError(f"quantize_model: weight_bits must be from 2 to 8, got {bits}")
    high = 2 ** (bits - 1) - 1
    return SYMMETRIC._replace(low=-high, high=high)


def planned(model: Module, example: Tensor, how: How) -> Plan:
    """The plan for a float model. Raises: ArgumentError if no layer is chosen, or the model does
    not return one tensor.
    """
    plan = Plan(trace(model, example), how.chooses, how.quantize_output)
    if not any(step.kind in ("layer", "lstm") for step in plan.steps):
        raise ArgumentError(
            f"quantize_model: no layer among them is used: {how.modules or 'the whole model'};"
            " the model runs without Linear and Conv2d layers"
        )
    if len(plan.outputs) != 1 or not isinstance(plan.graph.result, Value):
        raise ArgumentError("quantize_model: the model must return one tensor")
    return plan


_KINDS = {
    **PLAIN, "attention": AttentionStep, "layer_norm": LayerNormStep, "states": StatesStep,
    "fill": FillStep,
}  # fmt: skip
_JOINED = ("weight_scale", "bias")


class IntegerModel(Watched):
    """What `quantize_model` makes with calibration data; printing it shows its steps.

    Buffers: scale (float32) and zero_point (int32) hold the grids of all values; each step has its
    weights. Multipliers, shifts and tables follow from them, and are computed when first needed.
    Raises, when called: ShapeError, DTypeError, BackendMismatch.
    """

    scale: Tensor
    zero_point: Tensor
    steps: ModuleList

    def __init__(self, plan: Plan, grids: Sequence[Grid], how: How) -> None:
        super().__init__()
        self.how, self.schemes = how, [g.scheme for g in grids]
        self.door, where = plan.door, backend_of(plan.graph.model)
        for name, dtype in (("scale", float32), ("zero_point", int32)):
            numbers = np.array([getattr(g, name) for g in grids], dtype)
            self.register_buffer(name, tensor(numbers, backend=where))
        with no_grad():
            known = plan.known()
        self.steps = ModuleList(_step(plan, step, known, grids, how) for step in plan.steps)
        self.slots, self.result = _allocate(plan, list(self.steps))
        self.per_sample = sum(s.multiply_adds for s in self.steps)
        self._seen = -1  # the latest change of any tensor, when buffers were last looked at
        self._stamp: list[tuple[Version, int]] = []
        self._loops: dict[tuple[int, bool], Loop] = {}
        self._runs: dict[tuple[Any, Any, bool], tuple[Loop, int]] = {}  # by shape and dtype of x

    @property
    def grids(self) -> list[Grid]:
        """The grids of all values."""
        triples = zip(self.scale.tolist(), self.zero_point.tolist(), self.schemes, strict=True)
        return [Grid(*triple) for triple in triples]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self._run(x, False)

    def _run(self, x: Tensor, codes: bool) -> Tensor:
        """The program; what comes in is checked where its shape and dtype are new."""
        check.tensors("IntegerModel", x=x)
        if x.backend is not self.scale.backend:
            raise mismatch("IntegerModel", x.backend.name, self.scale.backend.name)
        if Version.last != self._seen:
            self._look()
        key = x.data.shape, x.data.dtype, codes
        ready = self._runs.get(key)
        if ready is None:
            batch = (self._find_ends()[2] if codes else self.door).batch(x)
            ready = self._runs[key] = self.loop(batch, codes), self.per_sample * batch
        return apply(IntegerProgram(*ready, self.buffers), x)

    def codes(self, x: Tensor) -> Tensor:
        """What the program computes between its first quantize and its last dequantize: codes of
        an input on `code_grids[0]` become codes of the result on `code_grids[1]`.

        Shapes: as forward. Raises: ArgumentError unless all is integers in between, which needs
        `quantize_model(..., quantize_output=True)`; ShapeError, DTypeError, BackendMismatch.

        >>> import minidl
        >>> from minidl import compress, nn
        >>> x = minidl.tensor([[0.0, 1.0, 2.0, 255.0]])
        >>> program = compress.quantize_model(nn.Linear(4, 2), [x], quantize_output=True)
        >>> y = program.codes(minidl.tensor([[0, 1, 2, 255]], "uint8"))
        >>> grid = program.code_grids[1]
        >>> numbers = (y.astype("float32") - grid.zero_point) * grid.scale
        >>> numbers.tolist() == program(x).tolist()
        True
        """
        return self._run(x, True)

    @property
    def code_grids(self) -> tuple[Grid, Grid]:
        """The grids of what `codes` takes and gives. Raises: ArgumentError, as it does."""
        first, last, _ = self._find_ends()
        grids = self.grids
        return grids[first.grid_out], grids[last.grid_in[0]]

    def _find_ends(self) -> tuple[IntegerStep, IntegerStep, Door]:
        """The steps that quantize and dequantize, and what `codes` takes."""
        first, *between, last = self.steps
        alone = not any(0 in step.sources for step in between)
        if first.kind != "quantize" or last.kind != "dequantize" or not alone:
            raise ArgumentError(
                "IntegerModel.codes: there are no codes at both ends of the program, which begins"
                f" with {first.describe()!r} and ends with {last.describe()!r}; make it with"
                " quantize_model(..., quantize_output=True), of layers that are all quantized"
            )
        return first, last, self.door._replace(dtype=self.schemes[first.grid_out].dtype)

    def loop(self, batch: int, codes: bool = False) -> Loop:
        """The calls for a batch size, of `codes` or of forward; made anew after buffers moved or
        changed.
        """
        if Version.last != self._seen:
            self._look()
        key = batch, codes
        if key not in self._loops:
            with aside():
                calls = [
                    (prepared(batch), step.slots_in, step.slot_out)
                    for step, prepared in zip(self.steps, self._prepared, strict=True)
                ]
            loop = Loop(calls, self.slots, self.result)
            self._loops[key] = loop.on_codes() if codes else loop
        return self._loops[key]

    def _look(self) -> None:
        """Prepare the steps anew if a buffer is not what it was."""
        seen, stamp = Version.last, [(x.version, x.version.changed) for x in self.buffers()]
        if self._stamp != stamp:
            with aside():
                lib, grids = self.scale.backend, self.grids
                self._prepared = [step.prepare(lib, grids) for step in self.steps]
            self._stamp, self._loops, self._runs = stamp, {}, {}
        self._seen = seen

    def layers(self) -> Iterator[LayerStep]:
        """The steps with weights."""
        return (step for step in self.steps if isinstance(step, LayerStep))

    def joined(self) -> dict[str, Tensor]:
        """The state with all scales and biases of layers in one tensor each, as files have it: the
        names of many small tensors would take more room than their numbers.
        """
        state = self.state_dict()
        for last in _JOINED:
            parts = [state.pop(name) for name in list(state) if name.endswith(f".{last}")]
            flat = np.concatenate([part.numpy().ravel() for part in parts])
            state[last] = tensor(flat, backend=self.scale.backend)
        return state

    def load_joined(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `joined` gave. Raises: CheckpointError."""
        own, given = self.state_dict(), dict(state)
        for last in _JOINED:
            names = [name for name in own if name.endswith(f".{last}")]
            flat, sizes = given.pop(last, None), [own[name].size for name in names]
            if flat is None or flat.shape != (sum(sizes),):
                raise CheckpointError(f"{last} must hold {sum(sizes)} numbers, one per output")
            parts = np.split(flat.numpy(), np.cumsum(sizes[:-1]))
            for name, part in zip(names, parts, strict=True):
                given[name] = tensor(part.reshape(own[name].shape), backend="numpy")
        self.load_state_dict(given)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """What every step computes from x, as numbers."""
        found: list[Tensor] = []
        lib, grids = x.backend, self.grids
        held: dict[int, Array] = {0: x.data}
        for step, (call, inputs, output) in zip(
            self.steps, self.loop(self.door.batch(x)).calls, strict=True
        ):
            held[output] = call(*[held[i] for i in inputs])
            result = Tensor(held[output], lib)
            if step.grid_out >= 0:
                scale, zero, _ = grids[step.grid_out]
                s, z = lib.full((), scale, float32), lib.full((), zero, int32)
                result = Tensor(lib.dequantize(held[output], s, z), lib)
            found.append(result)
        return found

    def __repr__(self) -> str:
        rows = [("step", "", "of", "grid of the result", "module")]
        grids = self.grids
        for i, step in enumerate(self.steps, 1):
            on = str(grids[step.grid_out]) if step.grid_out >= 0 else str(step.dtype)
            read = ", ".join(f"%{j}" for j in step.sources)
            rows.append((f"%{i}", step.describe(), read, on, step.name))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        floats = [s.describe() for s in self.steps if s.kind == "float" and s.dtype.kind == "f"]
        last = f"computed in float: {', '.join(floats)}" if floats else "no step computes in float"
        return "\n".join(["IntegerModel", *(f"  {line}" for line in lines), f"  {last}"])


def _step(plan: Plan, step: Step, known: Any, grids: Sequence[Grid], how: How) -> IntegerStep:
    if step.kind in ("layer", "lstm"):
        made = LayerStep if step.kind == "layer" else LSTMStep
        per_channel = how.weights == "per_channel"
        return made(plan, step, known, grids, how.weight_scheme, per_channel)
    if step.kind == "embedding":
        return EmbeddingStep(plan, step, known, grids)
    kind: type[IntegerStep] = _KINDS[step.kind]
    return kind(plan, step, known)


def _allocate(plan: Plan, steps: list[IntegerStep]) -> tuple[int, int]:
    """Give each step its slots, so that what nobody needs any more is let go; how many there are,
    and the one with the result.
    """
    last: dict[Slot, int] = {}
    for i, step in enumerate(plan.steps):
        last.update(dict.fromkeys(step.inputs, i))
    last[plan.outputs[0]] = len(steps)
    begin = Slot(plan.graph.inputs[0], False)
    where, number = {begin: 0}, {begin: 0}
    free: list[int] = []
    count = 1
    for i, (step, module) in enumerate(zip(plan.steps, steps, strict=True)):
        module.slots_in = tuple(where[x] for x in step.inputs)
        module.sources = tuple(number[x] for x in step.inputs)
        number[step.output] = i + 1
        free += [where[x] for x in dict.fromkeys(step.inputs) if last[x] == i]
        if not free:
            free, count = [count], count + 1
        module.slot_out = where[step.output] = free.pop()
    return count, where[plan.outputs[0]]
