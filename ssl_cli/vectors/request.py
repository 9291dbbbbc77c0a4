"""What `embed` can write, by the ending of the file, and what a search is among; without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import disk, packages
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import is_file, is_folder, shown

FORMATS = (".npy", ".csv", ".parquet", ".safetensors")
NUMBERS_ALONE = {".npy", ".safetensors"}
"""Formats that hold numbers alone: paths and labels are written to a CSV file next to them."""


@dataclass(frozen=True)
class Search:
    """Say whose images are compared, and by what.

    Attributes:
        run: run folder or checkpoint file.
        data: the images; None: those that the run was trained on.
        vectors: a file that `embed` wrote of this run, in place of `data`; None: the images are encoded.
        feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
        limit: use the first so many images of each class.
        sheet: a PNG to write; None: none.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: as for `knn_eval`.
    """

    run: str
    data: str | tuple[str, ...] | None = None
    vectors: Path | None = None
    feature: str = "h"
    limit: int | None = None
    sheet: Path | None = None
    device: str = "auto"
    method: str | None = None
    machine: Mapping[str, Any] | None = None


def table_of(output: Path) -> Path | None:
    """Return the CSV file of paths and labels that belongs to `output`; None where they are in `output` itself."""
    return output.with_name(f"{output.stem}.paths.csv") if output.suffix.lower() in NUMBERS_ALONE else None


def record_file(output: Path) -> Path:
    """Return the JSON file that says which run and settings made the vectors in `output`."""
    return output.with_name(f"{output.name}.json")


def check(output: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        UsageError: an ending that is no format, or a library that is not installed.
        ResourceError: its folder cannot be written to, or cannot be created.
    """
    ending = output.suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"'{shown(str(output))}' ends in none of {' '.join(FORMATS)}.", "Such as -o vectors.npy.")
    if is_folder(output):
        raise UsageError(f"'{shown(str(output))}' is a folder.", "Name a file, such as vectors.npy in it.")
    disk.require_writable(output.parent, shown(str(output)), "Choose another -o.")
    _require_library(ending)


def require_stored(path: Path) -> None:
    """Refuse a file that `embed` cannot have written.

    Raises:
        UsageError: an ending that is no format, or a library that is not installed.
        DataError: there is no such file.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        hint = "Give a file that sslcli embed wrote."
        raise UsageError(f"'{shown(str(path))}' ends in none of {' '.join(FORMATS)}.", hint)
    if not is_file(path):
        hint = f"Make it: sslcli embed RUN DATA -o {shown(str(path))}"
        raise DataError(f"There is no file {shown(str(path))}.", hint)
    _require_library(ending)


def _require_library(ending: str) -> None:
    if ending == ".parquet":
        packages.require("pyarrow", "A Parquet file", "name a .csv")
