"""Where MNIST's files are found, what is refused, and what the message says."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from minidl.data import fashion_mnist, idx_dataset, mnist, parse_idx
from minidl.data.idx import FILES
from minidl.data.source import FASHION_MNIST, MNIST, cache_folder, load
from minidl.errors import DataError

from . import files
from .server import Mirror, dead_url, serve


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tiny"


@pytest.fixture
def mirror() -> Mirror:
    with serve() as started:
        started.files = {f"{n}.gz": gzip.compress(d) for n, d in files.contents().items()}
        yield started


def check(parts: tuple, seed: int = 0) -> None:
    """The two data sets must be the ones that `files.contents` describes."""
    expected = list(files.contents(seed).values())
    for part, images, labels in zip(parts, expected[::2], expected[1::2], strict=True):
        x, y = part.arrays
        assert x.dtype == np.uint8
        assert x.shape[1:] == (1, 3, 2)
        assert x.tobytes() == images[16:]
        assert y.dtype == np.int64
        assert y.tolist() == list(labels[8:])


# -- the format ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_every_type_of_the_format(code: int, dtype: str) -> None:
    array = np.array([[1, 2, 3], [100, 5, 6]], dtype)
    parsed = parse_idx(files.idx(array, code))
    assert parsed.tolist() == array.tolist()
    assert parsed.dtype == np.dtype(dtype).newbyteorder("=")
    assert parsed.dtype.isnative


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with nothing"),
        (b"\0\0", "not an IDX file"),
        (b"\x89PNG....", "89 50 4e 47"),
        (bytes([0, 0, 7, 1, 0, 0, 0, 0]), "not an IDX file"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0]), "cut short"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), "asks for 11: the file is cut short"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "too long"),
        (bytes([0, 0, 8, 3, *[255] * 12]), "cut short"),
    ],
)
def test_what_is_no_idx_file(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        parse_idx(data, "the file")
    assert str(caught.value).startswith("the file: ")


def test_any_four_idx_files(tmp_path: Path) -> None:
    check(idx_dataset(files.write(tmp_path, files.contents(7), compress=True)), seed=7)
    (tmp_path / f"{FILES[3]}.gz").unlink()
    with pytest.raises(DataError, match=f"{FILES[3]} missing"):
        idx_dataset(tmp_path)


def test_labels_must_match_images(tmp_path: Path) -> None:
    wrong = files.contents() | {FILES[1]: files.idx(np.zeros(5, np.uint8))}
    with pytest.raises(DataError, match=r"\(6, 3, 2\) and labels \(5,\)"):
        idx_dataset(files.write(tmp_path, wrong, compress=False))


# -- MINIDL_DATA -----------------------------------------------------------------------------------
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("below", ["", "tiny", "ti-ny"])
def test_folder_or_subfolder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, compress: bool
) -> None:
    files.write(tmp_path / below, files.contents(), compress)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    check(load(files.source(dead_url())))


def test_subfolder_comes_before_another_set_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path, files.contents(seed=1), compress=True)
    files.write(tmp_path / "tiny", files.contents(), compress=True)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    check(load(files.source(dead_url())))


def test_unpacked_file_that_kept_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path, {f"{n}.gz": d for n, d in files.contents().items()}, compress=False)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    check(load(files.source(dead_url())))


def test_missing_files_are_named_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> None:
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        load(files.source(mirror.url))
    for part in (str(tmp_path), "tiny/", mirror.url, "MINIDL_DATA", *FILES):
        assert part in str(caught.value)
    files.write(tmp_path, files.contents(), compress=True)
    (tmp_path / f"{FILES[2]}.gz").unlink()
    with pytest.raises(DataError, match=f"lacks {FILES[2]}. Put"):
        load(files.source(mirror.url))
    assert mirror.seen == []
    assert not (tmp_path / "cache").exists()


def altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("compress", "damage", "said"),
    [
        (False, lambda d: d[:-1], "cut short"),
        (True, lambda d: d[:-1], "cut short"),
        (False, altered, "is not the published"),
        (True, altered, "damaged"),  # the last byte of a gzip file is part of its length
        (True, lambda d: b"<html>" + d, "not an IDX file"),
        (True, lambda d: gzip.compress(altered(gzip.decompress(d))), "is not the published"),
        (True, lambda d: b"", "not an IDX file"),
    ],
)
def test_truncated_or_altered_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool, damage, said: str
) -> None:
    files.write(tmp_path, files.contents(), compress)
    victim = tmp_path / (FILES[1] + ".gz" * compress)
    victim.write_bytes(damage(victim.read_bytes()))
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=said) as caught:
        load(files.source("http://mirror/"))
    assert str(victim) in str(caught.value)
    assert "http://mirror/" in str(caught.value)


def test_real_files_of_the_other_set_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path, files.contents(), compress=True)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    real = MNIST._replace(sha256=files.source().sha256)
    monkeypatch.setattr("minidl.data.source.MNIST", real)
    with pytest.raises(DataError, match="but a file of MNIST"):
        fashion_mnist()


# -- downloads -------------------------------------------------------------------------------------
def test_download_then_cache(cache: Path, mirror: Mirror) -> None:
    check(load(files.source(mirror.url)))
    assert sorted(p.name for p in cache.iterdir()) == sorted(f"{n}.gz" for n in FILES)
    assert len(mirror.seen) == len(FILES)
    check(load(files.source(mirror.url)))
    assert len(mirror.seen) == len(FILES)


def test_second_mirror_when_the_first_is_dead(cache: Path, mirror: Mirror) -> None:
    check(load(files.source(dead_url(), mirror.url)))


def test_second_mirror_when_the_first_lacks_a_file(cache: Path, mirror: Mirror) -> None:
    with serve() as poor:
        poor.files = {k: v for k, v in mirror.files.items() if "labels" not in k}
        check(load(files.source(poor.url, mirror.url)))


def test_broken_connection_is_resumed(cache: Path, mirror: Mirror) -> None:
    mirror.cut = [10, 7]
    check(load(files.source(mirror.url)))
    name = f"{FILES[0]}.gz"
    assert mirror.seen[:3] == [(name, None), (name, "bytes=10-"), (name, "bytes=17-")]


def test_next_mirror_continues(cache: Path, mirror: Mirror) -> None:
    with serve() as first:
        first.files, first.cut = mirror.files, [10, 0]
        check(load(files.source(first.url, mirror.url)))
    assert mirror.seen[0] == (f"{FILES[0]}.gz", "bytes=10-")


def test_later_call_continues(cache: Path, mirror: Mirror) -> None:
    mirror.cut = [10, 0]
    with pytest.raises(DataError, match=r"ended after 10 of \d+ bytes"):
        load(files.source(mirror.url))
    assert [p.name for p in cache.iterdir()] == [f"{FILES[0]}.gz.part"]
    mirror.seen.clear()
    check(load(files.source(mirror.url)))
    assert mirror.seen[0] == (f"{FILES[0]}.gz", "bytes=10-")
    assert not list(cache.glob("*.part"))


def test_server_without_ranges(cache: Path, mirror: Mirror) -> None:
    mirror.ranges, mirror.cut = False, [10]
    check(load(files.source(mirror.url)))
    assert len(mirror.seen) == len(FILES) + 1  # the whole answer replaced the part


@pytest.mark.parametrize("old", [b"other bytes", b"x" * 10_000])
def test_part_of_something_else_is_dropped(cache: Path, mirror: Mirror, old: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / f"{FILES[0]}.gz.part").write_bytes(old)
    check(load(files.source(mirror.url)))


def test_whole_part_is_used(cache: Path, mirror: Mirror) -> None:
    cache.mkdir(parents=True)
    (cache / f"{FILES[0]}.gz.part").write_bytes(mirror.files[f"{FILES[0]}.gz"])
    check(load(files.source(mirror.url)))
    assert [wanted for name, wanted in mirror.seen if name == f"{FILES[0]}.gz"] != [None]


def test_wrong_bytes_are_refused_and_the_second_mirror_asked(cache: Path, mirror: Mirror) -> None:
    with serve() as liar:
        liar.files = {f"{n}.gz": gzip.compress(d) for n, d in files.contents(seed=9).items()}
        check(load(files.source(liar.url, mirror.url)))
        assert liar.seen


def test_no_mirror_at_all(cache: Path) -> None:
    with serve() as liar:
        liar.files = {f"{n}.gz": b"<html>sign in</html>" for n in FILES}
        dead = dead_url()
        with pytest.raises(DataError) as caught:
            load(files.source(dead, liar.url))
    for part in (dead, liar.url, "MINIDL_DATA", f"{FILES[0]}.gz", "not an IDX file", "refused"):
        assert part in str(caught.value)
    assert list(cache.iterdir()) == []


def test_damaged_cache_is_fetched_again(cache: Path, mirror: Mirror) -> None:
    load(files.source(mirror.url))
    victim = cache / f"{FILES[2]}.gz"
    victim.write_bytes(victim.read_bytes()[:-5])
    mirror.seen.clear()
    check(load(files.source(mirror.url)))
    assert mirror.seen == [(f"{FILES[2]}.gz", None)]


def test_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set MINIDL_CACHE"):
        load(files.source("http://127.0.0.1:9/"))


def test_platform_cache_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIDL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "minidl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/minidl"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library/Caches/minidl"
    monkeypatch.setattr("sys.platform", "win32")
    assert cache_folder() == tmp_path / "local/minidl"


# -- the real thing --------------------------------------------------------------------------------
def test_published_mirrors_and_digests_are_well_formed() -> None:
    for source in (MNIST, FASHION_MNIST):
        assert len(source.mirrors) == 2
        assert all(m.startswith("http") and m.endswith("/") for m in source.mirrors)
        assert len(set(source.sha256)) == len(FILES)
        assert all(len(d) == 64 and int(d, 16) for d in source.sha256)


@pytest.mark.skipif(not os.environ.get("MINIDL_DATA"), reason="MINIDL_DATA names no folder")
def test_mnist_itself() -> None:
    train, test = mnist()
    assert train.arrays[0].shape == (60000, 1, 28, 28)
    assert test.arrays[0].shape == (10000, 1, 28, 28)
    assert np.bincount(test.arrays[1]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
