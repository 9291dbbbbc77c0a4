"""The memory that decoding takes, over all threads of the process: large images wait for one another."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_cli.config.units import format_bytes
from ssl_cli.errors import DataError

SMALL = 64 * 2**20
"""Bytes below which a read neither waits nor counts."""
LEAST = 256 * 2**20
EXPIRY = 180.0
"""Seconds after which a read counts as hung, and its bytes no longer."""


class DecodingMemory:
    """Let reads decode at once as long as their bytes are within `limit`; a larger one decodes alone.

    Args:
        limit: in bytes; None: a sixteenth of the memory that is free at the first large image, 256 MiB at least.
        expiry: seconds after which a read that still decodes is not counted.
    """

    def __init__(self, limit: int | None = None, expiry: float = EXPIRY) -> None:
        self._limit, self.expiry = limit, expiry
        self._changed = threading.Condition()
        self._held: dict[int, tuple[int, float]] = {}
        self._waiting: set[int] = set()

    @property
    def limit(self) -> int:
        """Bytes that reads may take at once."""
        if self._limit is None:
            self._limit = max(LEAST, _available() // 16)
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit

    @contextmanager
    def hold(self, needed: int) -> Iterator[None]:
        """Wait until `needed` bytes are within the limit or nothing else decodes, and count them within the block.

        Raises:
            DataError: more memory than is free, now or in the block.
        """
        if needed < SMALL:
            yield
            return
        thread = threading.get_ident()
        with self._changed:
            self._waiting.add(thread)
            try:
                while not self._fits(needed):
                    self._changed.wait(1.0)  # also for what expires
            finally:
                self._waiting.discard(thread)
            self._held[thread] = needed, time.monotonic()
        try:
            free = _available()
            if needed > free:
                raise DataError(f"decoding it takes {format_bytes(needed)}, and {format_bytes(free)} are free")
            yield
        except MemoryError:
            raise DataError(f"decoding it takes {format_bytes(needed)}, which are not free") from None
        finally:
            _trim()  # the C library would keep a large image's memory for the thread's next one
            self.forget(thread)

    def waits(self, thread: int | None) -> bool:
        """Whether a thread waits for others to have decoded."""
        return thread in self._waiting

    def began(self, thread: int | None) -> float:
        """Return when the thread's large image began to decode, of `time.monotonic`; 0: it decodes none."""
        return self._held.get(thread or 0, (0, 0.0))[1]

    def forget(self, thread: int | None) -> None:
        """Count the thread's image no longer: it is decoded, or the thread was abandoned."""
        with self._changed:
            if self._held.pop(thread or 0, None):
                self._changed.notify_all()

    def _fits(self, needed: int) -> bool:
        now = time.monotonic()
        held = [size for size, since in self._held.values() if now - since < self.expiry]
        return not held or sum(held) + needed <= self.limit


DECODING = DecodingMemory()
"""What the reads of this process share."""


def _available() -> int:
    from ssl_cli.memory import available  # imports torch, which a listing of the images does without

    return available()


def _trim() -> None:
    from ssl_cli.memory import trim

    trim()
