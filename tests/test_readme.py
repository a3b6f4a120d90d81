"""The README is true: its commands have the form CI relies on, its links lead somewhere, its
program runs, and its reading order names files of the length that it says.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M)
READING_ORDER = re.findall(r"^\| *\d+ *\| \[`([^`]+)`\]\([^)]*\) *\| *([\d,]+) *\|", TEXT, re.M)


def test_the_first_two_shell_blocks_are_one_command_line_each():
    shell = [body for language, body in BLOCKS if language == "sh"]
    assert len(shell) >= 2
    for body, script in zip(shell, ("examples/digits.py", "-m pytest"), strict=False):
        assert body.count("\n") == 1
        assert script in body


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_first_program_runs(capsys):
    program = next(body for language, body in BLOCKS if language == "python")
    assert len(program.strip().splitlines()) <= 15
    exec(compile(program, "README.md", "exec"), {})
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < losses[0] / 2


def test_the_reading_order_names_every_engine_file():
    named = {path for path, _ in READING_ORDER}
    for room in ("minidl/engine", "minidl/ops", "minidl/nn"):
        for file in (ROOT / room).glob("*.py"):
            if file.name != "__init__.py":
                path = file.relative_to(ROOT).as_posix()
                assert any(path == n or path.startswith(f"{n.rstrip('/')}/") for n in named), path


@pytest.mark.parametrize(("path", "lines"), READING_ORDER)
def test_line_counts_are_right_to_a_tenth(path, lines):
    place = ROOT / path
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    actual = sum(len(f.read_text(encoding="utf-8").splitlines()) for f in files)
    stated = int(lines.replace(",", ""))
    assert abs(stated - actual) <= actual // 10, f"{path} has {actual} lines"
