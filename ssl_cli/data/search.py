"""Find the images in a folder, at any depth, each once, in an order by their names alone, without torch."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ssl_cli import disk, status
from ssl_cli.data.compact import Names
from ssl_cli.data.extras import is_dicom, is_heif, is_readable
from ssl_cli.data.layout import Layout, find_layout
from ssl_cli.data.passed import Passed, ending_of
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import IMAGE_SUFFIXES, is_folder, is_system_folder, is_there, kind_of, shown
from ssl_cli.registry import closest

_WITHOUT = ending_of("")
_STUDY = {"schema", "asked", "arms"}
"""Keys of a study's file."""
HEAD = 132
"""Bytes by which an image without an ending is known."""


@dataclass
class Found:
    """What a folder holds: names of images relative to it, folders that could not be opened, what was passed over."""

    names: Names = field(default_factory=Names)
    skipped: list[Skipped] = field(default_factory=list)
    passed: Passed = field(default_factory=Passed)


def find_images(root: Path) -> Found:
    """Find the images below `root`; their names are sorted.

    A linked file is left out if the file itself is found too.

    Raises:
        DataError: not a folder, or no image in it.
    """
    _require_folder(root)
    found, links = Found(), list[str]()
    start = len(os.path.join(root, ""))  # noqa: PTH118
    for path, linked in walk(root, found.skipped, found.passed):
        if linked:
            links.append(path)
        else:
            found.names.append(path[start:])
    for path in _new(links, (os.path.join(root, name) for name in found.names)):  # noqa: PTH118
        found.names.append(path[start:])
    if not len(found.names):
        raise _nothing(root, found)
    if not found.names.is_sorted:
        found.names = Names(sorted(found.names))
    return found


def require_images(root: Path) -> None:
    """Refuse a folder that `find_images` would refuse; stops at the first image.

    Raises:
        DataError: not a folder, or no image in it.
    """
    _require_folder(root)
    found = Found()
    if next(walk(root, found.skipped, found.passed), None) is None:
        raise _nothing(root, found)


def layout_of(root: Path) -> Layout:
    """Find splits and classes in a folder.

    Raises:
        DataError: not a folder, or one whose splits are not clear.
    """
    _require_folder(root)

    def look(below: str) -> tuple[list[str], bool]:
        try:
            images, folders, links = _list(str(root / below), Passed())
        except OSError:
            return [], False
        return sorted((*folders, *links)), bool(images)

    return find_layout(look, str(root))


def archives_in(root: Path, endings: tuple[str, ...]) -> list[str]:
    """Return the paths of the archives that lie in a folder, sorted; of one that cannot be opened none."""
    try:
        with os.scandir(root) as scan:
            names = [e.name for e in scan if e.name.lower().endswith(endings) and not e.name.startswith(".")]
    except OSError:
        return []
    return [str(root / name) for name in sorted(names)]


def _require_folder(root: Path) -> None:
    if is_folder(root):
        return
    if is_there(root):
        raise DataError(
            f"{shown(str(root))} is {kind_of(root)}, not a folder of images.",
            "Give a folder that holds images, at any depth, a list (.txt, .csv, .jsonl) or an archive (.zip, .tar).",
        )
    near = closest_path(root)
    raise DataError(
        f"The folder {shown(str(root))} does not exist.",
        f"Did you mean '{shown(near)}'?" if near else "Give a folder that holds images, at any depth.",
    )


def _nothing(root: Path, found: Found) -> DataError:
    unopened = next((skip for skip in found.skipped if skip.path == str(root)), None)
    if unopened:
        return DataError(f"Of {shown(str(root))}, {unopened.reason}.", "Give a folder that you may read.")
    looked = f"Looked for {' '.join(sorted(IMAGE_SUFFIXES))}, at any depth."
    note = found.passed.note()
    what = f"There is no image in {shown(str(root))}{f' ({note})' if note else ''}."
    return DataError(what, f"Give another folder. {looked}")


def closest_path(path: Path) -> str | None:
    """Return an existing path in the same folder with a similar name, not the same; None: there is none."""
    try:
        names = [entry.name for entry in os.scandir(path.parent) if not entry.name.startswith(".")]
        near = closest(path.name, [name for name in names if name != path.name])
    except (OSError, ValueError):
        return None
    return str(path.parent / near) if near else None


