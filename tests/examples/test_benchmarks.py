"""The benchmarks compare what is alike and refuse the rest. Nothing here depends on a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples" / "benchmarks"
TWO = "minidl numpy;minidl numba"
PLANTED = """
import os
import sys

sys.path.insert(0, {folder!r})
import mlp_tiny
from harness.workload import Row

TITLE = "planted"
ROWS = [Row("wrong", 16, batch=16), Row("dead", 16, batch=16), Row("late", 16, batch=16)]
given = mlp_tiny.given


def in_minidl(given, compiled):
    import minidl

    step, count = mlp_tiny.in_minidl(given, compiled), 0
    planted = minidl.get_backend().name == "numba"

    def wrong():
        loss = step()
        return loss * 1.001 if planted else loss

    def dead():
        os._exit(7)

    def late():
        nonlocal count
        count += 1
        return 1 / (count - 12) if planted else 0.1

    return {fault}
"""


@pytest.fixture
def harness(monkeypatch):
    pytest.importorskip("numba", reason="the second contestant is the Numba backend")
    monkeypatch.syspath_prepend(FOLDER)
    from harness import contestants, duel, figures, workload

    yield contestants, duel, figures, workload
    for name, module in list(sys.modules.items()):  # their names are short, and others' too
        file = getattr(module, "__file__", None) or ""
        if name == "planted" or Path(file).is_relative_to(FOLDER):
            del sys.modules[name]


def planted(harness, folder, fault, rounds=1):
    """A duel in which the Numba contestant does something wrong."""
    contestants, duel, _, workload = harness
    file = folder / "planted.py"
    file.write_text(PLANTED.format(folder=str(FOLDER), fault=fault))
    module = workload.load(file)
    chosen = [contestants.CONTESTANTS[name] for name in TWO.split(";")]
    return duel.Duel(module, module.ROWS[0], chosen, rounds=rounds, threads=2).fight()


def run(folder, *options):
    command = [sys.executable, "-W", "error", str(FOLDER / "run.py"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_one_workload_from_the_command_to_the_picture(tmp_path):
    pytest.importorskip("numba", reason="the second contestant is the Numba backend")
    pytest.importorskip("matplotlib", reason="it draws the picture")
    options = ("--only", "mlp_tiny", "--contestants", TWO, "--rounds", "3", "--markdown")
    done = run(tmp_path, *options, "--json", "b.json", "--plot", "b.png")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["environment"].keys() == {
        "processor", "instructions_asked_for", "system", "python", "versions", "threads", "commit",
        "date",
    }  # fmt: skip
    (result,) = found["results"]
    assert (result["workload"], result["row"], result["samples"]) == ("mlp_tiny", "batch 16", 16)
    for name in TWO.split(";"):
        one = result["contestants"][name]
        assert one["status"] == "ok"
        assert len(one["seconds"]["all"]) == 3
        low, high = one["seconds"]["quartiles"]
        assert 0 < low <= one["seconds"]["median"] <= high
        assert 0 < one["first_step_s"] < one["start_to_first_step_s"]
        assert one["import_s"] > 0
        assert one["memory_peak"] is None or one["memory_peak"] > 2**20
        (other,) = result["ratios"][name]
        low, high = result["ratios"][name][other]["interval"]
        assert low <= result["ratios"][name][other]["ratio"] <= high
    assert "| MLP 16-32-4" in done.stdout
    assert (tmp_path / "b.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = run(tmp_path, "--load", "b.json", "--markdown")
    assert again.stdout.split("| workload")[1] in done.stdout


def test_a_wrong_loss_gets_no_ratio(harness, tmp_path):
    result = planted(harness, tmp_path, "wrong")
    assert {c["status"] for c in result["contestants"].values()} == {"ok"}
    for ours, theirs in (TWO.split(";"), TWO.split(";")[::-1]):
        cell = result["ratios"][ours][theirs]
        assert "ratio" not in cell
        assert "results disagree: " in cell["refused"]
    from harness import report

    assert "disagree" in report.table(result)
    assert "results disagree: " in report.table(result)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("dead", "its process ended with code 7"), ("late", "ZeroDivisionError")],
)
def test_a_lost_contestant_is_reported_and_the_other_goes_on(harness, tmp_path, fault, said):
    result = planted(harness, tmp_path, f"{fault} if planted else step", rounds=2)
    lost, other = result["contestants"]["minidl numba"], result["contestants"]["minidl numpy"]
    assert said in lost["status"]
    assert len(other["seconds"]["all"]) == 2
    assert result["ratios"] == {"minidl numpy": {}}


def test_who_is_not_installed_is_named(harness, tmp_path):
    contestants, duel, _, workload = harness
    module = workload.load(FOLDER / "mlp_tiny.py")
    absent = contestants.Contestant("absent", "minidl", "no_such_package")
    result = duel.Duel(module, module.ROWS[0], [absent], rounds=1, threads=1).fight()
    assert result["contestants"] == {"absent": {"status": "not installed"}}


def test_ratios_come_from_the_same_round(harness):
    figures = harness[2]
    ours = [1.0, 10.0, 1.0, 5.0, 1.0, 1.0, 2.0]
    assert figures.ratio([2 * t for t in ours], ours) == {"ratio": 2, "interval": [2, 2]}


@pytest.mark.parametrize(("n", "places"), [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (15, (3, 11))])
def test_the_interval_of_a_median_covers_it_in_95_percent(harness, n, places):
    assert harness[2]._median_interval(n) == places
    if n >= 6:
        random = np.random.default_rng(0)
        ordered = np.sort(random.standard_exponential((20_000, n)), axis=1)
        inside = (ordered[:, places[0]] <= np.log(2)) & (np.log(2) <= ordered[:, places[1]])
        assert inside.mean() > 0.95


@pytest.mark.parametrize(
    ("ours", "theirs", "alike"),
    [
        ([1.0, 2.0], [1.0, 2.0001], True),
        ([1.0, 2.0], [1.0, 2.001], False),
        ([1.0, np.nan], [1.0, np.nan], False),
        ([1.0], [1.0, 1.0], False),
        ([1e-9, 2.0], [-1e-9, 2.0], True),
    ],
)
def test_what_counts_as_the_same_result(harness, ours, theirs, alike):
    pair = [[np.array(x)] for x in (ours, theirs)]
    assert (harness[2].difference(*pair, 1e-4) == "") is alike


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "mlp,abacus"), "['abacus'] unknown; there are: mlp;"),
        (("--contestants", "minidl abacus"), "['minidl abacus'] unknown"),
        (("--rounds", "0"), "--rounds: must be an integer >= 1"),
        (("--json", "/no/such/a.json"), "--json: /no/such/a.json cannot be written"),
        (("--plot", "a.xyz"), "--plot: a.xyz must end in"),
        (("--only", "mlp_tiny", "--rows", "abacus"), "no row contains 'abacus'"),
    ],
)
def test_bad_options_are_refused_before_the_work(tmp_path, options, said):
    done = run(tmp_path, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_workload_says_what_it_has_to(harness):
    import run as command

    workload = harness[3]
    for name in command.WORKLOADS:
        module = workload.load(FOLDER / f"{name}.py")
        assert module.TITLE
        assert len({row.name for row in module.ROWS}) == len(module.ROWS)
        for row in module.ROWS:
            assert any(c.backend for c in workload.those_for(module, row)), (name, row.name)


def test_a_compressed_network_is_reported(tmp_path):
    options = ("--data", "digits", "--epochs", "1", "--tuning", "1", "--backend", "numpy")
    command = [sys.executable, "-W", "error", str(FOLDER / "compressed.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert [rows.count(stage) for stage in ("float32", "half", "int8", "half, int8")] == [2] * 4
