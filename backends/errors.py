"""What can go wrong when a backend is looked up."""


class BackendError(Exception):
    """Any failure to find or start a backend."""


class UnknownBackend(BackendError, LookupError):
    """No backend of that name is registered."""


class BackendUnavailable(BackendError, ImportError):
    """The backend is known, but something it needs is missing; the message says what and how to get
    it.
    """
