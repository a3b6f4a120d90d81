"""A model that moves, learns, is pruned, quantized, saved and loaded in any order, beside a twin.

The twin is plain NumPy: two matrices, two vectors, two masks, and the formulas written out. All
values are small whole numbers (weights are clipped to [-8, 8] after every step, the learning rate
is 1), so that float32 arithmetic is exact and both must agree to the bit, whatever the backend.
"""

from __future__ import annotations

import math
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import backends
from backends import Backend

from .. import compress, nn, optim
from ..compress import prune
from ..engine.creation import tensor
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..training.checkpoint import load_model, save_model
from .strategies import fill
from .tolerances import assert_same

SIZES = (5, 6, 4)  # inputs, hidden, outputs
LIMIT = 8


class Twin:
    """The network y = relu(x W1' + b1) W2' + b2 in NumPy."""

    def __init__(self, seed: int) -> None:
        n, h, o = SIZES
        self.state = {
            "0.weight": whole((h, n), seed), "0.bias": whole((h,), seed + 1),
            "2.weight": whole((o, h), seed + 2), "2.bias": whole((o,), seed + 3),
        }  # fmt: skip
        self.masks: dict[str, np.ndarray] = {}

    def step(self, x: np.ndarray, grad: np.ndarray) -> None:
        """Gradient descent on sum(y * grad) with learning rate 1, then the limits and the masks."""
        s = self.state
        hidden = np.maximum(x @ s["0.weight"].T + s["0.bias"], 0)
        back = (grad @ s["2.weight"]) * (hidden > 0)
        slopes = {
            "0.weight": back.T @ x, "0.bias": back.sum(0),
            "2.weight": grad.T @ hidden, "2.bias": grad.sum(0),
        }  # fmt: skip
        for name, slope in slopes.items():
            value = np.clip(s[name] - slope, -LIMIT, LIMIT)
            s[name] = np.where(self.masks.get(name, True), value, 0).astype(np.float32)

    def prune(self, amount: float) -> None:
        """Of all weights the smallest become 0; masked ones first, then in the model's order."""
        names = [name for name in self.state if name.endswith("weight")]
        ranks = [np.where(self.masks.get(n, True), abs(self.state[n]), -1).ravel() for n in names]
        every = np.concatenate(ranks)
        keep = np.ones(every.size, bool)
        keep[
            np.argsort(every, kind="stable")[: max(round(amount * every.size), (every < 0).sum())]
        ] = 0
        for name, part in zip(names, np.split(keep, [ranks[0].size]), strict=True):
            if not part.all():
                self.masks[name] = part.reshape(self.state[name].shape)
                self.state[name] = np.where(self.masks[name], self.state[name], np.float32(0))

    def in_integers(self, x: np.ndarray) -> np.ndarray:
        """What the network, quantized on x, makes of x: per-channel weights, affine codes."""
        s = self.state
        hidden = np.maximum(x @ s["0.weight"].T + s["0.bias"], 0)
        (step, zero), middle = grid_of(x), grid_of(hidden)
        codes = np.clip(np.round(x / step) + zero, 0, 255).astype(np.int32)
        sums, steps = sums_of(codes, (step, zero), s["0.weight"], s["0.bias"])
        factors = [fixed_point(float(f)) for f in steps / float(middle[0])]
        codes = np.array([
            [min(max(round(int(n) * f) + middle[1], middle[1]), 255)
             for n, f in zip(row, factors, strict=True)] for row in sums
        ])  # fmt: skip
        sums, steps = sums_of(codes, middle, s["2.weight"], s["2.bias"])
        y: np.ndarray = sums.astype(np.float32) * steps.astype(np.float32)
        return y


def grid_of(x: np.ndarray) -> tuple[np.float32, int]:
    """Scale and zero point. Source: Jacob et al. (2018), arXiv:1712.05877, section 2.1."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = np.float32(high / 255 - low / 255) or np.float32(1)
    return step, round(-low / float(step))


def sums_of(
    codes: np.ndarray, grid: tuple[np.float32, int], weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's sums of products of codes, with its bias, and what one of them is worth."""
    top = np.abs(weight).max(axis=1).astype(np.float64) / 127
    scale = np.where(top == 0, 1, top).astype(np.float32).astype(np.float64)
    steps = scale * float(grid[0])
    products = (codes - grid[1]) @ np.round(weight / scale[:, None]).astype(np.int32).T
    counted = np.round(bias.astype(np.float64) / float(grid[0]) / scale).astype(np.int32)
    return products + counted, steps


def fixed_point(factor: float) -> Fraction:
    """The nearest number of 31 significant bits."""
    _, exponent = math.frexp(factor)
    return Fraction(round(Fraction(factor) * 2 ** (31 - exponent))) / Fraction(2) ** (31 - exponent)


def whole(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Whole numbers from -4 to 4."""
    return fill(shape, np.float32, "integers", seed)


class Life(RuleBasedStateMachine):
    """What may happen to a model, in any order."""

    backend: Backend  # set by `machine`

    def __init__(self) -> None:
        super().__init__()
        self.places = (self.backend, backends.get("numpy"))
        self.twin = Twin(0)
        self.model = self.fresh(self.backend)
        with no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensor(self.twin.state[name], backend=self.backend))
        self.optimizer = self.descent()

    def fresh(self, backend: Backend) -> nn.Sequential:
        n, h, o = SIZES
        return nn.Sequential(
            nn.Linear(n, h, backend=backend), nn.ReLU(), nn.Linear(h, o, backend=backend)
        )

    def descent(self) -> optim.Optimizer:
        return optim.SGD(self.model.parameters(), lr=1.0)

    @property
    def here(self) -> Backend:
        return next(iter(self.model.parameters())).backend

    def batch(self, seed: int, rows: int, columns: int) -> tuple[np.ndarray, Tensor]:
        values = whole((rows, columns), seed)
        return values, tensor(values, backend=self.here)

    @rule(place=st.integers(0, 1))
    def move(self, place: int) -> None:
        """To the backend or to NumPy; the optimizer comes along."""
        self.model.to(self.places[place])

    @rule(seed=st.integers(0, 99), rows=st.integers(1, 4))
    def step(self, seed: int, rows: int) -> None:
        (x, here), (g, grad) = (
            self.batch(seed, rows, SIZES[0]),
            self.batch(seed + 1, rows, SIZES[2]),
        )
        self.optimizer.zero_grad()
        (self.model(here) * grad).sum().backward()
        self.optimizer.step()
        with no_grad():
            for parameter in self.model.parameters():
                parameter.clamp_(-LIMIT, LIMIT)
        self.twin.step(x, g)

    @rule(percent=st.integers(0, 95))
    def prune(self, percent: int) -> None:
        prune.magnitude(self.model, percent / 100)
        self.twin.prune(percent / 100)

    @rule()
    def clone(self) -> None:
        self.model = compress.clone(self.model)  # type: ignore[assignment]
        self.optimizer = self.descent()

    @rule(compact=st.booleans(), place=st.integers(0, 1))
    def save_and_load(self, compact: bool, place: int) -> None:
        """As a checkpoint, into the same model; or in the compact form, into a new one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            if compact:
                compress.save(self.model, path)
                self.model = compress.load(self.fresh(self.places[place]), path)  # type: ignore[assignment]
            else:
                save_model(self.model, path)
                load_model(self.model, path)
        self.optimizer = self.descent()

    @rule(seed=st.integers(0, 99))
    def quantize(self, seed: int) -> None:
        """The quantized copy computes what the formulas say; the model itself goes on."""
        x, here = self.batch(seed, 5, SIZES[0])
        with no_grad():
            y = compress.quantize_model(self.model, [here])(here)
        assert_same(y.numpy(), self.twin.in_integers(x))

    @invariant()
    def equal(self) -> None:
        for name, parameter in self.model.named_parameters():
            assert_same(parameter.numpy(), self.twin.state[name], signed_zero=False)
            mask = getattr(self.model[int(name[0])], f"{name[2:]}_mask", None)
            assert (mask is not None) == (name in self.twin.masks), f"the mask of {name}"
            if mask is not None:
                assert_same(mask.numpy(), self.twin.masks[name])


def live(backend: Backend, profile: Any = None) -> None:
    """Let models live through random histories on a backend. Raises: AssertionError."""
    machine = type("Life", (Life,), {"backend": backend})
    run_state_machine_as_test(machine, settings=profile or settings())
