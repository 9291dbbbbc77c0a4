"""The index of an archive's images: names, places and labels, made once a process by `zipfile` or `tarfile`."""

import functools
import io
import json
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssl_cli.config.image_list import word_of
from ssl_cli.data.compact import Names
from ssl_cli.data.part import Numbered, numbered
from ssl_cli.data.passed import Passed, ending_of
from ssl_cli.data.search import HEAD, is_image
from ssl_cli.errors import DataError
from ssl_cli.names import is_system_folder, shown

_LABEL_ENDINGS = (".cls", ".json")
_LABELS = ("label", "cls", "class")
"""Keys of a `.json` under which a label is, the one that counts first."""
_LARGEST_LABEL = 2**16
_LARGEST_HEADER = 2**20
"""Bytes of one header of a tar; more is no header of files that exist."""
_DEEPEST = 64
_AGAIN = "Copy or download it again."
_MOST_PADDING = 16 * 2**20
"""Bytes of zeros at the end of a tar, behind which another one may begin."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class Member(NamedTuple):
    """Where an image's bytes are: their start in a tar, that of the header in front of them in a zip.

    `packed` are those that are deflated in a zip, or a sparse file in a tar, which starts at its header, too.
    """

    start: int
    stored: int
    size: int
    crc: int = 0
    packed: bool = False


class Members:
    """Hold members in arrays: a million take 33 MB."""

    def __init__(self) -> None:
        self._columns = tuple(array(kind) for kind in "QQQIB")

    def append(self, member: Member) -> None:
        """Add a member at the end."""
        for column, value in zip(self._columns, member, strict=True):
            column.append(int(value))

    def __getitem__(self, index: int) -> Member:
        start, stored, size, crc, packed = (column[index] for column in self._columns)
        return Member(start, stored, size, crc, bool(packed))


@dataclass(frozen=True)
class Index:
    """The images of an archive, by their names.

    Attributes:
        version: of the file when it was read.
        is_zip: else it is a tar.
        names: in the archive, with `/`.
        members: where the bytes of each are.
        labels: by files next to the images; None: there are none.
        groups: likewise.
        note: on what was passed over.
    """

    version: tuple[int, int]
    is_zip: bool
    names: Names
    members: Members
    labels: Numbered | None
    groups: Numbered | None
    note: str


class _File(NamedTuple):
    """A file in an archive; `read` returns its first bytes."""

    name: str
    member: Member
    read: Callable[[int], bytes]
    fault: str = ""


def version_of(status: os.stat_result) -> tuple[int, int]:
    """Return what changes when a file is replaced."""
    return status.st_size, status.st_mtime_ns


def index_of(path: Path) -> Index:
    """Index the images of an archive, or return the index that this process made of it.

    Raises:
        DataError: it cannot be opened, is damaged, encrypted or otherwise unreadable, or holds no image.
    """
    where = f"The archive {shown(str(path))}"
    try:
        index = _index(str(path), version_of(path.stat()))
    except DataError as error:
        raise DataError(f"{where} {error.message}.", error.hint) from None
    except OSError as error:
        raise DataError(
            f"{where} cannot be opened: {error.strerror or error}.", "Give one that you may read."
        ) from error
    except Exception as error:  # zipfile and tarfile raise errors of many types on a damaged file
        words = shown(str(error)) or type(error).__name__
        raise DataError(f"{where} is damaged or cut off: {words}.", _AGAIN) from error
    if not len(index.names):
        note = f" ({index.note})" if index.note else ""
        inner = any(f" {ending}" in index.note for ending in (".tar", ".zip"))
        hint = "Unpack it once, and give the folder." if inner else "Give another archive."
        raise DataError(f"There is no image in {where[0].lower()}{where[1:]}{note}.", hint)
    return index


@functools.lru_cache(maxsize=4096)
def _index(path: str, version: tuple[int, int]) -> Index:
    with Path(path).open("rb") as file:
        is_zip = file.read(2) == b"PK" or path.lower().endswith(".zip")
    passed, facts = Passed(), dict[str, tuple[str | None, str | None]]()
    system, names, members = set[str](), list[str](), Members()
    for entry in _zip(path) if is_zip else _tar(path):
        name = "/".join(part for part in entry.name.split("/") if part not in ("", ".", ".."))
        *folders, last = name.split("/")
        hidden = next((part for part in folders if is_system_folder(part)), None)
        if hidden is not None:
            folder = name[: name.index(hidden) + len(hidden)]
            if folder not in system:
                system.add(folder)
                passed.folder(hidden)
        elif any(part.startswith(".") for part in (*folders, last)):
            continue
        elif len(folders) < _DEEPEST and _is_image(last, entry):
            if entry.fault:
                raise DataError(entry.fault, "Unpack it, and give the folder.")
            names.append(name)
            members.append(entry.member)
        elif not (ending_of(last) in _LABEL_ENDINGS and _note_label(facts, name, entry)):
            passed.file(last)
    return _ordered(names, members, facts, version, passed.note(), is_zip=is_zip)


def _ordered(
    names: list[str], members: Members, facts: dict[str, tuple[str | None, str | None]], version: tuple[int, int],
    note: str, *, is_zip: bool,
) -> Index:  # fmt: skip
    """Sort images by their names; of two of one name the later one counts, as where an archive is unpacked."""
    last = {name: number for number, name in enumerate(names)}
    ordered, found = Names(), Members()
    for name in sorted(last):
        ordered.append(name)
        found.append(members[last[name]])
    labels, groups = (
        numbered(facts.get(_key(name), (None, None))[column] for name in ordered)
        if any(pair[column] is not None for pair in facts.values())
        else None
        for column in (0, 1)
    )
    return Index(version, is_zip, ordered, found, labels, groups, note)


def _is_image(name: str, entry: _File) -> bool:
    return is_image(name, lambda: b"" if entry.fault else entry.read(HEAD))


def _key(name: str) -> str:
    """Return what the files of one sample share: the name up to the first dot in its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"


