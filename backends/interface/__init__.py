"""The contract: everything that a backend computes, one file for each family of methods.

A backend turns native arrays into native arrays and knows nothing about gradients' meaning,
layers or Tensors. Methods whose name ends in `_grad` are given the gradient of the loss with
respect to the method's result, and return it with respect to the inputs. Arguments arrive checked:
shapes agree, indices are in range, axes are non-negative tuples. No method changes its inputs,
except where it says "in place". Results may be views of the inputs only where NumPy's would be.

Letters in shapes: N batch, C and O channels in and out, H and W height and width, D features,
R rows, K taps of a kernel, G groups, T steps in time; in attention H heads, T queries, S keys, E
features of a value. A `pair` is (vertical, horizontal).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..registry import get
from .arrays import Arrays
from .integers import Integers
from .layers import Layers
from .random import Random
from .training import Training
from .words import (
    Array,
    Axes,
    DType,
    Finish,
    Narrow,
    Pair,
    Requantize,
    Rescale,
    Shape,
    SparseWeight,
)

if TYPE_CHECKING:
    from ..program import Lowering

__all__ = [
    "METHODS",
    "Array",
    "Axes",
    "Backend",
    "DType",
    "Finish",
    "Narrow",
    "Pair",
    "Requantize",
    "Rescale",
    "Shape",
    "SparseWeight",
]


class Backend(Arrays, Layers, Random, Integers, Training):
    """Arrays and kernels of one library. One instance exists per process; see `backends.get`."""

    name: str = "?"

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # the one instance: copies of what lives on it live on it too

    def __reduce__(self) -> tuple[Any, ...]:
        return get, (self.name,)  # so does what was pickled, in this process or in another

    @property
    def lowering(self) -> Lowering | None:
        """How a step that `minidl.compile` recorded is replayed here; None where it cannot be."""
        return None


# Every method that the contract asks a backend for, in its order.
METHODS = tuple(
    name
    for family in (Arrays, Layers, Random, Integers, Training)
    for name, value in vars(family).items()
    if inspect.isfunction(value) and not name.startswith("_")
)
