"""Which lines of a whole training step, through nn and optim, make the host wait for the GPU.

On the stand-in, which counts every value that is brought to the host. The README of the backend
lists the same lines.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import pytest

import minidl
from backends import BackendUnavailable
from minidl import nn, ops, optim
from tests import cupy_standin
from tests.cupy_standin import counted_syncs

BATCH, CLASSES, WORDS = 6, 4, 11


@pytest.fixture(autouse=True)
def standin():
    try:
        backend = cupy_standin.backend()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    with minidl.use_backend(backend):
        minidl.manual_seed(0)
        yield backend


@contextmanager
def waits(backend, monkeypatch):
    """A list of the lines of minidl that asked for values in the block, as "file.function"."""
    asked, methods = [], ("bounds", "all_finite", "to_numpy", "synchronize")
    inner = {name: getattr(backend, name) for name in methods}

    def spy(name):
        def call(*args):
            caller = sys._getframe(1)
            module = caller.f_globals["__name__"]
            if module.startswith("minidl."):  # not the backend itself
                asked.append(f"{module.rpartition('.')[2]}.{caller.f_code.co_name}")
            return inner[name](*args)

        return call

    with monkeypatch.context() as patched, counted_syncs() as syncs:
        for name in methods:
            patched.setattr(backend, name, spy(name))
        yield asked
    assert len(syncs) == len(asked), f"{syncs} were not all asked for through the backend: {asked}"


class Text(nn.Module):
    """A table of words, layer normalisation, and the mean over time."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(WORDS, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.table(x)).mean(axis=1))


def mlp():
    layers = nn.Flatten(), nn.Linear(16, 12), nn.GELU(), nn.Dropout(0.2), nn.Linear(12, CLASSES)
    return nn.Sequential(*layers)


def lenet():
    def block(inputs, outputs):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        return convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)

    return nn.Sequential(*block(1, 4), *block(4, 8), nn.Flatten(), nn.Linear(8, CLASSES))


def images():
    return minidl.randn(BATCH, 1, 4, 4)


def sentences():
    return minidl.tensor(np.arange(BATCH * 5).reshape(BATCH, 5) % WORDS)


TABLE, LABELS = "check.in_range", "loss._classes"
MODELS = {  # model, input, the lines that wait
    "mlp": (mlp, images, [LABELS]),
    "lenet": (lenet, images, [LABELS]),
    "text": (Text, sentences, [TABLE, LABELS]),
}
OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}


def step(model, optimizer, x, label, **options):
    loss = ops.cross_entropy(model(x), label, **options)
    optimizer.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_waits_where_labels_and_indices_are_checked(
    standin, monkeypatch, model, optimizer
):
    make, inputs, expected = MODELS[model]
    network = make()
    x, label = inputs(), minidl.tensor(np.arange(BATCH) % CLASSES)
    steps = OPTIMIZERS[optimizer](network.parameters())
    before = [p.numpy().copy() for p in network.parameters()]
    for _ in range(2):  # the first one makes the optimizer's buffers
        with waits(standin, monkeypatch) as found:
            step(network, steps, x, label)
        assert found == expected
    for old, new in zip(before, network.parameters(), strict=True):
        assert (old != new.numpy()).any(), "the step trains"


def test_a_batch_with_ignored_labels_waits_twice(standin, monkeypatch):
    network, x = mlp(), images()
    label = minidl.tensor(np.array([0, 1, -100, 2, 3, -100]))
    with waits(standin, monkeypatch) as found:
        step(network, optim.SGD(network.parameters(), lr=0.1), x, label, label_smoothing=0.1)
    assert found == [LABELS, TABLE]


def test_the_readme_names_the_lines_that_wait(standin):
    from backends.cupy_backend import kernels

    text = (kernels.FOLDER / "README.md").read_text(encoding="utf-8")
    for line in (TABLE, LABELS):
        assert f"`{line}`" in text
