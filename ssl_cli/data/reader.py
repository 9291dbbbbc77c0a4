"""Read images in threads: decoders release the global interpreter lock, so threads are as good as processes."""

import queue
import threading
import time
from types import TracebackType

from torch import Tensor

from ssl_cli.data.decoding import DECODING
from ssl_cli.data.source import Readable
from ssl_cli.errors import DataError
from ssl_cli.names import shown
from ssl_cli.world import default_threads

DEADLINE = 180.0
"""Seconds after which a read fails: a read from a network disk that is gone would never return."""


class PendingRead:
    """Hold the result of reading one image: its pixels or an error, set once."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.done = threading.Event()
        self.started = float("inf")
        self.outcome: Tensor | Exception | None = None
        self._lock = threading.Lock()

    def finish(self, outcome: Tensor | Exception) -> None:
        """Set the outcome; a second one, of a read that ends after its deadline, is ignored."""
        with self._lock:
            if not self.done.is_set():
                self.outcome = outcome
                self.done.set()


class Reader:
    """Read images of a source in daemon threads; a thread that exceeds the deadline is abandoned and replaced.

    Args:
        source: the images.
        threads: number of threads; None: the cores of this rank.
        cap: largest short side of an image.
        deadline: seconds after which a read fails.
    """

    def __init__(
        self, source: Readable, threads: int | None = None, cap: int | None = None, deadline: float = DEADLINE
    ) -> None:
        self.source, self.cap, self.deadline = source, cap, deadline
        self._requests: queue.SimpleQueue[PendingRead | None] = queue.SimpleQueue()
        self._workers = [_Worker(self.source, self.cap, self._requests) for _ in range(threads or default_threads())]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._requests.empty():  # requests whose results are not needed
            try:
                self._requests.get_nowait()
            except queue.Empty:
                break
        for _ in self._workers:
            self._requests.put(None)
        for worker in self._workers:
            worker.join(min(self.deadline, 5.0))

    def submit(self, index: int) -> PendingRead:
        """Request image `index`."""
        pending = PendingRead(index)
        self._requests.put(pending)
        return pending

    def result(self, pending: PendingRead) -> Tensor:
        """Wait for an image, uint8 or int16 `(C,H,W)`.

        Raises:
            DataError: it cannot be read, or not in time; the message is the reason.
        """
        while not pending.done.wait(min(1.0, self.deadline / 4)):
            self._replace_hanging()
        if isinstance(pending.outcome, Tensor):
            return pending.outcome
        if isinstance(pending.outcome, DataError | MemoryError):
            raise pending.outcome
        raise DataError(f"reading it failed ({type(pending.outcome).__name__}: {shown(str(pending.outcome))})")

    def _replace_hanging(self) -> None:
        now = time.monotonic()
        for place, worker in enumerate(self._workers):
            pending = worker.pending
            if not worker.is_alive():  # out of memory outside of a read
                if pending is not None:
                    pending.finish(MemoryError())
                DECODING.forget(worker.ident)
                self._workers[place] = _Worker(self.source, self.cap, self._requests)
                continue
            if pending is None or DECODING.waits(worker.ident):  # for large images that others decode
                continue
            if now - max(pending.started, DECODING.began(worker.ident)) > self.deadline:
                worker.abandoned = True
                DECODING.forget(worker.ident)
                pending.finish(DataError(f"reading it took longer than {self.deadline:g} seconds"))
                self._workers[place] = _Worker(self.source, self.cap, self._requests)


class _Worker(threading.Thread):
    def __init__(self, source: Readable, cap: int | None, requests: "queue.SimpleQueue[PendingRead | None]") -> None:
        super().__init__(daemon=True, name="sslcli-read")
        self._source, self._cap, self._requests = source, cap, requests
        self.pending: PendingRead | None = None
        self.abandoned = False
        self.start()

    def run(self) -> None:
        while not self.abandoned:
            pending = self._requests.get()
            if pending is None:
                return
            pending.started = time.monotonic()
            self.pending = pending
            try:
                pending.finish(self._source.read(pending.index, self._cap))
            except Exception as error:  # raised where the result is waited for
                pending.finish(error)
            self.pending = None
