"""Tensors as a compressed file stores them: what is zero is left out, symbols are coded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..engine.creation import from_numpy
from ..engine.tensor import Tensor
from ..errors import CheckpointError
from . import huffman, prune, sharing
from .notes import LAYER_WORDS, PROGRAM, Notes, parse, words_of
from .packing import pack_int4, unpack_int4
from .qtensor import QTensor, scheme_of

_ENTRY = 150  # bytes of header for one more tensor and a note


class Packed(NamedTuple):
    """What a file holds: tensors, and next to the names of some of them a note."""

    tensors: dict[str, Tensor]
    notes: Notes


def pack(
    tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor],
    codes: Mapping[str, Tensor] | None = None,
) -> Packed:  # fmt: skip
    """What to store, and the notes for it; masks and codes are stored with their tensors."""
    packed, codes = Packed({}, {}), codes or {}
    inside = {prune.mask_name(name) for name in masks} | {
        sharing.codes_name(name) for name in codes
    }
    for name, x in tensors.items():
        if name in inside:
            continue
        words: dict[str, Any] = {}
        values = x.numpy()
        keep = masks[name].numpy() if name in masks else _not_zero(values)
        if name in masks or (name not in codes and _pays(values, keep)):
            words["masked" if name in masks else "sparse"] = "x".join(map(str, values.shape))
            packed.tensors[f"{name}.bits"] = from_numpy(np.packbits(keep.ravel()), "numpy")
            values = values[keep]
        if name in codes:
            book = sharing.codebook(x, codes[name])
            words["shared"] = len(book)
            packed.tensors[f"{name}.codebook"] = from_numpy(book, "numpy")
            values = codes[name].numpy()[keep] - 1 if name in masks else codes[name].numpy() - 1
        if isinstance(x, QTensor):
            words["qtensor"] = x.scheme.name
            words |= {} if x.axis is None else {"axis": x.axis}
            words |= {} if x.group_size is None else {"group_size": x.group_size}
            if x.scheme.bits == 4:
                words["int4"] = "x".join(map(str, values.shape))
                values = pack_int4(np.atleast_1d(values))
            packed.tensors[f"{name}_scale"] = x.scale.to("numpy")
            packed.tensors[f"{name}_zero_point"] = x.zero_point.to("numpy")
        packed.tensors[name] = from_numpy(np.asarray(values, order="C"), "numpy")
        if words:
            packed.notes[name] = words_of(words)
    return packed


def shorten(packed: Packed) -> None:
    """Put Huffman codes in the place of 8-bit symbols where those are longer."""
    for name, x in packed.tensors.items():
        symbols = x.numpy()
        if symbols.itemsize > 1 or symbols.size <= _ENTRY:
            continue
        data = huffman.encode(symbols)
        if data.size + _ENTRY < symbols.size:
            packed.tensors[name] = from_numpy(data, "numpy")
            word = f"huffman={symbols.dtype}:{'x'.join(map(str, symbols.shape))}"
            packed.notes[name] = f"{packed.notes.get(name, '')} {word}".strip()


def _lengthened(name: str, found: dict[str, Tensor], words: dict[str, str]) -> Tensor:
    """The symbols of a Huffman code."""
    dtype, _, shape = words["huffman"].partition(":")
    sizes = tuple(int(n) for n in shape.split("x"))
    if name not in found or dtype not in ("int8", "uint8", "bool"):
        raise CheckpointError(f"{name} is missing, or no {dtype} can be in a Huffman code")
    symbols = huffman.decode(found[name].numpy(), math.prod(sizes))
    return from_numpy(symbols.view(dtype).reshape(sizes).copy(), "numpy")


def _restore_shared(name: str, found: dict[str, Tensor], shape: str | None) -> None:
    """Codes become values; and, one higher where there are any, the tensor `<name>_codes`."""
    stored, book = found[name].numpy(), found.pop(f"{name}.codebook", None)
    if book is None or stored.dtype != np.uint8 or stored.max(initial=0) >= max(book.size, 1):
        raise CheckpointError(f"{name}.codebook is missing, or has no value for some codes")
    codes: np.ndarray = stored + np.uint8(1)
    if shape is not None:
        keep = _bits(name, found.get(f"{name}.bits"), shape)
        codes = _spread(name, codes, keep).numpy()
    found[name] = from_numpy(book.numpy()[stored], "numpy")
    found[sharing.codes_name(name)] = from_numpy(codes, "numpy")


def _not_zero(values: np.ndarray) -> np.ndarray:
    """Which elements have a bit set: -0.0 counts, so that it comes back as it was."""
    raw = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    present: np.ndarray = raw.reshape(values.shape) != 0
    return present


def _pays(values: np.ndarray, keep: np.ndarray) -> bool:
    return int((~keep).sum()) * values.itemsize > -(-keep.size // 8) + _ENTRY


def unpack(tensors: Mapping[str, Tensor], notes: Notes) -> dict[str, Tensor]:
    """The reverse of `pack`; a mask becomes the tensor `<name>_mask`."""
    found = dict(tensors)
    for name, note in notes.items():  # of tensors: notes of layers have nothing to restore
        if "huffman" in (words := parse(note)):
            found[name] = _lengthened(name, found, words)
    for name, note in notes.items():
        words = parse(note)
        if LAYER_WORDS & set(words) or name == PROGRAM or name.endswith(".bits"):
            continue
        if name not in found:
            raise CheckpointError(f"the header describes {name!r}, which is not in the file")
        if "int4" in words:
            found[name] = _nibbles(name, found[name].numpy(), words["int4"])
        shape = words.get("masked") or words.get("sparse")
        if "shared" in words:
            _restore_shared(name, found, shape)
        if shape is not None:
            keep = _bits(name, found.pop(f"{name}.bits", None), shape)
            found[name] = _spread(name, found[name].numpy(), keep)
            if "masked" in words:
                found[prune.mask_name(name)] = from_numpy(keep, "numpy")
        if "qtensor" in words:
            found[name] = _qtensor(name, found, words)
    return found


def _bits(name: str, bits: Tensor | None, shape: str) -> np.ndarray:
    sizes = tuple(int(n) for n in shape.split("x"))
    count = math.prod(sizes)
    if bits is None or bits.shape != (-(-count // 8),) or bits.dtype != np.uint8:
        raise CheckpointError(f"{name}.bits is missing or does not hold {count} bits")
    return np.unpackbits(bits.numpy(), count=count).astype(bool).reshape(sizes)


def _nibbles(name: str, packed: np.ndarray, shape: str) -> Tensor:
    sizes = tuple(int(n) for n in shape.split("x") if n)
    *rows, columns = sizes or (1,)
    if packed.dtype != np.uint8 or packed.shape != (*rows, -(-columns // 2)):
        raise CheckpointError(f"{name} is {packed.dtype} {packed.shape}, not {shape} packed codes")
    return from_numpy(unpack_int4(packed, columns).reshape(sizes), "numpy")


def _spread(name: str, values: np.ndarray, keep: np.ndarray) -> Tensor:
    if values.shape != (int(keep.sum()),):
        raise CheckpointError(
            f"{name} has {values.size} values for the {int(keep.sum())} places marked in its bits"
        )
    dense = np.zeros(keep.shape, values.dtype)
    dense[keep] = values
    return from_numpy(dense, "numpy")


def _qtensor(name: str, found: dict[str, Tensor], words: dict[str, str]) -> QTensor:
    codes = found[name]
    try:
        scale, zero_point = found.pop(f"{name}_scale"), found.pop(f"{name}_zero_point")
    except KeyError as error:
        raise CheckpointError(f"{error} is missing, without which {name} means nothing") from error
    axis = int(words["axis"]) if "axis" in words else None
    group_size = int(words["group_size"]) if "group_size" in words else None
    scheme = scheme_of(words["qtensor"], "int4" if "int4" in words else codes.dtype)
    return QTensor(codes.data, codes.backend, scale, zero_point, scheme, axis, group_size)
