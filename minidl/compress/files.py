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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends import Backend

from ..engine.creation import from_numpy, zeros
from ..engine.modes import get_backend
from ..engine.tensor import Tensor
from ..errors import CheckpointError, MinidlError
from ..nn import Embedding, Linear, Module
from ..ops import check
from ..training import checkpoint
from . import prune, sharing
from .integer import How, IntegerModel
from .layers import QuantConv2d, QuantLayer, QuantLinear
from .models import backend_of, clone, compressible, replace
from .notes import FORMAT, PROGRAM, VERSION, Notes, join, notes_of, parse, words_of
from .qtensor import QTensor, scheme_of
from .sparse import SparseLinear
from .static import skeleton
from .stored import pack, shorten, unpack
from .weight_only import WeightOnly, weight_only


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
            notes[name] = words_of({"blocks": module.block})
            for buffer in ("values", "indices", "starts"):
                del state[join(name, buffer)]
            state[join(name, "weight")] = from_numpy(module.dense(), "numpy")
        if isinstance(module, WeightOnly):
            notes[name] = words_of(module.words())
    if isinstance(model, IntegerModel):
        shape = "x".join(map(str, model.door.shape))
        state = model.joined()
        notes[PROGRAM] = words_of({**model.how.words(), "input": model.door.dtype, "shape": shape})
    masks = {join(t.path, t.name): t.mask for t in prune.masked(model) if t.mask is not None}
    packed = pack(state, masks, sharing.shared(model))
    if coding is not None:
        check.choice("save", "coding", coding, ("huffman",))
        shorten(packed)
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
        return _rebuild(clone(model), tensors, notes_of(metadata))
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
    packed, notes = pack(tensors, {})
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
        found = unpack(tensors, notes_of(metadata))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return {name: x.to(target) for name, x in found.items()}


def _note_of(layer: QuantLayer) -> str:
    per = "per_tensor" if layer.weight_scale.ndim == 0 else "per_channel"
    words = {"int8": per, "input": layer.scheme.name}
    return words_of(words)


def _rebuild(model: Module, tensors: Mapping[str, Tensor], notes: Notes) -> Module:
    """Give a float model the layers and masks of the file, then its values."""
    prune.remove(sharing.remove(model))
    if PROGRAM in notes:
        return _program(model, tensors, notes)
    modules = dict(model.named_modules())
    state = unpack(tensors, notes)
    twins: dict[Module, Module] = {}
    for name, note in notes.items():
        words = parse(note)
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
    sparse = {p: int(words["blocks"]) for p, n in notes.items() if "blocks" in (words := parse(n))}
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
    words = parse(notes[PROGRAM])
    shape = tuple(int(n) for n in words["shape"].split("x"))
    example = zeros(shape, words["input"], backend=backend_of(model))
    try:
        result = skeleton(model, example, How.from_words(words))
        result.load_joined(unpack(tensors, notes))
    except MinidlError as error:
        raise CheckpointError(
            f"the file holds a program for inputs of shape {shape}, which does not fit the model:"
            f" {error}. Give a float model of the same architecture"
        ) from error
    return result
