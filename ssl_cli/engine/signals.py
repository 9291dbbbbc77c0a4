"""Requests to stop: a signal sets a flag, the loop obeys at the next step's end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ssl_cli.errors import INTERRUPTED, STOPPED


class StopRequest:
    """Which signal came, if any; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; do nothing else inside a handler."""
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


def exit_code(number: int) -> int:
    """130 after Ctrl-C, 75 after any other signal."""
    return INTERRUPTED if number == signal.SIGINT else STOPPED


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Within the block INT, TERM and USR1 only set the flag; elsewhere than the main thread signals are left alone."""
    request = StopRequest()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    previous = {}
    try:
        for name in names:
            number = getattr(signal, name)
            previous[number] = signal.signal(number, request)
    except ValueError:  # not the main thread
        previous = {}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
