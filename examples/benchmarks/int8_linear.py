"""A linear layer of 1024 x 1024 with bias and ReLU in 8-bit integers: float32 in, float32 out.

Inputs and weights lie on their grids, so every library that quantizes them finds the same codes and
the float32 layer has the same values. ONNX Runtime takes part twice: with the whole layer, and with
QLinearMatMul alone, which is given codes and gives codes. Its like is "minidl numba, codes".
"""

from __future__ import annotations

import os

import numpy as np
from harness.workload import Arrays, Row

TITLE = "int8 Linear 1024 -> 1024 + bias + ReLU"
ROWS = [Row(f"batch {n}", n, batch=n) for n in (1, 32, 256)]
STEPS = 1
TOLERANCE = 1 / 255  # one step of ONNX Runtime's outputs, whose codes are spread over all results
SIZE = 1024
ZERO_POINT, X_SCALE = 128, 1 / 64  # of the inputs, uint8: -2 to 127/64


def given(batch: int) -> Arrays:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (batch, SIZE))
    x[0, :2] = 0, 255  # the grid's ends, by which a library recognises it
    weight = random.integers(-127, 128, (SIZE, SIZE))
    weight[:, 0] = 127  # each row reaches its end
    w_scale = random.uniform(0.5, 1.0, SIZE) / 2048
    bias = random.integers(-50_000, 50_000, SIZE)  # in units of the sums of products
    total = (x - ZERO_POINT) @ weight.T + bias
    y_scale = (total * w_scale * X_SCALE).max() / 255
    return {
        "x_codes": x.astype("uint8"), "weight_codes": weight.astype("int8"),
        "bias_codes": bias.astype("int32"), "w_scale": w_scale.astype("float32"),
        "y_scale": np.float32(y_scale), "x": np.float32((x - ZERO_POINT) * X_SCALE),
        "weight": np.float32(weight * w_scale[:, None]),
        "bias": np.float32(bias * w_scale * X_SCALE),
    }  # fmt: skip


def model(given):
    from minidl import nn, tensor

    layers = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU())
    layers[0].load_state_dict({name: tensor(given[name]) for name in ("weight", "bias")})
    return layers


def in_minidl(given, compiled):
    import minidl
    from minidl import compress

    x = minidl.tensor(given["x"])
    layers = compress.quantize_model(model(given), calibration=[x])
    return inference(layers, x, compiled)


def in_minidl_codes(given, compiled):
    """Codes of 8 bits in and out, as between the layers of a network."""
    import minidl
    from minidl import compress

    x, codes = minidl.tensor(given["x"]), minidl.tensor(given["x_codes"])
    program = compress.quantize_model(model(given), calibration=[x], quantize_output=True)
    scale = program.code_grids[1].scale

    def step():
        with minidl.no_grad():
            return Codes(program.codes(codes).data, scale)

    return step


def in_minidl_float32(given, compiled):
    import minidl

    return inference(model(given), minidl.tensor(given["x"]), compiled)


def inference(layers, x, compiled):
    import minidl

    forward = compiled(lambda x: layers(x))

    def step():
        with minidl.no_grad():
            return forward(x)

    return step


def in_onnxruntime(given, compiled):
    """Quantize, multiply and add the bias, dequantize; ReLU comes free with the output's zero 0."""
    from onnx import helper

    steps = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
        helper.make_node(
            "QGemm",
            ["q", "x_scale", "x_zero", "weight", "w_scale", "w_zero", "bias", "y_scale", "y_zero"],
            ["p"], domain="com.microsoft",
        ),
        helper.make_node("DequantizeLinear", ["p", "y_scale", "y_zero"], ["y"]),
    ]  # fmt: skip
    weight = given["weight_codes"].T
    session = session_of(given, steps, weight, given["x"], "float32")
    return lambda: session.run(None, {"x": given["x"]})[0]


def in_onnxruntime_product(given, compiled):
    """QLinearMatMul has no bias. Sixteen more inputs, always the same, carry it exactly.

    bias = 127 (sum of 15 codes) + 1 code, and the inputs belonging to them are 127 and 1.
    """
    from onnx import helper

    names = ["x", "x_scale", "x_zero", "weight", "w_scale", "w_zero", "y_scale", "y_zero"]
    bias = given["bias_codes"]
    units = (bias + 63) // 127  # what the fifteen share, and -63 to 63 left over
    shares = np.array([(units + k) // 15 for k in range(15)])
    weight = np.concatenate([given["weight_codes"].T, shares, (bias - 127 * units)[None]])
    fixed = np.full((len(given["x_codes"]), 16), ZERO_POINT + 127, "uint8")
    fixed[:, -1] = ZERO_POINT + 1
    x = np.concatenate([given["x_codes"], fixed], axis=1)
    steps = [helper.make_node("QLinearMatMul", names, ["y"])]
    session = session_of(given, steps, weight.astype("int8"), x, "uint8")
    return lambda: Codes(session.run(None, {"x": x})[0], given["y_scale"])


class Codes:
    """Becomes numbers only when somebody looks at it, which is not while time is taken."""

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    def __array__(self, dtype=None, copy=None):
        return self.codes * self.scale


def session_of(given, steps, weight, x, result):
    """The graph of these steps, ready to run on as many threads as the others have."""
    import onnxruntime
    from onnx import helper, numpy_helper

    constants = {
        "x_scale": np.float32(X_SCALE), "x_zero": np.uint8(ZERO_POINT), "weight": weight,
        "w_scale": given["w_scale"], "w_zero": np.zeros(SIZE, "int8"), "bias": given["bias_codes"],
        "y_scale": given["y_scale"], "y_zero": np.uint8(0),
    }  # fmt: skip
    used = {name for step in steps for name in step.input}

    def described(name, dtype, shape):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        steps, "linear", [described("x", x.dtype, x.shape)],
        [described("y", result, [len(x), SIZE])],
        [numpy_helper.from_array(np.array(v), k) for k, v in constants.items() if k in used],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(graph, opset_imports=sets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=providers)
