"""The command line and the doctor."""

from __future__ import annotations

import numpy as np
import pytest

import backends
from backends import BackendUnavailable
from backends.numpy_backend import NumpyBackend
from minidl import cli
from minidl.cli import doctor


@pytest.fixture
def registered(monkeypatch):
    """Register a backend for one test."""

    def add(name, factory):
        monkeypatch.setattr("backends.registry._registered", {name: factory})
        monkeypatch.setattr("backends.registry._instances", dict(backends.registry._instances))

    return add


def test_doctor_prints_every_backend_and_version(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in backends.names():
        assert f" {name} " in text
    assert f"numpy {np.__version__}" in text


def test_doctor_repeats_why_a_backend_is_missing(registered):
    def missing():
        raise BackendUnavailable('needs a thing: pip install "thing"')

    registered("ghost", missing)
    found = doctor.diagnose("ghost")
    assert not found.works
    assert found.reason == 'needs a thing: pip install "thing"'
    assert 'pip install "thing"' in doctor.report()


class Crashing(NumpyBackend):
    def conv2d(self, *arguments):
        raise RuntimeError("driver lost")


class Wrong(NumpyBackend):
    def conv2d_weight_grad(self, *arguments):
        return super().conv2d_weight_grad(*arguments) * 1.001


def test_doctor_finds_kernels_that_crash(registered):
    registered("crashing", Crashing)
    found = doctor.diagnose("crashing")
    assert not found.works
    assert "RuntimeError: driver lost" in found.reason


def test_doctor_finds_numbers_that_are_wrong(registered):
    registered("wrong", Wrong)
    found = doctor.diagnose("wrong")
    assert not found.works
    assert "numbers are wrong" in found.reason


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    assert "doctor" in capsys.readouterr().err
