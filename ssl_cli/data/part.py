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

    def status(self, name: str, number: int) -> tuple[int, int]:
        """Return its bytes as they are stored (-1: it is gone), and when it was last written, in nanoseconds."""
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

    def status(self, name: str, number: int) -> tuple[int, int]:
        """Return the file's size and time."""
        try:
            found = os.stat(f"{self.root}{os.sep}{name}" if self.root else name)  # noqa: PTH116
        except OSError:
            return -1, 0
        return found.st_size, found.st_mtime_ns


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
        above: folders of the place that all names have in common, and that are not in them.
        notes: phrases on what was gone through or passed over.
        skipped: events of folders that could not be opened.
        splits: names of the splits that the place has.
    """

    where: str
    names: Names
    storage: Storage
    labels: Numbered
    groups: Numbered | None = None
    prefix: str = ""
    above: str = ""
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)
    splits: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


class Words:
    """Number words in the order in which they come; None is -1."""

    def __init__(self) -> None:
        self._of, self._seen = array("q"), dict[str, int]()

    def append(self, word: str | None) -> None:
        """Add the word of another image."""
        self._of.append(-1 if word is None else self._seen.setdefault(word, len(self._seen)))

    def __bool__(self) -> bool:
        return bool(self._seen)

    def __getitem__(self, index: int) -> int:
        return self._of[index]

    def numbered(self, order: Iterable[int] | None = None) -> Numbered:
        """Return the numbers of the images, in another order if given; the words are numbered alphabetically."""
        names = sorted(self._seen)
        place = array("q", [0]) * len(names) + array("q", [-1])  # the last one is for -1
        for number, name in enumerate(names):
            place[self._seen[name]] = number
        of = self._of if order is None else map(self._of.__getitem__, order)
        return Numbered(array("q", map(place.__getitem__, of)), names)


def numbered(words: Iterable[str | None]) -> Numbered:
    """Return the number of each word in the alphabetical order of all; -1 for None."""
    counted = Words()
    for word in words:
        counted.append(word)
    return counted.numbered()


def top_folders(names: Iterable[str], separator: str = "/") -> Numbered:
    """Return the first folder of each name, which is the class of an image in a folder."""
    return numbered(name.partition(separator)[0] if separator in name else None for name in names)
