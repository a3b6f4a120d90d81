"""Writing a file so that it is either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put data at path: written beside it, flushed to the disk, then renamed over it.

    If anything fails the old file stays as it was and nothing is left behind.
    Raises: OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(Path(folder) / "a", b"new")
    ...     (Path(folder) / "a").read_bytes(), len(os.listdir(folder))
    (b'new', 1)
    """
    target = Path(path).resolve()  # a link keeps pointing at what it points at
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows neither needs nor allows it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
