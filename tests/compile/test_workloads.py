"""Whatever is benchmarked, and every kind of layer in a network, compiles and gives the eager
step's numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import compress, nn, ops, optim
from minidl.errors import CompileError
from minidl.verify.tolerances import assert_same

from .test_compile import alike

FOLDER = Path(__file__).parent.parent.parent / "examples" / "benchmarks"
SIZES = {
    "conv": {"batch": 2}, "int8_linear": {"batch": 2}, "lenet": {"batch": 4},
    "lstm": {"batch": 32}, "mlp": {"batch": 4}, "mlp_tiny": {"batch": 4},
    "one_op": {"backward": True}, "resnet8": {"batch": 4}, "scaling": {"depth": 2},
    "sparse": {"batch": 2, "density": 0.1, "height": 16}, "transformer_block": {"batch": 2},
}  # fmt: skip
UNCOMPILED = {"operations"}  # single kernels


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from harness import figures, workload

    yield figures, workload
    for name, module in list(sys.modules.items()):  # their names are short, and others' too
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(FOLDER):
            del sys.modules[name]


def test_no_workload_is_left_out():
    found = {f.stem for f in FOLDER.glob("*.py") if "def in_minidl(given" in f.read_text()}
    assert found - UNCOMPILED == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_every_workload(name, harness):
    figures, workload = harness
    module = workload.load(FOLDER / f"{name}.py")
    given = module.given(**SIZES[name])
    programs = []

    def compiled(step):
        programs.append(minidl.compile(step, fullgraph=True))
        return programs[-1]

    eager, replayed = module.in_minidl(given, lambda step: step), module.in_minidl(given, compiled)
    tolerance = getattr(module, "TOLERANCE", workload.LOSSES)
    for _ in range(4):
        assert not figures.difference(arrays(replayed()), arrays(eager()), tolerance)
    assert sum(map(len, programs[0].recordings.values())) <= 2, "it replays"


def arrays(result):
    return [x.numpy() for x in (result if isinstance(result, tuple) else (result,))]


class Recurrent(nn.Module):
    """A class for each sequence, from the state at its end."""

    def __init__(self, kind, **options) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layer = getattr(nn, kind)(8, 8, batch_first=True, **options)
        self.head = nn.Linear(8 * (1 + options.get("bidirectional", False)), 3)

    def forward(self, index):
        y, _ = self.layer(self.embedding(index))
        return self.head(y[:, -1])


class Sentences(nn.Module):
    """A small transformer for classification."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, index):
        return self.head(self.encoder(self.embedding(index)).mean(1))


def images(*last):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *last, nn.Flatten())


MODELS = {
    "rnn": lambda: Recurrent("RNN"),
    "gru": lambda: Recurrent("GRU", num_layers=2, dropout=0.3),
    "lstm": lambda: Recurrent("LSTM", bidirectional=True),
    "transformer": Sentences,
    "adaptive average": lambda: nn.Sequential(images(nn.AdaptiveAvgPool2d(1)), nn.Linear(4, 3)),
    "uneven average": lambda: nn.Sequential(images(nn.AdaptiveAvgPool2d(4)), nn.Linear(64, 3)),
    "adaptive maximum": lambda: nn.Sequential(images(nn.AdaptiveMaxPool2d(2)), nn.Linear(16, 3)),
    "dropout": lambda: nn.Sequential(images(nn.Dropout(0.3)), nn.Dropout(0.2), nn.Linear(144, 3)),
}  # fmt: skip


def inputs(model, count):
    random = np.random.default_rng(0)
    for _ in range(count):
        tokens = isinstance(model, (Recurrent, Sentences))
        x = random.integers(0, 11, (6, 5)) if tokens else random.random((6, 3, 8, 8), "float32")
        yield minidl.tensor(x), minidl.tensor(random.integers(0, 3, 6))


@pytest.mark.parametrize("name", MODELS)
def test_every_network(name):
    states = []
    for compiled in (False, True):
        minidl.manual_seed(0)
        model = MODELS[name]()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, label, model=model, optimizer=optimizer):
            loss = ops.cross_entropy(model(x), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = minidl.compile(step, fullgraph=True) if compiled else step
        losses = [run(*batch).item() for batch in inputs(model, 5)]
        states.append([np.float32(losses), *(x.numpy() for x in model.state_dict().values())])
    for eager, replayed in zip(*states, strict=True):
        alike(replayed, eager)


def integer_model():
    minidl.manual_seed(0)
    model = nn.Sequential(images(nn.MaxPool2d(2), nn.GELU()), nn.Linear(36, 3))
    batches = [x for x, _ in inputs(model, 2)]
    return compress.quantize_model(model.eval(), calibration=batches), batches


def test_an_integer_program_gives_the_same_bits():
    model, batches = integer_model()
    with minidl.no_grad():
        compiled = minidl.compile(lambda x: model(x), fullgraph=True)
        for x in batches * 2:
            assert_same(compiled(x).numpy(), model(x).numpy())
        assert sum(map(len, compiled.recordings.values())) == 1, "it replays"


def test_codes_that_changed_are_seen():
    model, (x, _) = integer_model()
    with minidl.no_grad():
        compiled = minidl.compile(lambda x: model(x), fullgraph=True)
        before = [compiled(x).numpy() for _ in range(2)]
        last = list(model.layers())[-1]
        last.bias.copy_(last.bias + 1000)  # what follows from it was computed on the host
        for _ in range(3):
            assert_same(compiled(x).numpy(), model(x).numpy())
        assert (compiled(x).numpy() != before[-1]).any()


def test_arrays_from_elsewhere_are_refused():
    noise = np.ones(2, "float32")
    compiled = minidl.compile(lambda x: x + minidl.tensor(noise * 2), fullgraph=True)
    with pytest.raises(CompileError, match="no tensors"):
        compiled(minidl.ones(2))
