"""What a workload file says.

TITLE       what is computed, in one line
ROWS        the sizes at which it is computed
TOLERANCE   how far two results may be apart, as a part of the largest number in them (LOSSES
            below, unless the file says otherwise)
STEPS       how many steps are compared (default 5); one where a step is not training
FIGURE      "time" (default), or "memory": the peak is compared, and nothing is timed
CONTESTANTS the names of those who take part (default: everyone for whom there is an `in_...`)
given       (**sizes) -> the arrays that all start from, as a dict
in_...      (given, compiled) -> a function that does one step and returns its loss or its arrays;
            `compiled` is what the contestant compiles functions with, or does nothing
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .contestants import CONTESTANTS, Contestant

Arrays = dict[str, np.ndarray]

# Five steps of Adam. It divides gradients by their own size, so where one is all but zero its
# rounding error is magnified to a full step of that weight: more than the rounding of one loss.
LOSSES = 1e-4


class Row:
    """One line of a table: a name, the samples in a step, and the arguments of `given`.

    `of` is another workload's module, where this one only measures something else about it.
    """

    def __init__(
        self, name: str, samples: int, /, *, of: ModuleType | None = None, **sizes: Any
    ) -> None:
        self.name, self.samples, self.of, self.sizes = name, samples, of, sizes


def load(file: Path) -> ModuleType:
    """The module of a workload file, which may import its neighbours."""
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(file.stem)


def row_of(module: ModuleType, name: str) -> tuple[ModuleType, Row]:
    """A row, and the module whose functions compute it."""
    row = next(row for row in module.ROWS if row.name == name)
    return row.of or module, row


def takes_part(module: ModuleType, row: Row, contestant: Contestant) -> bool:
    listed = getattr(module, "CONTESTANTS", None)
    known = hasattr(row.of or module, f"in_{contestant.dialect}")
    return known and (listed is None or contestant.name in listed)


def those_for(module: ModuleType, row: Row) -> list[Contestant]:
    return [c for c in CONTESTANTS.values() if takes_part(module, row, c)]
