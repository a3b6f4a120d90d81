"""Files of compressed models: what is zero is not stored, and the header says how to put it back.

A file is safetensors (see `training.checkpoint`), so any reader of that format lists it. Next to
a tensor's name the header may hold a note of words `key=value`:

- `masked=120x400`: of a tensor of that shape only the elements under its mask are stored, in C
  order; `<name>.bits` is the mask, eight elements a byte (`numpy.packbits`).
- `sparse=120x400`: the same for the elements that are not 0; there is no mask.
- `qtensor=affine`, perhaps with `axis=0` or `group_size=32`: the codes of a QTensor; its scales are
  `<name>_scale`. With `int4=120x400` what is stored has that shape and is packed two to a byte.
- `shared=32`: under the mask are codes from 0 on; `<name>.codebook` has their 32 values.
- `huffman=int8:400`: in place of 400 symbols of that dtype are the bytes of their Huffman code.

Next to a layer's path: `int8=per_channel input=affine` for a dynamic layer, `weight_only=int4
scheme=affine group_size=128` for one whose weight alone is quantized, `blocks=16` for a sparse one;
next to `.integer`, for an IntegerModel, how it was quantized and the shape of the input that traces
it. Storing a sparse matrix as bits and values: Han et al. (2015), arXiv:1510.00149, section 2, with
a bit for each weight in place of distances; above 10 % density it is no longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends import Backend

from ..engine.creation import from_numpy, zeros
from ..engine.modes import get_backend
from ..engine.tensor import Tensor
from ..errors import CheckpointError, MinidlError
from ..nn import Embedding, Linear, Module
from ..ops import check
from ..training import checkpoint
from . import huffman, prune, sharing
from .integer import How, IntegerModel
from .layers import QuantConv2d, QuantLayer, QuantLinear
from .models import backend_of, clone, compressible, replace
from .packing import pack_int4, unpack_int4
from .qtensor import QTensor, scheme_of
from .sparse import SparseLinear
from .static import skeleton
from .weight_only import WeightOnly, weight_only

FORMAT = ".format"  # no module or parameter can have this name
PROGRAM = ".integer"
LAYER_WORDS = {"int8", "blocks", "weight_only"}  # in notes next to a layer's path
VERSION = "minidl compressed 1"
_ENTRY = 150  # bytes of header for one more tensor and a note

Notes = dict[str, str]


class _Packed(NamedTuple):
    tensors: dict[str, Tensor]
    notes: Notes


def save(model: Module, path: str | Path, coding: str | None = None) -> None:
    """Write a model: float, pruned, quantized, shared, or several. Each tensor takes the form that
    is smallest.

    coding: "huffman" codes masks, int8 codes and the codes of shared weights by their frequency.
    Raises: CheckpointError if the file cannot be written; an older one is then untouched.

    >>> import minidl, tempfile
    >>> model = prune.magnitude(minidl.nn.Linear(8, 4), 0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/model.safetensors")
    ...     twin = load(minidl.nn.Linear(8, 4), f"{folder}/model.safetensors")
    >>> twin.weight.tolist() == model.weight.tolist(), twin.weight_mask.tolist()[0][0] in (0, 1)
    (True, True)
    """
    check.instance("save", "model", model, Module)
    notes: Notes = {}
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, QuantLayer):
            notes[name] = _note_of(module)
        if isinstance(module, SparseLinear):
            notes[name] = _words({"blocks": module.block})
            for buffer in ("values", "indices", "starts"):
                del state[_join(name, buffer)]
            state[_join(name, "weight")] = from_numpy(module.dense(), "numpy")
        if isinstance(module, WeightOnly):
            notes[name] = _words(module.words())
    if isinstance(model, IntegerModel):
        shape = "x".join(map(str, model.door.shape))
        state = model.joined()
        notes[PROGRAM] = _words({**model.how.words(), "input": model.door.dtype, "shape": shape})
    masks = {_join(t.path, t.name): t.mask for t in prune.masked(model) if t.mask is not None}
    packed = _pack(state, masks, sharing.shared(model))
    if coding is not None:
        check.choice("save", "coding", coding, ("huffman",))
        _shorten(packed)
    checkpoint.save(path, packed.tensors, {FORMAT: VERSION, **notes, **packed.notes})


def load(model: Module, path: str | Path) -> Module:
    """The model that `save` wrote, built from a float model of the same architecture.

    `model` is not changed; its weights do not matter. What is in the file decides which layers are
    quantized and which weights have masks. A plain checkpoint of a float model will do as well.
    Raises: CheckpointError if the file is missing, damaged, or of another architecture.
    """
    check.instance("load", "model", model, Module)
    tensors, metadata = checkpoint.load(path, "numpy")
    tensors = checkpoint.weights(tensors, metadata)
    try:
        return _rebuild(clone(model), tensors, _notes(metadata))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Write named tensors, among which may be QTensors. Raises: CheckpointError, as `save`.

    >>> import minidl, tempfile
    >>> from minidl.compress import quantize
    >>> q = quantize(minidl.tensor([1.0, -2.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors({"q": q}, f"{folder}/q.safetensors")
    ...     load_tensors(f"{folder}/q.safetensors")["q"]
    QTensor([  64, -127], dtype=int8, scale=0.01574803, zero_point=0)
    """
    check.instance("save_tensors", "tensors", tensors, Mapping)
    check.tensors("save_tensors", **{str(name): x for name, x in tensors.items()})
    packed, notes = _pack(tensors, {})
    checkpoint.save(path, packed, {FORMAT: VERSION, **notes})


def load_tensors(
    path: str | Path, backend: str | Backend | None = None
) -> dict[str, Tensor | QTensor]:
    """The tensors in a file, by name; those of a compressed model too, with its masks.

    Raises: CheckpointError if the file is missing or damaged.
    """
    tensors, metadata = checkpoint.load(path, "numpy")
    target = get_backend(backend)
    try:
        found = _unpack(tensors, _notes(metadata))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return {name: x.to(target) for name, x in found.items()}


# -- tensors --------------------------------------------------------------------------------------
def _pack(
    tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor],
    codes: Mapping[str, Tensor] | None = None,
) -> _Packed:  # fmt: skip
    """What to store, and the notes for it; masks and codes are stored with their tensors."""
    packed, codes = _Packed({}, {}), codes or {}
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
            packed.notes[name] = _words(words)
    return packed


