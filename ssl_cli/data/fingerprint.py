"""Know the images of a run wherever they lie: by relative names, sizes and labels."""

import gzip
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

from ssl_cli import disk
from ssl_cli.data.source import Groups, Source, entries_of, groups_of
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FILE = "images.txt.gz"
"""Of a run folder: a line for each image, with its bytes, label and name, in the order of their indices."""
LARGEST = 2**31
_AT_ONCE = 4096
_ODD = re.compile(rb"[\\\n\t\r]")
_HINT = "Restore the images as they were, or start another run with another --out."


@dataclass(frozen=True)
class Record:
    """What identifies the images of a source.

    Attributes:
        images: their number.
        fingerprint: sha256, in hexadecimal, of the lines; empty where the images are no files.
        packed: the lines, compressed by gzip.
    """

    images: int
    fingerprint: str
    packed: bytes

    def write(self, folder: Path) -> str:
        """Write the lines to a run folder, so that a later resume can name what differs; return the fingerprint.

        Raises:
            ResourceError: there is no room for them.
        """
        if self.fingerprint:
            disk.write_bytes(folder / FILE, self.packed)
        return self.fingerprint


def record_of(source: Source, *, by_group: bool = False) -> Record:
    """Record the images of a source, in their order, with groups if asked for; each is looked at, but not read."""
    digest, buffer = hashlib.sha256(), io.BytesIO()
    lines = _lines(source, groups_of(source) if by_group else None)
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as file:
        while part := b"".join(islice(lines, _AT_ONCE)):
            digest.update(part)
            file.write(part)
    is_files = next(entries_of(source, [0]), None) is not None
    return Record(len(source), digest.hexdigest() if is_files else "", buffer.getvalue())


def require_same(record: Record, expected: str, images: int, folder: Path) -> None:
    """Refuse other images than those of a run.

    Args:
        record: of the images that there are.
        expected: fingerprint of the run's images; empty for a run that has none, whose images are only counted.
        images: number of the run's images.
        folder: of the run.

    Raises:
        DataError: they differ; the message says how many, with an example.
    """
    if expected and record.fingerprint != expected:
        raise DataError(f"These are not the images of this run: {_difference(record, images, folder)}.", _HINT)
    if record.images != images:
        raise DataError(f"This run was on {images:,} images, and now there are {record.images:,}.", _HINT)


def _lines(source: Source, groups: Groups | None) -> Iterator[bytes]:
    words = [*map(_escaped, source.classes), b"-"]  # the last one is for -1
    names = [b"\\g" + _escaped(name) for name in (groups.names if groups else ())] + [b""]
    of = groups.of.tolist() if groups else repeat(-1)
    for entry, label, group in zip(entries_of(source), source.labels.tolist(), of, strict=False):
        yield b"%d\t%s%s\t%s\n" % (entry.size, words[label], names[group], _escaped(entry.name))


def _escaped(name: str) -> bytes:
    text = name.encode("utf-8", "surrogatepass")
    if not _ODD.search(text):
        return text
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\t", b"\\t").replace(b"\r", b"\\r")


def _difference(record: Record, images: int, folder: Path) -> str:
    """Say how many images differ, with an example."""
    try:
        with gzip.open(folder / FILE) as file:
            before = file.read(LARGEST).splitlines()
    except (OSError, EOFError, ValueError):
        return f"it was on {images:,}, there are {record.images:,}, and which differ is not known without its {FILE}"
    lines = gzip.decompress(record.packed).splitlines()
    gone, new = {*before} - {*lines}, {*lines} - {*before}
    was, now = ({line.split(b"\t", 2)[-1] for line in side} for side in (gone, new))
    found = [(was - now, "gone"), (now - was, "new"), (was & now, "of another size, label or group")]
    words = [f"{len(names):,} {what}" for names, what in found if names]
    if not words:
        return f"its {images:,} images are in another order"
    example = min(next(names for names, _ in found if names)).decode("utf-8", "replace")
    return f"of {images:,} there are {', '.join(words)}, such as '{shown(example, 100)}'"
