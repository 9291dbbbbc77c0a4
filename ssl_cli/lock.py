"""Lock of a folder: held by one process until it ends, however it ends."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import time
from pathlib import Path
from typing import IO

from ssl_cli import disk
from ssl_cli.errors import LockedError

NAME = ".lock"
PAUSE, TRIES, LONGEST = 0.02, 3, 100
"""Seconds between tries; tries at least, since `require_free` holds the lock for a moment; and at most."""

_own: dict[Path, IO[str]] = {}
"""Files of the locks that this process holds or held."""


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
    _own[folder.resolve()] = file
    return file


def require_free(folder: Path) -> None:
    """Refuse a folder that a process has locked; one that cannot be opened is not refused.

    Raises:
        LockedError: another process holds it, or this one.
    """
    own = _own.get(folder.resolve())
    if own is not None and not own.closed:  # closing any file of a lock would release it
        raise LockedError(f"{folder} is in use by this process.", "Close its run first.")
    try:
        disk.require_file(folder / NAME)
        file = (folder / NAME).open(encoding="utf-8")  # to read: it may be another user's, or on a read-only disk
    except OSError:
        return
    with file:
        _hold(file, folder, fcntl.LOCK_SH)


def is_held(folder: Path) -> bool:
    """Whether a process has locked the folder; where the file system has no locks, it is not known, and True."""
    try:
        require_free(folder)
    except (LockedError, OSError):
        return True
    return False


def _hold(file: IO[str], folder: Path, kind: int = fcntl.LOCK_EX) -> None:
    """Lock the file, or name who has: where that process has only just started, as soon as it has written its name."""
    holder = ""
    for attempt in range(LONGEST):
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EAGAIN}:  # such as a network file system without locks
                raise
        file.seek(0)
        holder = file.read(200).strip()
        if attempt + 1 >= TRIES and _is_alive(holder):
            break
        time.sleep(PAUSE)
    hint = "Wait for it to end, or choose another --out."
    raise LockedError(f"{folder} is in use by {holder or 'another process'}.", hint)


def _is_alive(holder: str) -> bool:
    """Whether the process is there that the file of a lock names; on another machine it is taken to be."""
    found = re.match(r"process (\d{1,9}) on (\S+)", holder)
    if found is None:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(int(found[1]), 0)
        except ProcessLookupError:
            return found[2] != socket.gethostname()
    return True
