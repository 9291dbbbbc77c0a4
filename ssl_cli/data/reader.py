"""Threads that read images one by one; decoders release Python's lock, so threads do what processes would."""

import queue
import threading
import time
from types import TracebackType

from torch import Tensor

from ssl_cli.data.source import Source
from ssl_cli.errors import DataError
from ssl_cli.names import shown
from ssl_cli.world import default_threads

DEADLINE = 180.0
"""Seconds until a read is given up: a dead network disk never says no."""


class Ticket:
    """An image that is asked for; settled once, with pixels or with the error."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.done = threading.Event()
        self.started = float("inf")
        self.outcome: Tensor | Exception | None = None
        self._first = threading.Lock()

    def settle(self, outcome: Tensor | Exception) -> None:
        """Keep the first outcome: a read that ends after it was given up comes too late."""
        with self._first:
            if not self.done.is_set():
                self.outcome = outcome
                self.done.set()


class Reader:
    """Reads images of a source in daemon threads; a thread that hangs is left behind and replaced.

    Args:
        source: what to read from.
        threads: number of threads; default: the cores of this rank.
        cap: short side of an image, at most.
        deadline: seconds a read may take.
    """

    def __init__(
        self, source: Source, threads: int | None = None, cap: int | None = None, deadline: float = DEADLINE
    ) -> None:
        self.source, self.cap, self.deadline = source, cap, deadline
        self._asked: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._workers = [_Worker(self.source, self.cap, self._asked) for _ in range(threads or default_threads())]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._asked.empty():  # what nobody will wait for
            try:
                self._asked.get_nowait()
            except queue.Empty:
                break
        for _ in self._workers:
            self._asked.put(None)
        for worker in self._workers:
            worker.join(min(self.deadline, 5.0))

    def ask(self, index: int) -> Ticket:
        """Have image `index` read."""
        ticket = Ticket(index)
        self._asked.put(ticket)
        return ticket

    def wait(self, ticket: Ticket) -> Tensor:
        """The image, uint8 `(3,H,W)`.

        Raises:
            DataError: it cannot be read, or not in time; the message is the reason.
        """
        while not ticket.done.wait(min(1.0, self.deadline / 4)):
            self._replace_hanging()
        if isinstance(ticket.outcome, Tensor):
            return ticket.outcome
        if isinstance(ticket.outcome, DataError | MemoryError):
            raise ticket.outcome
        raise DataError(f"reading it failed ({type(ticket.outcome).__name__}: {shown(str(ticket.outcome))})")

    def _replace_hanging(self) -> None:
        now = time.monotonic()
        for place, worker in enumerate(self._workers):
            ticket = worker.ticket
            if ticket is not None and now - ticket.started > self.deadline:
                worker.abandoned = True
                ticket.settle(DataError(f"reading it took longer than {self.deadline:g} seconds"))
                self._workers[place] = _Worker(self.source, self.cap, self._asked)


class _Worker(threading.Thread):
    def __init__(self, source: Source, cap: int | None, asked: "queue.SimpleQueue[Ticket | None]") -> None:
        super().__init__(daemon=True, name="sslcli-read")
        self._source, self._cap, self._asked = source, cap, asked
        self.ticket: Ticket | None = None
        self.abandoned = False
        self.start()

    def run(self) -> None:
        while not self.abandoned:
            ticket = self._asked.get()
            if ticket is None:
                return
            ticket.started = time.monotonic()
            self.ticket = ticket
            try:
                ticket.settle(self._source.read(ticket.index, self._cap))
            except Exception as error:  # whatever it is, it belongs to whoever waits for the image
                ticket.settle(error)
            self.ticket = None
