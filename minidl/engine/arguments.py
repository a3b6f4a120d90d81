"""Settings are checked where they come in; NumPy's scalars count as the numbers they are."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError

LARGEST = float(np.finfo(np.float64).max)


def integer(operation: str, name: str, value: Any, low: int | None = None) -> int:
    """value, which must be an integer (no bool) of at least low, as an int. Raises: ArgumentError.

    >>> integer("f", "size", np.int64(3), 1)
    3
    """
    if type(value) is int and (low is None or value >= low):  # nearly always
        return value
    fits = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not fits or (low is not None and value < low):
        least = "" if low is None else f" >= {low}"
        raise ArgumentError(f"{operation}: {name} must be an integer{least}, got {value!r}")
    return int(value)


def number(
    operation: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf,
    *, above: bool = False, below: bool = False,
) -> float:  # fmt: skip
    """value, which must be a number from low to high (above: not low itself; below: not high), as a
    Python number, which widens no tensor. Raises: ArgumentError, for NaN too if there is a bound.

    >>> number("f", "p", np.float32(0.5), 0, 1)
    0.5
    """
    if type(value) is float and low <= value <= high and not (above or below):  # nearly always
        return value
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, int) and not -LARGEST <= plain <= LARGEST:
        raise ArgumentError(f"{operation}: {name} is an integer that no float can hold")
    bounded = low > -math.inf or high < math.inf
    if not isinstance(plain, (int, float)) or (
        bounded
        and (not low <= plain <= high or (above and plain == low) or (below and plain == high))
    ):
        wanted = "a number"
        if high < math.inf:
            first, then = ("above", "and") if above else ("from", "to")
            wanted = f"{first} {low:g} {then} {'below ' if below else ''}{high:g}"
        elif low > -math.inf:
            wanted = f"a number {'>' if above else '>='} {low:g}"
        raise ArgumentError(f"{operation}: {name} must be {wanted}, got {value!r}")
    return plain


def holds(operation: str, dtype: np.dtype[Any], *values: float) -> None:
    """Numbers that are to become dtype must lie in its range. Raises: ArgumentError, for NaN too.

    >>> holds("f", np.dtype("uint8"), 0, 255)
    """
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        for value in values:
            if not info.min <= value <= info.max:
                raise ArgumentError(
                    f"{operation}: {dtype} cannot hold {value}; convert first, such as to int64"
                )


def instance(operation: str, name: str, value: Any, kind: type, fix: str = "") -> None:
    """value must be a kind. Raises: DTypeError.

    >>> instance("f", "x", 1, int)
    """
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise DTypeError(f"{operation}: {name} must be {article} {kind.__name__}, got {got}{fix}")


def path(operation: str, name: str, value: Any) -> Path:
    """value, which must name a file or a folder, as a Path. Raises: DTypeError.

    >>> path("f", "file", "a/b").name
    'b'
    """
    if not isinstance(value, (str, os.PathLike)):
        raise DTypeError(f"{operation}: {name} must be a path, got {type(value).__name__}")
    return Path(value)


def function(operation: str, name: str, value: Any, *arguments: str) -> None:
    """value must be a function of so many arguments. Raises: DTypeError.

    >>> function("f", "transform", max, "batch", "generator")
    """
    try:
        inspect.signature(value).bind(*arguments)
    except ValueError:  # a built-in one does not say what it takes
        return
    except TypeError as error:
        raise DTypeError(
            f"{operation}: {name} must be callable as {name}({', '.join(arguments)}), got "
            f"{value!r:.60} ({error})"
        ) from error
