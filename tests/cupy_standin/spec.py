"""The names and arguments of the real CuPy, from spec.json (see dump_spec.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_SPEC: dict[str, Any] = json.loads(
    Path(__file__).with_name("spec.json").read_text(encoding="utf-8")
)

VERSION: str = _SPEC["version"]
UFUNC_OPTIONS = frozenset({"out", "dtype", "casting"})
# CuPy's einsum hides its options behind **kwargs.
EXTRA_OPTIONS = {"einsum": frozenset({"dtype", "optimize"})}


def methods() -> Sequence[str]:
    """The methods of CuPy's arrays."""
    return list(_SPEC["methods"])


def exists(name: str) -> bool:
    """Whether `cupy.name` exists."""
    return name in _SPEC["ufuncs"] or name in _SPEC["functions"] or name in _SPEC["others"]


def is_ufunc(name: str) -> bool:
    """Whether `cupy.name` is a universal function."""
    return name in _SPEC["ufuncs"]


@cache
def _signature(name: str) -> tuple[frozenset[str], int | None]:
    """(names of the parameters, how many may be given by position or None for any number)."""
    if name in _SPEC["ufuncs"]:
        inputs = _SPEC["ufuncs"][name].partition("->")[0]
        return UFUNC_OPTIONS, len(inputs) + 1
    owner, _, method = name.rpartition(".")
    text = _SPEC["methods"][method] if owner else _SPEC["functions"][name]
    names = text.split()
    unlimited = any(n.startswith("*") and not n.startswith("**") for n in names)
    plain = [n for n in names if not n.startswith("*")]
    allowed = frozenset(plain) | EXTRA_OPTIONS.get(name, frozenset())
    return allowed, None if unlimited else len(plain)


def takes_array_first(name: str) -> bool:
    """Whether the first argument of `cupy.name` is one array, which CuPy takes no scalar for."""
    first = _SPEC["functions"][name].partition(" ")[0]
    return first in ("a", "x", "arr", "array", "m", "condition", "ar")


def check_call(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Raises: TypeError for an argument that CuPy's function of that name does not have."""
    allowed, most = _signature(name)
    for option in options:
        if option not in allowed:
            raise TypeError(f"{name}() got an unexpected keyword argument {option!r}")
    if most is not None and len(args) > most:
        raise TypeError(f"{name}() takes {most} positional arguments, but {len(args)} were given")


@cache
def check_loop(name: str, inputs: tuple[str, ...], result: str) -> None:
    """Whether CuPy's ufunc would take inputs of these dtypes, and give the dtype that NumPy gives.

    Raises: TypeError if it would not.
    """
    for loop in _SPEC["ufuncs"][name].split():
        takes, _, gives = loop.partition("->")
        if len(takes) == len(inputs) and all(map(np.can_cast, inputs, takes)):
            if np.dtype(gives[0]) != np.dtype(result):
                raise TypeError(f"cupy.{name} of {inputs} gives {gives}, NumPy's gives {result}")
            return
    raise TypeError(f"cupy.{name} has no loop for {inputs}")
