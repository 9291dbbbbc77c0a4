"""Open a file to read it, if it is one: no pipe or device makes the reader wait, and no file is read without an end."""

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ssl_cli.config.units import format_bytes
from ssl_cli.errors import DataError

AT_ONCE = 64 * 2**20
"""Bytes up to which a file is read as a whole: what is written to it later changes nothing."""
MOST = 4 * 2**30
"""Bytes of the largest file that is read; sixteen channels of the most pixels take fewer."""


class _Bounded(io.FileIO):
    """Read a file that may grow only up to the size it had."""

    def __init__(self, descriptor: int, size: int) -> None:
        super().__init__(descriptor, "rb")
        self.size = size

    def readall(self) -> bytes:
        """Read what is left."""
        return self.read(max(0, self.size - self.seek(0, io.SEEK_CUR))) or b""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read; a small one is in memory already.

    Raises:
        DataError: it is a pipe, a device, a folder or too large; the message is the reason.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("it is not a file but a folder, a pipe or a device")
        if status.st_size > MOST:
            raise DataError(f"it has {format_bytes(status.st_size)}; at most {format_bytes(MOST)} are read")
    except BaseException:
        os.close(descriptor)
        raise
    file = io.BufferedReader(_Bounded(descriptor, status.st_size))
    if status.st_size > AT_ONCE:
        return file
    with file:
        return io.BytesIO(file.read(status.st_size))