def _shorten(packed: _Packed) -> None:
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


def _unpack(tensors: Mapping[str, Tensor], notes: Notes) -> dict[str, Tensor]:
    """The reverse of `_pack`; a mask becomes the tensor `<name>_mask`."""
    found = dict(tensors)
    for name, note in notes.items():  # of tensors: notes of layers have nothing to restore
        if "huffman" in (words := _parse(note)):
            found[name] = _lengthened(name, found, words)
    for name, note in notes.items():
        words = _parse(note)
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


# -- models ---------------------------------------------------------------------------------------
def _note_of(layer: QuantLayer) -> str:
    per = "per_tensor" if layer.weight_scale.ndim == 0 else "per_channel"
    words = {"int8": per, "input": layer.scheme.name}
    return _words(words)


def _rebuild(model: Module, tensors: Mapping[str, Tensor], notes: Notes) -> Module:
    """Give a float model the layers and masks of the file, then its values."""
    prune.remove(sharing.remove(model))
    if PROGRAM in notes:
        return _program(model, tensors, notes)
    modules = dict(model.named_modules())
    state = _unpack(tensors, notes)
    twins: dict[Module, Module] = {}
    for name, note in notes.items():
        words = _parse(note)
        if "int8" in words:
            twins[_layer(modules, name)] = _quantized(_layer(modules, name), words)
        if "weight_only" in words:
            twin = _weight_only(modules, name, words)
            twins[modules[name]] = twin
        if "masked" in words:
            module, parameter = _owner(modules, name, state[name].shape)
            prune.attach(module, parameter, state[prune.mask_name(name)].numpy())
        if "shared" in words:
            module, parameter = _owner(modules, name, state[name].shape)
            sharing.attach(module, parameter, state[sharing.codes_name(name)].numpy())
    result = replace(model, twins)
    result.load_state_dict(state)
    sparse = {p: int(words["blocks"]) for p, n in notes.items() if "blocks" in (words := _parse(n))}
    for path, block in sparse.items():
        layer = _layer(modules, path)
        if not isinstance(layer, Linear):
            raise CheckpointError(f"layer {path!r} is sparse in the file, but no Linear here")
        result = replace(result, {layer: SparseLinear(layer, block)})
    return result.eval() if twins or sparse else result


def _owner(
    modules: dict[str, Module], name: str, shape: tuple[int, ...]
) -> tuple[Module, str]:  # fmt: skip
    """The module and the parameter of that name and shape."""
    path, _, parameter = name.rpartition(".")
    if getattr(getattr(modules.get(path), parameter, None), "shape", None) != shape:
        raise CheckpointError(f"{name} is {shape}, of which the model has none")
    return modules[path], parameter


def _layer(modules: dict[str, Module], name: str) -> Any:
    layer = modules.get(name)
    if not compressible(layer):
        raise CheckpointError(
            f"layer {name!r} is quantized in the file, but the model has"
            f" {'no such layer' if layer is None else f'a {type(layer).__name__} there'}. Give a"
            " float model of the same architecture."
        )
    return layer


def _quantized(layer: Any, words: dict[str, str]) -> QuantLayer:
    kind = QuantLinear if isinstance(layer, Linear) else QuantConv2d
    return kind(layer, words["int8"] == "per_channel", scheme_of(words["input"]))


def _weight_only(modules: dict[str, Module], name: str, words: dict[str, str]) -> WeightOnly:
    layer = modules.get(name)
    if not isinstance(layer, (Linear, Embedding)):
        raise CheckpointError(
            f"the weight of {name!r} is quantized in the file, but the model has"
            f" {type(layer).__name__} there. Give a float model of the same architecture"
        )
    size = int(words["group_size"]) if "group_size" in words else None
    return weight_only(layer, scheme_of(words["scheme"], words["weight_only"]), size)


def _program(model: Module, tensors: Mapping[str, Tensor], notes: Notes) -> IntegerModel:
    """The integer program of the file, planned again from the float model."""
    words = _parse(notes[PROGRAM])
    shape = tuple(int(n) for n in words["shape"].split("x"))
    example = zeros(shape, words["input"], backend=backend_of(model))
    try:
        result = skeleton(model, example, How.from_words(words))
        result.load_joined(_unpack(tensors, notes))
    except MinidlError as error:
        raise CheckpointError(
            f"the file holds a program for inputs of shape {shape}, which does not fit the model:"
            f" {error}. Give a float model of the same architecture"
        ) from error
    return result


# -- the header -----------------------------------------------------------------------------------
def _words(words: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in words.items())


def _parse(note: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in note.split())
    return {key: value for key, _, value in pairs}


def _notes(metadata: Mapping[str, Any]) -> Notes:
    """The notes in the header. Raises: CheckpointError if a later version wrote the file."""
    version = metadata.get(FORMAT)
    if version is None:
        return {}  # a plain checkpoint
    if version != VERSION:
        raise CheckpointError(f"it is {version!r}, this minidl reads {VERSION!r}; update minidl")
    return {name: str(metadata[name]) for name in sorted(metadata) if name != FORMAT}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
