"""Images in files, each read back whole or not at all.

A process that writes appends to two files of its own: pixels, one image after the other, and an index, one record an
image. A record counts only if its own checksum is right, and pixels only if theirs is, so what a crash or a power loss
cut off is as if it were not there. Files that another process wrote are read, too.

The pixels are read into memory of their own, not mapped: a file that is cut off or on a failing disk would end a
process that has mapped it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_cli import disk

SCHEMA = "sslcli images 1"
FACTS, IN_USE = "cache.json", ".in-use"
KEEP_FREE, KEEP_SHARE = 10 * 2**30, 0.05
"""Bytes of the disk that stay free, and share of it: the smaller of both counts."""
LOOK_AFTER = 2**28
"""Bytes written after which the free space is looked at again."""
REFRESH = 5.0
"""Seconds after which a miss looks for what others have written since."""
MOST_SIDE = 2**20
_FOLDER = "images-*"
_NAME, _PART = re.compile(r"images-[0-9a-f]{32}"), re.compile(r"\d{6}\.(pixels|index)")
_RECORD = np.dtype([
    ("image", "<i8"), ("start", "<i8"), ("height", "<i4"), ("width", "<i4"), ("pixels", "<u4"), ("check", "<u4"),
])  # fmt: skip
"""Of an image: its place in the set, its first byte, its sides, the crc32 of its pixels, and that of the record."""
_WHERE = np.dtype([("start", "<i8"), ("height", "<i4"), ("width", "<i4"), ("pixels", "<u4"), ("file", "<i4")])
"""In memory of an image: the same, and the file of its pixels, -1 where it is not on disk."""
_FREE = "what is free on its disk stays free"

_open_here: set[Path] = set()
"""Caches that this process uses, which it never deletes: locks are those of processes."""


def room_in(folder: Path) -> int:
    """Return the bytes that caches in a folder may still take: of its disk, a part stays free."""
    try:
        usage = shutil.disk_usage(disk.nearest_existing(folder))
    except OSError:
        return 0
    return max(usage.free - int(min(KEEP_FREE, KEEP_SHARE * usage.total)), 0)


class ImageStore:
    """Hold images of a set in a folder of files, which several processes may write at once.

    Args:
        root: folder of all stores; made if it is not there.
        identity: what determines the images: those of another identity are in another folder.
        shape: number of the images, and channels of each.
        kind: type of the pixels.

    Attributes:
        folder: of this store.
        full: why no more images are written; empty: they are.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(
        self, root: Path, identity: Mapping[str, Any], shape: tuple[int, int], kind: type[np.integer[Any]] = np.uint8
    ) -> None:
        self.root, self.folder, self.full = root, root / f"images-{_hash(identity)}", ""
        (count, self.channels), self.dtype = shape, np.dtype(kind)
        self._each = self.channels * self.dtype.itemsize  # bytes of a pixel
        self._lock, self._refreshed, self._written = threading.Lock(), 0.0, 0
        self._where = np.zeros(count, _WHERE)
        self._where["file"] = -1
        self._checked, self._files = bytearray(count), list[int]()
        self._parts: dict[str, tuple[int, int]] = {}
        self._own: tuple[int, int] | None = None
        weakref.finalize(self, _close, self._files)
        self._open(identity)
        self._room = room_in(root)

    def _open(self, identity: Mapping[str, Any]) -> None:
        disk.make_folder(self.root)
        _open_here.add(self.folder)
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)  # the images may be private
        in_use = self._file(IN_USE, os.O_RDWR | os.O_CREAT)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.lockf(in_use, fcntl.LOCK_SH)
        disk.write_json(self.folder / FACTS, identity)  # its time is that of the last use
        self._refresh()

    def _file(self, name: str, how: int) -> int:
        """Open a file of the cache, to be closed with it."""
        file = os.open(self.folder / name, how | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._files.append(file)
        return file

    def __len__(self) -> int:
        """Return the number of images that are there."""
        return int((self._where["file"] >= 0).sum())

    def get(self, index: int) -> np.ndarray | None:
        """Return the pixels `(H,W,C)` of an image that is there and whole; None: it is not."""
        if self._where["file"][index] < 0:
            if time.monotonic() - self._refreshed > REFRESH:
                with self._lock, contextlib.suppress(OSError):
                    self._refresh()
            if self._where["file"][index] < 0:
                return None
        start, height, width, check, file = (int(number) for number in self._where[index])
        data = bytearray(height * width * self._each)
        try:
            whole = os.preadv(file, [data], start) == len(data)
        except OSError:
            whole = False
        if not whole or (not self._checked[index] and zlib.crc32(data) != check):
            self._where["file"][index] = -1
            return None
        self._checked[index] = 1
        return np.frombuffer(data, self.dtype).reshape(height, width, self.channels)

    def put(self, index: int, pixels: np.ndarray) -> None:
        """Append an image to this process's own files, while there is room."""
        data, record = pixels.tobytes(), np.zeros((), _RECORD)
        record["image"], record["pixels"] = index, zlib.crc32(data)
        record["height"], record["width"] = pixels.shape[:2]
        with self._lock:
            if self.full:
                return
            try:
                self._require_room(len(data))
                self._own = self._own or self._new_part()
                file, table = self._own
                record["start"] = os.lseek(file, 0, os.SEEK_END)
                record["check"] = zlib.crc32(record.tobytes()[:-4])
                if os.write(file, data) < len(data) or os.write(table, record.tobytes()) < _RECORD.itemsize:
                    raise OSError(0, _FREE)  # which the next write would say
            except OSError as error:
                self.full = f"The cache of decoded images takes no more: {(error.strerror or '').lower()}"
                return
            self._written += len(data)
            self._where[index] = record["start"], *pixels.shape[:2], record["pixels"], file
            self._checked[index] = 1

    def _require_room(self, size: int) -> None:
        """Refuse to write where less than a part of the disk would stay free; caches not used for longest make room.

        Raises:
            OSError: it would.
        """
        if self._written // LOOK_AFTER < (self._written + size) // LOOK_AFTER:
            self._room = self._written + room_in(self.root)
        for folder in caches_in(self.root) if self._written + size > self._room else ():
            if folder not in _open_here and delete(folder):
                self._room = self._written + room_in(self.root)
            if self._written + size <= self._room:
                break
        if self._written + size > self._room:
            raise OSError(0, _FREE)

    def _new_part(self) -> tuple[int, int]:
        """Create files of the next number, for this process alone to write."""
        numbers = [int(name[:6]) for name in os.listdir(self.folder) if _PART.fullmatch(name)]  # noqa: PTH208
        how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        for number in range(max(numbers, default=0) + 1, 10**6):
            with contextlib.suppress(FileExistsError):
                pixels, index = self._file(f"{number:06}.pixels", how), self._file(f"{number:06}.index", how)
                self._parts[f"{number:06}"] = pixels, -1  # what is in it is known
                return pixels, index
        raise OSError(0, "it has a million files")

    def _refresh(self) -> None:
        """Take in what the index files of others hold by now."""
        self._refreshed = time.monotonic()
        names = sorted(name for name in os.listdir(self.folder) if _PART.fullmatch(name))  # noqa: PTH208
        for name in (name[:6] for name in names if name.endswith(".index")):
            file, done = self._parts.get(name, (-1, 0))
            if done < 0:
                continue
            with contextlib.suppress(OSError):
                file = file if file >= 0 else self._file(f"{name}.pixels", os.O_RDONLY)
                self._parts[name] = file, done
                self._parts[name] = file, self._take_in(name, file, done)

    def _take_in(self, name: str, file: int, done: int) -> int:
        """Take in the records of an index file from byte `done` on, up to the first that is not whole; return there."""
        with (self.folder / f"{name}.index").open("rb") as table:
            table.seek(done)
            whole = _whole(table.read())
        records = whole[_possible(whole, len(self._where), self._each, os.fstat(file).st_size)]
        records = records[self._where["file"][records["image"]] < 0]
        new = np.empty(len(records), _WHERE)
        for field in ("start", "height", "width", "pixels"):
            new[field] = records[field]
        new["file"] = file
        self._where[records["image"]] = new
        return done + whole.nbytes


def _possible(records: np.ndarray, images: int, each: int, size: int) -> np.ndarray:
    """Return which records are of one of the images, with pixels of `each` bytes that lie in a file of this size."""
    height, width = (records[side].astype(np.int64) for side in ("height", "width"))
    known: np.ndarray = (records["image"] >= 0) & (records["image"] < images) & (records["start"] >= 0)
    known &= (np.minimum(height, width) > 0) & (np.maximum(height, width) <= MOST_SIDE)
    known &= records["start"] + height * width * each <= size
    return known


def _whole(data: bytes) -> np.ndarray:
    """Return the records of an index up to the first that is cut off or changed."""
    view, size, count = memoryview(data), _RECORD.itemsize, 0
    records = np.frombuffer(view[: len(data) // size * size], _RECORD)
    for check in records["check"].tolist():
        if zlib.crc32(view[count * size : (count + 1) * size - 4]) != check:
            break
        count += 1
    return records[:count]


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def caches_in(root: Path) -> Iterator[Path]:
    """Yield the caches in a folder, the one not used for longest first; other folders are none of ours."""
    found = []
    for folder in root.glob(_FOLDER):
        with contextlib.suppress(OSError, ValueError):
            facts = disk.read_json(folder / FACTS)
            if _NAME.fullmatch(folder.name) and facts.get("schema") == SCHEMA and folder.name[7:] == _hash(facts):
                found.append(((folder / FACTS).stat().st_mtime_ns, folder))
    return (folder for _, folder in sorted(found))


def delete(folder: Path) -> int:
    """Delete a cache that no process uses, its own files alone; return the bytes that this freed."""
    freed = 0
    with contextlib.suppress(OSError), (folder / IN_USE).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink() and (_PART.fullmatch(path.name) or path.name == FACTS):
                freed += path.stat().st_size
                path.unlink()
        (folder / IN_USE).unlink()
        folder.rmdir()
    return freed


def bytes_in(root: Path) -> int:
    """Return the bytes of all caches in a folder."""
    return sum(path.stat().st_size for folder in caches_in(root) for path in folder.iterdir())
