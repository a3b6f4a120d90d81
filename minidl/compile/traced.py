"""What stands in for arrays and numbers while a step is recorded."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backends import Array
from backends.program import Call, Value

if TYPE_CHECKING:
    from .record import Recorder

# Infix operators, noted under the contract's name where there is one, else NumPy's.
ARITHMETIC = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
OTHERS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal", "neg": "negative", "abs": "abs", "invert": "invert",
}  # fmt: skip
OPERATORS: dict[str, Callable[..., Any]] = {
    name: getattr(operator, f"__{short}__") for short, name in (ARITHMETIC | OTHERS).items()
}


class Traced:
    """An array while it is recorded: it knows its value in the program, and notes operators."""

    __slots__ = ("array", "recorder", "value")
    __array_ufunc__ = None  # NumPy leaves `array * traced` to us

    def __init__(self, array: Array, value: Value, recorder: Recorder) -> None:
        self.array, self.value, self.recorder = array, value, recorder

    def __getattr__(self, name: str) -> Any:
        """Shape, dtype and the like are the array's; methods that compute are not on the list."""
        if name in ("shape", "dtype", "ndim", "size", "nbytes", "strides", "flags"):
            return getattr(self.array, name)
        raise AttributeError(
            f"while a step is recorded, an array has no {name!r}: use a method of the backend"
        )

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        self.recorder.needs_value("converts a tensor to a NumPy array")
        return self.recorder.backend.to_numpy(self.array)

    def __bool__(self) -> bool:
        self.recorder.needs_value("asks whether an element is true")
        return bool(self.array)

    __hash__ = object.__hash__


def _noted(method: str, reflected: bool) -> Callable[..., Any]:
    def apply(self: Traced, *other: Any) -> Any:
        operands = (*other, self) if reflected else (self, *other)
        return self.recorder.note(method, OPERATORS[method], operands)

    return apply


for _short, _method in (ARITHMETIC | OTHERS).items():
    setattr(Traced, f"__{_short}__", _noted(_method, reflected=False))
for _short, _method in ARITHMETIC.items():
    setattr(Traced, f"__r{_short}__", _noted(_method, reflected=True))


class Bound:
    """A number that `bounds` gave: a comparison becomes a guard, anything else needs the value."""

    def __init__(self, value: float, call: Call, position: int, recorder: Recorder) -> None:
        self.value, self.call, self.position, self.recorder = value, call, position, recorder

    def __float__(self) -> float:
        self.recorder.needs_value("uses a bound of the elements as a number")
        return self.value

    def __int__(self) -> int:
        return int(float(self))

    __hash__ = object.__hash__


def _tested(name: str) -> Callable[[Bound, float], bool]:
    def compare(self: Bound, other: float) -> bool:
        outcome = bool(getattr(operator, name)(self.value, other))
        self.call.tests.append((self.position, name, float(other), outcome))
        return outcome

    return compare


for _short in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Bound, f"__{_short}__", _tested(_short))
