"""Every case of the conformance kit on every backend that can run here."""

from __future__ import annotations

import pytest

from minidl.verify.conformance import Run, every_run


@pytest.mark.parametrize("run", every_run(), ids=str)
def test_case(backend, reference, run: Run):
    run(backend, reference)
