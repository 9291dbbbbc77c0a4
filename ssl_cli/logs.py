"""Python logging and warnings of third-party packages, written to a run's `train.log` instead of stderr."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _LineHandler(logging.Handler):
    """Pass each record of level WARNING or higher to `write`."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record).rstrip())


@contextmanager
def capture_logging(write: Callable[[str], None]) -> Iterator[None]:
    """Send the process's log records and warnings to `write`, such as `RunFolder.log`, within the block.

    Note:
        Loggers with a handler of their own that prints to stderr, as torch's have, propagate their records instead.
        Handlers of the root logger, loggers that write elsewhere and the filters of `warnings` are not changed.
    """

    def show(message: Any, category: Any, filename: str, lineno: int, *_: Any, **__: Any) -> None:
        write(warnings.formatwarning(message, category, filename, lineno).rstrip())

    handler, root, shown = _LineHandler(write), logging.getLogger(), warnings.showwarning
    loggers = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers if any(map(_prints, logger.handlers))]
    for logger, handlers, _ in before:
        logger.handlers, logger.propagate = [other for other in handlers if not _prints(other)], True
    root.addHandler(handler)
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
        root.removeHandler(handler)
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def _prints(handler: logging.Handler) -> bool:
    return getattr(handler, "stream", None) is sys.stderr