def walk(root: Path, skipped: list[Skipped], passed: Passed) -> Iterator[tuple[str, bool]]:
    """Yield every image file and whether it is a link; add folders that cannot be opened to `skipped`.

    A folder is read once, however many links point to it, and by its own name rather than by a link's, because links
    are read last. What no link leads to comes in the order of its name relative to the root.
    """
    entered: set[tuple[int, int]] = set()
    links = [str(root)]
    while links:
        later: list[str] = []
        for link in sorted(links):
            stack = [iter([os.path.join(link, "")])]  # noqa: PTH118
            while stack:
                path = next(stack[-1], None)
                if path is None:
                    stack.pop()
                elif not path.endswith(os.sep):
                    yield path, False
                elif (entries := _open(path, entered, skipped, passed)) is not None:
                    paths, image_links, folder_links = entries
                    yield from ((image, True) for image in image_links)
                    later += folder_links
                    stack.append(iter(paths))
        links = later


def _open(
    path: str, entered: set[tuple[int, int]], skipped: list[Skipped], passed: Passed
) -> tuple[list[str], list[str], list[str]] | None:
    """Return sorted paths of images and folders, which end in a separator, and of linked images and folders.

    None: the folder was entered before, or cannot be opened.
    """
    folder = path.rstrip(os.sep) or os.sep
    try:
        identity = _identity(folder)
        if identity in entered:
            return None
        images, folders, linked_folders = _list(folder, passed)
    except OSError as error:
        skipped.append(Skipped(path=folder, reason=f"the folder cannot be opened: {error.strerror}"))
        return None
    entered.add(identity)
    own = [name for name, linked in images if not linked]
    paths = [path + name for name in sorted([*own, *(f"{name}{os.sep}" for name in folders)])]
    links = [path + name for name, linked in images if linked]
    return paths, sorted(links), [path + name for name in linked_folders]


def _list(folder: str, passed: Passed) -> tuple[list[tuple[str, bool]], list[str], list[str]]:
    """Return names of images and whether each is a link, of folders, and of links to folders; count the rest.

    Neither returned nor counted are pipes, devices, dangling links and hidden files. Nothing is returned of the folder
    of a run or a study, whose pictures are no images to train on.

    Raises:
        OSError: the folder cannot be opened.
    """
    images, folders, links, others = list[tuple[str, bool]](), list[str](), list[str](), list[str]()
    with os.scandir(folder) as scan:
        for entry in scan:
            name = entry.name
            try:
                if entry.is_dir():
                    if is_system_folder(name):
                        passed.folder(name)
                    elif not name.startswith("."):
                        (links if entry.is_symlink() else folders).append(name)
                elif not name.startswith(".") and entry.is_file():
                    if _is_image(name, entry.path):
                        images.append((name, entry.is_symlink()))
                    else:
                        others.append(name)
            except OSError:
                continue
    if _holds_results(Path(folder), others):
        passed.result()
        return [], [], []
    for name in others:
        passed.file(name)
    return images, folders, links


def _holds_results(folder: Path, names: list[str]) -> bool:
    """Whether a folder with files of these names is that of a run or a study: they draw pictures into it."""
    if "status.json" in names and status.read(folder):
        return True
    try:
        return "study.json" in names and disk.read_json(folder / "study.json").keys() >= _STUDY
    except (OSError, ValueError):
        return False


def _is_image(name: str, path: str) -> bool:
    """Whether a file is an image by its ending, or, where it has none, by its first bytes.

    Raises:
        OSError: it cannot be looked at.
    """
    if name[name.rfind(".") :].lower() in IMAGE_SUFFIXES:  # most of a million
        return True
    return is_image(name, lambda: _head(path))


def _head(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)


def is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is an image by its ending, or, where it has none, by its first `HEAD` bytes.

    The last number in the name of a DICOM file, such as `1.2.840.10008`, is no ending.
    """
    suffix = name[name.rfind(".") :].lower()
    if suffix in IMAGE_SUFFIXES or is_readable(suffix):
        return True
    if ending_of(name) == _WITHOUT:
        return _starts_as_image(head())
    return suffix[1:].isdigit() and is_readable(".dcm") and is_dicom(head())


def _starts_as_image(head: bytes) -> bool:
    """Whether a file with these first bytes is an image of a format that is read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\x93NUMPY"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
        or head[:4] in (b"II+\0", b"MM\0+")
        or (is_heif(head) and is_readable(".heic"))
        or (is_dicom(head) and is_readable(".dcm"))
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3].isspace())
    )


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
