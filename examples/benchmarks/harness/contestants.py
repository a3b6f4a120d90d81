"""Who can take part: a library, and the way in which it is used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Contestant(NamedTuple):
    """One column of the tables.

    A workload says what it is in the function `in_<dialect>`; where it has none, the contestant
    sits that workload out.
    """

    name: str
    dialect: str
    package: str  # what has to be installed
    backend: str = ""  # of minidl
    compiled: bool = False  # the step goes through the library's compiler
    fast_mkl: bool = False  # see mkl.py

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


CONTESTANTS = {
    c.name: c
    for c in (
        Contestant("minidl numpy", "minidl", "minidl", "numpy"),
        Contestant("minidl numba", "minidl", "numba", "numba"),
        Contestant("minidl numba, compiled", "minidl", "numba", "numba", compiled=True),
        Contestant("minidl numba, codes", "minidl_codes", "numba", "numba"),
        Contestant("minidl numba, float32", "minidl_float32", "numba", "numba"),
        Contestant("minidl numba, dense", "minidl_dense", "numba", "numba"),
        Contestant("minidl cupy", "minidl", "cupy", "cupy"),
        Contestant("NumPy", "numpy", "numpy"),
        Contestant("PyTorch", "pytorch", "torch"),
        Contestant("PyTorch, fast MKL", "pytorch", "torch", fast_mkl=True),
        Contestant("torch.compile", "pytorch", "torch", compiled=True),
        Contestant("jax.jit", "jax", "jax", compiled=True),
        Contestant("MyGrad", "mygrad", "mygrad"),
        Contestant("DeZero", "dezero", "dezero"),
        Contestant("ONNX Runtime", "onnxruntime", "onnxruntime"),
        Contestant("ONNX QLinearMatMul", "onnxruntime_product", "onnxruntime"),
    )
}
OURS = tuple(c.name for c in CONTESTANTS.values() if c.dialect == "minidl")
