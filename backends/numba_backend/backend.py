"""NumbaBackend: the families put together."""

from __future__ import annotations

from ..numpy_backend import NumpyBackend
from . import jit
from .activation import Activation
from .attention import Attention
from .conv import Conv
from .elementwise import Elementwise
from .fake_quantize import FakeQuantize
from .int8 import Int8
from .int8_attention import Int8Attention
from .int8_between import Int8Between
from .int8_recurrent import Int8Recurrent
from .linear import Linear
from .loss import Loss
from .lowering import NumbaLowering
from .normalize import Normalize
from .optimizer import Optimizer
from .pool import Pool
from .random import Random
from .recurrent import Recurrent
from .reduce import Reduce
from .scatter import Scatter
from .softmax import Softmax
from .sparse import Sparse
from .weight_only import WeightOnly


class NumbaBackend(
    Activation, Attention, Conv, Elementwise, FakeQuantize, Int8, Int8Attention, Int8Between,
    Int8Recurrent, Linear, Loss, Normalize, Optimizer, Pool, Random, Recurrent, Reduce, Scatter,
    Softmax, Sparse, WeightOnly,
):  # fmt: skip
    """The contract on NumPy arrays, computed by parallel kernels where that was measured to pay.

    >>> backend = NumbaBackend()
    >>> backend.relu(backend.asarray([-1.0, 2.0]))
    array([0., 2.])
    """

    name = "numba"

    def describe(self) -> dict[str, str]:
        return {
            **super().describe(),
            "numba": jit.numba.__version__,
            "threads": f"{jit.get_num_threads()} ({jit.layer()})",
            "cache": jit.config.CACHE_DIR
            or "__pycache__ beside the kernels, else the user's cache",
        }

    def set_num_threads(self, count: int) -> None:
        """For the kernels, and for NumPy's BLAS, which multiplies what is small.

        No more than NUMBA_NUM_THREADS, which is fixed when Numba is imported.
        """
        super().set_num_threads(count)
        jit.set_num_threads(count)

    def get_num_threads(self) -> int:
        return jit.get_num_threads()

    @property
    def lowering(self) -> NumbaLowering:
        return NumbaLowering(self, NumpyBackend)
