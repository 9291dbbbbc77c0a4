"""Find the images in a folder, at any depth, each once, in an order by their names alone, without torch."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ssl_cli.data.extras import is_readable
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import IMAGE_SUFFIXES, is_folder, is_there, shown
from ssl_cli.registry import closest


def find_images(root: Path) -> tuple[list[str], tuple[Skipped, ...]]:
    """Return the images' names relative to `root`, sorted, and events of folders that could not be opened.

    A linked file is left out if the file itself is found too.

    Raises:
        DataError: not a folder, or no image in it.
    """
    _require_folder(root)
    skipped: list[Skipped] = []
    files: list[str] = []
    links: list[str] = []
    for path, linked in walk(root, skipped):
        (links if linked else files).append(path)
    files += _new(links, files)
    if not files:
        raise _nothing(root, skipped)
    return sorted(os.path.relpath(path, root) for path in files), tuple(skipped)


def require_images(root: Path) -> None:
    """Refuse a folder that `find_images` would refuse; stops at the first image.

    Raises:
        DataError: not a folder, or no image in it.
    """
    _require_folder(root)
    skipped: list[Skipped] = []
    if next(walk(root, skipped), None) is None:
        raise _nothing(root, skipped)


def _require_folder(root: Path) -> None:
    if is_folder(root):
        return
    if is_there(root):
        raise DataError(
            f"The folder {shown(str(root))} is a file, not a folder of images.",
            "Give a folder that holds images, at any depth.",
        )
    near = closest_path(root)
    raise DataError(
        f"The folder {shown(str(root))} does not exist.",
        f"Did you mean '{shown(near)}'?" if near else "Give a folder that holds images, at any depth.",
    )


def _nothing(root: Path, skipped: list[Skipped]) -> DataError:
    unopened = next((skip for skip in skipped if skip.path == str(root)), None)
    if unopened:
        return DataError(f"Of {shown(str(root))}, {unopened.reason}.", "Give a folder that you may read.")
    looked = f"Looked for {' '.join(sorted(IMAGE_SUFFIXES))}, at any depth."
    return DataError(f"There is no image in {shown(str(root))}.", f"Give another folder. {looked}")


def closest_path(path: Path) -> str | None:
    """Return an existing path in the same folder with a similar name; None: there is none."""
    try:
        near = closest(path.name, [entry.name for entry in os.scandir(path.parent) if not entry.name.startswith(".")])
    except (OSError, ValueError):
        return None
    return str(path.parent / near) if near else None


def walk(root: Path, skipped: list[Skipped]) -> Iterator[tuple[str, bool]]:
    """Yield every image file and whether it is a link; add folders that cannot be opened to `skipped`.

    A folder is read once, however many links point to it, and by its own name rather than by a link's, because links
    are read last.
    """
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
                    yield entry.path, entry.is_symlink()


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Return `folder` or `image`; None for pipes, devices, dangling links, hidden and other files."""
    if entry.name.startswith("."):
        return None
    try:
        if entry.is_dir():
            return "folder"
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        return "image" if (suffix in IMAGE_SUFFIXES or is_readable(suffix)) and entry.is_file() else None
    except OSError:
        return None


def _new(links: Iterable[str], files: Iterable[str]) -> list[str]:
    """Return the links to other files than `files`, one for each; none of a link whose file is gone meanwhile."""
    links = sorted(links)
    if not links:
        return []
    seen = {_identity_or_none(path) for path in files} | {None}
    new = []
    for link in links:
        identity = _identity_or_none(link)
        if identity not in seen:
            seen.add(identity)
            new.append(link)
    return new


def _identity_or_none(path: str) -> tuple[int, int] | None:
    try:
        return _identity(path)
    except OSError:
        return None


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino
