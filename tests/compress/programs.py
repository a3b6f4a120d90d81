"""What integer programs are held to, step by step."""

from __future__ import annotations

import numpy as np

import minidl
from backends import Backend
from minidl import nn, ops
from minidl.compress import IntegerModel, clone
from minidl.compress.integer import How
from minidl.compress.integer_plan import ON_THE_SAME_GRID
from minidl.compress.qat import QATModel, simulated
from minidl.compress.static import plan_of
from minidl.verify.tolerances import assert_same

STATE_CODES = 4  # what an LSTM feeds back to itself is rounded in every step


def check_bits(program: IntegerModel, x: minidl.Tensor, backend: Backend) -> None:
    """Every step gives the same bits on another backend."""
    there, y = clone(program).to(backend), x.to(backend)
    for a, b in zip(there.outputs(y), program.outputs(x), strict=True):
        assert_same(a.numpy(), b.numpy())
    assert_same(there(y).numpy(), program(x).numpy())


def check_codes(program: IntegerModel, model: nn.Module, x: minidl.Tensor, how: How) -> None:
    """Every step is within one code of the float simulation of what the program made so far."""
    plan, _ = plan_of(model, [x], how)
    qat = QATModel(plan, program.grids, how).eval()
    found, known = [x, *program.outputs(x)], plan.known()
    for i, (step, module) in enumerate(zip(plan.steps, program.steps, strict=True), 1):
        given = [found[j] for j in module.sources]
        if step.kind == "states":  # after which the simulation has a row of cells
            given = [ops.concatenate([given[0], given[0][-1:]], 0)]
        want = simulated(step, given, known, how, x.shape[0])
        if module.grid_out < 0:
            size = want.numpy().astype(np.float64)
            scale = np.abs(size).max() / 127
        else:
            scale = program.grids[module.grid_out].scale
            if step.kind not in (*ON_THE_SAME_GRID, "embedding"):
                want = qat.points[module.grid_out](want)
        want = want[:-1] if step.kind == "lstm" else want  # no cells
        difference = found[i].numpy().astype(np.float64) - want.numpy()
        codes = STATE_CODES if step.kind == "lstm" else 1
        assert np.abs(difference).max(initial=0) <= codes * scale * 1.001, step.kind
