"""The reference backend: every formula once, in its clearest text, over NumPy.

`NumpyBackend` is put together from one class per family of operations. The formulas use `self.xp`
in names that CuPy has too; what NumPy alone can do sits in small methods that begin with an
underscore and can be overridden.
"""

from __future__ import annotations

from ..program import Lowering
from .activation import Activation
from .arrays import Arrays
from .attention import Attention
from .conv import Conv
from .elementwise import Elementwise
from .fake_quantize import FakeQuantize
from .int8_recurrent import Int8Recurrent
from .int8_transformer import Int8Transformer
from .linear import Linear
from .loss import Loss
from .lowering import NumpyLowering
from .normalize import Normalize
from .optimizer import Optimizer
from .pool import Pool
from .random import Random
from .recurrent import Recurrent
from .reduce import Reduce
from .shape import ShapeOps
from .sparse import Sparse
from .weight_only import WeightOnly

__all__ = ["NumpyBackend"]


class NumpyBackend(
    Arrays, Elementwise, Activation, Reduce, ShapeOps, WeightOnly, Linear, Conv, Int8Recurrent,
    Int8Transformer, Pool, Normalize, Attention, Recurrent, Loss, Random, FakeQuantize, Sparse,
    Optimizer,
):  # fmt: skip
    """All of the contract on NumPy arrays.

    >>> backend = NumpyBackend()
    >>> backend.softmax(backend.asarray([0.0, 0.0]), axis=0)
    array([0.5, 0.5])
    """

    name = "numpy"

    @property
    def lowering(self) -> Lowering | None:
        return NumpyLowering(self, NumpyBackend)
