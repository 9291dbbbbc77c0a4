"""A tracker in a thread of its own, behind a queue: whatever its library does, a run neither waits nor ends."""

import importlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ssl_cli.trackers.kinds import Tracker

QUEUE = 256
"""Events that wait for a tracker at most; of more the newest are dropped."""
HUNG = "it did not end in time"
hung = list[str]()
"""Names of trackers whose threads did not end, which a process must not wait for at its exit."""
_quiet = threading.local()


class Recorder:
    """Pass the numbers of events on to a tracker.

    Args:
        name: of the tracker, and of its package, which is imported first.
        start: opens it; called in the thread.

    Attributes:
        fault: why it is off, in a few words; empty while it works.
        dropped: events that did not reach it, since its queue was full or it did not end in time.
        imported: set when its package is imported, or cannot be.
    """

    def __init__(self, name: str, start: Callable[[], Tracker]) -> None:
        self.name, self.fault, self.dropped = name, "", 0
        self.imported = threading.Event()
        self._start, self._state = start, ""
        self._waiting = deque[tuple[int, dict[str, float]]]()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, step: int, numbers: dict[str, float]) -> None:
        """Put numbers into the queue, or count them where it is full; never waits for the tracker."""
        with self._changed:
            if self.fault or self._state:
                return
            if len(self._waiting) >= QUEUE:
                self.dropped += 1
                return
            self._waiting.append((step, numbers))
            self._changed.notify()

    def end(self, state: str) -> None:
        """Have the tracker closed after what waits; `state` is one of `status.STATES`."""
        with self._changed:
            self._state = state
            self._changed.notify()

    def join(self, deadline: float) -> None:
        """Wait for the thread until `time.monotonic()` is `deadline`; then leave it.

        What it has not logged by then is counted in `dropped`.
        """
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            hung.append(self.name)
            with self._changed:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self.fault = HUNG

    def _run(self) -> None:
        _quiet.on = True
        try:
            try:
                importlib.import_module(self.name)
            finally:
                self.imported.set()
            tracker = self._start()
            while (found := self._next()) is not None:
                tracker.log(*found)
            tracker.close(self._state)
        except BaseException as error:  # SystemExit too: it is another maker's code
            words = " ".join(str(error).split())[:200].rstrip(".")
            with self._changed:
                self.fault = f"{type(error).__name__}: {words}" if words else type(error).__name__
                self._waiting.clear()

    def _next(self) -> tuple[int, dict[str, float]] | None:
        """Wait for the next numbers; None: there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._state)
            return self._waiting.popleft() if self._waiting else None


def close(recorders: Sequence[Recorder], state: str, seconds: float) -> None:
    """Close all trackers at once, and wait so many seconds for them at most, all together."""
    for recorder in recorders:
        recorder.end(state)
    deadline = time.monotonic() + seconds
    for recorder in recorders:
        recorder.join(deadline)


class Muted:
    """Stand in for `sys.stdout` or `sys.stderr`: drop what trackers' threads print, pass on the rest.

    stdout has a command's result, and stderr its display.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, unless this is a tracker's thread."""
        return len(text) if getattr(_quiet, "on", False) else int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def muted() -> Iterator[None]:
    """Let trackers print nothing within the block, and after it where one of them hangs."""
    stdout, stderr = Muted(sys.stdout), Muted(sys.stderr)
    before, (sys.stdout, sys.stderr) = (sys.stdout, sys.stderr), (stdout, stderr)
    try:
        yield
    finally:
        if not hung and (sys.stdout, sys.stderr) == (stdout, stderr):
            sys.stdout, sys.stderr = before
