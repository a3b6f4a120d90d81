"""Published data sets in IDX files: on disk, or downloaded once; only the published bytes are used.

Where the four files are looked for:
1. if MINIDL_DATA names a folder, there and nowhere else: in its subfolder `mnist` (`fashion_mnist`
   or `fashion-mnist`), or directly in it;
2. else in the cache: MINIDL_CACHE, or the folder that the platform has for caches;
3. else they are downloaded into the cache.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .dataset import ArrayDataset
from .download import download
from .idx import FILES, datasets, find, parse_idx, read_bytes


class Source(NamedTuple):
    """A data set in four IDX files, by the names in `FILES`."""

    name: str
    folders: tuple[
        str, ...
    ]  # what its subfolder of MINIDL_DATA may be called; the first one in the cache
    mirrors: tuple[str, ...]
    sha256: tuple[str, ...]  # of the decompressed bytes: a .gz may have been packed again


MNIST = Source(
    "MNIST",
    ("mnist",),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION_MNIST = Source(
    "Fashion-MNIST",
    ("fashion_mnist", "fashion-mnist"),
    (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def load(source: Source) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) of a source, from disk or its mirrors. Raises: DataError."""
    data = os.environ.get("MINIDL_DATA")
    if data:
        contents = _offline(source, Path(data))
    else:
        folder = cache_folder() / source.folders[0]
        contents = [_cached(source, folder, i) for i in range(len(FILES))]
    arrays = [parse_idx(c, f) for c, f in zip(contents, FILES, strict=True)]
    return datasets(arrays, source.name)


def _offline(source: Source, root: Path) -> list[bytes]:
    for folder in (*(root / name for name in source.folders), root):
        paths = [find(folder, name) for name in FILES]
        found = [p for p in paths if p is not None]
        if len(found) == len(FILES):
            return [_checked(source, i, p) for i, p in enumerate(found)]
        if found:
            missing = [name for name, p in zip(FILES, paths, strict=True) if p is None]
            raise DataError(
                f"{source.name}: {folder} lacks {', '.join(missing)}. {_advice(source)}"
            )
    places = " nor ".join([*(f"{name}/" for name in source.folders), "the folder itself"])
    raise DataError(
        f"{source.name}: MINIDL_DATA is {root}, but neither {places} holds {', '.join(FILES)} "
        f"(as they are, or with .gz). {_advice(source)}"
    )


def _cached(source: Source, folder: Path, i: int) -> bytes:
    path = find(folder, FILES[i])
    if path is not None:
        try:
            return _checked(source, i, path)
        except DataError:  # a damaged cache is no reason to stop: get the file again
            path.unlink()
    target = folder / f"{FILES[i]}.gz"
    urls = [f"{mirror}{target.name}" for mirror in source.mirrors]
    try:
        download(urls, target, lambda part: _checked(source, i, part))
    except DataError as error:
        raise DataError(f"{source.name}: {error}\n{_advice(source)}") from error
    return _checked(source, i, target)


def _checked(source: Source, i: int, path: Path) -> bytes:
    """The decompressed bytes of file i if they are the published ones. Raises: DataError."""
    import hashlib

    try:
        data = read_bytes(path)
        parse_idx(data, str(path))
    except DataError as error:
        raise DataError(f"{source.name}: {error} {_advice(source)}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest == source.sha256[i]:
        return data
    raise DataError(
        f"{source.name}: {path} is not the published {FILES[i]}{_whose(digest)}: its SHA-256 is "
        f"{digest}, expected {source.sha256[i]} (decompressed). {_advice(source)} For other data "
        "in this format, call minidl.data.idx_dataset(folder)."
    )


def _whose(digest: str) -> str:
    for other in (MNIST, FASHION_MNIST):
        if digest in other.sha256:
            return f" but a file of {other.name}"
    return ""


def _advice(source: Source) -> str:
    return (
        f"Put {', '.join(f'{name}.gz' for name in FILES)} from {' or '.join(source.mirrors)} "
        "into a folder and set MINIDL_DATA to it, or unset MINIDL_DATA to have them downloaded."
    )


def cache_folder() -> Path:
    """Where downloads are kept: MINIDL_CACHE, or `minidl` in the platform's folder for caches."""
    chosen = os.environ.get("MINIDL_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "minidl"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/minidl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minidl"
