"""File names: which are images, what is at a path, and escaping, so that no name sends control codes to a terminal."""

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .ppm .pgm .pbm .pnm .npy".split()  # noqa: SIM905
)


def shown(name: str, limit: int = 300) -> str:
    """Escape control, bidirectional and undecodable characters of a name, and cut out its middle beyond `limit`."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= limit else f"{plain[: limit // 2]}...{plain[-limit // 2 :]}"


# pathlib's methods raise without permission, and for impossible names


def is_there(path: Path) -> bool:
    """Whether something exists at `path`; False also without permission."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False also without permission."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False also without permission."""
    return os.path.isfile(path)  # noqa: PTH113
