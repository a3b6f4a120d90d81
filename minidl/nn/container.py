"""Modules made of modules. Each child is an attribute whose name is its number or key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Self

from ..engine.creation import Where
from ..engine.dtypes import float32
from ..engine.random import Generator
from ..errors import ArgumentError, IndexRangeError, UnknownName
from ..ops import check
from .activation import ReLU
from .linear import Linear
from .module import Module


class _Numbered(Module):
    """Children called "0", "1", ... with the manners of a list; those of a slice from "0" again."""

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        return self.extend([module])

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        name = type(self).__name__
        check.instance(name, "modules", modules, Iterable, "; wrap it: [module]")
        for module in modules:
            self._add(str(len(self)), module)
        return self

    def _add(self, name: str, module: Module) -> None:
        if name in vars(self):
            raise ArgumentError(f"{type(self).__name__}: there is a module {name!r} already")
        _own(self, name, module)

    def _modules(self) -> list[Any]:
        return [m for m in vars(self).values() if isinstance(m, Module)]

    def __len__(self) -> int:
        return len(self._modules())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            part.training = self.training
            return part.extend(list(self)[index])
        return list(self)[self._position(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        names = [name for name, m in vars(self).items() if isinstance(m, Module)]
        _own(self, names[self._position(index)], module)

    def _position(self, index: int) -> int:
        check.integer(type(self).__name__, "an index", index)
        if not -len(self) <= index < len(self):
            raise IndexRangeError(
                f"{type(self).__name__}: no module {index}, there are {len(self)}"
            )
        return index


class Sequential(_Numbered):
    """Modules that are called one after the other; a mapping of names to modules names them.

    A Linear and the ReLU after it compute in one pass, unless somebody hooked into one of them, and
    so does any module whose class has a `forward_relu`. A slice is a Sequential whose modules are
    numbered from 0 (in PyTorch they keep their names).

    >>> import minidl
    >>> from minidl import nn
    >>> model = Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model(minidl.ones((5, 4))).shape, len(model[:2])
    ((5, 2), 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        for argument in modules:
            named = argument if isinstance(argument, Mapping) else {str(len(self)): argument}
            for name, module in named.items():
                self._add(name, module)

    def forward(self, x: Any) -> Any:
        joined = False  # whether this module was computed with the one before it
        for module, following in pairwise([*self._modules(), None]):
            if not joined:
                joined = type(following) is ReLU and _bare(following) and _takes_relu(module)
                x = module.forward_relu(x) if joined else module(x)
            else:
                joined = False
        return x


class LinearReLU(Sequential):
    """A Linear and a ReLU that compute in one pass, as in any `Sequential`.

    They stay modules of their own, "0" and "1": either can be hooked into, and another module, such
    as a quantized layer, may be put in its place. Shapes and errors as for `Linear`.

    >>> import minidl
    >>> layer = LinearReLU(3, 2)
    >>> layer(minidl.ones((5, 3))).shape, list(layer.state_dict())
    ((5, 2), ['0.weight', '0.bias'])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        options = {"backend": backend, "dtype": dtype, "generator": generator}
        super().__init__(Linear(in_features, out_features, bias, **options), ReLU())


def _bare(module: Module) -> bool:
    """Whether calling a module does what its class says, and nothing besides."""
    return not (module._hooks or module._pre_hooks or "forward" in vars(module))


def _takes_relu(module: Module) -> bool:
    """Whether its own class has a `forward_relu`: a subclass may have another `forward`."""
    return "forward_relu" in vars(type(module)) and _bare(module)


class ModuleList(_Numbered):
    """A list of modules whose parameters are found; it has no forward of its own.

    >>> from minidl import nn
    >>> len(list(ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]).parameters()))
    4
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """A dict of modules whose parameters are found; it has no forward of its own.

    >>> from minidl import nn
    >>> list(ModuleDict({"a": nn.Linear(1, 1)}).state_dict())
    ['a.weight', 'a.bias']
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        given = {} if modules is None else modules
        check.instance("ModuleDict", "modules", given, Mapping, " of names to modules")
        for name, module in given.items():
            self[name] = module

    def __getitem__(self, key: str) -> Any:
        return vars(self)[self._known(key)]

    def __setitem__(self, key: str, module: Module) -> None:
        _own(self, key, module)

    def __delitem__(self, key: str) -> None:
        delattr(self, self._known(key))

    def _known(self, key: str) -> str:
        if key not in self:
            raise UnknownName(f"ModuleDict: no module {key!r} among {', '.join(self)}")
        return key

    def __contains__(self, key: str) -> bool:
        return key in self.keys()

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """The names, in order."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """The modules, in order."""
        return [module for _, module in self.items()]

    def items(self) -> list[tuple[str, Any]]:
        """(name, module) pairs, in order."""
        return [(n, m) for n, m in vars(self).items() if isinstance(m, Module)]


def _own(owner: Module, name: str, module: Any) -> None:
    if not isinstance(module, Module):
        raise ArgumentError(f"{type(owner).__name__}: {name} must be a Module, got {module!r:.60}")
    check.instance(type(owner).__name__, "a name", name, str)
    if not name or "." in name or not isinstance(getattr(owner, name, module), Module):
        raise ArgumentError(f"{type(owner).__name__}: {name!r} is taken, empty or contains a dot")
    setattr(owner, name, module)
