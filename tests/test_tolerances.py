"""Tolerances come from the one table, `minidl/verify/tolerances.py`: no test names a number."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minidl.verify.tolerances import assert_close, compare

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "minidl" / "verify").rglob("*.py")])
TABLE = ROOT / "minidl" / "verify" / "tolerances.py"

# Other libraries' ways to say "about equal", and what their tolerances are called.
FUNCTIONS = {"approx", "allclose", "isclose", "assert_allclose", "assert_almost_equal"}
FUNCTIONS |= {"assertAlmostEqual", "assert_array_almost_equal", "assert_array_max_ulp"}
OPTIONS = {"atol", "rtol", "abs_tol", "rel_tol", "tol", "tolerance"}
SMALL = 0.01  # a number below it, other than 0, on one side of < is a tolerance


def number(node: ast.AST) -> float | None:
    if isinstance(node, ast.UnaryOp):
        return number(node.operand)
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def factors(node: ast.AST) -> Iterator[float]:
    """Numbers in a formula, not among the arguments of its functions; 0 and n * 1 are free."""
    if number(node):
        yield number(node) or 0.0
    elif isinstance(node, (ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Tuple, ast.List)):
        found = (n for child in ast.iter_child_nodes(node) for n in factors(child))
        yield from (n for n in found if n != 1)


def name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def in_call(node: ast.Call) -> Iterator[str]:
    called = name(node.func)
    if called in FUNCTIONS:
        yield f"{called}() has a tolerance of its own"
    for keyword in node.keywords:
        if keyword.arg in OPTIONS and number(keyword.value) is not None:
            yield f"{keyword.arg}={number(keyword.value)}"
    if called == "gamma" and node.args and number(node.args[0]) is not None:
        yield "gamma() of a number of roundings"
    if called == "Approx" and len(node.args) > 2 and any(factors(node.args[2])):
        yield "an error that is a number"
    if called == "assert_close":
        bounds = [*node.args[2:3], *(k.value for k in node.keywords if k.arg == "bound")]
        yield from (f"a bound with the number {n}" for b in bounds for n in factors(b))


def literals(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) for each tolerance that is written as a number."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in in_call(node))
        elif isinstance(node, ast.Assign) and any(
            name(target) in ("bound", "bounds", "allowed", "tolerance") for target in node.targets
        ):
            yield from ((node.lineno, f"a bound with the number {n}") for n in factors(node.value))
        elif isinstance(node, ast.Compare) and isinstance(
            node.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
        ):
            sides = [number(side) for side in (node.left, *node.comparators)]
            yield from (
                (node.lineno, f"a comparison with {n}")
                for n in sides
                if isinstance(n, float) and 0 < n < SMALL
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_tolerance_is_written_as_a_number(path):
    if path not in (TABLE, Path(__file__)):
        found = [f"line {line}: {what}" for line, what in literals(path.read_text("utf-8"))]
        assert not found, f"{path}: {found}; put it into {TABLE.name}, with its reason"


@pytest.mark.parametrize(
    "source",
    [
        "assert x == pytest.approx(1)",
        "assert np.allclose(a, b)",
        "check(a, b, atol=1e-5)",
        "assert abs(a - b) < 1e-6",
        "assert 1e-6 >= error",
        "assert_close(a, b, 1e-3)",
        "assert_close(a, b, 8 * sum_bound(a, n, dtype))",
        "assert_close(a, b, bound=0.5)",
        "bound = gamma(n, dtype) * 200",
        "assert_close(a, b, gamma(20, dtype))",
        "y = Approx(x, dtype, 1e-12)",
    ],
)
def test_such_numbers_are_found(source):
    assert list(literals(source))


@pytest.mark.parametrize(
    "source",
    [
        "assert x.size > 200",
        "assert_close(a, b, 0)",
        "assert_close(a, b, sum_bound(a, n + 2, dtype))",
        "assert_close(a, b, gamma(len(x) + 1, dtype))",
        "assert y.max() < 1",
        "step(param, eps=1e-8)",
    ],
)
def test_other_numbers_are_left_alone(source):
    assert not list(literals(source))


@pytest.mark.parametrize("bound", [np.inf, -np.inf, np.nan])
def test_a_bound_that_decides_nothing_is_refused(bound):
    x, bounds = np.ones(2), np.array([1.0, bound])
    with pytest.raises(ValueError, match="decide nothing"):
        compare(x, x, bounds)
    with pytest.raises(ValueError, match="decide nothing"):
        assert_close(x, x, bounds)
