"""The door through which Tensor's methods reach `minidl.ops`.

Tensor offers `x.exp()` and `x + y`, but the calculus lives above the engine, and imports point one
way. So `minidl.ops` installs its functions here when it is imported, and Tensor calls them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor


class Operations:
    """The functions of `minidl.ops` as attributes: the same names as on a backend, on Tensors."""

    def install(self, functions: dict[str, Callable[..., Any]]) -> None:
        """Add functions under their names."""
        vars(self).update(functions)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...


operations = Operations()
