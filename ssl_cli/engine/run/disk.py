"""Writing files so that a reader finds the old one or the new one, never half of one."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ssl_cli.errors import ResourceError


class _Hashing:
    """A binary file that hashes what passes through and remembers why a write failed.

    torch.save reports a full disk as a RuntimeError without a cause; the cause is kept here.
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


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> tuple[str, int]:
    """Let `write` fill a file that appears under `path` only once it is whole and on disk.

    Returns:
        sha256 and size of what was written.

    Raises:
        ResourceError: the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}")
    stream: _Hashing | None = None
    try:
        with temporary.open("wb") as file:
            stream = _Hashing(file)
            write(stream)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        fault = error if isinstance(error, OSError) else stream.fault if stream else None
        if fault is None:
            raise
        full = fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        what = "there is no room left for it" if full else str(fault.strerror)
        hint = "Free some space and try again; a run goes on with --resume." if full else "Choose another place."
        raise ResourceError(f"Cannot write {path}: {what}.", hint) from error
    return stream.digest.hexdigest(), stream.size


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    write_atomic(path, lambda file: _discard(file.write(text.encode())))


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed writer left unfinished."""
    for path in folder.glob(".*.tmp.*"):
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The file's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: it is an entry of the folder, which has a cache of its own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(_: object) -> None:
    return None
