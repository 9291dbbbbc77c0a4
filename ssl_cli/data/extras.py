"""Libraries for formats of some fields only, each in an extra of its own: named where a file needs them."""

import functools
import importlib
from typing import Any

from ssl_cli.errors import DataError
from ssl_cli.packages import is_installed

SUFFIXES = {".dcm": ("pydicom", "dicom"), ".heic": ("pillow_heif", "heic"), ".heif": ("pillow_heif", "heic")}
"""By the ending of a file: the library that reads it, and the extra that brings it."""


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
