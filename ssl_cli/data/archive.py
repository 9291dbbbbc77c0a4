"""Images in a `.zip` or an uncompressed `.tar`, read in place: nothing is written to disk or unpickled."""

import os
import struct
import tarfile
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path

from ssl_cli.config.units import format_bytes
from ssl_cli.data.archive_index import Index, Member, index_of, read_sparse, version_of
from ssl_cli.data.compact import Names
from ssl_cli.data.layout import TRAIN, Layout, find_layout, split_of
from ssl_cli.data.part import Numbered, Part, numbered, top_folders
from ssl_cli.errors import DataError
from ssl_cli.names import is_file, shown

ENDINGS = (".zip", ".tar")
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Archives that can only be read from their start."""
LARGEST = 2**30
"""Bytes of the largest member that is read."""
_LOCAL = struct.Struct("<4s5H3L2H")
"""Header in front of a member of a zip."""


@dataclass(frozen=True)
class Archive:
    """Read images of an archive, from several threads at once.

    Attributes:
        file: the archive.
        below: folder in it that the names are relative to, with a `/` at its end; empty: none.
        index: of all its images.
        chosen: positions in the index.
    """

    file: str
    below: str
    index: Index
    chosen: "array[int]"

    def path(self, name: str) -> str:
        """Return the archive's path and the name in it."""
        return f"{self.file}/{self.below}{name}"

    def status(self, name: str, number: int) -> tuple[int, int]:
        """Return the image's bytes, and the time of its archive."""
        return self.index.members[self.chosen[number]].size, self.index.version[1]

    def open(self, name: str, number: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            DataError: they are damaged or too many, or the archive was replaced; the message is the reason.
            OSError: the archive cannot be opened.
        """
        member = self.index.members[self.chosen[number]]
        if max(member.size, member.stored) > LARGEST:
            raise DataError(f"it has {format_bytes(member.size)}; at most {format_bytes(LARGEST)} are read")
        descriptor = os.open(self.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if version_of(os.fstat(descriptor)) != self.index.version:
                raise DataError("its archive has changed since the start")
            start = member.start
            if self.index.is_zip:
                header = os.pread(descriptor, _LOCAL.size, start)
                if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
                    raise DataError("it is damaged: it is not where its archive says")
                start += _LOCAL.size + sum(_LOCAL.unpack(header)[-2:])
            data = b"" if self._is_sparse(member) else _read(descriptor, start, member.stored)
        finally:
            os.close(descriptor)
        if self._is_sparse(member):
            return _whole(self.file, member)
        return _checked(data, member) if self.index.is_zip else data

    def _is_sparse(self, member: Member) -> bool:
        return member.packed and not self.index.is_zip


def _read(descriptor: int, start: int, size: int) -> bytes:
    parts = []
    while size and (part := os.pread(descriptor, size, start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    if size:
        raise DataError("it is damaged: its archive is cut off")
    return b"".join(parts)


def _whole(file: str, member: Member) -> bytes:
    try:
        data = read_sparse(file, member)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"it is damaged ({error})") from None
    if len(data) < member.size:
        raise DataError("it is damaged: its archive is cut off")
    return data


def _checked(data: bytes, member: Member) -> bytes:
    """Inflate a member of a zip to its size, no further, and compare its checksum."""
    try:
        if member.packed:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    except zlib.error as error:
        raise DataError(f"it is damaged ({error})") from None
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise DataError("it is damaged: its checksum is another")
    return data


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its ending or its first bytes."""
    if not is_file(path):
        return False
    if path.name.lower().endswith((*ENDINGS, *PACKED)):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head.startswith((b"PK\3\4", b"PK\5\6")) or head[257:262] == b"ustar"


def _is_packed(path: Path) -> bool:
    """Whether a file is compressed as a whole by gzip, bzip2, xz or Zstandard, whatever its name; False: unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))
    except OSError:
        return False


def split_in(name: str) -> str | None:
    """Return the split that the name of an archive holds, such as `train` of `set-train-0001.tar`; None: no or two."""
    words = "".join(c if c.isalpha() else " " for c in Path(name).stem.lower()).split()
    found = {split for word in words if (split := split_of(word)) is not None}
    return found.pop() if len(found) == 1 else None


def parts(path: Path, split: str) -> list[Part]:
    """Collect the images of an archive for a split: folders in it are as folders on disk.

    Of WebDataset, the label of `KEY.jpg` is in `KEY.cls`, or in `KEY.json` under `label`, and its group under `group`.

    Raises:
        DataError: it is damaged, encrypted, compressed as a whole, or holds no image.
    """
    if path.name.lower().endswith(PACKED) or _is_packed(path):
        name = shown(path.name)
        what = f"The archive {shown(str(path))} is compressed as a whole, so its images can only be read in order."
        raise DataError(what, f"Unpack it once: tar -xf '{name}', and give the folder; or decompress it to a .tar.")
    index = index_of(path)
    layout = _layout(index, str(path))
    below = layout.train if split == TRAIN else layout.test
    if below is None:
        return []
    below += "/" if below else ""
    names, chosen = Names(), array("Q")
    for number, name in enumerate(index.names):
        if name.startswith(below):
            names.append(name[len(below) :])
            chosen.append(number)
    notes = layout.notes
    notes = (*notes, f"of its {Path(below).name}/") if below.rstrip("/") != layout.through else notes
    notes = (*notes, *filter(None, [index.note]))
    labels = top_folders(names) if index.labels is None else _select(index.labels, chosen)
    groups = None if index.groups is None else _select(index.groups, chosen)
    storage = Archive(str(path), below, index, chosen)
    return [Part(str(path), names, storage, labels, groups, notes=notes, splits=layout.splits)]


def _select(of: Numbered, chosen: "array[int]") -> Numbered:
    return numbered(of.names[of.of[number]] if of.of[number] >= 0 else None for number in chosen)


def _layout(index: Index, where: str) -> Layout:
    folders: dict[str, set[str]] = {}
    with_images, before = set[str](), None
    for name in index.names:
        folder = name.rpartition("/")[0]
        if folder != before:
            before, above = folder, folder.split("/") if folder else []
            for depth, part in enumerate(above):
                folders.setdefault("/".join(above[:depth]), set()).add(part)
            with_images.add(folder)
    return find_layout(lambda below: (sorted(folders.get(below, ())), below in with_images), where)
