"""Images that a list names, without torch."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ssl_cli.config.image_list import HINT, Row, read_rows
from ssl_cli.data.compact import Names
from ssl_cli.data.layout import TEST, TRAIN, VAL, split_of
from ssl_cli.data.part import Folder, Part, Words
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FRACTION, FEW = 0.05, 10
"""Up to FEW listed files may be missing, or up to this fraction of them."""
FEW_OF_A_FOLDER, MOST_OF_A_FOLDER = 64, 100_000
"""Files of a folder in a row after which its names are read, this many at most."""
NAMED = 8
"""Columns without a use that are named."""
PEEKED = 1000
"""Rows that are read to refuse a list before torch is imported."""
_UNTIDY = re.compile(r"//|/\.|/$")
"""Parts of a path that another way of writing it has not."""


class _Listing:
    """Look whether files are there: in a folder of many that come one after the other, by its names."""

    def __init__(self) -> None:
        self._folder, self._looked, self._names = "", 0, set[str]()

    def has(self, path: str) -> bool:
        """Whether a file is at this path."""
        folder, _, name = path.rpartition(os.sep)
        if folder != self._folder:
            self._folder, self._looked, self._names = folder, 0, set()
        self._looked += 1
        if self._looked == FEW_OF_A_FOLDER:
            with contextlib.suppress(OSError), os.scandir(folder or os.sep) as scan:
                self._names = {entry.name for entry in islice(scan, MOST_OF_A_FOLDER) if entry.is_file()}
        return name in self._names or os.path.isfile(path)  # noqa: PTH113


class _Rows:
    """Hold the rows of one split, whose files are there."""

    def __init__(self) -> None:
        self.paths, self.labels, self.groups = Names(), Words(), Words()

    def add(self, path: str, row: Row) -> None:
        self.paths.append(path)
        self.labels.append(row.label)
        self.groups.append(row.group)

    def part(self, where: str, folder: str, notes: tuple[str, ...], splits: tuple[str, ...]) -> Part:
        """Return the images by their names, each once; the list has these splits.

        Raises:
            DataError: the list gives one image two labels.
        """
        ordered = self.paths.order()
        first, last = self.paths[ordered[0]], self.paths[ordered[-1]]  # what these share, all share
        root = os.path.commonprefix([first, last]).rpartition(os.sep)[0] + os.sep  # noqa: RUF071
        names, order, before = Names(), list[int](), ""
        for index in ordered:
            path = self.paths[index]
            if path != before:
                names.append(path[len(root) :])
                order.append(index)
                before = path
            elif any(words[order[-1]] != words[index] for words in (self.labels, self.groups)):
                kind = "labels" if self.labels[order[-1]] != self.labels[index] else "groups"
                what = f"{shown(where)} gives '{shown(path)}' two {kind}."
                raise DataError(what, "Keep one of its lines.")
        repeated = len(ordered) - len(order)
        notes += (f"listed again: {repeated:,}",) if repeated else ()
        groups = self.groups.numbered(order) if self.groups else None
        labels, above = self.labels.numbered(order), root.removeprefix(folder + os.sep).strip(os.sep)
        return Part(where, names, Folder(root), labels, groups, above=above, notes=notes, splits=splits)


def parts(file: Path | None, split: str) -> list[Part]:
    """Collect the images that a list names for a split, by their names; none where it has no rows of that split.

    Paths are relative to the list's folder, or for stdin (None) to the current one. Files that are not there are left
    out and counted. Rows without a split are for training; rows called `val` are test images where none is `test`.

    Raises:
        DataError: the list cannot be read, names no file that is there or too few that are, or gives one two labels.
    """
    where = "stdin" if file is None else str(file)
    rows = {name: _Rows() for name in (TRAIN, VAL, TEST)}
    missing, example, total, listing, unused = 0, "", 0, _Listing(), set[str]()
    for path, row in _absolute(file, read_rows(file, unused=unused)):
        split_name = _split(row, where)
        total += 1
        if listing.has(path):
            rows[split_name].add(path, row)
        elif found := _with_label(path, row):
            rows[split_name].add(*found)
        else:
            missing, example = missing + 1, example or row.path
    if not total:
        raise DataError(f"The list {shown(where)} names no image.", HINT)
    if missing == total or missing > max(FEW, FRACTION * total):
        what = f"{missing:,} of the {total:,} files in the list {shown(where)} are not there, such as"
        raise DataError(f"{what} '{shown(example)}'.", "Paths are relative to the folder of the list.")
    chosen = rows[TRAIN] if split == TRAIN else rows[TEST] if len(rows[TEST].paths) else rows[VAL]
    if not len(chosen.paths):
        if split != TRAIN:
            return []
        raise DataError(f"The list {shown(where)} names no training image.", "Write train into its column split.")
    notes: tuple[str, ...] = ()
    if missing:
        notes += (f"not there: {missing:,} of the listed files, such as {shown(example, 100)}",)
    both = _shared(rows[TRAIN].paths, (rows[TEST] if len(rows[TEST].paths) else rows[VAL]).paths)
    notes += (f"listed for training and for testing: {both:,}",) if both else ()
    if unused:
        more = ", ..." * (len(unused) > NAMED)
        columns = shown(", ".join(sorted(unused)[:NAMED]) + more, 100)
        notes += (f"columns that are not used: {columns} (path, label, group and split are)",)
    splits = tuple(name for name, of in rows.items() if len(of.paths))
    return [chosen.part(where, _folder(file), notes, splits if len(splits) > 1 else ())]


def require(file: Path | None) -> None:
    """Refuse a list that `parts` would refuse, as far as its first rows show it.

    Raises:
        DataError: it cannot be read, or none of its first files is there.
    """
    where = "stdin" if file is None else str(file)
    first = [(path, row, _split(row, where)) for path, row in islice(_absolute(file, read_rows(file)), PEEKED)]
    if not first:
        raise DataError(f"The list {shown(where)} names no image.", HINT)
    if not any(os.path.isfile(path) or _with_label(path, row) for path, row, _ in first):  # noqa: PTH113
        what = f"None of the first files in the list {shown(where)} is there, such as '{shown(first[0][1].path)}'."
        raise DataError(what, "Paths are relative to the folder of the list.")


def _folder(file: Path | None) -> str:
    """Return the folder that the paths of a list are relative to."""
    return os.path.abspath(os.curdir if file is None else file.parent)  # noqa: PTH100


def _absolute(file: Path | None, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    folder = _folder(file)
    for row in rows:
        path = row.path if row.path.startswith(os.sep) else f"{folder}{os.sep}{row.path}"
        if "\\" in path and not os.path.lexists(path):
            path = path.replace("\\", os.sep)  # as Windows writes paths
        yield (os.path.normpath(path) if _UNTIDY.search(path) else path), row


def _with_label(path: str, row: Row) -> tuple[str, Row] | None:
    """Return path and row of a line of a path and its label, which is its last word; None: no such file is there."""
    if row.label is None and row.group is None and row.split is None:
        for blank in ("\t", ",", ";", " "):
            shorter, _, label = path.rpartition(blank)
            if shorter and os.path.isfile(shorter.rstrip()):  # noqa: PTH113
                return shorter.rstrip(), row._replace(label=label.strip())
    return None


def _shared(first: Names, second: Names) -> int:
    """Return how many names are in both."""
    few, many = sorted((first, second), key=len)
    known = {*few}
    return len({name for name in many if name in known}) if known else 0


def _split(row: Row, where: str) -> str:
    split = TRAIN if row.split is None else split_of(row.split)
    if split is None:
        what = f"The list {shown(where)} has a split called '{shown(str(row.split), 60)}'."
        raise DataError(what, "Write train, val or test into its column split.")
    return split
