"""Files of compressed models: they bring everything back, and weigh less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.compress import (
    QTensor,
    load,
    load_tensors,
    prune,
    quantize,
    quantize_model,
    save,
    save_tensors,
)
from minidl.compress.layers import Coded
from minidl.errors import CheckpointError, DTypeError
from minidl.training import checkpoint, save_model
from minidl.verify.strategies import arrays, shapes
from minidl.verify.tolerances import assert_same

from .models import cnn, images, learn, state

STAGES = ("float", "pruned", "removed", "int8", "dynamic", "per tensor", "pruned+int8")


def lenet(backend, seed: int = 0) -> nn.Sequential:
    """LeNet-5 as in LeCun et al. (1998), table 2, with its 61,706 parameters."""
    options = {"backend": backend, "generator": minidl.Generator(seed)}
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, **options), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, **options), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120, **options), nn.ReLU(), nn.Linear(120, 84, **options), nn.ReLU(),
        nn.Linear(84, 10, **options),
    )  # fmt: skip


def staged(stage: str, model: nn.Module, x: minidl.Tensor) -> nn.Module:
    if stage in ("pruned", "removed", "pruned+int8"):
        prune.magnitude(model, 0.8)
    if stage == "removed":
        prune.remove(model)
    if stage in ("int8", "pruned+int8"):
        return quantize_model(model, [x])
    if stage == "dynamic":
        return quantize_model(model, activations="symmetric")
    return quantize_model(model, [x], "per_tensor") if stage == "per tensor" else model


@pytest.mark.parametrize("stage", STAGES)
def test_one_call_loads_every_form_down_to_the_bit(backend, tmp_path, stage):
    path, x = tmp_path / "model.safetensors", images(backend)
    model = staged(stage, cnn(backend), x).eval()
    save(model, path)
    skeleton = cnn(backend, seed=9)
    before = state(skeleton)
    loaded = load(skeleton, path)
    quantized = any(isinstance(module, Coded) for module in loaded.modules())
    assert {module.training for module in loaded.modules()} == {not quantized}
    loaded.eval()
    assert state(loaded) == state(model)
    assert repr(loaded) == repr(model)
    assert_same(loaded(x).numpy(), model(x).numpy())
    assert state(skeleton) == before


@pytest.mark.parametrize("stage", STAGES)
def test_files_do_not_depend_on_the_backend(backend, reference, tmp_path, stage):
    """Written there, read here."""
    path = tmp_path / "model.safetensors"
    model = staged(stage, cnn(reference), images(reference))
    save(model, path)
    loaded = load(cnn(backend), path)
    assert {b.backend for b in (*loaded.parameters(), *loaded.buffers())} == {backend}
    assert state(loaded) == state(model)


def test_a_loaded_mask_holds_in_training(backend, tmp_path):
    path = tmp_path / "model.safetensors"
    save(prune.magnitude(cnn(backend), 0.8), path)
    model = load(cnn(backend), path).eval()
    fraction = prune.sparsity(model)
    learn(model, optim.Adam(model.parameters(), 0.01), images(backend), 2)
    assert prune.sparsity(model) == fraction


def test_a_pruned_skeleton_gets_the_masks_of_the_file(backend, tmp_path):
    path = tmp_path / "model.safetensors"
    model = cnn(backend)
    save(model, path)
    assert state(load(prune.magnitude(cnn(backend, seed=3), 0.5), path)) == state(model)


def test_weight_of_the_files(backend, tmp_path):
    """LeNet-5: int8 at most 0.26 of float, header and scales included, and pruning on top of it."""
    x = minidl.rand(4, 1, 28, 28, generator=minidl.Generator(1), backend=backend)
    size = {}
    for stage in STAGES:
        path = tmp_path / stage
        save(staged(stage, lenet(backend), x), path)
        size[stage] = path.stat().st_size
    assert 61_706 * 4 < size["float"] < 61_706 * 4 + 1000
    assert max(size["int8"], size["per tensor"]) <= 0.26 * size["float"]
    assert size["dynamic"] <= 0.27 * size["float"]
    fifth = 61_470 * 4 // 5 + 61_470 // 8 + 236 * 4
    assert fifth < size["pruned"] < fifth + 2000
    assert size["pruned+int8"] < size["pruned"] / 2
    assert size["removed"] < fifth + 2000


def test_the_header_can_be_read_by_a_person(backend, tmp_path):
    path = tmp_path / "model.safetensors"
    save(staged("pruned+int8", lenet(backend), minidl.ones((1, 1, 28, 28), backend=backend)), path)
    raw = path.read_bytes()
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")].decode()
    assert "7.bias" not in header  # a tensor for each layer's bias would outweigh the numbers
    program = "weights=per_channel activations=affine bits=8 input=float32 shape=1x1x28x28"
    for part in ("minidl compressed 1", program, "sparse=120x400"):
        assert part in header


@given(x=arrays(shapes(max_dims=3), kinds=("integers", "bits"), plain=True), zeros=st.booleans())
def test_any_tensor_comes_back_down_to_the_bit(backend, tmp_path_factory, x, zeros):
    """Also NaN and -0.0, and where zeros are not stored."""
    signed = np.array([0.0, -0.0] + [0.0] * 5000, x.dtype)
    values = np.concatenate([signed, x.values.ravel()]) if zeros else x.values
    path = tmp_path_factory.getbasetemp() / "tensors.safetensors"
    save_tensors({"x": minidl.tensor(values, backend=backend)}, path)
    found = load_tensors(path, backend)["x"]
    assert found.backend is backend
    assert_same(found.numpy(), values)
    if zeros:
        assert path.stat().st_size < 5000


@pytest.mark.parametrize(
    "how",
    [
        {"axis": 1}, {"scheme": "affine"}, {"scheme": "affine", "axis": 0}, {"group_size": 16},
        {"dtype": "int4"}, {"scheme": "affine", "dtype": "int4", "group_size": 16},
    ],
)  # fmt: skip
def test_a_qtensor_comes_back_with_its_grid(backend, tmp_path, how):
    path = tmp_path / "q.safetensors"
    x = minidl.randn(60, 51, generator=minidl.Generator(0), backend=backend)
    sparse = minidl.ops.where(x > 1, x, minidl.zeros_like(x))
    for tensor in (x, sparse):
        q = quantize(tensor, **how)
        save_tensors({"q": q, "plain": tensor}, path)
        found = load_tensors(path, backend)
        assert list(found) == ["plain", "q"]
        assert isinstance(found["q"], QTensor)
        assert repr(found["q"]) == repr(q)
        assert_same(found["q"].dequantize().numpy(), q.dequantize().numpy())


def test_a_4_bit_number_alone_comes_back(tmp_path):
    q = quantize(minidl.tensor(3.0), dtype="int4")
    save_tensors({"q": q}, tmp_path / "q.safetensors")
    assert repr(load_tensors(tmp_path / "q.safetensors")["q"]) == repr(q)


def test_4_bit_codes_take_half_a_byte(tmp_path):
    path = tmp_path / "q.safetensors"
    x, size = minidl.randn(200, 101, generator=minidl.Generator(0)), {}
    for dtype in ("int8", "int4"):
        save_tensors({"q": quantize(x, dtype=dtype)}, path)
        size[dtype] = path.stat().st_size
    assert size["int8"] - size["int4"] > 200 * 50 - 64  # words of the header


def test_packed_codes_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "q.safetensors"
    save_tensors({"q": quantize(minidl.ones((2, 3)), dtype="int4")}, path)
    tensors, header = checkpoint.load(path, "numpy")
    checkpoint.save(path, tensors, {**header, "q": "qtensor=symmetric int4=2x5"})
    with pytest.raises(CheckpointError, match="not 2x5 packed codes"):
        load_tensors(path)


def test_a_plain_checkpoint_loads_with_the_same_call(backend, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(cnn(backend), path)
    assert state(load(cnn(backend, seed=4), path)) == state(cnn(backend))


def test_another_architecture_is_refused(backend, tmp_path):
    x = images(backend)
    other = nn.Sequential(nn.Linear(7, 9, backend=backend))
    for stage, message in (
        ("float", "does not fit Sequential"),
        ("dynamic", "layer '2' is quantized in the file, but the model has no such layer"),
        ("int8", "a program for inputs of shape"),
        ("pruned", "has none"),
    ):
        save(staged(stage, cnn(backend), x), tmp_path / stage)
        with pytest.raises(CheckpointError, match=message) as error:
            load(other, tmp_path / stage)
        assert str(tmp_path / stage) in str(error.value)


def test_a_program_that_gives_codes_gives_them_again(backend, tmp_path):
    path, x = tmp_path / "model.safetensors", images(backend)
    model = quantize_model(cnn(backend), [x], quantize_output=True)
    save(model, path)
    again = load(cnn(backend, 1), path)
    assert again.code_grids == model.code_grids
    codes = minidl.tensor(model.code_grids[0].codes(x.numpy().astype("float64")), backend=backend)
    assert again.codes(codes).tolist() == model.codes(codes).tolist()


def test_a_quantized_model_is_no_skeleton(backend, tmp_path):
    path = tmp_path / "model.safetensors"
    for model in (quantize_model(cnn(backend)), quantize_model(cnn(backend), [images(backend)])):
        save(model, path)
        with pytest.raises(CheckpointError, match="Give a float model of the same architecture"):
            load(model, path)


def altered(path, tensors=lambda t: t, notes=lambda n: n) -> None:
    """Write the file anew, with a checksum that fits: only its meaning is wrong."""
    found, metadata = checkpoint.load(path, "numpy")
    checkpoint.save(path, tensors(found), notes(metadata))


def without(tensors: dict[str, minidl.Tensor], name: str) -> dict[str, minidl.Tensor]:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": lambda t: without(t, "5.weight.bits")}, "5.weight.bits is missing"),
        ({"tensors": lambda t: {**t, "5.weight": t["5.weight"][1:]}}, "values for the"),
        ({"tensors": lambda t: without(t, "5.weight")}, "not in the file"),
        ({"notes": lambda n: {**n, ".format": "minidl compressed 9"}}, "update minidl"),
        ({"notes": lambda n: {**n, "5.weight": "masked=3xmany"}}, "invalid literal"),
        ({"notes": lambda n: {**n, "5.weight": "masked=24x3"}}, "of which the model has none"),
        ({"notes": lambda n: {**n, "4": "int8=per_channel input=affine"}}, "a Dropout there"),
        ({"notes": lambda n: {**n, "0": "int8=per_channel input=cubic"}}, "must be one of"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_is_refused(tmp_path, reference, change, message):
    path = tmp_path / "model.safetensors"
    save(prune.magnitude(cnn(reference), 0.8), path)
    altered(path, **change)
    with pytest.raises(CheckpointError, match=message):
        load(cnn(reference), path)


def test_codes_without_a_scale_are_refused(tmp_path, reference):
    path = tmp_path / "q.safetensors"
    save_tensors({"q": quantize(minidl.ones(3, backend=reference))}, path)
    altered(path, tensors=lambda t: without(t, "q_scale"))
    with pytest.raises(CheckpointError, match="'q_scale' is missing, without which q means"):
        load_tensors(path)
    altered(path, notes=lambda n: {**n, "r": "qtensor=affine"})
    with pytest.raises(CheckpointError, match=f"{path}.* is missing"):
        load_tensors(path)


def test_what_is_no_model_or_tensor_is_refused(tmp_path):
    path = tmp_path / "a"
    for call in (
        lambda: save(3, path),
        lambda: load(None, path),
        lambda: save_tensors({"a": 3}, path),
        lambda: save_tensors([1], path),
    ):
        with pytest.raises(DTypeError, match=r"must be a (Module|Tensor|Mapping), got"):
            call()
    assert not path.exists()


def test_missing_damaged_and_foreign_files_are_refused(tmp_path, reference):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        load(cnn(reference), path)
    save(quantize_model(cnn(reference)), path)
    raw = path.read_bytes()
    for damaged in (raw[:-1], b"hello", raw[:-1] + bytes([raw[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged|changed after"):
            load(cnn(reference), path)
        with pytest.raises(CheckpointError, match=r"damaged|changed after"):
            load_tensors(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, reference):
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(cnn(reference), tmp_path / "no such folder" / "model.safetensors")
