"""Data sets of small real images."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .dataset import ArrayDataset
from .source import FASHION_MNIST, MNIST, load


def digits() -> ArrayDataset:
    """1,797 handwritten digits, 8 x 8 pixels from 0 to 16 (so use `ToFloat(16)`), with labels 0 to
    9.

    There is no test part; hold one out with `split(digits(), 0.2, stratify=True)`.
    Source: Alpaydin & Kaynak (1998), "Cascading classifiers", Kybernetika 34(4); the test set of
    UCI's "Optical recognition of handwritten digits", as scikit-learn ships it.

    Shapes: images (1797, 1, 8, 8) uint8, labels (1797,) int64.
    Raises: DataError if scikit-learn is not installed.

    >>> train = digits()
    >>> len(train), train[0][0].shape
    (1797, (1, 8, 8))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            'digits: scikit-learn, which has them, is missing. Run: pip install "minidl[examples]"'
        ) from error
    found = load_digits()
    return ArrayDataset(found.images.astype(np.uint8)[:, None], found.target.astype(np.int64))


def mnist() -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): 60,000 and 10,000 handwritten digits, 28 x 28 pixels from 0 to 255, labels 0
    to 9.

    Source: LeCun, Bottou, Bengio & Haffner (1998), "Gradient-based learning applied to document
    recognition".

    Shapes: images (N, 1, 28, 28) uint8, labels (N,) int64.
    Raises: DataError saying which file is missing, cut short or altered, and what to do.
    """
    return load(MNIST)


def fashion_mnist() -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): 60,000 and 10,000 pictures of clothes of ten kinds, in the form of MNIST.

    Labels: 0 T-shirt, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag,
    9 boot.
    Source: Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.

    Shapes: images (N, 1, 28, 28) uint8, labels (N,) int64.
    Raises: DataError saying which file is missing, cut short or altered, and what to do.
    """
    return load(FASHION_MNIST)
