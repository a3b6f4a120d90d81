"""The header of a compressed file: notes of words `key=value`, next to names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..errors import CheckpointError

FORMAT = ".format"  # no module or parameter can have this name
PROGRAM = ".integer"
LAYER_WORDS = {"int8", "blocks", "weight_only"}  # in notes next to a layer's path
VERSION = "minidl compressed 1"

Notes: TypeAlias = dict[str, str]


def words_of(words: Mapping[str, Any]) -> str:
    """The text of a note."""
    return " ".join(f"{key}={value}" for key, value in words.items())


def parse(note: str) -> dict[str, str]:
    """The words of a note, by key."""
    pairs = (word.partition("=") for word in note.split())
    return {key: value for key, _, value in pairs}


def notes_of(metadata: Mapping[str, Any]) -> Notes:
    """The notes in the header. Raises: CheckpointError if a later version wrote the file."""
    version = metadata.get(FORMAT)
    if version is None:
        return {}  # a plain checkpoint
    if version != VERSION:
        raise CheckpointError(f"it is {version!r}, this minidl reads {VERSION!r}; update minidl")
    return {name: str(metadata[name]) for name in sorted(metadata) if name != FORMAT}


def join(path: str, name: str) -> str:
    """The dotted name of what a module holds; the model itself has no path."""
    return f"{path}.{name}" if path else name
