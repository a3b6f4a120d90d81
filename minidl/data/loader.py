"""The DataLoader: which samples make up batch k of epoch e, and how they reach the backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backends import Backend

from ..engine.arguments import function, instance, integer
from ..engine.creation import from_numpy
from ..engine.modes import get_backend
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError, CheckpointError, DataError
from .dataset import Dataset
from .transforms import Transform

Batch = tuple[Tensor, ...]


class DataLoader:
    """Batches of a data set as Tensors, in an order that depends on seed and epoch alone.

    Every `for` loop over the loader is one epoch, and shuffles anew. Batch k of epoch e, with its
    random transforms, is the same on every machine and backend, whether or not the batches before
    it were taken: so training can be resumed in the middle of an epoch (`state_dict`). transform
    gets the first component of a batch as a host array (see `minidl.data.transforms`); backend is
    where the Tensors live, the default one if None.

    Raises: ArgumentError for a batch_size below 1 and for a seed that is none; DataError for an
    empty data set; DTypeError for what is no Dataset.

    >>> from minidl.data import ArrayDataset
    >>> loader = DataLoader(ArrayDataset(np.arange(5), np.arange(5) % 2), batch_size=2)
    >>> [x.tolist() for x, y in loader]
    [[0, 1], [2, 3], [4]]
    >>> len(loader), loader.epoch
    (3, 1)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        backend: str | Backend | None = None,
    ) -> None:
        instance("DataLoader", "dataset", dataset, Dataset, "; arrays make an ArrayDataset(x, y)")
        if transform is not None:
            function("DataLoader", "transform", transform, "batch", "generator")
        self.dataset, self.shuffle, self.drop_last = dataset, bool(shuffle), bool(drop_last)
        self.batch_size = integer("DataLoader", "batch_size", batch_size, 1)
        self.seed = Generator(seed).seed
        self.transform = transform
        self.backend = None if backend is None else get_backend(backend)
        self.epoch = 0  # of the next loop
        self._first = 0  # batch at which the next loop starts
        self._position = (0, 0)  # epoch and batch that come next in the loop under way
        self._order: tuple[int, np.ndarray] | None = None
        if not len(self):
            needed = f"a full batch of {batch_size}" if drop_last else "one sample"
            raise DataError(f"DataLoader: the data set has {len(dataset)} samples, needs {needed}")

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.epoch, self._first
        self.epoch, self._first = epoch + 1, 0
        self._position = (epoch, first)
        return self._batches(epoch, first)

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        for k in range(first, len(self)):
            batch = self.load(epoch, k)
            self._position = (epoch, k + 1)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop be that epoch, from its first batch."""
        self.epoch, self._first, self._position = epoch, 0, (epoch, 0)

    def load(self, epoch: int, k: int) -> Batch:
        """Batch k of an epoch. Raises: ArgumentError if there is no such batch."""
        if not 0 <= k < len(self):
            raise ArgumentError(f"DataLoader: an epoch has batches 0 to {len(self) - 1}, got {k}")
        index = self._indices(epoch)[k * self.batch_size : (k + 1) * self.batch_size]
        first, *others = self.dataset.batch(index)
        if self.transform is not None:
            first = self.transform(first, Generator(self.seed).fork(epoch).fork(k))
        target = get_backend(self.backend)
        return tuple(from_numpy(np.ascontiguousarray(a), target) for a in (first, *others))

    def _indices(self, epoch: int) -> np.ndarray:
        """The order of an epoch; the last one asked for is kept."""
        if self._order is None or self._order[0] != epoch:
            n = len(self.dataset)
            shuffled = (
                Generator(self.seed).fork(epoch).permutation(n) if self.shuffle else np.arange(n)
            )
            self._order = (epoch, shuffled)
        return self._order[1]

    def state_dict(self) -> dict[str, Any]:
        """What comes next in the loop under way, as numbers: epoch, batch, and what the order
        depends on.
        """
        epoch, batch = self._position
        if batch >= len(self):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop continue where `state_dict` was called.

        Raises: CheckpointError if the state belongs to batches in another order.
        """
        self.check_state(state)
        self.set_epoch(state["epoch"])
        self._first = state["batch"]
        self._position = (state["epoch"], state["batch"])

    def check_state(self, state: Mapping[str, Any]) -> None:
        """What `load_state_dict` would refuse is refused; nothing is loaded. Raises:
        CheckpointError.
        """
        instance("DataLoader", "the state", state, Mapping)
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise CheckpointError(
                    f"DataLoader: the state was saved with {name}={state.get(name)!r}, this loader "
                    f"has {mine!r}: its batches differ. Make the loader as it was then, or start a "
                    "new run."
                )
        place: list[Any] = [state.get("epoch"), state.get("batch")]
        if not all(type(n) is int and n >= 0 for n in place) or place[1] >= len(self):
            raise CheckpointError(f"DataLoader: there is no epoch and batch {place}")

    def _identity(self) -> dict[str, Any]:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }
