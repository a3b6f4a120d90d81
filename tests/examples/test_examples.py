"""Every example runs as a person would run it, from another folder, and draws a real picture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("matplotlib", reason="the pictures are drawn by matplotlib")

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SMALLEST_PICTURE = 10_000  # bytes; an empty one at this resolution has about 4,000


def run(folder, script, *options):
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_picture(file):
    data = file.read_bytes()
    return data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > SMALLEST_PICTURE


def test_scalar_autograd_agrees_with_the_engine(tmp_path):
    rows = [line.split() for line in run(tmp_path, "01_scalar_autograd.py").splitlines()]
    compared = [r for r in rows if len(r) == 3 and r[0].startswith(("y", "dy"))]
    assert len(compared) == 4
    assert all(by_hand == engine for _, by_hand, engine in compared)


def test_spiral_is_learned_and_drawn(tmp_path):
    text = run(tmp_path, "02_spiral.py", "--steps", "300", "--plot", "s.png")
    assert float(text.split("accuracy")[-1].split("%")[0]) > 90
    assert is_picture(tmp_path / "s.png")


def test_augmentation_runs(tmp_path):
    text = run(tmp_path, "03_augmentation.py", "--epochs", "2", "--plot", "a.png")
    assert text.count("augmentation changed the accuracy on images") == 2
    assert is_picture(tmp_path / "a.png")


def test_own_op_is_right_and_learns(tmp_path):
    text = run(tmp_path, "04_your_own_op.py")
    assert "the same numbers: True" in text
    losses = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("step")]
    assert losses[-1] < losses[0] / 10


def test_own_backend_counts_right(tmp_path):
    text = run(tmp_path, "05_your_own_backend.py")
    assert "all gradients equal: True" in text
    counted, by_hand = (line.split(": ")[-1] for line in text.splitlines()[-2:])
    assert counted == by_hand


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("02_spiral.py", ("--backend", "abacus"), "no backend is called 'abacus'"),
        ("03_augmentation.py", ("--epochs", "0"), "--epochs: must be an integer >= 1"),
        ("digits.py", ("--json", "/no/such/a.json"), "--json: /no/such/a.json cannot be written"),
    ],
)
def test_bad_options_are_refused_before_the_work(tmp_path, script, options, said):
    command = [sys.executable, str(EXAMPLES / script), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


DIGITS = ("--backend", "numpy", "--model", "mlp", "--epochs", "1")
COMPARED = ("--only", "one_op", "--contestants", "minidl numpy", "--rounds", "1")
FULL_DISK = """
import errno, os, runpy, sys
def fail(handle):
    raise OSError(errno.ENOSPC, "No space left on device")
os.fsync = fail
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as Python does for a script
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("02_spiral.py", ("--steps", "5", "--plot", "old.png")),
        ("03_augmentation.py", ("--epochs", "1", "--plot", "old.png")),
        ("digits.py", (*DIGITS, "--json", "old.json")),
        ("digits.py", (*DIGITS, "--plot", "old.png")),
        ("benchmarks/run.py", (*COMPARED, "--json", "old.json")),
        ("benchmarks/run.py", (*COMPARED, "--plot", "old.png")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else value,
)
def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path, script, options):
    old = tmp_path / options[-1]
    old.write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, str(EXAMPLES / script), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "No space left on device" in done.stderr
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_the_main_job_keeps_its_promises(tmp_path):
    options = ("--backend", "numpy", "--epochs", "2", "--json", "d.json", "--plot", "d.png")
    text = run(tmp_path, "digits.py", *options)
    found = json.loads((tmp_path / "d.json").read_text())
    assert (found["backend"], found["data"], found["model"]) == ("numpy", "digits", "lenet")
    assert {s["name"] for s in found["stages"]} == {"float32", "pruned", "int8", "pruned+int8"}
    for stage in found["stages"]:
        assert 0.5 < stage["accuracy"] <= 1
        assert stage["bytes"] > 0
        assert 0 < stage["p50_ms"] <= stage["p95_ms"]
        assert stage["name"] in text
    assert is_picture(tmp_path / "d.png")


def test_mistakes_fail_and_corrections_hold(tmp_path):
    text = run(tmp_path, "06_compression_mistakes.py")
    assert text.splitlines()[-1] == "all mistakes failed, and all corrections held"


def test_distillation_is_compared_in_pairs(tmp_path):
    text = run(tmp_path, "07_distillation.py", "--seeds", "2", "--epochs", "3", "--plot", "d.png")
    assert text.count("distilled") == 2
    assert "95 % interval" in text
    assert is_picture(tmp_path / "d.png")


def test_a_recipe_is_cooked_reported_and_resumed(tmp_path):
    options = ("--epochs", "2", "--checkpoints", "c", "--json", "r.json", "--plot", "r.png")
    text = run(tmp_path, "compress_digits.py", *options)
    stages = json.loads((tmp_path / "r.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == [
        "first", "half the channels", "distilled", "60 % masked", "tuned", "int8",
    ]  # fmt: skip
    assert stages[-1]["bytes"] < 0.1 * stages[0]["bytes"]
    assert all(stage["name"] in text for stage in stages)
    assert is_picture(tmp_path / "r.png")
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 5


def test_training_with_the_rounding_pays_where_bits_are_few(tmp_path):
    text = run(tmp_path, "08_few_bits.py", "--epochs", "6")
    rows = {line.split()[0]: line for line in text.splitlines() if line[1:].startswith(" bits")}
    assert list(rows) == ["8", "4", "3", "2"]
    nearest, chosen, longer, aware = (float(x) for x in re.findall(r"([\d.]+)%", rows["2"]))
    assert min(chosen, aware) > max(nearest, longer) + 10
