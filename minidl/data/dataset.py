"""Data sets: samples under an index, kept as host arrays until a batch of them is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..engine.arguments import instance, integer
from ..engine.tensor import Tensor
from ..errors import DataError, DTypeError, IndexRangeError, ShapeError

Sample = tuple[Any, ...]


class Dataset:
    """Samples under an index: a subclass gives `__len__` and `__getitem__(i)`, a tuple such as (x,
    y).

    Overriding `batch` as well saves a Python call per sample, see `ArrayDataset`.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def __getitem__(self, index):
    ...         return np.float32(index), np.float32(index**2)
    >>> x, y = Squares().batch(np.array([1, 3]))
    >>> y.tolist()
    [1.0, 9.0]
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}.__len__ is missing")

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError(f"{type(self).__name__}.__getitem__ is missing")

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples at index (B,), each component stacked to (B, ...) in a new host array.

        Raises: DataError if the samples' shapes differ.
        """
        samples = [self[int(i)] for i in index]
        try:
            return tuple(
                np.stack([np.asarray(c) for c in column]) for column in zip(*samples, strict=True)
            )
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{type(self).__name__}: these samples do not stack to a batch: {error}. "
                "Each must be a tuple of the same length, with components of equal shapes."
            ) from error

    def targets(self) -> np.ndarray:
        """The last component of every sample, (len, ...): the labels of a classification set."""
        return self.batch(np.arange(len(self)))[-1]


class ArrayDataset(Dataset):
    """Samples that are rows of host arrays of equal length: `ArrayDataset(x, y)`.

    The arrays are kept as they are (uint8 images stay uint8) and shared, not copied. PyTorch calls
    this `TensorDataset`. Tensors are moved to the host.

    Shapes: each array (N, ...).
    Raises: ShapeError if lengths differ; DTypeError for anything but arrays of numbers.

    >>> data = ArrayDataset(np.zeros((3, 2)), np.array([0, 1, 2]))
    >>> len(data), data[-1][1].item(), data.batch(np.array([2, 0]))[1].tolist()
    (3, 2, [2, 0])
    """

    def __init__(self, *arrays: Any) -> None:
        self.arrays = tuple(_host(a) for a in arrays)
        lengths = {a.shape[0] if a.ndim else -1 for a in self.arrays}
        if len(lengths) != 1 or -1 in lengths:
            shapes = ", ".join(str(a.shape) for a in self.arrays) or "none"
            raise ShapeError(f"ArrayDataset: needs arrays of equal length (N, ...), got {shapes}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> Sample:
        return tuple(a[_position(index, len(self))] for a in self.arrays)

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(a.take(index, axis=0) for a in self.arrays)

    def targets(self) -> np.ndarray:
        return self.arrays[-1]

    def __repr__(self) -> str:
        return f"ArrayDataset({', '.join(f'{a.dtype}{list(a.shape)}' for a in self.arrays)})"


TensorDataset = ArrayDataset  # PyTorch's name


class Subset(Dataset):
    """The samples of a data set at some positions, in that order.

    Raises: IndexRangeError for a position outside the data set; DTypeError for one that is no
    integer.

    >>> evens = Subset(ArrayDataset(np.arange(6)), [0, 2, 4])
    >>> len(evens), evens[1][0].item()
    (3, 2)
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray) -> None:
        instance("Subset", "dataset", dataset, Dataset)
        instance("Subset", "indices", indices, Iterable)
        self.dataset, indices = dataset, list(indices)
        self.indices = np.asarray(indices) if len(indices) else np.zeros(0, np.int64)
        if self.indices.dtype.kind not in "iu" or self.indices.ndim != 1:
            raise DTypeError(
                f"Subset: indices must be a list of integers, got {self.indices.dtype}"
            )
        for i in (self.indices.min(), self.indices.max()) if len(self.indices) else ():
            _position(int(i), len(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[_position(index, len(self))])]

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.dataset.batch(self.indices[index])

    def targets(self) -> np.ndarray:
        labels: np.ndarray = self.dataset.targets()[self.indices]
        return labels


def _host(array: Any) -> np.ndarray:
    try:
        host = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    except ValueError as error:
        raise DTypeError("ArrayDataset: needs rows of equal length") from error
    if host.dtype.kind not in "biuf":
        raise DTypeError(f"ArrayDataset: needs arrays of numbers, got {host.dtype}")
    return host


def _position(index: int, length: int) -> int:
    integer("data set", "an index", index)
    if not -length <= index < length:
        raise IndexRangeError(f"sample {index} of a data set with {length} samples")
    return index
