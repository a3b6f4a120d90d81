"""Named tensors and what belongs to them, in one safetensors file that is written whole or not at
all.

The file can be read by anything that reads safetensors. Metadata are JSON, one string per
name, in the file's header; nothing is ever unpickled. A checksum of everything is among them, so
that a file with changed bytes is refused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend

from ..engine import arguments
from ..engine.creation import from_numpy
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError, DTypeError
from ..nn import Module
from ..ops import check
from .atomic import write_bytes

_FORMAT = "minidl_format"  # a file with either of these names must have both, and they must fit
_CHECKSUM = "minidl_crc32"
_MODEL_PREFIX = "model."  # of the weights in the checkpoint of a training


def save(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and metadata (anything that JSON can express) to path.

    Raises: CheckpointError if the file cannot be written, in which case an older one is untouched;
    DTypeError for a value that is no Tensor; ArgumentError for metadata that are no JSON.

    >>> import minidl, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.safetensors", {"x": minidl.ones(2)}, {"epoch": 3})
    ...     load(f"{folder}/a.safetensors")
    ({'x': Tensor([1., 1.])}, {'epoch': 3})
    """
    from safetensors.numpy import save as serialize

    target = arguments.path("save", "path", path)
    check.instance("save", "tensors", tensors, Mapping)
    for name in (*tensors, *(metadata or {})):
        check.instance("save", "a name", name, str)
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DTypeError(f"save: {name} must be a Tensor, got {type(tensor).__name__}")
        arrays[name] = np.asarray(tensor.numpy(), order="C")
    try:
        described = {**(metadata or {}), _FORMAT: 1}
        texts = {k: json.dumps(v, sort_keys=True) for k, v in described.items()}
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"save: metadata must be what JSON can express: {error}") from error
    header = {**texts, _CHECKSUM: _checksum(arrays, texts)}
    try:
        write_bytes(target, serialize(arrays, header))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); a file that was there "
            "is unchanged"
        ) from error


def load(
    path: str | Path, backend: str | Backend | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on a backend, metadata) from a file that `save`, or another program, wrote.

    Raises: CheckpointError if the file is missing, damaged or no safetensors file.
    """
    arrays, texts = _read(arguments.path("load", "path", path))
    expected = texts.pop(_CHECKSUM, None)
    ours = expected is not None or _FORMAT in texts
    if ours and expected != _checksum(arrays, texts):
        raise CheckpointError(f"{path}: its bytes were changed after it was written. {_ADVICE}")
    texts.pop(_FORMAT, None)
    tensors = {name: from_numpy(array, backend) for name, array in arrays.items()}
    return tensors, {name: _parsed(text) for name, text in texts.items()}


def save_model(model: Module, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the parameters and buffers of a model. Raises: as `save`.

    >>> import tempfile
    >>> from minidl import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(nn.Linear(2, 1), f"{folder}/w.safetensors")
    ...     sorted(load(f"{folder}/w.safetensors")[0])
    ['bias', 'weight']
    """
    check.instance("save_model", "model", model, Module)
    save(path, model.state_dict(), metadata)


def load_model(model: Module, path: str | Path) -> dict[str, Any]:
    """Read parameters and buffers into a model, on the model's backend; returns the metadata.

    The checkpoint of a training (`Trainer.fit(checkpoint=...)`) will do as well: its weights are
    taken.
    Raises: CheckpointError as `load`, and if the weights are those of another model; nothing is
    loaded then.

    >>> import tempfile
    >>> from minidl import nn
    >>> first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(first, f"{folder}/w.safetensors")
    ...     metadata = load_model(second, f"{folder}/w.safetensors")
    >>> second.weight.tolist() == first.weight.tolist()
    True
    """
    check.instance("load_model", "model", model, Module)
    tensors, metadata = load(path, "numpy")
    try:
        model.load_state_dict(weights(tensors, metadata))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return metadata


def weights(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Tensor]:
    """What belongs to the model among the tensors of a checkpoint."""
    if "training" not in metadata:
        return dict(tensors)
    return {
        name.removeprefix(_MODEL_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(_MODEL_PREFIX)
    }


_ADVICE = "Use another copy of it, or an earlier checkpoint, or train again."


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {kind}; give the path of a file that `save` wrote")
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged, cut short or no safetensors file ({error}). {_ADVICE}"
        ) from error


def _checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    crc = 0
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    for name in sorted(texts):
        crc = zlib.crc32(f"{name} {texts[name]}".encode(), crc)
    return f"{crc:08x}"


def _parsed(text: str) -> Any:
    """Other programs write plain text, which is kept."""
    try:
        return json.loads(text)
    except ValueError:
        return text
