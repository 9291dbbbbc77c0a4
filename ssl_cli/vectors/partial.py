"""Vectors on disk while they are made: rows are appended, so that a stopped command continues where it was."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ssl_cli import disk
from ssl_cli.errors import LockedError, ResourceError, UsageError, write_error
from ssl_cli.names import shown

SCHEMA = "sslcli vectors 1"
CHUNK = 4096
"""Rows read back at a time."""


class PartialVectors:
    """Append rows of images to `.NAME.partial` in an output file's folder; `.NAME.partial.json` says what it holds.

    A record is the index of an image, int64, its row of `width` numbers, and the index plus one, by which a record
    that was cut off is known. Records are in ascending order of the index: the last one says where to continue.

    Args:
        output: the file that will be written of the rows.
        identity: what determines the rows; those of another identity are dropped.
        width: numbers in a row.
        dtype: of the numbers.

    Raises:
        LockedError: another process makes this file.
        ResourceError: the disk cannot be written.
        UsageError: there is a file of that name that `sslcli` did not write.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any], width: int, dtype: str = "<f4") -> None:
        self.output, self.path = output, output.with_name(f".{output.name}.partial")
        self.facts = self.path.with_name(f"{self.path.name}.json")
        self.record = np.dtype([("index", "<i8"), ("row", dtype, (width,)), ("end", "<i8")])
        try:
            disk.make_folder(output.absolute().parent)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise self._fault(error) from error
        try:
            self._lock()
            self._drop_others({"schema": SCHEMA, **identity})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return os.fstat(self._file.fileno()).st_size // self.record.itemsize

    @property
    def next_index(self) -> int:
        """Return the index behind the last image that has a row."""
        return int(self._records()[-1]["index"]) + 1 if len(self) else 0

    def append(self, index: np.ndarray, rows: np.ndarray) -> None:
        """Append the rows `(M,width)` of images int64 `(M,)`, and sync them to the disk.

        Raises:
            ResourceError: the disk is full, or cannot be written.
        """
        part = np.empty(len(index), self.record)
        part["index"], part["row"], part["end"] = index, rows, index + 1
        try:
            self._file.write(part.tobytes())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._fault(error) from error

    def cut(self, index: int) -> None:
        """Drop the rows of images from `index` on.

        Raises:
            ResourceError: the file cannot be written.
        """
        count = int(np.searchsorted(np.array(self.index), index))
        if count < len(self):
            self._truncate(count)

    @property
    def index(self) -> np.ndarray:
        """Return the images that have a row, int64 `(N,)`, mapped from the file."""
        return np.asarray(self._records()["index"])

    @property
    def rows(self) -> np.ndarray:
        """Return the rows of these images `(N,width)`, mapped from the file."""
        return np.asarray(self._records()["row"])

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield indices `(M,)` and rows `(M,width)`, some thousand at a time."""
        records = self._records()
        for start in range(0, len(records), CHUNK):
            part = records[start : start + CHUNK]
            yield np.array(part["index"]), np.ascontiguousarray(part["row"])

    def remove(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)

    def _records(self) -> Any:
        """Return all whole records, mapped from the file."""
        if not len(self):
            return np.empty(0, self.record)
        return np.memmap(self.path, self.record, "r", shape=(len(self),))

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"Another process is making {shown(str(self.output))}."
            raise LockedError(what, "Wait for it to end, or choose another -o.") from error
        except OSError:
            return  # a file system without locks

    def _drop_others(self, identity: Mapping[str, Any]) -> None:
        """Drop rows of another identity, and records behind the last one that is whole and in order."""
        try:
            found = disk.read_json(self.facts)
        except (OSError, ValueError):
            found = {}
        if os.fstat(self._file.fileno()).st_size and found.get("schema") != SCHEMA:
            what = f"{shown(str(self.path))} is in the way: sslcli did not write it."
            raise UsageError(what, "Move it, or choose another -o.")
        self._truncate(self._in_order() if found == identity else 0)
        if found != identity:
            disk.write_json(self.facts, identity)

    def _truncate(self, count: int) -> None:
        """Keep the first `count` records."""
        try:
            os.ftruncate(self._file.fileno(), count * self.record.itemsize)
        except OSError as error:
            raise self._fault(error) from error

    def _in_order(self) -> int:
        """Return how many records from the first are whole and in order: a power loss leaves zeros behind them."""
        records = self._records()
        index, end = np.array(records["index"]), np.array(records["end"])
        wrong = np.flatnonzero((np.diff(index, prepend=-1) <= 0) | (end != index + 1))
        return int(wrong[0]) if len(wrong) else len(index)

    def _fault(self, error: OSError) -> ResourceError:
        again = "; the same command continues where it stopped."
        return write_error(shown(str(self.path)), error, f"Choose another -o{again}", f"Free some space{again}")
