"""The smallest failing example as a program that anyone can run."""

from __future__ import annotations

from typing import Any

import numpy as np

from .record import Record
from .strategies import Laid

LONGEST = 600  # elements of all arrays together; beyond, the case is named instead of its values


def rerun(run: str, backend: str, reason: str, level: str = "quick") -> str:
    """A program that runs the case of that name again.

    >>> print(rerun("shape.pad_frames", "mine", "off by one"))
    # off by one
    from minidl.verify import run_case
    <BLANKLINE>
    run_case('shape.pad_frames', 'mine', 'quick')
    """
    call = f"run_case({run!r}, {backend!r}, {level!r})"
    return "\n".join([*_comment(reason), "from minidl.verify import run_case", "", call])


def _comment(reason: str) -> list[str]:
    return [f"# {line}" for line in reason.strip().splitlines()]


def snippet(backend: str, record: Record, run: str, level: str, reason: str) -> str:
    """A program that makes the last call of record again and fails as it did.

    `run` names the case, which the program runs as a whole at that level where its arrays are too
    long to print, or where what failed is neither a call nor a comparison of all that it returned.
    """
    check = _check(record)
    if check is None or _elements((record.arguments, record.expected)) > LONGEST:
        return rerun(run, backend, reason, level)
    call = [_text(a) for a in record.arguments]
    call += [f"{name}={_text(value)}" for name, value in record.options.items()]
    separator = ",\n    "
    lines = [
        *_comment(reason),
        "import numpy as np",
        "",
        "import backends",
        "from minidl.verify import Laid, assert_close, assert_same, call, call_in_place",
        "",
        f"backend = backends.get({backend!r})",
        f"found = {'call' if record.changes is None else 'call_in_place'}(",
        f"    backend,\n    {record.method!r},\n    {separator.join(call)},"
        if call
        else f"    backend, {record.method!r},",
        *([] if record.changes is None else [f"    changes={record.changes!r},"]),
        ")",
        "print(found)",
    ]
    return "\n".join([*lines, *check])


def _check(record: Record) -> list[str] | None:
    """The comparison that failed: none if it was the call; None if it was something else."""
    if not record.unsettled:
        return None
    if record.actual is None:
        return []
    place = _place(record.results, record.actual)
    if place is None:
        return None
    actual = f"found{place}"
    if record.bound is None:
        return [
            f"expected = {_text(np.asarray(record.expected))}",
            f"assert_same({actual}, expected, signed_zero={record.signed_zero})",
        ]
    return [
        f"expected = {_text(np.asarray(record.expected, np.float64))}",
        f"bound = {_text(np.asarray(record.bound, np.float64))}",
        f"assert_close({actual}, expected, bound{_dtype(record)})",
    ]


def _dtype(record: Record) -> str:
    return "" if record.dtype is None else f", {np.dtype(record.dtype).name!r}"


def _place(results: Any, actual: Any) -> str | None:
    """The index with which `actual` is reached from what the call returned."""
    if isinstance(results, (tuple, list)):
        for i, result in enumerate(results):
            if result is actual:
                return f"[{i}]"
        return None
    return "" if results is actual else None


def _elements(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_elements, value))
    return value.values.size if isinstance(value, Laid) else np.size(value)


def _text(value: Any) -> str:
    """Python text that gives the value again, to the last bit.

    >>> _text((np.float32([0.5, np.nan]), Laid(np.zeros((1, 2)), "fortran"), (1, None)))
    "(np.array([0.5, np.nan], 'float32'), Laid(np.array([[0.0, 0.0]], 'float64'), 'fortran'), (1, None))"
    """  # noqa: E501
    if isinstance(value, Laid):
        return f"Laid({_text(value.values)}, {value.layout!r})"
    if isinstance(value, np.ndarray):
        shape = f".reshape({value.shape})" if 0 in value.shape else ""
        return f"np.array({_numbers(value.tolist())}, {value.dtype.name!r}){shape}"
    if isinstance(value, np.generic):
        return f"np.{value.dtype.name}({_numbers(value.item())})"
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, type):
        return f"np.dtype({np.dtype(value).name!r})"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(_text, value))
        if hasattr(value, "_make"):  # a named tuple of the contract
            return f"backends.{type(value).__name__}({inner})"
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return _numbers(value) if isinstance(value, float) else repr(value)


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_numbers, value))}]"
    text = repr(value)
    return {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(text, text)
