"""What must hold of the whole engine on any backend, whatever the numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend

from ... import compress, nn, ops
from ...compress import QTensor, prune, quantize
from ...engine.creation import randn, tensor
from ...engine.modes import use_backend
from ...engine.random import Generator, manual_seed
from ...engine.tensor import Tensor
from ...training import checkpoint
from ..conformance import drawn, each, law
from ..stateful import live
from ..strategies import FLOATS, arrays, fill, float_dtypes, seeds, shapes
from ..tolerances import assert_close, assert_same, composed_bound, quantization_bound

SCHEMES = (
    ("symmetric", None), ("affine", None), ("affine", "int8"), ("symmetric", "int4"),
    ("affine", "int4"),
)  # fmt: skip
KINDS = ("integers", "normal", "offset", "constant", "wide")
amounts = st.integers(0, 99).map(lambda percent: percent / 100)


@st.composite
def quantizations(draw: st.DrawFn) -> tuple[Any, ...]:
    """x, the scheme, its dtype, an axis or None, and the size of groups or None."""
    x = draw(arrays(shapes(max_dims=3), kinds=KINDS, plain=True)).values
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1)) if x.ndim else None
    scheme, dtype = draw(st.sampled_from(SCHEMES))
    grouped = axis is None and x.ndim > 0
    return x, scheme, dtype, axis, draw(st.none() | st.integers(1, 4)) if grouped else None


def encoded(backend: Backend, case: tuple[Any, ...]) -> QTensor:
    x, scheme, dtype, axis, size = case
    return quantize(tensor(x, backend=backend), scheme, dtype, axis, group_size=size)


@law("codes, scales and zero points are the same bits everywhere")
@drawn(case=quantizations())
def quantized_bits(backend: Backend, reference: Backend, case: tuple[Any, ...]) -> None:
    here, there = encoded(backend, case), encoded(reference, case)
    assert_same(here.numpy(), there.numpy())
    assert_same(here.scale.numpy(), there.scale.numpy())
    assert_same(here.zero_point.numpy(), there.zero_point.numpy())


@law("quantizing what was quantized changes nothing")
@drawn(case=quantizations())
def quantized_twice(backend: Backend, case: tuple[Any, ...]) -> None:
    q = encoded(backend, case)
    assert_same(quantize(q.dequantize(), like=q).numpy(), q.numpy())


@law("a quantized number is off by half a step at most")
@drawn(case=quantizations())
def quantization_error(backend: Backend, case: tuple[Any, ...]) -> None:
    """The grid covers all of x."""
    x, q = case[0], encoded(backend, case)
    steps = np.broadcast_to(backend.to_numpy(q.along(q.scale)), x.shape).astype(np.float64)
    bound = quantization_bound(x, steps)
    assert_close(q.dequantize().numpy(), x.astype(np.float64), bound, x.dtype)


def network(backend: Backend, kind: str = "integers", seed: int = 0) -> nn.Sequential:
    """A padded, a grouped and a linear layer on images (N, 2, 6, 6), with weights of a kind."""
    options: dict[str, Any] = {"backend": backend, "generator": Generator(seed)}
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, **options), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False, **options), nn.Flatten(),
        nn.Linear(24, 3, **options),
    )  # fmt: skip
    for i, parameter in enumerate(model.parameters()):
        values = fill(parameter.shape, np.float32, kind, seed + i)
        parameter.detach().copy_(tensor(values, backend=backend))
    return model


def bits(model: nn.Module) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of the model down to the bit."""
    found = {name: np.ascontiguousarray(x.numpy()) for name, x in model.state_dict().items()}
    return {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in found.items()}


@law("pruning nothing is the identity")
@drawn(seed=seeds)
def prune_nothing(backend: Backend, seed: int) -> None:
    model = network(backend, "normal", seed)
    before = bits(model)
    assert bits(prune.magnitude(model, 0)) == before


@law("masks are the same bits everywhere, and of the size asked for")
@drawn(
    amount=amounts,
    scope=st.sampled_from(("global", "layer")),
    kind=st.sampled_from(("integers", "normal")),
    seed=seeds,
)
def masks(
    backend: Backend, reference: Backend, amount: float, scope: str, kind: str, seed: int
) -> None:
    here, there = (
        prune.magnitude(network(b, kind, seed), amount, scope) for b in (backend, reference)
    )
    assert bits(here) == bits(there)
    removed = sum(int((~t.mask.numpy()).sum()) for t in prune.masked(here) if t.mask is not None)
    sizes = [t.parameter.size for t in prune.targets(here)]
    wanted = [sum(sizes)] if scope == "global" else sizes
    assert removed == sum(round(amount * n) for n in wanted)


