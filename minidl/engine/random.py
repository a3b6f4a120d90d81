"""Random numbers that are the same on every backend: a seed and a counter go in.

The bits come from the backend's Philox 4x32-10 (Salmon et al. 2011), four 32-bit words a block. A
generator remembers only how many blocks were used, so a restored (seed, counter) continues the very
same stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

import backends
from backends import Array, Backend

from ..errors import ArgumentError
from .arguments import instance, integer
from .dtypes import float32

_WORDS_PER_BLOCK = 4
_FORK_COUNTER = 1 << 63  # far beyond what any stream uses
# Called with (generator, words, counter) after each reservation: a recorder of steps, which must
# know that the counter will be another one next time.
reserved: list[Callable[[Generator, int, int], None]] = []
_reserving = threading.Lock()  # one for all: a generator with its own could not be copied


class Generator:
    """A stream of random numbers, fully described by its seed and counter.

    Raises: ArgumentError for a seed that is not an integer from 0 to 2^64 - 1.

    >>> g = Generator(7)
    >>> first = g.permutation(5)
    >>> g.state = (7, 0)
    >>> bool((g.permutation(5) == first).all())
    True
    """

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
            raise ArgumentError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}")
        self.seed = int(seed)
        self.counter = 0

    @property
    def state(self) -> tuple[int, int]:
        """(seed, counter): all there is to save and restore."""
        return self.seed, self.counter

    @state.setter
    def state(self, state: tuple[int, int]) -> None:
        seed, counter = state
        self.__init__(seed)  # type: ignore[misc]
        self.counter = integer("Generator.state", "the counter", counter, 0)

    def reserve(self, words: int) -> int:
        """The counter from which `words` words may be drawn; later calls get later counters."""
        with _reserving:
            counter = self.counter
            self.counter += -(-words // _WORDS_PER_BLOCK)
        for observer in reserved:
            observer(self, words, counter)
        return counter

    def fork(self, key: int) -> Generator:
        """An independent generator that depends only on this seed and key (an epoch, say).

        >>> Generator(1).fork(3).seed == Generator(1).fork(3).seed != Generator(1).fork(4).seed
        True
        """
        low, high = _words(self.seed, _FORK_COUNTER + key, 2).tolist()
        return Generator(high << 32 | low)

    def uniform(
        self, shape: tuple[int, ...], dtype: np.dtype = float32, backend: Backend | None = None
    ) -> Array:
        """An array of multiples of 2^-24, uniform in [0, 1)."""
        return (backend or _host()).uniform(self.seed, self.reserve(_size(shape)), shape, dtype)

    def normal(
        self, shape: tuple[int, ...], dtype: np.dtype = float32, backend: Backend | None = None
    ) -> Array:
        """An array of standard normal deviates."""
        return (backend or _host()).normal(self.seed, self.reserve(_size(shape) + 1), shape, dtype)

    def integers(self, low: int, high: int, count: int) -> np.ndarray:
        """int64 (count,), uniform in [low, high), on the host.

        By multiplying 32 random bits with the width and keeping the high half; the bias is below
        width / 2^32 (Lemire 2019, arXiv:1805.10941, section 4).
        """
        if not low < high <= low + (1 << 31):
            raise ArgumentError(f"integers: needs low < high <= low + 2**31, got {low} and {high}")
        words = _words(self.seed, self.reserve(count), count).astype(np.uint64)
        return (words * np.uint64(high - low) >> np.uint64(32)).astype(np.int64) + low

    def permutation(self, n: int) -> np.ndarray:
        """int64 (n,): 0 to n - 1 in random order, on the host; each element is sorted by 64 random
        bits.
        """
        words = _words(self.seed, self.reserve(2 * n), 2 * n).astype(np.uint64)
        return np.argsort(words[::2] << np.uint64(32) | words[1::2], kind="stable").astype(np.int64)


def _host() -> Backend:
    return backends.get("numpy")


def _words(seed: int, counter: int, count: int) -> np.ndarray:
    return _host().to_numpy(_host().philox(seed, counter, count))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


default_generator = Generator(0)


def source_of(operation: str, generator: Generator | None) -> Generator:
    """The generator, or the default one for None. Raises: DTypeError.

    >>> source_of("rand", None) is default_generator
    True
    """
    if generator is None:
        return default_generator
    instance(operation, "generator", generator, Generator, "; make one: minidl.Generator(seed)")
    return generator


def manual_seed(seed: int) -> Generator:
    """Restart the default generator, from which initial weights and dropout masks are drawn.

    >>> manual_seed(0) is default_generator
    True
    """
    default_generator.state = (seed, 0)
    return default_generator
