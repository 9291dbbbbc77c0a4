"""Stop requests: in training a signal sets a flag that is read at the end of each step, otherwise it ends the run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ssl_cli.errors import INTERRUPTED, STOPPED, Interrupted

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that ask a run to stop and save; SIGHUP is a terminal that was closed."""


class StopRequest:
    """Signal handler that stores the signal received; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.interrupt: Interrupted | None = None
        self._deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Store the signal; raise `Interrupted` outside of `deferred`, or at the second Ctrl-C."""
        again = self.signal is signal.SIGINT and number == signal.SIGINT
        self.signal = signal.Signals(number)
        if again or not self._deferred:
            self.raise_if_signalled()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only store signals within the block; after an exception too, so that cleaning up is not interrupted."""
        self._deferred = True
        yield
        self._deferred = False

    def raise_if_signalled(self) -> None:
        """End the run if a signal was received.

        Raises:
            Interrupted: one was; within `deferred` at most once, so that cleaning up is not interrupted.
        """
        if self.signal is not None and (self.interrupt is None or not self._deferred):
            self.interrupt = Interrupted(stop_reason(self.signal), exit_code(self.signal))
            raise self.interrupt


def exit_code(number: int) -> int:
    """Return 130 for SIGINT (Ctrl-C), 75 (stopped, resumable) for any other signal."""
    return INTERRUPTED if number == signal.SIGINT else STOPPED


def stop_reason(number: int) -> str:
    """Name the signal as the reason of a stop, for `status.json` and the display."""
    return f"{signal.Signals(number).name} was received"


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Install a `StopRequest` as handler of `STOPPING` within the block; only in the main thread.

    SIGHUP stays ignored where it was, as under nohup. The handlers from before are restored at the end.
    """
    request = StopRequest()
    previous = {}
    try:
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN:
                continue
            previous[number] = signal.signal(number, request)
    except ValueError:  # not the main thread
        previous = {}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
