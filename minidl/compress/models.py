"""What compression does to a model as a whole: find layers, copy, replace, feed batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

from backends import Backend

from ..engine.modes import get_backend, no_grad
from ..engine.random import default_generator
from ..engine.tensor import Tensor
from ..errors import DTypeError
from ..nn import Conv2d, Linear, Module, Parameter
from ..ops import check
from .qtensor import QTensor


def compressible(module: object) -> TypeGuard[Linear | Conv2d]:
    """Whether it is a layer that this room prunes and quantizes.

    >>> compressible(Linear(2, 3))
    True
    """
    return isinstance(module, (Linear, Conv2d))


def clone(model: Module) -> Module:
    """A copy of a model that shares no memory with it; constraints, such as masks, come along.

    >>> model = Linear(2, 1)
    >>> twin = clone(model)
    >>> twin.weight.tolist() == model.weight.tolist(), twin.weight is model.weight
    (True, False)
    """
    check.instance("clone", "model", model, Module)
    # Whatever stands in `known` is not copied but taken from there: tensors without gradient and
    # graph, copied by their backend, and the default generator, which exists once in a process.
    known: dict[int, Any] = {id(default_generator): default_generator}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                known[id(value)] = _twin(value)
    result = copy.deepcopy(model, known)
    for old, new in zip(model.parameters(), result.parameters(), strict=True):
        new.constraint = copy.deepcopy(old.constraint, known)
    return result


def _twin(tensor: Tensor) -> Tensor:
    fresh = Tensor(tensor.backend.copy(tensor.data), tensor.backend)
    if isinstance(tensor, Parameter):
        return Parameter(fresh, tensor.requires_grad)
    if isinstance(tensor, QTensor):
        return QTensor(
            fresh.data, fresh.backend, _twin(tensor.scale), _twin(tensor.zero_point),
            tensor.scheme, tensor.axis, tensor.group_size,
        )  # fmt: skip
    return fresh.requires_grad_(tensor.requires_grad)


def replace(model: Module, twins: Mapping[Module, Module]) -> Module:
    """Put modules in the place of others, wherever those are used; returns the (new) root."""
    for owner in list(model.modules()):
        for name, child in list(vars(owner).items()):  # also a child that has two names
            if isinstance(child, Module) and child in twins:
                setattr(owner, name, twins[child])
    return twins.get(model, model)


def backend_of(model: Module) -> Backend:
    """The backend of the model's tensors (of the first one; the default if it has none)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.backend
    return get_backend()


def inputs(batch: Any, model: Module) -> Tensor:
    """What of a batch goes into the model: it, or the first of (x, y), on the model's backend.

    Raises: DTypeError if that is not a Tensor.
    """
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(x, Tensor):
        raise DTypeError(
            f"a batch must be a Tensor or begin with one, as in (x, y); got {type(x).__name__}"
        )
    return x.to(backend_of(model))


@contextmanager
def in_use(*models: Module) -> Iterator[None]:
    """Models as in use: in eval mode and unrecorded; each module's mode is restored afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def reaching(model: Module, layers: Mapping[str, Module], example: Any) -> dict[str, Tensor]:
    """What reaches each layer when the model runs on example; nothing for one that is not used."""
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda module, args: found.update({path: args[0]})

    removes = [layer.register_forward_pre_hook(keep(path)) for path, layer in layers.items()]
    run_hooked(model, [example], removes)
    return found


def run_hooked(
    model: Module, batches: Iterable[Any], removes: Iterable[Callable[[], None]]
) -> None:
    """Run a model in use on batches, for what its hooks see; then remove these hooks."""
    try:
        with in_use(model):
            for batch in batches:
                model(inputs(batch, model))
    finally:
        for remove in removes:
            remove()
