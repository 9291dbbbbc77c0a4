"""Lock of a folder: held by one process until it ends, however it ends."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from ssl_cli.errors import LockedError

NAME = ".lock"


def acquire(folder: Path) -> IO[str]:
    """Lock the folder until the returned file is closed or this process ends.

    Note:
        A POSIX record lock: unlike that of flock, a child process does not inherit it.

    Raises:
        LockedError: another process holds it; the message names that process.
        OSError: the folder cannot be written.
    """
    file = (folder / NAME).open("a+", encoding="utf-8")
    try:
        _hold(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def require_free(folder: Path) -> None:
    """Refuse a folder that another process has locked; one that cannot be opened is not refused.

    Note: closing any file of a lock releases it, so do not call this in the process that holds it.

    Raises:
        LockedError: another process holds it.
    """
    try:
        file = (folder / NAME).open("r+", encoding="utf-8")
    except OSError:
        return
    with file:
        _hold(file, folder)


def is_held(folder: Path) -> bool:
    """Whether another process has locked the folder."""
    try:
        require_free(folder)
    except LockedError:
        return True
    return False


def _hold(file: IO[str], folder: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read(200).strip() or "another process"
        raise LockedError(f"{folder} is in use by {holder}.", "Wait for it to end, or choose another --out.") from error
