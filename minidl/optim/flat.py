"""Many parameters in one array, so that an optimizer step is one kernel.

The parameters of one backend and dtype become views of one flat array, and so do their gradients:
`Tensor.accumulate` writes into `grad_buffer`, so that after `backward()` nothing is left to gather.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from backends import Array, Backend

from ..engine.tensor import Tensor
from ..errors import BackendMismatch, ShapeError
from ..nn.module import Parameter

_ALIGNMENT = 16  # elements, 64 bytes of float32: a cache line


class Memory(NamedTuple):
    """What an optimizer remembers about one parameter."""

    steps: int = 0
    state: Mapping[str, Tensor] = {}


class Flat:
    """Parameters of one backend and dtype, their gradients and their state in flat arrays."""

    def __init__(self, params: Sequence[Parameter], memories: Sequence[Memory]) -> None:
        self.params = params
        self.backend: Backend = params[0].backend
        self.dtype = params[0].dtype
        self.shapes = [p.shape for p in params]  # they count, even if a parameter's data changes
        self.bounds: list[tuple[int, int]] = []
        self.size = 0
        for p in params:
            start, self.size = self.size, self.size + -(-p.size // _ALIGNMENT) * _ALIGNMENT
            self.bounds.append((start, self.size))
        self.param, self.grad = self._new(0.0), self._new(0.0)
        self.views = [self.view(self.param, i) for i in range(len(params))]
        self.grads = [self.view(self.grad, i) for i in range(len(params))]
        self.state: dict[str, Array] = {}
        self.steps = [memory.steps for memory in memories]
        self.places = {id(grad): i for i, grad in enumerate(self.grads)}
        for key in self.places:
            _homes[key] = self
        for i, (p, memory) in enumerate(zip(params, memories, strict=True)):
            self.backend.copyto(self.views[i], p.data)
            p.data, p.grad_buffer = self.views[i], self.grads[i]
            for name, value in memory.state.items():
                if value.shape != p.shape:
                    raise ShapeError(
                        f"optimizer: a parameter of shape {value.shape} became {p.shape}; "
                        "make a new optimizer for it"
                    )
                values = self.backend.asarray(value.numpy())
                self.backend.copyto(self.view(self.need(name, 0.0), i), values)

    def _new(self, value: float) -> Array:
        return self.backend.full((self.size,), value, self.dtype)

    def need(self, name: str, value: float) -> Array:
        """The flat state called name; when it is new, every element is value."""
        if name not in self.state:
            self.state[name] = self._new(value)
        return self.state[name]

    def view(self, flat: Array, i: int) -> Array:
        """The part of a flat array that belongs to parameter i, in its shape."""
        shape, start = self.shapes[i], self.bounds[i][0]
        return self.backend.reshape(self.slice(flat, start, start + math.prod(shape)), shape)

    def slice(self, flat: Array, start: int, stop: int) -> Array:
        """Elements start to stop of a flat array; the array itself if that is all of it."""
        if stop - start == self.size:
            return flat
        return self.backend.getitem(flat, slice(start, stop))

    def memories(self) -> list[Memory]:
        """What is remembered about each parameter; the tensors share memory with the flat state."""
        return [
            Memory(steps, {k: Tensor(self.view(a, i), self.backend) for k, a in self.state.items()})
            for i, steps in enumerate(self.steps)
        ]

    def intact(self) -> bool:
        """Whether every parameter still lives here: its data was not moved or assigned."""
        for p, view in zip(self.params, self.views, strict=True):
            if p.data is not view or p.backend is not self.backend:
                return False
        return True

    def advance(self) -> list[list[int]]:
        """Count a step where there is a gradient, and return what to update: [start, stop, step].

        Neighbours in the same step are updated together; usually that is everything at once.
        """
        runs = [[-1, -1, -1]]
        for i, p in enumerate(self.params):
            grad = p.grad
            if grad is None:
                continue
            if grad.data is not self.grads[i]:
                self._fetch(i, p, grad)
            self.steps[i] = step = self.steps[i] + 1
            start, stop = self.bounds[i]
            if runs[-1][1] == start and runs[-1][2] == step:
                runs[-1][1] = stop
            else:
                runs.append([start, stop, step])
        return runs[1:]

    def _fetch(self, i: int, p: Parameter, grad: Tensor) -> None:
        """Copy a gradient that lives elsewhere: assigned by hand, or with a graph of its own."""
        if grad.shape != p.shape:
            raise ShapeError(f"optimizer: a gradient is {grad.shape}, its parameter {p.shape}")
        if grad.backend is not self.backend:
            raise BackendMismatch(
                f"optimizer: a gradient is on {grad.backend.name!r}, its parameter on "
                f"{self.backend.name!r}; bring it over with .to({self.backend.name!r})"
            )
        self.backend.copyto(self.grads[i], grad.data)


def flatten(params: Sequence[Parameter], memories: Mapping[int, Memory]) -> list[Flat]:
    """One Flat for each backend and dtype; memories are known by the parameters' ids."""
    alike: dict[tuple[str, str], list[Parameter]] = {}
    for p in params:
        alike.setdefault((p.backend.name, p.dtype.name), []).append(p)
    return [Flat(ps, [memories.get(id(p), Memory()) for p in ps]) for ps in alike.values()]


# The arrays of `Flat.grads` by identity: where each lives, for as long as that exists.
_homes: WeakValueDictionary[int, Flat] = WeakValueDictionary()


def joined(grads: Sequence[Tensor]) -> list[Tensor]:
    """Gradients as few tensors, those that touch in an optimizer's memory as one.

    Where it left a gap, to begin the next parameter at a cache line, there are two: what is done to
    the pieces must not reach into gaps, which nothing would bring back from NaN.
    """
    runs: list[tuple[Flat, int, int]] = []
    others = []
    for grad in grads:
        flat = _homes.get(id(grad.data))
        if flat is None:
            others.append(grad)
            continue
        start = flat.bounds[flat.places[id(grad.data)]][0]
        stop = start + grad.size
        if runs and runs[-1][0] is flat and runs[-1][2] == start:
            start = runs.pop()[1]
        runs.append((flat, start, stop))
    joined = [Tensor(f.slice(f.grad, start, stop), f.backend) for f, start, stop in runs]
    return joined + others
