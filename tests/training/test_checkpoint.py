"""Files of tensors: what comes back, what is refused, and what a failed write leaves behind."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import minidl
from backends import Backend
from minidl import nn
from minidl.errors import ArgumentError, CheckpointError, DTypeError
from minidl.training import load, load_model, save, save_model
from minidl.verify.tolerances import assert_same

ARRAYS = {
    "scalar": np.array(1.5, np.float32),
    "empty": np.zeros((0, 3), np.float64),
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bytes": np.array([-128, 127], np.int8),
    "pixels": np.array([[0, 255]], np.uint8),
    "counts": np.array([2**40], np.int64),
    "small": np.array([-(2**31)], np.int32),
    "mask": np.array([True, False]),
    "special": np.array([np.nan, np.inf, -0.0], np.float32),
}
METADATA = {"epoch": 3, "name": "räv", "nested": {"a": [1, 2.5, None, True]}, "seed": 2**64 - 1}


def tensors(backend: Backend) -> dict[str, minidl.Tensor]:
    return {name: minidl.tensor(a, backend=backend) for name, a in ARRAYS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "file", tensors(minidl.get_backend("numpy")), METADATA)
    return tmp_path / "file"


def test_round_trip(backend: Backend, tmp_path: Path) -> None:
    save(tmp_path / "file", tensors(backend), METADATA)
    found, metadata = load(tmp_path / "file", backend)
    assert metadata == METADATA
    assert found.keys() == ARRAYS.keys()
    for name, tensor in found.items():
        assert tensor.backend is backend
        assert_same(tensor.numpy(), ARRAYS[name])


def test_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    matrix = minidl.tensor(ARRAYS["matrix"])
    save(tmp_path / "file", {"x": matrix.T, "y": matrix[:, ::-1]})
    found, _ = load(tmp_path / "file")
    assert_same(found["x"].numpy(), ARRAYS["matrix"].T)
    assert_same(found["y"].numpy(), ARRAYS["matrix"][:, ::-1])


def test_model_round_trip(backend: Backend, tmp_path: Path) -> None:
    minidl.manual_seed(1)
    model, other = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(backend) for _ in range(2))
    model(minidl.randn(5, 3, backend=backend))  # moves the running statistics
    save_model(model, tmp_path / "model", {"accuracy": 0.5})
    assert load_model(other, tmp_path / "model") == {"accuracy": 0.5}
    for name, value in model.state_dict().items():
        assert_same(other.state_dict()[name].numpy(), value.numpy())


def test_files_of_other_programs(tmp_path: Path) -> None:
    save_file({"x": ARRAYS["matrix"]}, tmp_path / "file", {"format": "pt", "number": "3"})
    found, metadata = load(tmp_path / "file")
    assert_same(found["x"].numpy(), ARRAYS["matrix"])
    assert metadata == {"format": "pt", "number": 3}


def test_a_loaded_tensor_is_its_own(path: Path) -> None:
    before = path.read_bytes()
    found, _ = load(path)
    found["matrix"].fill_(7)
    assert path.read_bytes() == before


# -- refusals -------------------------------------------------------------------------------------
def test_every_single_changed_byte_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    for i in [*range(0, header, 7), *range(header, len(good))]:
        path.write_bytes(good[:i] + bytes([good[i] ^ 0x04]) + good[i + 1 :])
        with pytest.raises(CheckpointError, match="file: "):
            load(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_cut_short(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged, cut short or no safetensors file"):
        load(path)


@pytest.mark.parametrize("junk", [b"not a checkpoint at all", b"\x80\x04N." * 9, b"\xff" * 99])
def test_something_else(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "file").write_bytes(junk)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load(tmp_path / "file")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing: does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="is a folder"):
        load(tmp_path)


def test_wrong_model(tmp_path: Path) -> None:
    save_model(nn.Linear(2, 3), tmp_path / "model")
    model = nn.Linear(2, 4)
    before = np.array(model.weight.numpy())
    with pytest.raises(CheckpointError, match=r"model: load_state_dict.*Linear.*weight") as caught:
        load_model(model, tmp_path / "model")
    assert "(4, 2)" in str(caught.value)
    assert_same(model.weight.numpy(), before)


def test_what_is_no_path_name_or_model(tmp_path: Path) -> None:
    x = {"x": minidl.ones(1)}
    for call in (
        lambda: save(None, x),
        lambda: load(3),
        lambda: save(tmp_path / "a", [minidl.ones(1)]),
        lambda: save(tmp_path / "a", {3: minidl.ones(1)}),
        lambda: save(tmp_path / "a", x, {3: 1}),
        lambda: save_model(None, tmp_path / "a"),
        lambda: load_model(x, tmp_path / "a"),
    ):
        with pytest.raises(DTypeError, match=r"(save|load)(_model)?: .* must be a"):
            call()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_saved(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DTypeError, match="x must be a Tensor, got ndarray"):
        save(path, {"x": np.zeros(2)})  # type: ignore[dict-item]
    with pytest.raises(ArgumentError, match="JSON"):
        save(path, {}, {"model": nn.Linear(1, 1)})
    assert path.read_bytes() == before


# -- a failed write -------------------------------------------------------------------------------
def failing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk fail while writing, flushing or renaming."""

    def fail(*args: Any, **settings: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "fsync":
        monkeypatch.setattr("os.fsync", fail)
    elif where == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        real = Path.open

        def open_then_fail(self: Path, *args: Any, **settings: Any) -> Any:
            file = real(self, *args, **settings)

            class Full:
                def __enter__(self) -> Full:
                    return self

                def __exit__(self, *error: object) -> None:
                    file.close()

                def write(self, data: bytes) -> None:
                    file.write(data[:10])
                    fail()

            return Full()

        monkeypatch.setattr(Path, "open", open_then_fail)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_failed_write_leaves_the_old_file(
    path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        failing(where, patch)
        with pytest.raises(CheckpointError, match="No space left"):
            save(path, {"new": minidl.ones(3)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_interrupt_while_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(path, {"new": minidl.ones(3)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(tmp_path / "no" / "file", {})


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")
def test_link_and_permissions(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    save(link, {"x": minidl.ones(1)})
    assert link.is_symlink()
    assert list(load(path)[0]) == ["x"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_header_is_plain_json(path: Path) -> None:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["nested"]) == METADATA["nested"]
    assert header["matrix"]["shape"] == [2, 3]
