"""What `embed` can write, by the ending of the file; without torch."""

from importlib.util import find_spec
from pathlib import Path

from ssl_cli.errors import UsageError
from ssl_cli.names import is_folder, shown

FORMATS = (".npy", ".csv", ".parquet", ".safetensors")
NUMBERS_ALONE = {".npy", ".safetensors"}
"""Formats that hold numbers alone: paths and labels are written to a CSV file next to them."""


def table_of(output: Path) -> Path | None:
    """Return the CSV file of paths and labels that belongs to `output`; None where they are in `output` itself."""
    return output.with_name(f"{output.stem}.paths.csv") if output.suffix.lower() in NUMBERS_ALONE else None


def check(output: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        UsageError: an ending that is no format, a folder that is not there, or a library that is not installed.
    """
    ending = output.suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"'{shown(str(output))}' ends in none of {' '.join(FORMATS)}.", "Such as -o vectors.npy.")
    if is_folder(output):
        raise UsageError(f"'{shown(str(output))}' is a folder.", "Name a file, such as vectors.npy in it.")
    if not is_folder(output.parent):
        raise UsageError(f"There is no folder {shown(str(output.parent))}.", "Create it first.")
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError("Parquet files need pyarrow.", "Install it with: pip install 'sslcli[parquet]'")
