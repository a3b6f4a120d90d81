"""The same numbers elsewhere: cases."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...engine.modes import get_backend
from ...engine.tensor import Tensor
from ..gradients import case, spread

X = spread(3, 4)


def there_and_back(x: Tensor) -> Tensor:
    """On the NumPy backend, and where it came from."""
    return ops.to_backend(ops.to_backend(x, get_backend("numpy")), x.backend)


CASES = [
    case("alias", ops.alias, lambda x: x, X),
    case("clone", ops.clone, lambda x: x, X),
    case("to_backend", there_and_back, lambda x: x, X),
    case(
        "astype: wider and back", lambda x: ops.astype(x.astype("float64"), x.dtype), lambda x: x, X
    ),
    case(
        "astype: int32", lambda x: ops.astype(x, "int32"), lambda x: x.astype(np.int32), X, order=0
    ),
]
