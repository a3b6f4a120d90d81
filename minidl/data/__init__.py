"""Data sets, batches in a reproducible order, and random transforms of images."""

from . import transforms
from .dataset import ArrayDataset, Dataset, Subset, TensorDataset
from .idx import idx_dataset, parse_idx
from .images import digits, fashion_mnist, mnist
from .loader import DataLoader
from .splits import random_split, split

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "digits",
    "fashion_mnist",
    "idx_dataset",
    "mnist",
    "parse_idx",
    "random_split",
    "split",
    "transforms",
]
