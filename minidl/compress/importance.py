"""Channels that can go, and how much each of them matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..nn import BatchNorm1d, BatchNorm2d, Module
from .graph import Value

CRITERIA = ("l1", "l2", "taylor", "bn")
Place = tuple[Value, int]  # an axis of a parameter or buffer


@dataclass(eq=False)
class Group:
    """Channels of one kind, any of which can go: their labels, sorted, and for each place that gets
    shorter which label each index along that axis has.
    """

    labels: np.ndarray
    places: dict[Place, np.ndarray]

    def __len__(self) -> int:
        return self.labels.size

    def totals(self, each: Callable[[Value, int], np.ndarray]) -> np.ndarray:
        """For each channel, the sum of each(value, axis), one number per index, over all places."""
        found = np.zeros(len(self))
        for (value, axis), labels in self.places.items():
            own = np.isin(labels, self.labels)
            at = np.searchsorted(self.labels, labels[own])
            np.add.at(found, at, each(value, axis)[own])
        return found

    def __str__(self) -> str:
        listed = ", ".join(f"{value.path} axis {axis}" for value, axis in self.places)
        return f"{len(self)} channels: {listed}"

    __repr__ = __str__


class Importance:
    """Ranks channels by one of the CRITERIA; see `structured.prune_channels` for their sources."""

    def __init__(self, name: str, model: Module, criterion: str) -> None:
        self.name, self.criterion = name, criterion
        self.parameters = dict(model.named_parameters())
        self.modules = dict(model.named_modules())

    def applies(self, group: Group) -> bool:
        """Whether the criterion says anything of these channels."""
        return self.criterion != "bn" or bool(group.totals(self._scales).all())

    def scores(self, group: Group) -> np.ndarray:
        """How much each channel matters."""
        if self.criterion == "bn":
            scale = group.totals(lambda value, axis: self._scales(value, axis, np.abs))
            return np.asarray(scale / group.totals(self._scales))
        if self.criterion == "taylor":
            return np.asarray(group.totals(self._first_order) ** 2)
        squared = self.criterion == "l2"
        of = np.square if squared else np.abs
        total = group.totals(lambda value, axis: self._weights(value, axis, of))
        return np.sqrt(total) if squared else total

    def _weights(
        self, value: Value, axis: int, of: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Only weights count: a bias or a scale says nothing of how much a channel is used."""
        if value.kind != "parameter" or len(value.shape) < 2:
            return np.zeros(value.shape[axis])
        return _beside(of(_host(self.parameters[value.path])), axis)

    def _first_order(self, value: Value, axis: int) -> np.ndarray:
        if value.kind != "parameter":
            return np.zeros(value.shape[axis])
        parameter = self.parameters[value.path]
        if parameter.grad is None:
            raise ArgumentError(
                f"{self.name}: criterion 'taylor' needs gradients, and {value.path} has none; call "
                "loss.backward() first"
            )
        return _beside(_host(parameter) * _host(parameter.grad), axis)

    def _scales(
        self, value: Value, axis: int, of: Callable[[np.ndarray], np.ndarray] = np.ones_like
    ) -> np.ndarray:
        path, _, name = value.path.rpartition(".")
        if isinstance(self.modules[path], (BatchNorm1d, BatchNorm2d)) and name == "weight":
            return of(_host(self.parameters[value.path]))
        return np.zeros(value.shape[axis])


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def _beside(array: np.ndarray, axis: int) -> np.ndarray:
    """Sums over all other axes."""
    return np.asarray(array.sum(tuple(i for i in range(array.ndim) if i != axis)))
