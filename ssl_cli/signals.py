"""Stop requests: in training a signal sets a flag that is read at the end of each step, otherwise it ends the run."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ssl_cli.errors import INTERRUPTED, STOPPED, Interrupted

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that ask a run to stop and save; SIGHUP is a terminal that was closed."""
STOPPING_SOON = "stopping after this step; Ctrl-C again stops now"


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


@contextmanager
def on_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """Call `call` at once at a Ctrl-C within the block, from a thread of its own; only in the main thread.

    Python runs a handler such as `StopRequest` only between two instructions of the main thread, so after what native
    code computes there, which may take seconds. What C receives is written to a socket at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def wait() -> None:
        while numbers := reader.recv(64):
            if signal.SIGINT in numbers:
                call()

    thread = threading.Thread(target=wait, name="on_interrupt", daemon=True)
    try:
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    except ValueError:  # not the main thread
        before = None
    thread.start()
    try:
        yield
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


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
            if number == request.signal and isinstance(handler, StopRequest):
                handler.signal = request.signal  # a block around this one asks whether to end, too
