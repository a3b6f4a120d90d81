"""Types for argparse: what is wrong is said at the start, not when the result is lost."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from importlib.util import find_spec
from pathlib import Path

import backends

PICTURES = (".png", ".svg", ".pdf", ".jpg")


def positive(text: str) -> int:
    """An integer of at least 1.

    >>> positive("3")
    3
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be an integer >= 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A seed of the random generator.

    >>> seed("0")
    0
    """
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise ArgumentTypeError(f"must be an integer from 0 to 2**64 - 1, got {text!r}")
    return int(text)


def working_backend(text: str) -> str:
    """The name of a backend that works here.

    >>> working_backend("numpy")
    'numpy'
    """
    try:
        backends.get(text)
    except backends.BackendError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def new_file(text: str) -> Path:
    """Where a result is to be written.

    >>> new_file("result.json").name
    'result.json'
    """
    path = Path(text)
    folder = path.resolve().parent
    problem = "it is a folder" if path.is_dir() else ""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = "its folder does not exist or is read-only"
    if problem:
        raise ArgumentTypeError(f"{path} cannot be written: {problem}")
    return path


def picture(text: str) -> Path:
    """Where a picture is to be written, in a format that its name tells."""
    path = new_file(text)
    if path.suffix.lower() not in PICTURES:
        raise ArgumentTypeError(f"{path} must end in one of {', '.join(PICTURES)}")
    if find_spec("matplotlib") is None:
        raise ArgumentTypeError('pictures need matplotlib: pip install "minidl[examples]"')
    return path
