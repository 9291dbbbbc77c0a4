"""Which images are labelled: a share of each class, a number of each class, or those that a file lists."""

import re
from dataclasses import dataclass
from pathlib import Path

from ssl_cli import disk
from ssl_cli.config.image_list import read_rows
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import expanded, is_file, shown

FORMS = "Write 10%, 4-per-class, or the name of a file."


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
    """Read a list of paths, one a line, or a table of paths and labels; see `read_rows`.

    Returns:
        The label of each path; None where the file has none, so that the folder's counts.

    Raises:
        DataError: it cannot be read, is empty, or gives one image two labels.
    """
    found: dict[str, str | None] = {}
    for row in read_rows(file, "file of labels"):
        if found.get(row.path, row.label) != row.label:
            raise DataError(f"{shown(str(file))} gives '{shown(row.path)}' two labels.", "Keep one of its lines.")
        found[row.path] = row.label
    if not found:
        raise DataError(f"The file of labels {shown(str(file))} lists no image.", "Write one path a line.")
    return found
