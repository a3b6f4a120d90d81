"""Module: something that remembers parameters and turns tensors into tensors.

What a module owns is found in its attributes: Parameters, buffers and other Modules, in the order
in which they were assigned. There is no second bookkeeping that could disagree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self, TypeVar

from backends import Array, Backend

from ..engine.dtypes import as_dtype, float32, float64
from ..engine.modes import get_backend, no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError, DTypeError
from ..ops import check

Remove = Callable[[], None]
_PLAIN = (bool, int, float, str, tuple, type(None))
_NONE: Mapping[Any, Any] = MappingProxyType({})


class Parameter(Tensor):
    """A leaf tensor that a module learns; it shares memory with the tensor it is made from.

    `constraint`, if set, is called with the parameter after each optimizer step and may change it
    in place: a projection, such as a pruning mask.
    Raises: DTypeError unless data is a floating Tensor.

    >>> import minidl
    >>> Parameter(minidl.zeros(2)).requires_grad
    True
    """

    __slots__ = ("constraint",)
    constraint: Callable[[Parameter], None] | None

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise DTypeError(f"Parameter: needs a Tensor, got {type(data).__name__}")
        view = data.detach()  # the graph tells tensors apart by the array object that they hold
        super().__init__(view.data, view.backend, requires_grad)
        self.version = view.version
        self.constraint = None

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Module:
    """Base of all layers and models: assign Parameters and Modules as attributes, write `forward`.

    A constructor stores its settings under its arguments' names: that is what `repr` shows.

    >>> import minidl
    >>> class Scale(Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.weight = Parameter(minidl.ones(size))
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> Scale(2)(minidl.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    training: bool = True
    # Replaced, never changed in place: these empty ones belong to the class.
    _buffers: Mapping[str, bool] = _NONE  # name -> whether state_dict has it
    _hooks: Mapping[object, Callable[..., Any]] = _NONE
    _pre_hooks: Mapping[object, Callable[..., Any]] = _NONE

    def __setattr__(self, name: str, value: Any) -> None:
        kept = isinstance(value, Parameter) or value is None
        if not kept and isinstance(vars(self).get(name), Parameter):
            raise DTypeError(
                f"{type(self).__name__}: {name} is a Parameter and stays one; assign "
                "nn.Parameter(x) or None, or change its values: .copy_(x) under no_grad()"
            )
        super().__setattr__(name, value)

    # -- running --------------------------------------------------------------------------------
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}.forward is missing")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._pre_hooks or self._hooks):
            return self.forward(*args, **kwargs)
        for hook in self._pre_hooks.values():
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in self._hooks.values():
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return result

    def register_forward_pre_hook(self, hook: Callable[[Any, Any], Any]) -> Remove:
        """Call `hook(module, args)` before forward; what it returns replaces args.

        Returns a function that removes the hook again.
        """
        return self._hooked("_pre_hooks", hook)

    def register_forward_hook(self, hook: Callable[[Any, Any, Any], Any]) -> Remove:
        """Call `hook(module, args, result)` after forward; what it returns replaces result.

        Returns a function that removes the hook again.
        """
        return self._hooked("_hooks", hook)

    def _hooked(self, kind: str, hook: Callable[..., Any]) -> Remove:
        key = object()
        setattr(self, kind, {**getattr(self, kind), key: hook})

        def remove() -> None:
            setattr(self, kind, {k: h for k, h in getattr(self, kind).items() if k is not key})

        return remove

    # -- what it owns ---------------------------------------------------------------------------
    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Own a tensor that is not learned; a persistent one is part of `state_dict`."""
        check.instance("register_buffer", "name", name, str)
        if tensor is not None:
            check.tensors("register_buffer", **{name: tensor})
        if "." in name or not name or (name not in self._buffers and hasattr(self, name)):
            raise ArgumentError(f"register_buffer: {name!r} is taken, empty or contains a dot")
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, tensor)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules that this one owns directly, each once."""
        return _once((n, m) for n, m in vars(self).items() if isinstance(m, Module))

    def children(self) -> Iterator[Module]:
        """The modules that this one owns directly, each once."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, each once, owners first."""
        return _once(self._walk(prefix))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once, owners first."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of this module and, with recurse, of all below it, each once."""
        return _once((n, p) for n, p, _ in self._state(prefix, recurse) if isinstance(p, Parameter))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with recurse, of all below it, each once."""
        return (parameter for _, parameter in self.named_parameters("", recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(path, tensor) of the buffers of this module and, with recurse, of all below it."""
        return _once(
            (n, b) for n, b, _ in self._state(prefix, recurse) if not isinstance(b, Parameter)
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, with recurse, of all below it."""
        return (buffer for _, buffer in self.named_buffers("", recurse))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """(path, module) under every path, so a shared module more than once."""
        yield prefix, self
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value._walk(f"{prefix}.{name}" if prefix else name)

    def _state(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor, bool]]:
        """(path, parameter or buffer, whether it is saved) under every path."""
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, value in vars(module).items():
                owned = isinstance(value, Parameter) or name in module._buffers
                if owned and value is not None:
                    yield f"{path}.{name}" if path else name, value, module._buffers.get(name, True)

    # -- saving and loading ---------------------------------------------------------------------
    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Path -> parameter or persistent buffer, without history, sharing memory with the module.

        >>> from minidl import nn
        >>> list(nn.Linear(2, 1).state_dict())
        ['weight', 'bias']
        """
        return {path: value.detach() for path, value, saved in self._state(prefix) if saved}

    def load_state_dict(
        self, state: Mapping[str, Tensor], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values into the parameters and buffers, converted to their dtype and backend.

        Returns the (missing, unexpected) paths, of which there are none if strict.
        Raises: CheckpointError listing everything that does not fit; nothing is loaded then.
        """
        own = self.state_dict()
        read = "; read a file with minidl.training.load_model"
        check.instance("load_state_dict", "state", state, Mapping, read)
        check.tensors("load_state_dict", **{f"state[{k!r}]": x for k, x in state.items()})
        missing = [path for path in own if path not in state]
        unexpected = [path for path in state if path not in own]
        misshapen = [
            f"{path} (here {own[path].shape}, given {state[path].shape})"
            for path in own
            if path in state and own[path].shape != state[path].shape
        ]
        found = {"missing": missing, "unexpected": unexpected} if strict else {}
        found["misshapen"] = misshapen
        if any(found.values()):
            listed = "; ".join(
                f"{kind}: {', '.join(paths)}" for kind, paths in found.items() if paths
            )
            raise CheckpointError(
                f"load_state_dict: the state does not fit {type(self).__name__}, so nothing was "
                f"loaded. {listed}. Build the same model, or pass strict=False for missing and "
                "unexpected names."
            )
        with no_grad():
            for path in own.keys() & state.keys():
                own[path].copy_(state[path].detach().to(own[path].backend))
        return missing, unexpected

    # -- switching and moving -------------------------------------------------------------------
    def train(self, mode: bool = True) -> Self:
        """Let this module and all below it behave as in training (dropout, batch statistics)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Let this module and all below it behave as in use: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Learn all parameters, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, backend: str | Backend) -> Self:
        """Move parameters and buffers to a backend; the Parameter objects stay the same, their
        gradients are forgotten.
        """
        target = get_backend(backend)
        for _, x in _once((path, x) for path, x, _ in self._state()):
            if x.backend is not target:
                _replace(x, target.asarray(x.backend.to_numpy(x.data)), target)
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert floating parameters and buffers to a floating dtype, and forget their gradients.
        Raises: DTypeError.
        """
        chosen = as_dtype(dtype)
        if chosen.kind != "f":
            raise DTypeError(f"Module.astype: parameters are floating, got {chosen}")
        for _, x in _once((path, x) for path, x, _ in self._state()):
            if x.dtype.kind == "f" and x.dtype != chosen:
                _replace(x, x.backend.astype(x.data, chosen), x.backend)
        return self

    def double(self) -> Self:
        """`astype("float64")`."""
        return self.astype(float64)

    def float(self) -> Self:
        """`astype("float32")`."""
        return self.astype(float32)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call function on all modules below this one and then on itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # -- showing --------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """What `repr` shows of this module itself: arguments that differ from their defaults."""
        shown = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            default = argument.default
            value = vars(self).get(name, default)
            if isinstance(default, bool):  # bias=True became a Parameter
                value = value is not None and value is not False
            if argument.kind is not argument.POSITIONAL_OR_KEYWORD or not isinstance(value, _PLAIN):
                continue
            if value not in (default, (default, default)):
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        owned = [(key, value) for key, value in vars(self).items() if isinstance(value, Module)]
        children = [f"  ({key}): {child!r}".replace("\n", "\n  ") for key, child in owned]
        if not children:
            return f"{name}({extra})"
        return "\n".join([f"{name}({extra}", *children, ")"])


def _replace(x: Tensor, data: Array, backend: Backend) -> None:
    x.data, x.backend = data, backend
    x.grad = x.grad_buffer = None
    x.version.change()  # a graph that saved the old array must not meet the new one


Named = TypeVar("Named", bound="Module | Tensor")


def _once(named: Iterator[tuple[str, Named]]) -> Iterator[tuple[str, Named]]:
    """Leave out what came before under another name."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
