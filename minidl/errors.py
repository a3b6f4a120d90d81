"""Every error that minidl raises on purpose; each is also the built-in one would expect."""

from backends.errors import BackendError, BackendUnavailable, UnknownBackend


class MinidlError(Exception):
    """Base of the errors below; the message names the operation, what it got, what it needs, the
    fix.
    """


class ShapeError(MinidlError, ValueError):
    """Shapes or axes do not fit the operation."""


class DTypeError(MinidlError, TypeError):
    """A value of a type or dtype that the operation cannot use."""


class ArgumentError(MinidlError, ValueError):
    """A setting outside its range, such as a dropout probability of 1.5."""


class IndexRangeError(MinidlError, IndexError):
    """A label or an index outside the axis that it addresses."""


class UnknownName(MinidlError, KeyError):
    """A name under which nothing is known."""


class GraphError(MinidlError, RuntimeError):
    """The recorded graph cannot be used this way: freed, modified in place, not recorded."""


class BackendMismatch(MinidlError, ValueError):
    """One operation got tensors of two backends."""


class CompileError(MinidlError, RuntimeError):
    """A step cannot be replayed: it depends on values, or computes what was not seen."""


class NonFiniteError(MinidlError, ArithmeticError):
    """A loss became NaN or infinite."""


class DataError(MinidlError, ValueError):
    """A data set is missing, cut short or altered."""


class CheckpointError(MinidlError, ValueError):
    """A file of weights is missing, damaged or belongs to another model."""


__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendMismatch",
    "BackendUnavailable",
    "CheckpointError",
    "CompileError",
    "DTypeError",
    "DataError",
    "GraphError",
    "IndexRangeError",
    "MinidlError",
    "NonFiniteError",
    "ShapeError",
    "UnknownBackend",
    "UnknownName",
]