def _note_label(facts: dict[str, tuple[str | None, str | None]], name: str, entry: _File) -> bool:
    """Read label and group from a `.cls` or `.json`; return whether it has any."""
    if entry.fault or entry.member.size > _LARGEST_LABEL:
        return False
    text = entry.read(_LARGEST_LABEL).decode("utf-8", "replace").strip()
    label, group = facts.get(_key(name), (None, None))
    if ending_of(name) == ".cls":
        label = text or None
    else:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(found, dict):
            return False
        words = {key: word for key, value in found.items() if (word := word_of(value)) is not None}
        label = label or next((words[key] for key in _LABELS if key in words), None)
        group = group or words.get("group")
    if label is None and group is None:
        return False
    facts[_key(name)] = label, group
    return True


def _zip(path: str) -> Iterator[_File]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                continue
            fault = "is encrypted" if info.flag_bits & 1 else ""
            fault = fault or ("" if info.compress_type in _METHODS else "is packed in another way than deflate")
            member = Member(
                info.header_offset, info.compress_size, info.file_size, info.CRC,
                info.compress_type == zipfile.ZIP_DEFLATED,
            )  # fmt: skip

            def read(count: int, info: zipfile.ZipInfo = info) -> bytes:
                try:
                    with archive.open(info) as file:
                        return file.read(count)
                except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
                    return b""  # one that is damaged: neither a label nor an image

            yield _File(info.filename.replace("\\", "/"), member, read, fault)


class _Bounded(io.FileIO):
    """Read a file in parts of a bounded size: the size that a tar states for a header may be any."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_HEADER:
            raise DataError("is damaged: it has a header of an impossible size", _AGAIN)
        return super().read(size) or b""


def _tar(path: str) -> Iterator[_File]:
    links = dict[str, str]()
    for entry, to in _tar_entries(path):
        if to:
            links[entry.name] = to
        else:
            yield entry
    wanted = set(links.values())
    files = {entry.name: entry for entry, to in _tar_entries(path) if not to and entry.name in wanted} if links else {}
    for name, to in links.items():  # a hard link is a file of its own
        if to in files:
            yield files[to]._replace(name=name, read=functools.partial(_read, path, files[to].member))


def read_sparse(path: str, member: Member, count: int = sys.maxsize) -> bytes:
    """Return the first `count` bytes of a sparse file in a tar, zeros where it has none.

    Raises:
        OSError: it is cut off.
    """
    parts, count = list[bytes](), min(count, member.size)
    with _Bounded(path) as file:
        file.seek(member.start)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            found = archive.extractfile(archive.next() or "")
            while found and count and (part := found.read(min(count, _LARGEST_HEADER))):
                parts.append(part)
                count -= len(part)
    return b"".join(parts)


def _read(path: str, member: Member, count: int) -> bytes:
    if member.packed:
        return read_sparse(path, member, count)
    with Path(path).open("rb") as file:
        file.seek(member.start)
        return file.read(min(count, member.size))


def _tar_entries(path: str) -> Iterator[tuple[_File, str]]:
    """Yield the files of a tar, or of several that were joined to one file, and hard links with what they lead to."""
    place: int | None = 0
    with _Bounded(path) as file:
        end = os.fstat(file.fileno()).st_size
        while place is not None:
            file.seek(place)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined] # a list of all would take a kilobyte each
                    if info.islnk():
                        yield _File(info.name, Member(0, 0, 0), lambda count: b""), info.linkname
                    if info.isreg():
                        yield _tar_file(path, file.fileno(), info, end), ""
            if os.pread(file.fileno(), tarfile.BLOCKSIZE, archive.offset).strip(b"\0"):  # tarfile stops there silently
                raise DataError("is damaged or cut off", _AGAIN)
            place = _next_tar(file.fileno(), archive.offset)


def _tar_file(path: str, descriptor: int, info: tarfile.TarInfo, end: int) -> _File:
    """Describe a file in a tar of `end` bytes.

    Raises:
        DataError: it is cut off.
    """
    if info.issparse():
        member = Member(info.offset, info.size, info.size, packed=True)
        return _File(info.name, member, functools.partial(_read, path, member))
    if info.offset_data + info.size > end:
        raise DataError("is cut off", _AGAIN)
    member = Member(info.offset_data, info.size, info.size)
    return _File(info.name, member, lambda count: os.pread(descriptor, min(count, member.size), member.start))


def _next_tar(descriptor: int, place: int) -> int | None:
    """Return where another tar begins behind the zeros at the end of one; None: none does."""
    end = place + _MOST_PADDING
    while place < end and (data := os.pread(descriptor, 2**20, place)):
        if rest := data.lstrip(b"\0"):
            place += (len(data) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            try:
                tarfile.TarInfo.frombuf(os.pread(descriptor, tarfile.BLOCKSIZE, place), "utf-8", "surrogateescape")
            except tarfile.TarError:
                return None
            return place
        place += len(data)
    return None
