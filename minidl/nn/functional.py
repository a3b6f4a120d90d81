"""The operations without state, under PyTorch's name for them: all of `minidl.ops`."""

from ..ops import *  # noqa: F403  (an alias: whatever ops exports is here)
