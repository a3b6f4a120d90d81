"""Huffman coding: frequent symbols get short words of bits, rare ones long ones.

The codes of a quantized layer are far from equally frequent, so a file needs fewer bits than they
have. The coder is zlib's, told to look for no repetitions: its blocks are Huffman codes of bytes
(RFC 1951, section 3.2.7). Source: Huffman (1952), Proc. IRE 40(9); Han, Mao & Dally (2016),
arXiv:1510.00149, section 4.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from ..errors import CheckpointError


def encode(symbols: np.ndarray) -> np.ndarray:
    """The bytes (n,) uint8 that hold symbols, an array of int8, uint8 or bool in C order.

    >>> encode(np.zeros(8000, np.uint8)).size < 1100  # a bit a symbol, and the code itself
    True
    """
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    data = coder.compress(np.ascontiguousarray(symbols).tobytes()) + coder.flush()
    return np.frombuffer(data, np.uint8)


def decode(data: np.ndarray, count: int) -> np.ndarray:
    """The `count` symbols as uint8 that `encode` put into data.

    Raises: CheckpointError if data hold something else.

    >>> decode(encode(np.arange(5, dtype=np.uint8)), 5).tolist()
    [0, 1, 2, 3, 4]
    """
    decoder = zlib.decompressobj(-15)
    try:
        found = decoder.decompress(data.tobytes(), count + 1)
    except zlib.error as error:
        raise CheckpointError(f"what should be a Huffman code is none ({error})") from error
    if len(found) != count or not decoder.eof or decoder.unused_data:
        raise CheckpointError(f"a Huffman code does not hold the {count} symbols that it should")
    return np.frombuffer(found, np.uint8)


def entropy(symbols: np.ndarray) -> float:
    """Bits per symbol that no code of single symbols goes below: -sum p log2 p.

    Source: Shannon (1948), "A mathematical theory of communication", theorem 9.

    >>> entropy(np.array([0, 1, 2, 3], np.uint8))
    2.0
    """
    counts = np.unique(symbols, return_counts=True)[1]
    shares = counts / max(counts.sum(), 1)
    return max(float(-np.sum(shares * np.log2(shares))), 0.0) if len(counts) else math.nan
