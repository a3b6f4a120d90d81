"""Post-training quantization: a trained model becomes an integer program or gets integer layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..engine.dtypes import float32
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError
from ..nn import LSTM, Conv2d, Linear, Module
from ..ops import check
from .integer import How, IntegerModel, weight_scheme, within
from .layers import Coded, QuantConv2d, QuantLinear
from .models import clone, replace
from .observer import MinMax, Observer
from .qtensor import scheme_of
from .static import quantize_static

LAYERS: tuple[type[Module], ...] = (Linear, Conv2d)  # that become dynamic ones


def quantize_model(
    model: Module,
    calibration: Iterable[Any] | None = None,
    weights: str = "per_channel",
    activations: str = "affine",
    inplace: bool = False,
    modules: Iterable[str] | None = None,
    observer: Callable[[], Observer] = MinMax,
    weight_bits: int = 8,
    quantize_output: bool = False,
) -> Module:
    """The model in 8-bit integers, for inference.

    calibration: batches, such as a DataLoader gives; their first tensor goes into the model. The
    result is an `IntegerModel`: everything between the first layer and the last runs on codes,
    whose ranges are what `observer` makes of the batches (static); an LSTM does, unless its last
    cells are read or its first states depend on the input, and a GRU or RNN stays float, as the
    printed program says of whatever does. None: Linear and Conv2d layers
    alone are replaced, and take the range of each batch (dynamic), which needs no data but a pass
    over every input. weights: one scale per output channel ("per_channel") or per tensor
    ("per_tensor"); always symmetric, so that zeros of a pruned layer stay zero; their codes may
    have fewer bits (2 to 8), in static layers. activations: "affine" (uint8) or "symmetric" (int8).
    modules: the dotted names of the layers to quantize, or of modules that have some (default:
    all). inplace: change the model itself (dynamic). quantize_output: let a last layer make codes,
    as `IntegerModel.codes` needs it, which takes and gives codes. The result is in eval mode.
    Source: Jacob et al. (2018), arXiv:1712.05877; Krishnamoorthi (2018), arXiv:1806.08342,
    section 3; Nagel et al. (2021), arXiv:2106.08295, section 3.
    Raises: ArgumentError for a model that is quantized already or has nothing to quantize, and for
    calibration data that is empty; NonFiniteError for weights or calibration data with NaN or
    infinity; DTypeError for a model that is not float32; GraphError if it cannot be traced.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> x = minidl.tensor([[0.0, 51.0, 102.0, 255.0]])
    >>> program = quantize_model(model, [x], modules=["0"])
    >>> [step.describe() for step in program.steps]
    ['quantize', 'Linear+Relu 3x4 per channel', 'dequantize', 'Linear']
    >>> program.grids[0].scale, program.grids[0].zero_point, program(x).shape
    (1.0, 0, (1, 2))
    """
    check.function("quantize_model", "observer", observer)
    how = settings("quantize_model", model, weights, activations, modules, weight_bits)
    if calibration is not None:
        check_batches("quantize_model", calibration)
        if inplace:
            raise ArgumentError(
                "quantize_model: with calibration data a new model is made; leave out inplace"
            )
        how = how._replace(quantize_output=bool(quantize_output))
        return quantize_static(model, calibration, how, observer)
    if weight_bits != 8 or quantize_output:
        raise ArgumentError(
            "quantize_model: dynamic layers have 8-bit weights and give floats; pass calibration"
        )
    result = model if inplace else clone(model)
    per_channel = weights == "per_channel"
    twins: dict[Module, Module] = {}
    for layer in layers("quantize_model", result, how.modules):
        twins[layer] = (
            QuantLinear(layer, per_channel, how.activations) if isinstance(layer, Linear)
            else QuantConv2d(layer, per_channel, how.activations)
        )  # fmt: skip
    return replace(result, twins).eval()


def settings(
    name: str, model: Module, weights: str, activations: str, modules: Iterable[str] | None,
    weight_bits: int,
) -> How:  # fmt: skip
    """The settings, checked for the function of that name. Raises: ArgumentError, DTypeError."""
    check.instance(name, "model", model, Module)
    check.choice(name, "weights", weights, ("per_channel", "per_tensor"))
    bits = check.integer(name, "weight_bits", weight_bits)
    names = None if modules is None else tuple(modules)
    how = How(weights, scheme_of(activations), weight_scheme(bits), names)
    layers(name, model, names, (*LAYERS, LSTM))
    return how


def check_batches(name: str, calibration: Any) -> None:
    """Raises: DTypeError."""
    check.instance(name, "calibration", calibration, Iterable)
    if isinstance(calibration, (Tensor, np.ndarray)):
        raise DTypeError(f"{name}: calibration must be a list of batches; wrap it: [x]")


def layers(
    name: str, model: Module, modules: tuple[str, ...] | None = None,
    kinds: tuple[type[Module], ...] = LAYERS,
) -> list[Any]:  # fmt: skip
    """The layers to quantize. Raises: ArgumentError, DTypeError."""
    every = dict(model.named_modules())
    if any(isinstance(module, (Coded, IntegerModel)) for module in every.values()):
        raise ArgumentError(
            f"{name}: the model is quantized already. Quantize the float model, which"
            " quantize_model left as it was unless it was called with inplace=True."
        )
    chosen = ("",) if modules is None else modules
    unknown = [path for path in chosen if path not in every]
    if unknown:
        raise ArgumentError(f"{name}: no module {unknown[0]!r}; there are {sorted(every)}")
    found = {
        path: m for path, m in every.items()
        if isinstance(m, kinds) and any(within(path, part) for part in chosen)
    }  # fmt: skip
    if not found:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ArgumentError(f"{name}: there is no {names} to quantize")
    for path, layer in found.items():
        dtype = next(layer.parameters()).dtype
        if dtype != float32:
            raise DTypeError(
                f"{name}: {path or 'the layer'} is {dtype}; convert the model first: model.float()"
            )
    return list(found.values())
