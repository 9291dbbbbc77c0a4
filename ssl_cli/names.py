"""File names: which are images, what is at a path, and escaping, so that no name sends control codes to a terminal."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".btf", ".tf8", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".npy",
})  # fmt: skip

SYSTEM_FOLDERS = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "__pycache__", "lost+found",
    "$recycle.bin", "recycler", "system volume information", ".thumbnails", ".trash", ".trashes", ".spotlight-v100",
    ".fseventsd", ".appledouble", ".ipynb_checkpoints",
})  # fmt: skip
"""Folders of a system, a NAS or a tool, in lower case: they hold thumbnails and deleted files, no images."""


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name belongs to a system, a NAS or a tool."""
    return name.lower() in SYSTEM_FOLDERS


def shown(name: str, limit: int = 300) -> str:
    """Escape control, bidirectional and undecodable characters of a name, and cut out its middle beyond `limit`."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= limit else f"{plain[: limit // 2]}...{plain[-limit // 2 :]}"


# pathlib's methods raise without permission, and for impossible names


def expanded(path: str) -> Path:
    """Return the path with a leading `~` or `~user` replaced by that home; as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_there(path: Path) -> bool:
    """Whether something exists at `path`; False also without permission."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False also without permission."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False also without permission."""
    return os.path.isfile(path)  # noqa: PTH113


def kind_of(path: Path) -> str:
    """Say what is at `path`: a file, a folder, a pipe or device, or nothing."""
    if not is_there(path):
        return "nothing"
    return "a file" if is_file(path) else "a folder" if is_folder(path) else "a pipe or device"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as `1 image`, `2,000 images` and `3 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def encode_paths(value: Any) -> Any:
    """Make the strings of nested tables valid UTF-8: a byte of a path that is not becomes NUL and two hex digits.

    No path can hold a NUL, so `decode_paths` restores it; it gives the same bytes in any locale.
    """
    return _map_strings(value, _encode)


def decode_paths(value: Any) -> Any:
    """Undo `encode_paths`; the strings name the same files in this process's locale."""
    return _map_strings(value, _decode)


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_strings(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


def _encode(text: str) -> str:
    try:
        utf8 = os.fsencode(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # such as a name in Unicode from a settings file, in an ASCII locale
        utf8 = text
    return re.sub("[\udc80-\udcff]", lambda found: f"\0{ord(found[0]) - 0xDC00:02x}", utf8)


def _decode(text: str) -> str:
    utf8 = re.sub("\0([0-9a-f]{2})", lambda found: chr(0xDC00 + int(found[1], 16)), text)
    return os.fsdecode(utf8.encode("utf-8", "surrogateescape"))
