"""The output streams: stderr, which may fail without ending a run, and stdout, where a result must be written."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from ssl_cli.errors import write_error


class DisplayStream:
    """Write to a text stream until a write fails, and from then on nothing: a run continues without its display."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._broken = stream, False

    def write(self, text: str) -> int:
        """Write the text, if the stream still takes any; return its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines, as `write`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, if it still takes any text."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        """Return what else is asked of a stream: whether it is a terminal, its encoding, its number."""
        return getattr(self._stream, name)

    def _attempt(self, act: Any) -> None:
        if self._broken:
            return
        try:
            act()
        except (OSError, ValueError):  # ValueError: it is closed
            self._broken = True
            with suppress(OSError, ValueError):
                if self._stream.fileno() == 2:  # what is buffered, or written by native code
                    discard(2)


def write_result(text: str) -> None:
    """Write to stdout and flush; a reader that has closed its end is no error (`sslcli methods | head -1`).

    Note:
        After a failed write, also that one, file descriptor 1 is redirected to /dev/null: later writes are discarded.

    Raises:
        ResourceError: it cannot be written, as on a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard(1)
    except (OSError, ValueError) as error:
        discard(1)
        full = "Free some space, or write it elsewhere."
        raise write_error("the result", error, "Write it elsewhere.", full) from error


def discard(number: int) -> None:
    """Send what is written to this file descriptor, 1 or 2, nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