@law("the gradients of the parts of a batch add up to the gradient of the whole")
@drawn(seed=seeds, cut=st.integers(0, 6))
def shards(backend: Backend, seed: int, cut: int) -> None:
    """Bit for bit: the numbers are whole and small."""
    x, grad = (fill(s, np.float32, "integers", seed) for s in ((6, 2, 6, 6), (6, 3)))
    model = network(backend)

    def backward(part: slice) -> None:
        y = model(tensor(x[part], backend=backend))
        y.backward(tensor(grad[part], backend=backend))

    found = []
    for parts in ([slice(None)], [slice(0, cut), slice(cut, None)]):
        model.zero_grad()
        for part in parts:
            backward(part)
        found.append([np.array(p.grad.numpy()) for p in model.parameters() if p.grad is not None])
    for whole, added in zip(*found, strict=True):
        assert_same(added, whole, signed_zero=False)


@law("padding does not change a recurrent network that knows the lengths")
@each("layer", ("RNN", "LSTM", "GRU"))
@drawn(seed=seeds)
def padding(backend: Backend, layer: str, seed: int) -> None:
    """Each sequence of a padded batch, and its gradients, against the sequence alone; what stands
    behind its end does not matter, be it NaN.
    """
    options: dict[str, Any] = {"backend": backend, "generator": Generator(seed)}
    model = getattr(nn, layer)(3, 4, 2, bidirectional=True, **options)
    x, grad = fill((5, 3, 3), np.float32, "normal", seed), fill((5, 3, 8), np.float32, "normal", 1)
    ends = np.random.default_rng(seed).integers(1, 5, 3, np.int64, endpoint=True)
    behind = np.arange(5)[:, None] >= ends
    x[behind], grad[behind] = np.nan, 0

    def run(part: Any, steps: int, lengths: Any) -> list[np.ndarray]:
        model.zero_grad()
        y, last = model(tensor(x[:steps, part], backend=backend), lengths=lengths)
        y.backward(tensor(grad[:steps, part], backend=backend), retain_graph=True)
        states = last if isinstance(last, tuple) else (last,)
        grads = [p.grad.numpy() for p in model.parameters() if p.grad is not None]
        return [np.array(a) for a in (y.numpy(), *(s.numpy() for s in states), *grads)]

    y, *found = run(slice(None), 5, tensor(ends, backend=backend))
    assert_same(y[behind], np.zeros_like(y[behind]), signed_zero=False)
    alone = [run(slice(n, n + 1), int(end), None) for n, end in enumerate(ends)]
    expected = [np.concatenate([a[k] for a in alone], 1) for k in range(1, 1 + model.count)]
    expected += [np.sum([a[k] for a in alone], 0) for k in range(1 + model.count, len(alone[0]))]
    for n, (end, parts) in enumerate(zip(ends, alone, strict=True)):
        bound = composed_bound(np.float32, parts[0])
        assert_close(y[:end, n], parts[0][:, 0].astype(np.float64), bound, np.float32)
    for got, want in zip(found, expected, strict=True):
        assert_close(got, want.astype(np.float64), composed_bound(np.float32, want), np.float32)


DTYPES = (*FLOATS, np.int8, np.uint8, np.int32, np.int64, np.bool_)


@law("tensors come back from a file and from another backend as they were")
@drawn(shape=shapes(), seed=seeds, dtype=st.sampled_from(DTYPES))
def round_trip(backend: Backend, reference: Backend, shape: Any, seed: int, dtype: Any) -> None:
    kind = "bits" if dtype in FLOATS else "integers"
    values = fill(shape, np.float64 if kind == "integers" else dtype, kind, seed).astype(dtype)
    x = tensor(values, backend=backend)
    assert_same(x.to(reference).to(backend).numpy(), values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        checkpoint.save(path, {"x": x})
        found, _ = checkpoint.load(path, backend)
    assert found["x"].backend is backend
    assert_same(found["x"].numpy(), values)


@law("a pruned or quantized model comes back from its file as it was")
@drawn(amount=amounts, integers=st.booleans(), seed=seeds)
def model_round_trip(backend: Backend, amount: float, integers: bool, seed: int) -> None:
    model: nn.Module = prune.magnitude(network(backend, "normal", seed), amount)
    x = tensor(fill((2, 2, 6, 6), np.float32, "normal", seed), backend=backend)
    if integers:
        model = compress.quantize_model(model, [x])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        compress.save(model, path)
        twin = compress.load(network(backend), path)
    assert bits(twin) == bits(model)
    assert_same(twin.eval()(x).numpy(), model.eval()(x).numpy())


@law("one seed gives the same numbers everywhere")
@drawn(seed=st.integers(0, 2**64 - 1), shape=shapes(), dtype=float_dtypes)
def seeded(backend: Backend, reference: Backend, seed: int, shape: Any, dtype: Any) -> None:
    """Initial weights, dropout masks and drawn tensors, and where the stream stands afterwards."""
    found: list[list[Tensor]] = []
    for place in (backend, reference):
        with use_backend(place):
            state = manual_seed(seed)
            x = randn(*shape, dtype=dtype)
            layer = nn.Linear(3, 2)
            found.append([x, layer.weight, ops.dropout(x, 0.5), tensor(state.state[1])])
    for here, there in zip(*found, strict=True):
        assert_same(here.numpy(), there.numpy())


@law("a model that moves, learns, is pruned, quantized, saved and loaded equals its NumPy twin")
def life(backend: Backend) -> None:
    live(backend)
