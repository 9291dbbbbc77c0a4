"""Which images are labelled: a share of each class, a number of each class, or those that a file lists."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ssl_cli import disk
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import expanded, is_file, shown

FORMS = "Write 10%, 4-per-class, or the name of a file."
LARGEST_FILE = 2**28


@dataclass(frozen=True)
class Labels:
    """What `--labels` asks for; one of the three is set.

    Attributes:
        share: of the images of each class, above 0 and at most 1.
        each: images of each class.
        file: a list of paths, or a CSV of paths and labels.
    """

    share: float | None = None
    each: int | None = None
    file: Path | None = None

    @property
    def few(self) -> bool:
        """Whether they are fewer than a tenth of the labels, as far as that is known without counting."""
        return self.share is None or self.share < 0.1


def parse_labels(text: str) -> Labels:
    """Read `10%`, `4-per-class`, or the name of a file.

    Raises:
        UsageError: it is none of them.
    """
    if percent := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip()):
        share = float(percent[1]) / 100
        if not 0 < share <= 1:
            raise UsageError(f"--labels {shown(text)} is no share of the images.", "Give one above 0% and up to 100%.")
        return Labels(share=share)
    if number := re.fullmatch(r"(\d{1,9})-per-class", text.strip()):
        if not int(number[1]):
            raise UsageError("--labels 0-per-class leaves nothing to learn from.", "Give at least 1-per-class.")
        return Labels(each=int(number[1]))
    path = expanded(text)
    if is_file(path):
        return Labels(file=path)
    raise UsageError(f"--labels {shown(text)} is no share, no number of images and no file.", FORMS)


def fingerprint(labels: str | None) -> str | None:
    """Compute the sha256 of the file of labels, if there is one.

    Raises:
        DataError: it cannot be read.
    """
    file = parse_labels(labels).file if labels is not None else None
    try:
        return None if file is None else disk.sha256(file)
    except OSError as error:
        raise DataError(f"The file of labels {shown(str(file))} cannot be read: {error.strerror}.", FORMS) from error


def require_unchanged(labels: str | None, before: str | None) -> None:
    """Refuse a file of labels that has another sha256 than `before`; None: it was not computed.

    Raises:
        DataError: it is another.
        UsageError: it is gone.
    """
    if before is not None and fingerprint(labels) != before:
        what = f"The file of labels {shown(str(labels))} is not as it was when training started."
        raise DataError(what, "Restore it, or start another run with another --out.")


def read_labels(file: Path) -> dict[str, str | None]:
    """Read a list of paths, one a line, or a CSV whose first two columns are path and label; a header is left out.

    Returns:
        The label of each path; None where the file has none, so that the folder's counts.

    Raises:
        DataError: it cannot be read, is empty, or gives one image two labels.
    """
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise DataError(f"The file of labels {shown(str(file))} is larger than 256 MiB.", FORMS)
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines)] if file.suffix.lower() == ".csv" else None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The file of labels {shown(str(file))} cannot be read: {error}.", FORMS) from error
    rows = rows if rows is not None else [[line.strip()] for line in lines]
    rows = [row for row in rows if row and row[0]]
    if rows and len(rows[0]) > 1 and rows[0][0].lower() in {"path", "file", "filename", "image", "name"}:
        rows = rows[1:]
    found: dict[str, str | None] = {}
    for path, *more in rows:
        label = (more[0] if more else "") or None
        if found.get(path, label) != label:
            raise DataError(f"{shown(str(file))} gives '{shown(path)}' two labels.", "Keep one of its lines.")
        found[path] = label
    if not found:
        raise DataError(f"The file of labels {shown(str(file))} lists no image.", "Write one path a line.")
    return found
