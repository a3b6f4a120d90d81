"""Integer layers beside ONNX Runtime's, on the same scales: their codes differ by a step at most.

Both requantize, but ONNX Runtime multiplies sums by a float32 factor, this library by 31 bits.
"""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.compress import quantize_model
from minidl.engine.random import Generator

NOT_HERE = "the other side of the comparison: pip install 'minidl[peers]'"
onnx = pytest.importorskip("onnx", reason=NOT_HERE)
runtime = pytest.importorskip("onnxruntime", reason=NOT_HERE)


def q_linear_conv(x: np.ndarray, step, grids, moves) -> np.ndarray:
    """The codes that QLinearConv makes of codes x (N, C, H, W); a Linear is a 1x1 convolution."""
    given, result = grids[step.grid_in[0]], grids[step.grid_out]
    weight = step.weight.numpy()
    weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
    scales = np.broadcast_to(step.weight_scale.numpy(), weight.shape[:1]).astype(np.float32)
    constants = {
        "x_scale": np.float32(given.scale), "x_zero": x.dtype.type(given.zero_point),
        "w": weight, "w_scale": scales, "w_zero": np.zeros(len(weight), np.int8),
        "y_scale": np.float32(result.scale), "y_zero": result.scheme.dtype.type(result.zero_point),
        "bias": step.bias.numpy(),
    }  # fmt: skip
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"]
    made = onnx.helper
    kind = made.np_dtype_to_tensor_dtype(x.dtype)
    graph = made.make_graph(
        [made.make_node("QLinearConv", names, ["y"], **moves)], "layer",
        [made.make_tensor_value_info("x", kind, x.shape)],
        [made.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = made.make_model(graph, opset_imports=[made.make_opsetid("", 13)], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def codes(numbers: np.ndarray, grid) -> np.ndarray:
    found = np.round(numbers / grid.scale) + grid.zero_point
    return found.astype(grid.scheme.dtype)


@pytest.mark.parametrize("per", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("seed", range(3))
def test_codes_are_those_of_onnx_runtime_to_one_step(backend, per, seed):
    options = {"backend": backend, "generator": Generator(seed)}
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, **options), nn.ReLU(),
        nn.Conv2d(16, 8, 3, stride=2, **options), nn.Flatten(),
        nn.Linear(8 * 9, 32, **options), nn.ReLU(), nn.Linear(32, 4, **options),
    )  # fmt: skip
    x = minidl.randn(16, 3, 8, 8, generator=Generator(seed + 9), backend=backend)
    program = quantize_model(model, [x], per)
    grids, held = program.grids, [y.numpy() for y in program.outputs(x)]
    moves = [{"pads": [1] * 4}, {"strides": [2, 2]}, {}]
    layers = [i for i, step in enumerate(program.steps) if hasattr(step, "weight_scale")]
    for i, moved in zip(layers[:3], moves, strict=True):
        step = program.steps[i]
        given = codes(held[i - 1], grids[step.grid_in[0]])
        given = given if given.ndim == 4 else given.reshape(*given.shape, 1, 1)
        theirs = q_linear_conv(given, step, grids, moved).astype(np.int64)
        ours = codes(held[i], grids[step.grid_out]).astype(np.int64)
        assert np.abs(theirs.reshape(ours.shape) - ours).max() <= 1
        assert len(np.unique(ours)) > 50
