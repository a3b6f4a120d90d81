"""Each operation refuses wrong inputs with the same error on every backend."""

from __future__ import annotations

import pytest

from minidl import ops
from minidl.verify.doors import DOORS, TRUSTED


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_wrong_input(backend, door):
    door.knock(backend)


def test_every_operation_has_a_door():
    assert set(ops.__all__) - TRUSTED == {door.operation for door in DOORS}
