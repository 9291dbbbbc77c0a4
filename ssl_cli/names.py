"""File names: which are images', what they lead to, and how any may be shown: no terminal must obey what one holds."""

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .ppm .pgm .pbm .pnm .npy".split()  # noqa: SIM905
)


def shown(name: str, limit: int = 300) -> str:
    """The name with control, bidirectional and undecodable characters escaped, shortened in the middle past `limit`."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= limit else f"{plain[: limit // 2]}...{plain[-limit // 2 :]}"


# pathlib's own raise where one may not look, and for names that no file can have


def is_there(path: Path) -> bool:
    """Whether the name leads to anything; False also where one may not look."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether there is a folder here; False also where one may not look."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether there is a file here; False also where one may not look."""
    return os.path.isfile(path)  # noqa: PTH113
