"""What third-party packages log, warn of or print to stderr, written to a run's `train.log` instead."""

import contextlib
import fcntl
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STDERR = 2
"""The file descriptor that libraries in C write to, whatever `sys.stderr` is."""


class _LineHandler(logging.Handler):
    """Pass each record of level WARNING or higher to `write`."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record).rstrip())


@contextmanager
def capture_logging(write: Callable[[str], None], run: Path | None = None) -> Iterator[None]:
    """Send the process's log records and warnings to `write`, such as `RunFolder.log`, within the block.

    Args:
        write: takes the text of a record.
        run: folder whose `train.log` has what libraries in C and child processes print to stderr; None: stderr has it.

    Note:
        Loggers with a handler of their own that prints to stderr, as torch's have, propagate their records instead.
        Handlers of the root logger, loggers that write elsewhere and the filters of `warnings` are not changed.
    """

    def show(message: Any, category: Any, filename: str, lineno: int, *_: Any, **__: Any) -> None:
        write(warnings.formatwarning(message, category, filename, lineno).rstrip())

    handler, root, shown = _LineHandler(write), logging.getLogger(), warnings.showwarning
    loggers = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [
        (logger, logger.handlers, logger.propagate)
        for logger in loggers
        if any(_prints(logger, each) for each in logger.handlers)
    ]
    for logger, handlers, _ in before:
        logger.handlers, logger.propagate = [each for each in handlers if not _prints(logger, each)], True
    root.addHandler(handler)
    warnings.showwarning = show
    try:
        with contextlib.nullcontext() if run is None else _stderr_in(run / "train.log"):
            yield
    finally:
        warnings.showwarning = shown
        root.removeHandler(handler)
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def _prints(logger: logging.Logger, handler: logging.Handler) -> bool:
    """Whether a handler prints to stderr; torch 2.11 and before keep the `sys.stderr` at their import."""
    if getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__):
        return True
    return type(handler) is logging.StreamHandler and logger.name.partition(".")[0] == "torch"


@contextmanager
def _stderr_in(file: Path) -> Iterator[None]:
    """Append to `file` what is written to file descriptor 2 within the block, but for what `sys.stderr` writes.

    The file, unlike a pipe, never makes a writer wait, and has the last words of a process that crashes. Where the file
    cannot be opened, or descriptor 2 is another file since stderr was closed, nothing is redirected.
    """
    stderr, log = _duplicate(), None
    if stderr is not None:
        with contextlib.suppress(OSError):
            log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if stderr is None or log is None:
        if stderr is not None:
            os.close(stderr)
        yield
        return
    moved = _streams()
    for stream in moved:
        _move(stream, stderr)
    os.dup2(log, _STDERR)
    os.close(log)
    try:
        yield
    finally:
        os.dup2(stderr, _STDERR)
        for stream in moved:
            _move(stream, _STDERR)
        os.close(stderr)


def _duplicate() -> int | None:
    """Duplicate descriptor 2, not inherited by child processes; None where it is not stderr."""
    if sys.__stderr__ is None:
        return None
    try:
        return fcntl.fcntl(_STDERR, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    except OSError:
        return None


def _streams() -> list[io.TextIOWrapper]:
    """Return the streams of `sys` that write to descriptor 2."""
    found = []
    for stream in {id(each): each for each in (sys.stderr, sys.__stderr__)}.values():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if isinstance(stream, io.TextIOWrapper) and stream.fileno() == _STDERR:
                found.append(stream)
    return found


def _move(stream: io.TextIOWrapper, descriptor: int) -> None:
    """Let a stream write to another descriptor: in place, since displays and log handlers hold the stream itself."""
    if stream.closed:
        return
    with contextlib.suppress(OSError):  # nobody reads it any more, or its disk is full
        stream.flush()
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered streams have no layer between
    io.FileIO.__init__(raw, descriptor, "wb", closefd=False)
