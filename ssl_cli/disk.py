"""Files: atomic writes, of which a reader finds the old file or the new one, and reads within limits."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ssl_cli.errors import ResourceError, write_error
from ssl_cli.names import is_folder, is_there, shown

LARGEST_TEXT = 1 << 20
"""Bytes of a file of settings or facts; a larger one is a mistake, or hostile."""


class _HashingWriter:
    """Write to a binary file, hash what is written, and store the OSError of a failed write.

    torch.save raises a RuntimeError without a cause where the disk is full; the cause is read from `fault`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.fault = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> tuple[str, int]:
    """Call `write` on a temporary file, sync it to disk and rename it to `path`.

    Returns:
        sha256 and size in bytes of what was written.

    Raises:
        ResourceError: the disk is full or cannot be written; a file that was at `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}")
    stream: _HashingWriter | None = None
    try:
        with temporary.open("wb") as file:
            stream = _HashingWriter(file)
            write(stream)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be deleted either, the first error is the one to report
            temporary.unlink(missing_ok=True)
        fault = error if isinstance(error, OSError) else stream.fault if stream else None
        if fault is None:
            raise
        size = f" beyond {stream.size:,} bytes" if stream else ""
        full = "Free some space and try again; a run continues with --resume."
        raise write_error(f"{path}{size}", fault, "Choose another place.", full) from error
    return stream.digest.hexdigest(), stream.size


def write_bytes(path: Path, data: bytes) -> tuple[str, int]:
    """Write a file atomically; sha256 and size, errors as `write_atomic`."""
    return write_atomic(path, lambda file: file.write(data))


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, in ASCII, so that any file name can be in it; errors as `write_atomic`."""
    write_bytes(path, json.dumps(facts, indent=1, default=dict).encode())


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while writing."""
    for path in folder.glob(".*.tmp.*"):
        if re.search(r"\.tmp\.\d+$", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def set_aside(*paths: Path) -> None:
    """Rename what is at each path, file or folder or link, to a free name with `.corrupt` in it; none need be there."""
    for path in paths:
        aside, count = path.with_name(f"{path.name}.corrupt"), 1
        while os.path.lexists(aside):
            aside, count = path.with_name(f"{path.name}.corrupt.{count}"), count + 1
        if os.path.lexists(path):
            path.rename(aside)


def require_file(path: Path) -> None:
    """Refuse what is no regular file: opening a pipe would wait for ever, and a device has no end.

    Raises:
        OSError: nothing is there, or it is a folder, pipe, socket or device.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")


def read_bytes(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        OSError: no regular file, or one that cannot be read.
        ValueError: it is larger.
    """
    require_file(path)
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit / 2**20:g} MB")
    return data


def open_append(path: Path) -> TextIO:
    """Open a text file to append to, created if it is not there.

    Raises:
        OSError: there is no regular file, or it cannot be written.
    """
    if os.path.lexists(path):
        require_file(path)
    return path.open("a", encoding="utf-8", errors="backslashreplace")


def drop_partial_line(path: Path) -> None:
    """Drop a last line without an end, which a killed process may have left."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        start = max(file.seek(0, os.SEEK_END) - LARGEST_TEXT, 0)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a small JSON file.

    Raises:
        OSError: as `read_bytes`.
        ValueError: too large, not JSON, nested too deeply, or not an object.
    """
    try:
        found = json.loads(read_bytes(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def sha256(path: Path) -> str:
    """Compute the file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Create a folder, and those above it, unless it is there; a power loss does not undo it.

    Raises:
        OSError: it cannot be created.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # a folder above it that may not be listed
        sync_folder(path.parent)


def require_writable(folder: Path, what: str, hint: str) -> None:
    """Refuse a folder that is there and cannot be written to, or cannot be created.

    Args:
        folder: the folder.
        what: would be written, for the message.
        hint: what to try.

    Raises:
        ResourceError: it, or the nearest folder above it that is there, is no folder, or takes no file.
    """
    folder = nearest_existing(folder)
    if not is_folder(folder) or not os.access(folder, os.W_OK | os.X_OK):
        why = "cannot be written to" if is_folder(folder) else "is a file, not a folder"
        raise ResourceError(f"Cannot write {what}: {shown(str(folder))} {why}.", hint)
    try:  # such as /proc, an immutable folder or a full disk
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = f"nothing can be written to {shown(str(folder))} ({error.strerror})"
        raise ResourceError(f"Cannot write {what}: {why}.", hint) from error


def nearest_existing(path: Path) -> Path:
    """Return the absolute path, or the nearest one above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if is_there(place))


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed and deleted in the folder durable: its entries are cached separately."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)
