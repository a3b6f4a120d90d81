"""What all optimizers share: parameter groups, flat arrays, and saving their state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from backends import Array, Backend

from ..engine.arguments import instance, integer
from ..engine.creation import zeros_like
from ..engine.function import Version
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError
from ..nn.module import Parameter
from .flat import Flat, Memory, flatten

Settings = dict[str, Any]
# Called with (optimizer, group, flat, state, run) before each `update`: a recorder of steps, which
# must know that the settings and the count of steps may be others next time.
updating: list[Callable[[Optimizer, Settings, Flat, dict[str, Array], list[int]], None]] = []
Params = Iterable[Parameter] | Iterable[dict[str, Any]]


class Optimizer:
    """Base of all optimizers. A subclass names its settings and state, and calls the kernel.

    `param_groups` is a list of dicts as in PyTorch: "params", and the settings for them, which may
    be changed between steps. An optimizer moves the parameters' values into one flat array: arrays
    taken from `.data` before that no longer follow. The gradients of a step overwrite those of the
    last one: clone a `.grad` to keep it.
    """

    def __init__(self, params: Params, defaults: Settings) -> None:
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise ArgumentError(
                f"{self._name}: pass a list of parameters, such as [weight], or "
                f"model.parameters(); got {type(params).__name__}"
            )
        given: list[Any] = list(params)
        if not given:
            raise ArgumentError(
                f"{self._name}: got no parameters; does the model have any? An iterator, such as "
                "model.parameters(), is empty after its first use: call it again"
            )
        self.defaults = defaults
        self.param_groups: list[Settings] = []
        self._flats: list[list[Flat]] = []
        grouped = all(isinstance(group, Mapping) for group in given)
        for group in given if grouped else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # -- what a subclass says -------------------------------------------------------------------
    def check(self, settings: Settings) -> None:
        """Raise ArgumentError for a setting outside its range."""
        raise NotImplementedError

    def initial(self, settings: Settings) -> dict[str, float]:
        """The state that these settings need: its name -> the initial value of every element."""
        raise NotImplementedError

    def update(
        self, backend: Backend, param: Array, grad: Array, state: dict[str, Array], step: int,
        settings: Settings,
    ) -> None:  # fmt: skip
        """Change param and state in place; step counts from 1."""
        raise NotImplementedError

    # -- using it -------------------------------------------------------------------------------
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take more parameters: {"params": [...]} and settings that differ from the defaults.

        Raises: ArgumentError for a setting out of range or unknown, and for a parameter that is no
        Parameter or is here already.
        """
        instance(self._name, "a parameter group", group, Mapping, ', not {"params": [...]}')
        own = group.get("params", ())
        params: list[Any] = list(own) if isinstance(own, Iterable) else [own]
        params = [own] if isinstance(own, Tensor) else params
        unknown = sorted(group.keys() - self.defaults.keys() - {"params"})
        if unknown or not params:
            problem = f"unknown settings {unknown}" if unknown else "no parameters"
            raise ArgumentError(f"{self._name}: a parameter group has {problem}")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Parameter):
                raise ArgumentError(f"{self._name}: expected Parameters, got {type(p).__name__}")
            if id(p) in known:
                raise ArgumentError(f"{self._name}: a parameter of shape {p.shape} came twice")
            known.add(id(p))
        given = {**self.defaults, **group, "params": params}
        settings = {name: _plain(value) for name, value in given.items()}
        self.check(settings)
        self.param_groups.append(settings)
        self._flats.append(flatten(params, {}))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero (decay and momentum then still act)."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else zeros_like(p.grad)

    def step(self) -> None:
        """Update every parameter that has a gradient, then apply its `constraint`."""
        for i, group in enumerate(self.param_groups):
            if not all(flat.intact() for flat in self._flats[i]):
                self._flats[i] = flatten(group["params"], self._memories(i))
            for flat in self._flats[i]:
                self._step(flat, group)

    def _step(self, flat: Flat, group: Settings) -> None:
        arrays = {name: flat.need(name, value) for name, value in self.initial(group).items()}
        for start, stop, step in flat.advance():
            state = {name: flat.slice(a, start, stop) for name, a in arrays.items()}
            param, grad = flat.slice(flat.param, start, stop), flat.slice(flat.grad, start, stop)
            for observer in updating:
                observer(self, group, flat, state, [start, stop, step])
            self.update(flat.backend, param, grad, state, step, group)
        changed = [p for p in flat.params if p.grad is not None]
        if changed:
            Version.change(*[p.version for p in changed])
        for p in changed:
            if p.constraint is not None:
                with no_grad():
                    p.constraint(p)

    def _memories(self, group: int) -> dict[int, Memory]:
        return {
            id(p): memory
            for flat in self._flats[group]
            for p, memory in zip(flat.params, flat.memories(), strict=True)
        }

    # -- saving and loading ---------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """{"settings": one dict per group, fit for JSON; "tensors": "3.mean" -> Tensor}.

        Parameters are numbered through all groups; the tensors share memory with the optimizer.
        """
        settings: list[Settings] = []
        tensors: dict[str, Tensor] = {}
        number = itertools.count()
        for i, group in enumerate(self.param_groups):
            memories = self._memories(i)
            own = [memories[id(p)] for p in group["params"]]
            plain = {name: value for name, value in group.items() if name != "params"}
            settings.append({**plain, "steps": [memory.steps for memory in own]})
            for memory, n in zip(own, number, strict=False):
                tensors.update({f"{n}.{name}": x for name, x in memory.state.items()})
        return {"settings": settings, "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`, loading all of it or nothing. Raises: CheckpointError."""
        memories = self.check_state(state)
        for i, (group, saved) in enumerate(zip(self.param_groups, state["settings"], strict=True)):
            group.update({name: value for name, value in saved.items() if name != "steps"})
            self._flats[i] = flatten(group["params"], memories)

    def check_state(self, state: Mapping[str, Any]) -> dict[int, Memory]:
        """What a `state_dict` says about each parameter, by its id; nothing is loaded. Raises:
        CheckpointError if it is not for these parameters.
        """
        instance(self._name, "the state", state, Mapping)
        settings = list(state.get("settings", ()))
        self._check_groups(settings)
        return self._saved_memories(settings, dict(state.get("tensors", {})))

    def _check_groups(self, settings: list[Settings]) -> None:
        found = [len(saved.get("steps", ())) for saved in settings]
        needed = [len(group["params"]) for group in self.param_groups]
        if found != needed:
            raise CheckpointError(
                f"{self._name}: the state is for groups of {found} parameters, here are {needed}"
            )
        for saved, group in zip(settings, self.param_groups, strict=True):
            lacking = sorted(group.keys() - saved.keys() - {"params"})
            if lacking:
                raise CheckpointError(f"{self._name}: the state lacks the settings {lacking}")
            self.check(saved)

    def _saved_memories(
        self, settings: list[Settings], tensors: dict[str, Tensor]
    ) -> dict[int, Memory]:
        """The memory of each parameter, about which a state must say all that is needed."""
        memories, number = {}, itertools.count()
        for saved, group in zip(settings, self.param_groups, strict=True):
            names = list(self.initial(saved))
            for p, steps in zip(group["params"], saved["steps"], strict=True):
                n = next(number)
                own = {k: tensors.pop(f"{n}.{k}") for k in names if f"{n}.{k}" in tensors}
                if any(x.shape != p.shape for x in own.values()) or (
                    steps and len(own) < len(names)
                ):
                    shapes = {name: x.shape for name, x in own.items()}
                    raise CheckpointError(
                        f"{self._name}: parameter {n} of shape {p.shape} needs the state {names} "
                        f"of that shape, got {shapes}"
                    )
                memories[id(p)] = Memory(integer(self._name, "a count of steps", steps, 0), own)
        if tensors:
            raise CheckpointError(f"{self._name}: no parameter has the state {sorted(tensors)}")
        return memories


def _plain(setting: Any) -> Any:
    """A NumPy scalar as a Python number: it widens no parameter, and JSON can express it."""
    if isinstance(setting, (tuple, list)):
        return type(setting)(map(_plain, setting))
    return setting.item() if isinstance(setting, np.generic) else setting


def require(
    optimizer: str, settings: Settings, names: str, low: float = 0, high: float = math.inf,
    count: int = 1,
) -> None:  # fmt: skip
    """The settings with these names must be numbers in [low, high). Raises: ArgumentError."""
    for name in names.split():
        values = settings[name] if count > 1 else [settings[name]]
        fits = isinstance(values, (tuple, list)) and len(values) == count
        if not fits or not all(
            isinstance(v, (int, float, np.number)) and low <= v < high for v in values
        ):
            wanted = "a number" if count == 1 else f"{count} numbers"
            raise ArgumentError(
                f"{optimizer}: {name} must be {wanted} in [{low:g}, {high:g}), "
                f"got {settings[name]!r}"
            )
