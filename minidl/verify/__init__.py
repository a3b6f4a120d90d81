"""The conformance kit: holds any backend to the contract, on any machine. See the README here.

It needs Hypothesis: pip install "minidl[verify]".
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:  # say how to get it, once, at the door
    raise ImportError(
        'minidl.verify draws its cases with Hypothesis: pip install "minidl[verify]"'
    ) from error

from .conformance import Run, call, call_in_place, every_run
from .run import Report, Row, run_case, verify
from .strategies import Laid
from .tolerances import assert_close, assert_same

__all__ = [
    "Laid",
    "Report",
    "Row",
    "Run",
    "assert_close",
    "assert_same",
    "call",
    "call_in_place",
    "every_run",
    "run_case",
    "verify",
]
