"""Write spec.json from the real CuPy: which names exist, and which arguments they take.

    python tests/cupy_standin/dump_spec.py

A plain script, since the package itself reads spec.json. CuPy must be installed; a GPU is not
needed. Parameter names are joined by spaces; a star marks those
that take any number. Methods of the compiled array class have no signature to inspect, so theirs
is read from the first line of the docstring.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

SPEC = Path(__file__).with_name("spec.json")
SIGNATURE = re.compile(r"\w+\.\w+\((?:self(?:, )?)?(.*?)\)")


def parameters(function: Any) -> str | None:
    """Names of a function's parameters, or None if they cannot be found out."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        match = SIGNATURE.match((getattr(function, "__doc__", None) or "").partition("\n")[0])
        if match is None:
            return None
        return " ".join(part.partition("=")[0].strip() for part in match[1].split(",") if part)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(stars.get(p.kind, "") + p.name for p in found if p.name != "self")


def describe(cupy: Any) -> dict[str, Any]:
    """The specification as a dictionary."""
    public = {name: getattr(cupy, name) for name in dir(cupy) if not name.startswith("_")}
    ufuncs = {name: " ".join(f.types) for name, f in public.items() if isinstance(f, cupy.ufunc)}
    functions, others = {}, []
    for name, value in public.items():
        found = None if isinstance(value, type) or not callable(value) else parameters(value)
        if found is not None and name not in ufuncs:
            functions[name] = found
        elif name not in ufuncs:
            others.append(name)
    members = {name: getattr(cupy.ndarray, name) for name in dir(cupy.ndarray) if name[0] != "_"}
    methods = {name: parameters(m) for name, m in members.items() if callable(m)}
    return {
        "version": cupy.__version__,
        "ufuncs": ufuncs,
        "functions": functions,
        "others": sorted(others),
        "methods": {name: found for name, found in methods.items() if found is not None},
        "attributes": sorted(name for name, m in members.items() if not callable(m)),
    }


def main() -> None:
    """Write the file and say how large it is."""
    import cupy

    spec = describe(cupy)
    SPEC.write_text(json.dumps(spec, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    counts = ", ".join(f"{len(value)} {key}" for key, value in spec.items() if key != "version")
    print(f"CuPy {spec['version']}: {counts}; {SPEC.stat().st_size} bytes in {SPEC}")


if __name__ == "__main__":
    main()
