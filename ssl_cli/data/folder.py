"""Images in a folder, at any depth: found once each, in an order that depends on their names alone."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ssl_cli.data.decode import decode
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import IMAGE_SUFFIXES, shown


class Files:
    """Image files as a source.

    Args:
        name: what the set is called in messages.
        paths: one a file.
        labels: int64 `(N,)`, an index into `classes`, or -1.
        classes: their names.
        skipped: what the search could not look into.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        labels: Tensor,
        classes: tuple[str, ...],
        skipped: tuple[Skipped, ...] = (),
    ) -> None:
        self.name, self.paths, self.labels, self.classes, self.skipped = name, paths, labels, classes, skipped

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """The file of image `index`."""
        return self.paths[index]

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Image `index`, uint8 `(3,H,W)`, short side at most `cap`.

        Raises:
            DataError: the file cannot be read; the message is the reason.
        """
        return decode(Path(self.paths[index]), cap)


def open_folder(root: Path) -> Files:
    """The images below `root`; a label is the first folder below it, where there are at least two.

    Raises:
        DataError: not a folder, or no image in it.
    """
    if not root.is_dir():
        kind = "is a file, not a folder of images" if root.exists() else "does not exist"
        raise DataError(f"The folder {shown(str(root))} {kind}.", "Give a folder that holds images, at any depth.")
    found, skipped = _find(root)
    if not found:
        raise DataError(
            f"There is no image in {shown(str(root))}.", f"Looked for {' '.join(sorted(IMAGE_SUFFIXES))}, at any depth."
        )
    tops = [name.split(os.sep, 1)[0] if os.sep in name else None for name in found]
    classes = tuple(sorted({top for top in tops if top is not None}))
    if len(classes) < 2:
        classes = ()
    number = {name: k for k, name in enumerate(classes)}
    labels = torch.tensor([number.get(top, -1) if top is not None else -1 for top in tops])
    return Files(str(root), [str(root / name) for name in found], labels, classes, skipped)


def _find(root: Path) -> tuple[list[str], tuple[Skipped, ...]]:
    """Names relative to `root`, sorted, and the folders that could not be opened.

    A folder is entered once, however many links lead to it, and by its own name rather than by a link's: links are
    followed last. A linked file counts unless the file itself was found too.
    """
    files: list[str] = []
    linked_files: list[str] = []
    skipped: list[Skipped] = []
    entered: set[tuple[int, int]] = set()
    links = [str(root)]
    while links:
        folders, links = sorted(links, reverse=True), []
        while folders:
            folder = folders.pop()
            try:
                identity = _identity(folder)
                if identity in entered:
                    continue
                with os.scandir(folder) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                skipped.append(Skipped(path=folder, reason=f"the folder cannot be opened: {error.strerror}"))
                continue
            entered.add(identity)
            for entry in entries:
                kind = _kind(entry)
                if kind == "folder":
                    (links if entry.is_symlink() else folders).append(entry.path)
                elif kind == "image":
                    (linked_files if entry.is_symlink() else files).append(entry.path)
    files += _new(linked_files, files)
    return sorted(os.path.relpath(path, root) for path in files), tuple(skipped)


def _kind(entry: os.DirEntry[str]) -> str | None:
    """`folder` or `image`; None for what is neither: pipes, devices, dangling links, hidden and other files."""
    if entry.name.startswith("."):
        return None
    try:
        if entry.is_dir():
            return "folder"
        return "image" if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file() else None  # noqa: PTH122
    except OSError:
        return None


def _new(links: Iterable[str], files: Iterable[str]) -> list[str]:
    links = sorted(links)
    if not links:
        return []
    seen = {_identity(path) for path in files}
    new = []
    for link in links:
        identity = _identity(link)
        if identity not in seen:
            seen.add(identity)
            new.append(link)
    return new


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def is_folder(path: Path) -> bool:
    """Whether there is a folder here; False also where one may not look."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False
