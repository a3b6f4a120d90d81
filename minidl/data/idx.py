"""The IDX format of the MNIST family: a magic number, the lengths of the axes, the elements.

Bytes 0 and 1 are 0, byte 2 is the type, byte 3 the number of axes; then one big-endian uint32 per
axis, then the elements, big-endian, in C order. Source: LeCun, Cortes & Burges, "The MNIST
database", section "File formats".
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..engine.arguments import instance, path
from ..errors import DataError
from .dataset import ArrayDataset

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def parse_idx(data: bytes, name: str = "IDX data") -> np.ndarray:
    """The array in the bytes of an IDX file. Raises: DataError if they are no such file, or too
    few or many.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    instance("parse_idx", "data", data, bytes)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise DataError(
            f"{name}: not an IDX file: it begins with {data[:4].hex(' ') or 'nothing'}, expected "
            "00 00, then a type from 08 to 0e, then the number of axes"
        )
    axes, dtype = data[3], np.dtype(_TYPES[data[2]])
    start = 4 + 4 * axes
    shape = tuple(
        int.from_bytes(data[i : i + 4], "big") for i in range(4, min(start, len(data)), 4)
    )
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected or len(shape) != axes:
        raise DataError(
            f"{name}: {len(data)} bytes, but its header (axes {shape}) asks for {expected}: the "
            f"file is {'cut short' if len(data) < expected else 'too long'}. Get it again."
        )
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzip (browsers unpack a .gz without renaming
    it).

    Raises: DataError if the file cannot be read, or ends early.
    """
    import gzip  # imported where it is used: `import minidl` stays quick
    import zlib

    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip file is damaged or cut short ({error}).") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error


def find(folder: Path, name: str) -> Path | None:
    """The file of that name in folder, as it is or with .gz behind it."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def idx_dataset(folder: str | Path) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) from any four IDX files with the names that MNIST gave them, compressed or not.

    For other sets in this format (Kuzushiji-MNIST, your own); nothing but the format is checked.
    Shapes: images (N, 1, H, W) uint8, labels (N,) int64.
    Raises: DataError naming the file that is missing or wrong.
    """
    where = path("idx_dataset", "folder", folder)
    paths = [find(where, name) for name in FILES]
    if None in paths:
        missing = [name for name, path in zip(FILES, paths, strict=True) if path is None]
        raise DataError(f"{where}: {', '.join(missing)} missing (as it is, or with .gz)")
    return datasets([parse_idx(read_bytes(p), str(p)) for p in paths if p is not None], str(where))


def datasets(arrays: list[np.ndarray], name: str) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) from the arrays of the four files, in the order of FILES."""
    parts = []
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                f"{name}: images {images.shape} and labels {labels.shape} must be (N, H, W), (N,)"
            )
        parts.append(ArrayDataset(images[:, None], labels.astype(np.int64)))
    return parts[0], parts[1]
