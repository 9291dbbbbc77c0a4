"""Libraries for formats of some fields only, each in an extra of its own: named where a file needs them."""

import functools
import importlib
import re
from typing import Any

from ssl_cli.errors import DataError
from ssl_cli.packages import is_installed

SUFFIXES = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("pydicom", "dicom")),
    **dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", "heic")),
}
"""By the ending of a file: the library that reads it, and the extra that brings it."""
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


_NAKED = re.compile(rb"(\x02\0\0\0UL\x04\0|\x08\0[\x00\x01\x05\x08\x16]\0([A-Z]{2}[^\0]\0|[^\0]\0\0\0))", re.DOTALL)
"""First bytes of a DICOM file without a preamble, as older programs write them: its first tag and the length of it."""


def is_dicom(head: bytes) -> bool:
    """Whether a file begins with `head`, of 132 bytes, as DICOM files do, those without a preamble too."""
    return head[128:132] == b"DICM" or _NAKED.match(head) is not None


def is_heif(head: bytes) -> bool:
    """Whether a file begins with `head` as HEIF files do, and is no AVIF."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF and b"avif" not in head[12:64]


@functools.cache
def is_readable(suffix: str) -> bool:
    """Whether a file of this ending, in lower case, needs an extra, and it is installed."""
    return suffix in SUFFIXES and is_installed(SUFFIXES[suffix][0])


def require(library: str, extra: str, what: str) -> Any:
    """Import the library that reads a file.

    Args:
        library: to import.
        extra: of sslcli that brings it.
        what: the file is, in words.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        raise DataError(f"it is {what}, which the extra '{extra}' reads: pip install 'sslcli[{extra}]'") from None
