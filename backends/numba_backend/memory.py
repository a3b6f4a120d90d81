"""Memory for large results that is used again.

A fresh large array is made of pages that the system hands out, zeroed, at the first touch of each:
a relu over a megabyte took 217 us, 190 of them for that. So memory that nobody refers to any more
is kept and given to the next result of the same size. In training, sizes repeat from step to step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..interface import Array, DType, Shape

LARGE = 1 << 16  # bytes from which on fresh pages cost more than looking here (1 us)
KEPT = 1 << 28  # bytes that may lie idle; beyond, all of them go back to the system
ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class _Block(NamedTuple):
    """A piece of memory. To ask an array for its address takes longer than all the rest here."""

    memory: Array
    address: int
    size: int  # bytes


class _Idle:
    """Blocks that wait, by size. Lists pop and append in one step, so threads need no lock."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[_Block]] = {}
        self.bytes = 0  # two threads may miscount it a little; it only bounds what is kept

    def take(self, size: int) -> _Block:
        """A block of size bytes that nobody uses, or a new one."""
        try:
            block = self.blocks[size].pop()
        except (KeyError, IndexError):
            memory = np.empty(size + ALIGNMENT, np.uint8)
            address: int = memory.ctypes.data
            return _Block(memory, address + -address % ALIGNMENT, size)
        self.bytes -= size
        return block

    def give(self, block: _Block) -> None:
        """Keep a block for the next taker, unless it alone is too much."""
        size = block.size
        if self.bytes + size > KEPT:
            self.blocks, self.bytes = {}, 0
            if size > KEPT:
                return
        self.blocks.setdefault(size, []).append(block)
        self.bytes += size


IDLE = _Idle()
taken: list[list[Array]] = []  # each list here is told of all memory that is taken


class _Lease:
    """The owner of one result's memory: the array and all its views refer to it.

    When the last of them is gone, so is the lease, and the block is idle again.
    """

    __slots__ = ("__array_interface__", "block")

    def __init__(self, shape: Shape, dtype: DType, block: _Block) -> None:
        self.block = block
        self.__array_interface__: dict[str, Any] = {
            "shape": shape, "typestr": dtype.str, "version": 3,
            "data": (block.address, False),
        }  # fmt: skip

    def __del__(self, give: Callable[[_Block], None] = IDLE.give) -> None:  # IDLE ends before some
        give(self.block)


def empty(shape: Shape, dtype: DType | type) -> Array:
    """An array like `numpy.empty`, whose memory returns here when the last view of it is gone.

    >>> x = empty((256, 256), np.float32)
    >>> where, view = x.ctypes.data, x[3]
    >>> del x
    >>> empty((65536,), np.float32).ctypes.data == where  # the view still needs it
    False
    >>> del view
    >>> empty((65536,), np.float32).ctypes.data == where
    True
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        made = np.empty(shape, dtype)
    else:
        made = np.asarray(_Lease(shape, dtype, IDLE.take(size)))
    for told in taken:
        told.append(made)
    return made
