"""4-bit codes, two to a byte: how packed weights and files hold them."""

from __future__ import annotations

import numpy as np


def pack_int4(codes: np.ndarray) -> np.ndarray:
    """Codes from -8 to 7, (..., D) int8 -> (..., ceil(D / 2)) uint8.

    Each is stored as code + 8, the earlier one in the lower four bits; the place beside a last odd
    one holds 0.

    >>> pack_int4(np.array([-8, 7, 1], np.int8)).tolist()
    [240, 9]
    """
    raised = (codes + np.int8(8)).astype(np.uint8)
    if codes.shape[-1] % 2:
        raised = np.concatenate([raised, np.zeros_like(raised[..., :1])], axis=-1)
    packed: np.ndarray = raised[..., 0::2] | (raised[..., 1::2] << 4)
    return packed


def unpack_int4(packed: np.ndarray, columns: int) -> np.ndarray:
    """The reverse of `pack_int4` for rows of so many codes.

    >>> unpack_int4(np.array([240, 9], np.uint8), 3)
    array([-8,  7,  1], dtype=int8)
    """
    codes = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.int8)
    codes[..., 0::2], codes[..., 1::2] = packed & 15, packed >> 4
    return codes[..., :columns] - np.int8(8)
