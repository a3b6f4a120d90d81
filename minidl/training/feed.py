"""From whatever a caller has (a loader, a data set, arrays) to batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data import ArrayDataset, DataLoader, Dataset, split
from ..data.transforms import Transform, evaluation
from ..engine.tensor import Tensor
from ..errors import ArgumentError

Data = Any  # a DataLoader, a Dataset, an array or Tensor, or a tuple of them
_EVALUATION_BATCH = 256


def training_loader(
    data: Data, batch_size: int, seed: int, transform: Transform | None
) -> DataLoader:
    """A loader as it is; anything else as a shuffled loader. Raises: ArgumentError, DataError."""
    if isinstance(data, DataLoader):
        return data
    return DataLoader(dataset_of(data), batch_size, shuffle=True, seed=seed, transform=transform)


def evaluation_loader(data: Data, transform: Transform | None) -> DataLoader:
    """A loader as it is; anything else in order, without what is random in transform."""
    if isinstance(data, DataLoader):
        return data
    fixed = None if transform is None else evaluation(transform)
    return DataLoader(dataset_of(data), _EVALUATION_BATCH, transform=fixed)


def held_out(loader: DataLoader, fraction: float) -> tuple[DataLoader, DataLoader]:
    """A loader over the rest of a loader's data set, and one over a fraction of it, by the
    loader's seed.
    """
    rest, part = split(loader.dataset, fraction, loader.seed)
    training = DataLoader(
        rest, loader.batch_size, loader.shuffle, seed=loader.seed, drop_last=loader.drop_last,
        transform=loader.transform, backend=loader.backend,
    )  # fmt: skip
    return training, evaluation_loader(part, loader.transform)


def dataset_of(data: Data) -> Dataset:
    """A data set as it is; arrays and tensors as one. Raises: ArgumentError."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (np.ndarray, Tensor)):
        return ArrayDataset(data)
    arrays = isinstance(data, list) and all(isinstance(a, (np.ndarray, Tensor)) for a in data)
    if isinstance(data, tuple) or arrays:
        return ArrayDataset(*data)
    raise ArgumentError(
        f"expected a DataLoader, a Dataset, or arrays (x, y), got {type(data).__name__}; "
        "give your class the base minidl.data.Dataset"
    )


def fixed_batches(loader: DataLoader) -> Iterator[tuple[Tensor, ...]]:
    """The batches of a loader's epoch 0: an evaluation is always of the same batches."""
    return (loader.load(0, k) for k in range(len(loader)))
