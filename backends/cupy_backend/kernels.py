"""Loading and launching the CUDA C++ files of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..interface import Array, DType

FOLDER = Path(__file__).parent

# Element types that kernels may be compiled for, in the names of common.cu.
C_TYPES = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.int8): "i8",
    np.dtype(np.uint8): "u8",
    np.dtype(np.int32): "i32",
    np.dtype(np.int64): "i64",
}
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
CODES = (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32))  # of quantized values

# The element types that each file compiles for; the others call functions of floats.
FILES = {
    "convolution.cu": tuple(C_TYPES),
    "indexing.cu": tuple(C_TYPES),
    "integers.cu": FLOATS,
    "losses.cu": FLOATS,
    "normalize.cu": FLOATS,
    "optimizers.cu": FLOATS,
    "pooling.cu": tuple(C_TYPES),
    "random.cu": FLOATS,
}
ANY_FLOAT = FLOATS[0]  # for kernels without a `real` in them

# One rounding per operation, as in the reference: a fused multiply-add would change last bits, and
# what these kernels wait for is memory. CuPy itself adds -ftz=true: float32 subnormals become 0.
OPTIONS = ("-std=c++17", "--fmad=false")

WARP = 32
BLOCK = 256  # threads of a block in one-dimensional launches
MAX_BLOCKS = 4096  # enough to fill any GPU several times over; kernels loop over the rest
MAX_GRID_Y = 65535
# Kernels count rows, planes and the elements of one in C int. The counter passes the end by at most
# a step of all threads, MAX_GRID_Y times 128 in the longest launch, which must fit, too.
MAX_COUNT = 2**31 - 2**23

Grid = tuple[tuple[int, ...], tuple[int, ...]]  # (blocks, threads per block)


@cache
def source(file: str) -> str:
    """The text that is compiled for a file: common.cu, then the file itself.

    >>> "__global__ void im2col" in source("convolution.cu")
    True
    """
    common, own = ((FOLDER / name).read_text(encoding="utf-8") for name in ("common.cu", file))
    return f'{common}#line 1 "{file}"\n{own}'


def options(real: DType, code: DType | None = None) -> tuple[str, ...]:
    """Compiler options that set the element type, and for integers.cu that of quantized values.

    >>> options(np.dtype(np.float32))
    ('-std=c++17', '--fmad=false', '-Dreal=f32', '-Dcode=i8')
    """
    code = CODES[0] if code is None else code
    return (*OPTIONS, f"-Dreal={C_TYPES[real]}", f"-Dcode={C_TYPES[code]}")


class Kernels:
    """Compiles a file when one of its kernels is first used; CuPy keeps the result on disk."""

    def __init__(self, raw_module: Any) -> None:
        self._raw_module = raw_module
        self._functions: dict[tuple[str, str, DType, DType | None], Any] = {}
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}

    def launch(
        self,
        file: str,
        name: str,
        real: DType,
        grid: Grid,
        args: Sequence[Any],
        code: DType | None = None,
    ) -> None:
        """Queue a kernel on the current stream; integers are passed as C int.

        Raises: TypeError for a Python float, whose C type would be a guess, and for an element
        type that the file is not for; OverflowError for an integer above MAX_COUNT.
        """
        key = (file, name, real, code)
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._module(file, real, code).get_function(name)
        function(*grid, tuple([_as_c(argument) for argument in args]))

    def _module(self, file: str, real: DType, code: DType | None) -> Any:
        key = (file, options(real, code))
        if real not in FILES[file] or code not in (None, *CODES):
            raise TypeError(f"{file} is not for elements of {real} and codes of {code}")
        if key not in self._modules:
            self._modules[key] = self._raw_module(code=source(file), options=key[1])
        return self._modules[key]


def _as_c(argument: Any) -> Any:
    if isinstance(argument, float) and not isinstance(argument, np.floating):
        raise TypeError("give a NumPy scalar of the kernel's type instead of a Python float")
    if not isinstance(argument, int):
        return argument
    _countable(argument)
    return np.int32(argument)


def _countable(*sizes: int) -> None:
    if max(sizes) > MAX_COUNT:
        raise OverflowError(
            f"a row, plane or channel of {max(sizes)} elements (or as many rows or planes); "
            f"the CUDA kernels count up to {MAX_COUNT}: split the array"
        )


def over_items(count: int) -> Grid:
    """One thread per item, up to a limit beyond which threads take several.

    >>> over_items(1000)
    ((4,), (256,))
    """
    return (min(-(-count // BLOCK), MAX_BLOCKS),), (BLOCK,)


def over_rows(rows: int, length: int) -> Grid:
    """One block per row, with as many threads as the row has elements, in whole warps.

    >>> over_rows(64, 100)
    ((64,), (128,))
    """
    return (rows,), (min(BLOCK, -(-length // WARP) * WARP),)


def over_planes(planes: int, size: int, other_size: int) -> Grid:
    """Blocks of 128 threads, x over the size elements of a plane and y over planes.

    other_size is that of the planes which the kernel reads: it counts in them, too.
    Raises: OverflowError if a plane has more than MAX_COUNT elements.

    >>> over_planes(100, 16, 64)
    ((1, 13), (16, 8))
    """
    _countable(size, other_size)
    width = min(128, 1 << (size - 1).bit_length())
    height = 128 // width
    return (-(-size // width), min(-(-planes // height), MAX_GRID_Y)), (width, height)


def launchable(*arrays: Array) -> bool:
    """Whether a floating-point kernel can take these: something to do, and float32 or float64.

    >>> [launchable(np.ones(3, t)) for t in (np.float32, np.float16)], launchable(np.ones(0))
    ([True, False], False)
    """
    return all(x.size > 0 and x.dtype in FLOATS for x in arrays)
