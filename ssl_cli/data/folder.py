"""Images in files and archives as a source."""

import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from ssl_cli.data.compact import Names
from ssl_cli.data.decode import decode, opened, reasons
from ssl_cli.data.numbers import Range
from ssl_cli.data.part import Folder, Numbered, Part
from ssl_cli.data.source import Entry, Groups
from ssl_cli.data.waiting import ReadTimes
from ssl_cli.errors import DataError
from ssl_cli.names import shown


class Files:
    """Serve the images of some places as a source.

    Args:
        name: of the set, for messages.
        parts: the images; classes of the same name are one.
        channels: of each image, 1 to 16.
        value_range: see `decode`.
        depth: of the pixels in bits, 8 or 16.
        skips_bad: whether training replaces a few images that cannot be read, instead of ending at the first.

    Attributes:
        times: seconds in reading and decoding.
        groups: of the images; None where no part has any.
        skipped: events of folders that could not be opened.
        notes: phrases on what was gone through or passed over.
        splits: names of the splits that the places have.
    """

    def __init__(
        self, name: str, parts: Sequence[Part], channels: int = 3, value_range: Range | None = None, depth: int = 8, *,
        skips_bad: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.parts, self.skips_bad = name, tuple(parts), skips_bad
        self.channels, self.value_range, self.depth, self.times = channels, value_range, depth, ReadTimes()
        self._starts = list(accumulate(map(len, self.parts), initial=0))
        self.labels, classes = _joined([part.labels for part in self.parts])
        self.classes = tuple(classes)
        self.groups: Groups | None = None
        if any(part.groups for part in self.parts):
            none = [Numbered(array("q", [-1]) * len(part), ()) for part in self.parts]
            self.groups = Groups(*_joined([part.groups or one for part, one in zip(self.parts, none, strict=True)]))
        self.skipped = tuple(event for part in self.parts for event in part.skipped)
        self.splits = tuple(dict.fromkeys(split for part in self.parts for split in part.splits))
        several = len(self.parts) > 1
        self.notes = tuple(
            f"{shown(part.prefix)}: {note}" if several and part.prefix else note
            for part in self.parts
            for note in part.notes
        )

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, index: int) -> tuple[Part, int]:
        number = bisect_right(self._starts, index) - 1
        return self.parts[number], index - self._starts[number]

    def path(self, index: int) -> str:
        """Return the path of image `index`."""
        part, number = self._at(index)
        return part.storage.path(part.names[number])

    def entries(self, indices: Sequence[int] | None = None) -> Iterator[Entry]:
        """Yield what identifies the images `indices`, or all: with several parts, a name begins with its part's."""
        several = len(self.parts) > 1
        for part, number, name in self._all() if indices is None else self._some(indices):
            yield Entry(f"{part.prefix}/{name}" if several else name, *part.storage.status(name, number))

    def _all(self) -> Iterator[tuple[Part, int, str]]:
        return ((part, number, name) for part in self.parts for number, name in enumerate(part.names))

    def _some(self, indices: Sequence[int]) -> Iterator[tuple[Part, int, str]]:
        return ((part, number, part.names[number]) for part, number in map(self._at, indices))

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Decode image `index` to uint8 or int16 `(C,H,W)`, short side at most `cap`.

        Raises:
            DataError: it cannot be read; the message is the reason.
        """
        began = time.perf_counter()
        with reasons(), opened(self.stored(index)) as file:
            read = time.perf_counter()
            image = decode(file, cap, channels=self.channels, value_range=self.value_range, depth=self.depth)
        self.times.add(read - began, time.perf_counter() - read)
        return image

    def stored(self, index: int) -> Path | bytes:
        """Return what is decoded for image `index`: its path, or its bytes in an archive.

        Raises:
            DataError: it cannot be read; the message is the reason.
        """
        part, number = self._at(index)
        try:
            return part.storage.open(part.names[number], number)
        except OSError as error:
            raise DataError(shown(error.strerror or str(error))) from error


def of_paths(
    name: str, paths: Sequence[str], labels: Sequence[int], classes: Sequence[str] = (), channels: int = 3,
    value_range: Range | None = None, depth: int = 8,
) -> Files:  # fmt: skip
    """Serve image files in this order, whose labels are positions in `classes` or -1."""
    part = Part(name, Names(paths), Folder(""), Numbered(array("q", labels), tuple(classes)))
    return Files(name, [part], channels, value_range, depth)


def _joined(parts: Sequence[Numbered]) -> tuple[Tensor, Sequence[str]]:
    """Return the numbers of all parts, int64 `(N,)`, by their names together; those of one part as they are."""
    names = parts[0].names if len(parts) == 1 else sorted({name for part in parts for name in part.names})
    place = {name: number for number, name in enumerate(names)} if len(parts) > 1 else {}
    tensors = []
    for part in parts:
        of = torch.frombuffer(part.of, dtype=torch.int64).clone() if len(part.of) else torch.empty(0, dtype=torch.int64)
        if len(parts) > 1:  # the last entry is for -1
            of = torch.tensor([*(place[name] for name in part.names), -1])[of]
        tensors.append(of)
    return torch.cat(tensors), names
