"""Errors that are reported to the user: one sentence, what to try next, and the exit code of the process.

```
SslcliError            1  a bug in sslcli
├── UsageError         2  a command line or setting that is not valid
├── DataError          3  images that are missing, unreadable or too few
├── CheckpointError    4  a checkpoint or model file that is damaged, foreign or fails its check
├── ResourceError      5  not enough memory (`OutOfMemoryError`) or disk
├── DivergedError      6  the loss is no longer finite, or the representation collapsed
├── RankError             another rank failed; with its exit code
└── LockedError        7  another process uses this run folder
```
A run that is stopped by a signal or `--max-time` exits with `STOPPED` and can be resumed; Ctrl-C with `INTERRUPTED`.
"""

import errno
import os
import re
from typing import ClassVar

DONE = 0
STOPPED = 75
INTERRUPTED = 130


class SslcliError(Exception):
    """An error with a sentence for the user, a hint on what to try next, and an exit code."""

    code: ClassVar[int] = 1
    otherwise: ClassVar[str] = "Run it again with --debug, and report what it shows."
    """Hint for an error that is raised without one."""
    out_of_memory = False
    """Whether smaller micro-batches may help."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SslcliError):
    """A command line or setting that is not valid."""

    code = 2
    otherwise = "See the --help of this command."


class DataError(SslcliError):
    """Images that are missing, unreadable or too few."""

    code = 3
    otherwise = "Give other images."


class NoLabelsError(DataError):
    """Images without labels, where an evaluation needs them."""


class OneClassError(NoLabelsError):
    """Images whose labels are all the same."""


class NothingReadError(DataError):
    """Images of which none can be read."""


class CheckpointError(SslcliError):
    """A checkpoint or model file that is damaged, foreign or fails its check."""

    code = 4
    otherwise = "Give another run, or the file of an earlier checkpoint."


class ResourceError(SslcliError):
    """Not enough memory or disk."""

    code = 5
    otherwise = "Free some memory or disk space, and try again."


class OutOfMemoryError(ResourceError):
    """Out of memory (OOM) on the host or a device."""

    out_of_memory = True


class DivergedError(SslcliError):
    """The loss is no longer finite, or the representation collapsed."""

    code = 6
    otherwise = "Start again with a lower --lr."


class RankError(SslcliError):
    """Another rank of the run failed; `code` is its exit code if known, else `STOPPED`."""

    otherwise = "Continue from the last checkpoint with --resume."

    def __init__(self, message: str, hint: str = "", code: int = STOPPED, *, out_of_memory: bool = False) -> None:
        super().__init__(message, hint)
        self.out_of_memory = out_of_memory
        self.code = code  # type: ignore[misc]


class LockedError(SslcliError):
    """Another process uses this run folder."""

    code = 7
    otherwise = "Wait for it to end."


class Interrupted(BaseException):
    """A signal that ends a run at once; a `BaseException`, so that `except Exception` does not catch it."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a write for which there is no room: on the disk, in a quota, or by the limit of a file's size."""
_OF_THE_DISK = _DISK_FULL | {
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE,
    errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT,
}  # fmt: skip
"""Errors of files that are no bug: a disk that is full, read-only, failing or gone, or a folder that was deleted."""
# torch, oneDNN and the system raise RuntimeErrors and OSErrors, and this module does not import torch
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|bad_?alloc|could not create a (primitive|memory object)$"
    r"|failed to map (segment|.*memory)",
    re.IGNORECASE,
)


def write_error(
    what: str, error: OSError | ValueError, elsewhere: str, full: str = "Free some space and try again."
) -> ResourceError:
    """Return the error about a failed write.

    Args:
        what: cannot be written, for the sentence.
        error: why, such as a full disk.
        elsewhere: hint for any other cause than a full disk.
        full: hint for a full disk.
    """
    is_full = getattr(error, "errno", None) in _DISK_FULL
    why = "there is no room left for it" if is_full else getattr(error, "strerror", None) or error
    return ResourceError(f"Cannot write {what}: {why}.", full if is_full else elsewhere)


def convert_exception(error: Exception) -> SslcliError:
    """Convert any exception to an `SslcliError`: no more memory, disk, files or threads, or a bug in sslcli."""
    if isinstance(error, SslcliError):
        return error
    what = " ".join(str(error).split()) or "no further words"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(what):
        return OutOfMemoryError(
            "There is not enough memory.",
            "Lower --memory or --micro-batch, close other programs, or raise a limit (ulimit, container, job).",
        )
    if "can't start new thread" in what:
        return ResourceError(
            "A thread could not be started.",
            "Raise the limit of processes or memory (ulimit -u, ulimit -v), or pass --set data.threads=1.",
        )
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK and error.filename:
        hint = "Check the disk, and the permissions on it."
        if error.errno in _DISK_FULL:
            hint = "Free some space and try again."
        return ResourceError(f"Cannot use {os.fsdecode(error.filename)}: {error.strerror}.", hint)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return ResourceError("There is no room left on the disk.", "Free some space and try again.")
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "ssl_cli":
        package, _, inner = error.name.partition(".")
        what = f"The Python module {error.name}, which another one needs, is not installed."
        return UsageError(what, f"pip install {'--upgrade ' * bool(inner)}{package}")
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return ResourceError("Too many files are open.", "Raise the limit with ulimit -n, or close other programs.")
    return SslcliError(
        f"This is a bug in sslcli: {type(error).__name__}: {what.rstrip('.')}.",
        "Run it again with --debug, and report what it shows.",
    )


_KINDS: tuple[type[SslcliError], ...] = (SslcliError, *SslcliError.__subclasses__())
BY_CODE = {kind.code: kind for kind in _KINDS if kind is not RankError}
"""By exit code, the error that ends with it; a `RankError` has the code of another one."""
EXIT_CODES: dict[int, str] = {
    DONE: "done",
    **{code: (kind.__doc__ or "").rstrip(".") for code, kind in BY_CODE.items()},
    STOPPED: "stopped, resumable",
    INTERRUPTED: "Ctrl-C",
}
SHORT_CODES: dict[int, str] = {
    DONE: "done",
    **dict(enumerate(("bug", "usage", "data", "checkpoint", "memory or disk", "diverged", "in use"), 1)),
    STOPPED: "stopped (resumable)",
    INTERRUPTED: "Ctrl-C",
}
