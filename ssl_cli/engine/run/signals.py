"""Requests to stop: while steps are taken a signal sets a flag, obeyed at a step's end; else it ends the run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ssl_cli.errors import INTERRUPTED, STOPPED, Interrupted


class StopRequest:
    """Which signal came, if any; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.interrupt: Interrupted | None = None
        self._noting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal, and obey it where nobody else will."""
        again = self.signal is signal.SIGINT and number == signal.SIGINT
        self.signal = signal.Signals(number)
        if again or not self._noting:
            self.obey()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within the block a signal is noted alone; after an error too, so that nothing disturbs the end."""
        self._noting = True
        yield
        self._noting = False

    def obey(self) -> None:
        """End the run if a signal came.

        Raises:
            Interrupted: one did; where signals are noted only once, so that nothing disturbs the end.
        """
        if self.signal is not None and (self.interrupt is None or not self._noting):
            self.interrupt = Interrupted(received(self.signal), exit_code(self.signal))
            raise self.interrupt


def exit_code(number: int) -> int:
    """130 after Ctrl-C, 75 after any other signal."""
    return INTERRUPTED if number == signal.SIGINT else STOPPED


def received(number: int) -> str:
    """What a signal is called in the status of a run."""
    return f"{signal.Signals(number).name} was received"


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Within the block INT, TERM and USR1 are such requests; elsewhere than the main thread signals are left alone."""
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
