"""The contract: optimizers and the limiting of gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .words import Array


class Training(ABC):
    """In place, on flat arrays."""

    # -- optimizers: in place on flat arrays of one dtype; `grad` is left as it is ---------------
    @abstractmethod
    def sgd_step(
        self, param: Array, grad: Array, velocity: Array | None, lr: float, momentum: float,
        dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        """In place: one step of `minidl.optim.SGD`; on the first one velocity = grad."""

    @abstractmethod
    def rmsprop_step(
        self, param: Array, grad: Array, square: Array, velocity: Array | None,
        lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        """In place: one step of `minidl.optim.RMSprop`."""

    @abstractmethod
    def adagrad_step(
        self, param: Array, grad: Array, square: Array, lr: float, eps: float, weight_decay: float
    ) -> None:
        """In place: one step of `minidl.optim.Adagrad`; lr is already decayed."""

    @abstractmethod
    def adam_step(
        self, param: Array, grad: Array, mean: Array, square: Array, step: int, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In place: a step of `minidl.optim.Adam`, or of AdamW if decoupled; step counts from 1."""

    # -- limiting gradients -----------------------------------------------------------------------
    @abstractmethod
    def norm(self, x: Array) -> Array:
        """Square root of the sum of all squares, (), in the dtype of x.

        It is added up in float64: float32 neither overflows on the way nor loses small terms.
        """

    @abstractmethod
    def scale(self, x: Array, factor: Array) -> None:
        """In place: x *= factor, which is (), floating and rounded to the dtype of x first."""

    @abstractmethod
    def limit(self, x: Array, bound: float) -> None:
        """In place: x limited to [-bound, bound], bound >= 0; NaN stays NaN."""
