"""The images of one place, a folder, a list or an archive: names, labels and where their bytes are, without torch."""

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ssl_cli.data.compact import Names
from ssl_cli.events import Skipped


class Storage(Protocol):
    """Where the bytes of images are, by the image's name and its number in the part."""

    def path(self, name: str) -> str:
        """Return what to call the image in messages: its path, or that of its archive and its name in it."""
        ...

    def open(self, name: str, number: int) -> Path | bytes:
        """Return the image's path, or its bytes.

        Raises:
            DataError: it cannot be read; the message is the reason.
            OSError: likewise.
        """
        ...

    def size(self, name: str, number: int) -> int:
        """Return its bytes as they are stored; -1: it is gone."""
        ...


@dataclass(frozen=True)
class Folder:
    """Images that are files of a folder."""

    root: str

    def path(self, name: str) -> str:
        """Return the file's path."""
        return os.path.join(self.root, name)  # noqa: PTH118

    def open(self, name: str, number: int) -> Path:
        """Return the file's path."""
        return Path(self.path(name))

    def size(self, name: str, number: int) -> int:
        """Return the file's size."""
        try:
            return os.stat(self.path(name)).st_size  # noqa: PTH116
        except OSError:
            return -1


@dataclass(frozen=True)
class Numbered:
    """A class or a group of each image: its position among the names, or -1."""

    of: "array[int]"
    names: Sequence[str]


@dataclass(frozen=True)
class Part:
    """Images of one place, in the order of their names.

    Attributes:
        where: the place, for messages.
        names: of the images, relative to the place.
        storage: where their bytes are.
        labels: of the images.
        groups: of the images; None: there are none.
        prefix: of the names where there are several parts.
        notes: phrases on what was gone through or passed over.
        skipped: events of folders that could not be opened.
    """

    where: str
    names: Names
    storage: Storage
    labels: Numbered
    groups: Numbered | None = None
    prefix: str = ""
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.names)


def numbered(words: Iterable[str | None]) -> Numbered:
    """Return the number of each word in the alphabetical order of all; -1 for None."""
    seen: dict[str, int] = {}
    of = array("q", (-1 if word is None else seen.setdefault(word, len(seen)) for word in words))
    names = sorted(seen)
    place = array("q", [0]) * len(seen)
    for new, name in enumerate(names):
        place[seen[name]] = new
    return Numbered(array("q", (-1 if number < 0 else place[number] for number in of)), names)


def top_folders(names: Iterable[str], separator: str = "/") -> Numbered:
    """Return the first folder of each name, which is the class of an image in a folder."""
    return numbered(name.partition(separator)[0] if separator in name else None for name in names)
