"""Types for argparse: what they take, and that what is wrong is said before anything runs."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from minidl.cli.options import new_file, picture, positive, seed, working_backend


def test_what_is_right_is_taken(tmp_path):
    assert positive("12") == 12
    assert seed(str(2**64 - 1)) == 2**64 - 1
    assert working_backend("numpy") == "numpy"
    assert new_file(str(tmp_path / "a.json")) == tmp_path / "a.json"
    assert new_file("a.json").name == "a.json"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (positive, "0", "integer >= 1, got '0'"),
        (positive, "-1", "integer >= 1, got '-1'"),
        (positive, "1.5", "integer >= 1"),
        (positive, "", "integer >= 1"),
        (seed, "-1", "from 0 to"),
        (seed, str(2**64), "from 0 to"),
        (working_backend, "abacus", "no backend is called 'abacus'; known: numpy"),
        (working_backend, "", "no backend is called ''"),
        (new_file, "/no/such/a.json", "its folder does not exist"),
        (new_file, ".", "it is a folder"),
        (picture, "/no/such/a.png", "its folder does not exist"),
        (picture, "a.xyz", "must end in one of .png"),
        (picture, "a", "must end in one of .png"),
    ],
)
def test_what_is_wrong_is_refused(kind, text, said):
    with pytest.raises(ArgumentTypeError, match=said):
        kind(text)


def test_a_picture_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("minidl.cli.options.find_spec", lambda name: None)
    with pytest.raises(ArgumentTypeError, match="pip install"):
        picture(str(tmp_path / "a.png"))
