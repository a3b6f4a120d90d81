"""`minidl verify`: its table, its exit code, and the programs that it prints."""

from __future__ import annotations

import json

import numpy as np
import pytest

import backends
from backends.numpy_backend import NumpyBackend
from minidl import cli
from minidl.errors import ArgumentError
from minidl.verify import Laid, run_case, verify


class HalfUp(NumpyBackend):
    """Rounds 0.5 to 1, where the contract says 0."""

    name = "half-up"

    def quantize(self, x, scale, zero_point, low, high, dtype):
        with np.errstate(all="ignore"):
            q = np.clip(np.floor(x / scale + 0.5) + zero_point, low, high)
        return np.asarray(np.where(np.isnan(q), zero_point, q)).astype(dtype)


class Unfinished(NumpyBackend):
    """Takes an argument that the contract does not have."""

    name = "unfinished"

    def relu(self, x, slope=0.0):
        return super().relu(x)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr("backends.registry._registered", {})
    monkeypatch.setattr("backends.registry._instances", dict(backends.registry._instances))
    for kind in (HalfUp, Unfinished):
        backends.register(kind.name, kind)


def test_a_good_backend_passes(tmp_path, capsys):
    file = tmp_path / "found.json"
    command = ["verify", "--backend", "numpy", "--only", "exp", "reshape", "stack"]
    assert cli.main([*command, "--json", str(file)]) == 0
    text = capsys.readouterr().out
    assert "all 3 pass" in text
    found = json.loads(file.read_text())
    rows = {row["subject"]: row for row in found["rows"]}
    assert found["passed"]
    assert found["backend"] == "numpy"
    assert rows["exp"]["cases"] > 10
    assert 0 < rows["exp"]["ulps"] <= 4
    assert 0 < rows["exp"]["fraction"] <= 1
    assert 0 < rows["exp"]["gradient"] <= 1
    assert rows["exp"]["bad_inputs"] == 3
    assert rows["stack"]["kind"] == "operation"
    assert rows["reshape"]["fraction"] == 0


def test_a_fault_is_shown_as_a_program_that_fails(registered, capsys):
    assert cli.main(["verify", "--backend", "half-up", "--only", "quantize"]) == 1
    text = capsys.readouterr().out
    assert "1 of 1 rows fail" in text
    program = text.partition("--- quantize fails")[2].partition("\n\n")[2]
    assert "call(" in program
    with pytest.raises(AssertionError, match="elements differ"):
        exec(compile(program, "snippet", "exec"), {})


def test_a_method_with_other_parameters_is_no_part_of_the_contract(registered):
    report = verify("unfinished", only=["relu"])
    assert not report.passed
    assert report.failures == [
        "# relu takes (x, slope=0.0); the contract says (self, x: 'Array') -> 'Array'"
    ]


class Slanted(NumpyBackend):
    """Its softplus has the right values and, through sigmoid, the wrong gradient."""

    name = "slanted"

    def sigmoid(self, x):
        return super().sigmoid(x) * x.dtype.type(1.25)


class Lenient(NumpyBackend):
    """Says that all indices are in range."""

    name = "lenient"

    def bounds(self, x):
        return 0.0, 0.0


@pytest.mark.parametrize(
    ("kind", "subject", "called"),
    [
        (Slanted, "softplus", "check_gradients softplus"),
        (Lenient, "embedding", "wrong input embedding 0"),
    ],
)
def test_a_wrong_gradient_or_a_door_that_lets_in_is_a_program_too(
    registered, kind, subject, called
):
    backends.register(kind.name, kind)
    programs = [p for p in verify(kind.name, only=[subject]).failures if f"run_case('{called}" in p]
    assert programs
    for program in programs:
        with pytest.raises(AssertionError):
            exec(compile(program, "snippet", "exec"), {})


def test_more_examples_are_tried_at_a_deeper_level():
    cases = [verify("numpy", depth, ["where"]).rows[0].cases for depth in ("quick", "default")]
    assert cases[0] < cases[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "abacus"], "no backend is called 'abacus'"),
        (["--backend", "numpy", "--level", "deep"], "invalid choice: 'deep'"),
        (["--backend", "numpy", "--json", "/nowhere/x.json"], "cannot be written"),
        ([], "--backend"),
    ],
)
def test_wrong_options_are_refused(options, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_an_unknown_row_is_refused(capsys):
    assert cli.main(["verify", "--backend", "numpy", "--only", "conv3d"]) == 2
    assert "conv3d is no method of the contract" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="no case is called 'conv3d'"):
        run_case("conv3d", "numpy")


def test_arguments_become_text_and_back():
    from minidl.verify.snippet import _text

    values = [
        Laid(np.array([[1.5, np.nan], [np.inf, -0.0]], np.float32), "fortran"),
        (np.float32(0.1), None, (1, 2), np.dtype("int8"), np.zeros((0, 2))),
        [np.array([True, False]), float("inf"), 3, "ij->ji", slice(1, None)],
    ]
    back = eval(_text(values), {"np": np, "Laid": Laid})
    assert repr(back) == repr(values)
    assert back[0].values.tobytes() == values[0].values.tobytes()
