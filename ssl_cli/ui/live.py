"""A live display that leaves nothing behind when its terminal is made narrower, or Ctrl-C is pressed."""

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

from rich.console import ConsoleRenderable
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType


class ResizedLive(Live):
    """Redraw in place, also where the terminal has wrapped what was drawn before at a larger width.

    A terminal that becomes narrower breaks each line of the last picture into several rows, and rich would erase as
    many rows as the picture had lines. Terminals that cut lines off instead lose a few rows above the picture.
    """

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is printed, after the erasure of all rows of the last picture."""
        rows = wrapped_rows(self._live_render._shape, self.console.width)
        found = super().process_renderables(renderables)
        above = Control(*((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * rows)
        return [found[0], above, *found[1:]] if rows and self.console.is_interactive else found


def wrapped_rows(shape: tuple[int, int] | None, width: int) -> int:
    """Return how many rows more than its lines a picture of `shape` (columns, lines) takes at this width."""
    if shape is None or width < 1:
        return 0
    columns, lines = shape
    return lines * (-(-columns // width) - 1) if columns else 0


@contextlib.contextmanager
def without_caret_echo(stream: TextIO) -> Iterator[None]:
    """Keep the terminal of `stream` from writing `^C` into a display within the block, which would move its cursor."""
    before = _echo_carets(stream, on=False)
    try:
        yield
    finally:
        if before:
            _echo_carets(stream, on=True)


def _echo_carets(stream: TextIO, *, on: bool) -> bool:
    """Switch the echo of control characters; return whether it was on. Without a terminal of ours do nothing."""
    try:
        import termios
    except ImportError:  # on Windows
        return False
    try:
        number = stream.fileno()
        if os.tcgetpgrp(number) != os.getpgrp():  # a process in the background would be stopped
            return False
        modes = termios.tcgetattr(number)
        was = bool(modes[3] & termios.ECHOCTL)
        modes[3] = modes[3] | termios.ECHOCTL if on else modes[3] & ~termios.ECHOCTL
        termios.tcsetattr(number, termios.TCSANOW, modes)
    except (OSError, ValueError, termios.error):
        return False
    return was
