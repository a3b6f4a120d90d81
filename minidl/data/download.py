"""Fetching a file from one of several mirrors: resumed where it broke off, checked before it
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError

TIMEOUT = 30.0  # seconds without an answer or a byte
ATTEMPTS = 3  # at one mirror, as long as each brings more
_CHUNK = 1 << 16


def download(urls: Sequence[str], target: Path, check: Callable[[Path], object]) -> None:
    """Bring one of urls to target, if check(file) accepts it (raises no DataError).

    The bytes gather in `<target>.part`, which a later call continues (HTTP Range), and are renamed
    once they have been checked: target is never half a file.
    Raises: DataError with the reason at every mirror; the part that came is kept for the next try.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{target.parent}: cannot be made ({error.strerror}); set MINIDL_CACHE to a folder "
            "that can be written"
        ) from error
    reasons = []
    for url in urls:
        reason = _try_mirror(url, part, check)
        if reason is None:
            part.replace(target)
            return
        reasons.append(f"\n  {url}: {reason}")
    raise DataError(f"{target.name}: no mirror delivered it:{''.join(reasons)}")


def _try_mirror(url: str, part: Path, check: Callable[[Path], object]) -> str | None:
    """None once part holds the checked file, else why this mirror could not provide it."""
    from http.client import HTTPException

    reason = ""
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            _fetch(url, part, before)
            check(part)
            return None
        except DataError as error:
            part.unlink(missing_ok=True)
            reason = f"delivered something else: {error}"
            if not before:  # otherwise the older part may be to blame: once more from the start
                break
        except (OSError, HTTPException, ValueError) as error:
            reason = str(error) or type(error).__name__
            if _size(part) == before:
                break
    return reason


def _fetch(url: str, part: Path, have: int) -> None:
    """Append to part what comes after its first `have` bytes. Raises: OSError if the connection
    ends early.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "minidl"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416:  # nothing after `have`: the part is whole, or not of this file
                return
            raise
    with response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        _copy(response, part, start, total)
    if total is not None and _size(part) < total:
        raise OSError(f"the connection ended after {_size(part)} of {total} bytes")


def _copy(response: object, part: Path, start: int, total: int | None) -> None:
    from tqdm import tqdm

    name = part.name.removesuffix(".part")
    with (
        part.open("ab" if start else "wb") as file,
        # disable=None: no bar where the output is not a terminal
        tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, disable=None) as bar,
    ):
        while chunk := response.read(_CHUNK):  # type: ignore[attr-defined]
            file.write(chunk)
            bar.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
