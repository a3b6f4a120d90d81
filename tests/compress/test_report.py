"""The report: what it counts is exact, what it measures has the right shape."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn
from minidl.compress import (
    Report,
    Stage,
    clone,
    layer_sqnr,
    prune,
    quantize_model,
    report,
    save,
    sqnr,
)
from minidl.compress.measure import accuracy, wilson
from minidl.compress.picture import frontier
from minidl.compress.timing import latency
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.tolerances import assert_close, composed_bound

from .models import cnn, images, mlp, vectors
from .test_files import lenet


@pytest.fixture(scope="module")
def measured(backend) -> tuple[Report, dict[str, nn.Module], minidl.Tensor]:
    model, x = lenet(backend), minidl.rand(6, 1, 28, 28, backend=backend)
    pruned = prune.magnitude(clone(model), 0.8)
    models = {
        "float32": model,
        "pruned": pruned,
        "int8": quantize_model(model, [x]),
        "pruned+int8": quantize_model(pruned, [x]),
    }
    labels = model(x).argmax(1)
    return report(models, [(x[:4], labels[:4]), (x[4:], labels[4:])], rounds=5), models, x


def test_what_is_counted(measured, tmp_path):
    found, models, _ = measured
    assert [stage.name for stage in found] == list(models)
    for stage in found:
        save(models[stage.name], tmp_path / "m")
        assert stage.bytes == (tmp_path / "m").stat().st_size
        assert stage.parameters == 61_706
        # LeCun et al. (1998): 28^2 * 6 * 25 + 10^2 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
        assert stage.multiply_adds == 117_600 + 240_000 + 48_000 + 10_080 + 840
    assert found["float32"].nonzeros == 61_706
    assert found["pruned"].nonzeros == 61_706 - round(0.8 * 61_470)
    assert found["pruned+int8"].nonzeros <= found["pruned"].nonzeros


def test_what_is_measured(measured, backend):
    found, models, x = measured
    for stage in found:
        assert stage.backend == backend.name
        assert 0 < stage.p50_ms <= stage.p95_ms
        assert stage.batch == 1
    assert found["float32"].accuracy == 1
    outputs = [models[name](x).numpy().argmax(1) for name in ("float32", "pruned")]
    assert found["pruned"].accuracy == (outputs[0] == outputs[1]).mean()


def test_noise_is_measured_against_the_float_model_it_came_from(measured):
    found, models, x = measured
    assert not found["float32"].sqnr_db
    assert not found["pruned"].sqnr_db
    for name, source in (("int8", "float32"), ("pruned+int8", "pruned")):
        assert list(found[name].sqnr_db) == ["0", "3", "7", "9", "11"]
        assert found[name].sqnr_db == layer_sqnr(models[source], models[name], x[:4])


def test_noise_of_a_layer_is_that_of_its_output(backend):
    model, x = cnn(backend).eval(), images(backend)
    quantized = quantize_model(model, [x])
    found = layer_sqnr(model, quantized, x)
    assert found["5"] == sqnr(model(x), quantized(x))
    assert layer_sqnr(model, model, x) == {}
    assert not any(m._hooks for m in (*model.modules(), *quantized.modules()))


def test_a_reference_can_be_named(backend):
    model, x = mlp(backend), vectors(backend)
    stages = {"a": model, "b": mlp(backend, seed=2), "int8": quantize_model(model, [x])}
    data = [(x, minidl.zeros(5, "int64", backend=backend))]
    near, far = (
        report(stages, data, rounds=1, reference=r)["int8"].sqnr_db for r in (None, {"int8": "b"})
    )
    assert near["0"] > far["0"]
    smaller = {"smaller": mlp(backend, sizes=(7, 8, 5)), **stages}  # of another shape: no reference
    assert report(smaller, data, rounds=1)["int8"].sqnr_db == near
    assert report({"int8": stages["int8"]}, data, rounds=1)["int8"].sqnr_db == {}


def test_the_table_and_the_json_hold_every_stage(measured):
    found, models, _ = measured
    what, how_fast = (block.splitlines() for block in str(found).split("\n\n")[:2])
    for lines in (what, how_fast):
        assert len(lines) == 2 + len(models)
        assert len({len(line) for line in lines}) == 1
    back = json.loads(json.dumps(found.to_dict(), allow_nan=False))["stages"]
    assert [s["name"] for s in back] == list(models)
    assert {"name", "accuracy", "bytes", "p50_ms", "p95_ms", "backend"} <= back[0].keys()


def test_the_table_to_the_letter():
    rest = {"large": 64, "interval": (0.25, 0.75), "coded_bytes": 900, "memory_bytes": 4000}
    first = Stage("float32", "numpy", 0.987, 4000, 1000, 1000, 2048, 1.5, 2.25, 1, 8.0, 9.0, **rest)
    second = Stage(
        "int8", "numpy", 0.5, 1000, 1000, 250, 2048, 0.75, 1.0, 1, 2.0, 4.0, **rest,
        predicted_bytes=1024.4, integer=True, sqnr_db={"0": 31.26, "1": 40},
    )  # fmt: skip
    assert str(Report((first, second))).splitlines() == [
        "stage    backend  accuracy          95 %  bytes  of first  coded  predicted  in memory"
        "  non-zero  worst layer",
        "-" * 109,
        "float32  numpy      98.70%  25.0 to 75.0  4,000     1.000    900          0      4,000"
        "    100.0%            -",
        "int8     numpy      50.00%  25.0 to 75.0  1,000     0.250    900      1,024      4,000"
        "     25.0%      31.3 dB",
        "",
        "stage    multiply-adds  batch 1: p50 ms  p95 ms  batch 64: p50 ms  p95 ms  samples/s"
        "  times as fast  predicted",
        "-" * 110,
        "float32  2,048                    1.500   2.250             8.000   9.000      8,000"
        "           1.00       1.00",
        "int8     2,048                    0.750   1.000             2.000   4.000     32,000"
        "           4.00       4.00",
    ]


def test_what_is_not_smaller_or_faster_is_said_with_its_reason():
    def stage(name: str, **options) -> Stage:
        return Stage(name, "numpy", 0.9, **{"bytes": 400, "parameters": 9, "nonzeros": 9,
            "multiply_adds": 9, "p50_ms": 1, "p95_ms": 1, "batch": 1, "large_p50_ms": 1.0,
            "large": 64, **options})  # fmt: skip

    found = Report((
        stage("float"), stage("pruned", bytes=100, masked=True),
        stage("int8", bytes=100, integer=True, large_p50_ms=2.0), stage("wide", large_p50_ms=0.1),
    ))  # fmt: skip
    assert found.notes() == [
        "pruned is not faster (1.00 times): masked, not shrunk, and dense kernels multiply zeros;"
        " sparsify, or prune_channels",
        "int8 is not faster (0.50 times): the layers are so small that calls and requantizing take"
        " the time",
        "wide is not smaller: 400 bytes",
    ]
    assert str(found).splitlines()[-3:] == found.notes()


@pytest.mark.parametrize(("right", "total"), [(0, 10), (9, 10), (10, 10), (987, 1000)])
def test_the_interval_is_wilsons(right, total):
    stats = pytest.importorskip("scipy.stats", reason="an independent text of the formula")
    expected = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert_close(np.array(wilson(right, total)), np.array(expected), composed_bound(np.float64))


def test_the_picture_has_all_stages(measured, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib")
    measured[0].plot(tmp_path / "frontier.png")
    data = (tmp_path / "frontier.png").read_bytes()
    assert data[:4] == b"\x89PNG"
    assert len(data) > 10_000


@given(points=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_no_point_beats_one_of_the_frontier(points):
    line = frontier(points)
    for i, (cost, worth) in enumerate(points):
        better = [p for p in points if p[0] <= cost and p[1] >= worth and p != points[i]]
        assert (i in line) <= (not better)
        assert better or points[i] in [points[j] for j in line]


def test_no_noise_at_all_is_null_in_json(backend):
    """Whole numbers on a grid of 1 are computed exactly."""
    layer = nn.Linear(1, 1, backend=backend)
    with minidl.no_grad():
        layer.weight.fill_(127.0)
        layer.bias.fill_(0.0)
    x = minidl.tensor([[0.0], [255.0]], backend=backend)
    data = [(x, minidl.zeros(2, "int64", backend=backend))]
    found = report({"float": layer, "int8": quantize_model(layer, [x])}, data, rounds=1)
    assert found["int8"].sqnr_db == {"": math.inf}
    assert found["int8"].to_dict()["sqnr_db"] == {"": None}


def test_times_are_percentiles_in_milliseconds(backend, monkeypatch):
    seconds = np.arange(101) / 1024
    module = sys.modules["minidl.compress.report"]
    monkeypatch.setattr(module, "latency", lambda calls, rounds: dict.fromkeys(calls, seconds))
    data = [(vectors(backend), minidl.zeros(5, "int64", backend=backend))]
    (stage,) = report(mlp(backend), data)
    assert (stage.p50_ms, stage.p95_ms) == (50_000 / 1024, 95_000 / 1024)


def test_accuracy_is_the_share_of_right_labels(backend):
    model, x = mlp(backend), vectors(backend)
    labels = model(x).argmax(1).numpy()
    labels[1:3] = (labels[1:3] + 1) % 5
    assert accuracy(model, [(x[:2], labels[:2]), (x[2:], labels[2:])]) == 3 / 5
    assert accuracy(model, [(x[:1], labels[:1])]) == 1
    assert accuracy(model, []) == 0


def test_what_was_measured_is_not_edited(measured):
    found = measured[0]
    for thing, name in ((found, "stages"), (found["int8"], "accuracy")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, 1)


def test_modes_are_restored(backend):
    model, x = cnn(backend), images(backend)
    found = report(model, [(x, minidl.zeros(5, "int64", backend=backend))], rounds=1, batch=5)
    assert model.training
    assert next(iter(found)).name == "model"
    assert next(iter(found)).batch == 5


def test_rounds_go_through_all_calls(backend):
    order = []
    found = latency({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order[-6:] == list("ababab")
    assert all(seconds.shape == (3,) and (seconds > 0).all() for seconds in found.values())


def test_only_the_call_itself_is_timed(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 1  # what reading the clock costs falls between calls, but for one reading
        return now[0]

    def call():
        now[0] += 8

    monkeypatch.setattr("time.perf_counter", clock)
    assert latency({"a": call, "b": lambda: None}, rounds=2)["a"].tolist() == [9, 9]


def test_nothing_to_measure_is_refused(backend):
    model, data = mlp(backend), [(vectors(backend), np.zeros(5))]
    for arguments in (({}, data), (model, [])):
        with pytest.raises(ArgumentError, match="report: needs a stage"):
            report(*arguments)
    for arguments in ((model, data, 0), (model, data, 1, 0), (model, data, "a")):
        with pytest.raises(ArgumentError, match=r"(rounds|batch) must be an integer >= 1"):
            report(*arguments)
    for arguments in ((3, data), ({"a": 3}, data), (model, 3)):
        with pytest.raises(DTypeError, match=r"report: .* must be an? .*, got int"):
            report(*arguments)


def test_labels_that_do_not_belong_to_the_data_are_refused(backend):
    model, x = mlp(backend), vectors(backend)
    for batch in (x, (x,), [x]):
        with pytest.raises(ArgumentError, match=r"pairs \(x, y\), got x alone"):
            report(model, [batch], rounds=1)
    for count in (2, 7):
        with pytest.raises(ShapeError, match=rf"5 outputs for labels of \({count},\)"):
            report(model, [(x, np.zeros(count))], rounds=np.int64(1))
