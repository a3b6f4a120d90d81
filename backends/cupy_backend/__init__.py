"""Arrays on an NVIDIA GPU through CuPy: the reference's formulas, and kernels where CuPy is slow.

Importing this package does not import CuPy; making a `CupyBackend` does. README.md says what runs
where, and what has been run on hardware.
"""

from __future__ import annotations

from .arrays import Arrays
from .convolution import Convolution
from .indexing import Indexing
from .integers import Integers
from .losses import Losses
from .lowering import GraphLowering
from .normalization import Normalization
from .optimizers import Optimizers
from .pooling import Pooling
from .random import Random
from .reductions import Reductions

__all__ = ["CupyBackend"]


class CupyBackend(
    Arrays, Reductions, Indexing, Convolution, Pooling, Normalization, Losses, Random, Integers,
    Optimizers,
):  # fmt: skip
    """All of the contract on CuPy arrays.

    Raises: BackendUnavailable if CuPy is not installed or no GPU can be used.
    """

    name = "cupy"

    @property
    def lowering(self) -> GraphLowering:
        return GraphLowering(self, self.xp)
