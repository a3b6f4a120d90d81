"""Tiny data sets in the form of MNIST."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np

from minidl.data.idx import FILES
from minidl.data.source import Source


def idx(array: np.ndarray, code: int = 8) -> bytes:
    """The bytes of an IDX file."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, code, array.ndim]) + lengths + array.tobytes()


def contents(seed: int = 0) -> dict[str, bytes]:
    """File name -> bytes: six training and four test images of 3 x 2 pixels."""
    random = np.random.default_rng(seed)
    made = {}
    for part, n in (("train", 6), ("t10k", 4)):
        images = random.integers(0, 256, (n, 3, 2), np.uint8)
        made[f"{part}-images-idx3-ubyte"] = idx(images)
        made[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n, dtype=np.uint8))
    return {name: made[name] for name in FILES}


def source(*mirrors: str, seed: int = 0) -> Source:
    """A source whose published bytes are `contents(seed)`."""
    digests = tuple(hashlib.sha256(data).hexdigest() for data in contents(seed).values())
    return Source("Tiny", ("tiny", "ti-ny"), mirrors, digests)


def write(folder: Path, files: dict[str, bytes], compress: bool) -> Path:
    """The files in folder, with .gz behind their names if compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(data) if compress else data)
    return folder
