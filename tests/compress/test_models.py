"""What compression does to a model as a whole."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.compress import clone, quantize
from minidl.compress.models import backend_of, in_use, inputs
from minidl.errors import DTypeError
from minidl.verify.tolerances import assert_same

from .models import mlp, vectors


def test_the_backend_of_a_model_is_that_of_its_tensors(backend, other):
    with minidl.use_backend(backend):
        assert backend_of(mlp(other)) is other
        assert backend_of(nn.ReLU()) is backend
        statistics = nn.BatchNorm2d(2, affine=False).to(other)  # buffers, no parameters
        assert backend_of(statistics) is other


def test_what_goes_in_is_the_first_of_a_batch_on_the_models_backend(backend, other):
    x = vectors(other)
    for batch in (x, (x, 3), [x]):
        found = inputs(batch, mlp(backend))
        assert found.backend is backend
        assert_same(found.numpy(), x.numpy())
    with pytest.raises(DTypeError, match="got ndarray"):
        inputs(np.ones(3), mlp(backend))


def test_models_in_use_record_nothing_and_get_their_modes_back(backend):
    model = nn.Sequential(mlp(backend), nn.Dropout())
    model[1].eval()
    with in_use(model):
        assert not any(module.training for module in model.modules())
        assert not model(vectors(backend)).requires_grad
    with pytest.raises(DTypeError), in_use(model):
        model(3)
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


def test_a_clone_copies_tensors_of_every_kind(backend):
    model = nn.ReLU()
    model.codes = quantize(minidl.tensor([[1.0], [2.0]], backend=backend), axis=0)
    model.plain = minidl.ones(2, requires_grad=True, backend=backend)
    twin = clone(model)
    assert repr(twin.codes) == repr(model.codes)
    assert twin.codes.scale is not model.codes.scale
    assert twin.plain.requires_grad
    with minidl.no_grad():
        twin.plain.fill_(2)
    assert model.plain.tolist() == [1, 1]
