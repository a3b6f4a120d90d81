"""Static quantization: from a float model and batches like those it will see to integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..engine.dtypes import float32
from ..engine.tensor import Tensor
from ..errors import ArgumentError, NonFiniteError
from ..nn import Module
from .integer import How, IntegerModel, planned
from .integer_parts import Point
from .integer_plan import Plan
from .integer_recurrent import state_grid
from .models import in_use, inputs
from .observer import Observer
from .qtensor import grid
from .recurrences import start
from .requantize import Grid

Batches = Iterator[Any]


def quantize_static(
    model: Module, calibration: Iterable[Any], how: How, observer: Callable[[], Observer]
) -> IntegerModel:
    """The integer program of a model whose grids cover what observers saw in the batches."""
    plan, batches = plan_of(model, calibration, how)
    return IntegerModel(plan, calibrated(plan, batches, how, observer), how).eval()


def plan_of(model: Module, calibration: Iterable[Any], how: How) -> tuple[Plan, Batches]:
    """The plan, traced with the first samples of the first batch, and all batches."""
    batches = iter(calibration)
    first = next(batches, None)
    if first is None:
        raise ArgumentError(
            "quantize_model: calibration has no batches. Pass a DataLoader or a list of batches"
            " (an iterator can be used only once), or None for dynamic quantization."
        )
    example = inputs(first, model)
    plan = planned(model, example[:2] if example.ndim else example, how)
    return plan, chain([first], batches)


def calibrated(
    plan: Plan, batches: Batches, how: How, observer: Callable[[], Observer]
) -> list[Grid]:
    """The grid of each point of a plan."""
    observers = {p.value: observer() for p in plan.points if p.table is None}
    with in_use(plan.graph.model):
        plan.watch(batches, lambda value, x: observers[value].observe(x))
        known = plan.known()
    return [
        grid_of(p, *observers[p.value].bounds(), how) if p.table is None
        else table_grid(p, known[p.table], how)
        for p in plan.points
    ]  # fmt: skip


def grid_of(point: Point, low: Any, high: Any, how: How) -> Grid:
    """The grid that covers the range of a point. Raises: NonFiniteError."""
    node = point.value.producer
    if not -math.inf < low <= high < math.inf:
        where = f"result of {node.op} in module {node.module!r}" if node else "input of the model"
        raise NonFiniteError(
            f"quantize_model: the {where} ranges from {low} to {high} on the calibration data;"
            " look there for a NaN or an infinity"
        )
    scheme = how.activations if point.table is None else how.weight_scheme
    if node is not None and point.of_states:
        first = start(node.inputs[3])  # h
        return state_grid(min(low, *first), max(high, *first), scheme)
    return Grid(*grid(float(low), float(high), scheme, np.dtype(float32)), scheme)


def table_grid(point: Point, table: Tensor, how: How) -> Grid:
    """The grid of an embedding, which covers all its rows."""
    return grid_of(point, *table.backend.bounds(table.data), how)


def skeleton(model: Module, example: Tensor, how: How) -> IntegerModel:
    """The program of a model of the same architecture, to be filled by `load_state_dict`."""
    plan = planned(model, example, how)
    return IntegerModel(plan, [grid_of(p, 0.0, 0.0, how) for p in plan.points], how).eval()
