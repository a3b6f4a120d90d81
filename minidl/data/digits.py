"""The digits that scikit-learn ships: small enough for any machine, and real."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .dataset import ArrayDataset


def digits() -> ArrayDataset:
    """1,797 handwritten digits, 8 x 8 pixels from 0 to 16 (so use `ToFloat(16)`), with labels 0 to
    9.

    There is no test part; hold one out with `split(digits(), 0.2, stratify=True)`.
    Source: Alpaydin & Kaynak (1998), "Cascading classifiers", Kybernetika 34(4); the test set of
    UCI's "Optical recognition of handwritten digits", as scikit-learn ships it.

    Shapes: images (1797, 1, 8, 8) uint8, labels (1797,) int64.
    Raises: DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            'digits: scikit-learn, which has them, is missing. Run: pip install "minidl[examples]"'
        ) from error
    found = load_digits()
    return ArrayDataset(found.images.astype(np.uint8)[:, None], found.target.astype(np.int64))
