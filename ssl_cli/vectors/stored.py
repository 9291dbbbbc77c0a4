"""A set of images with their rows on disk: those that `embed` wrote, read back, or those that were just made."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssl_cli import disk
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.folder import of_paths
from ssl_cli.data.source import Source
from ssl_cli.errors import DataError
from ssl_cli.names import shown
from ssl_cli.vectors.embed import named
from ssl_cli.vectors.partial import CHUNK, SCHEMA, PartialVectors
from ssl_cli.vectors.request import record_file, table_of

Name = tuple[str, str]
"""Path and label of an image; the label is empty where it has none."""


@dataclass(frozen=True)
class VectorSet:
    """Hold rows of images, which lie on disk, and what the images are called.

    Attributes:
        name: of the set, for messages.
        rows: float16 or float32 `(N,F)`, mapped from a file.
        names: called, yields the name of each row in order.
        read: from a row, its path and a largest short side to the picture; raises a `DataError` with the reason.
        precision: in which the rows were made.
    """

    name: str
    rows: np.ndarray
    names: Callable[[], Iterator[Name]]
    read: Callable[[int, str, int], Tensor]
    precision: str

    def named(self, rows: Sequence[int]) -> list[Name]:
        """Return the names of some rows; those of all others are passed over, and not held in memory."""
        wanted, found = {*rows}, dict[int, Name]()
        for row, name in enumerate(islice(self.names(), max(wanted, default=-1) + 1)):
            if row in wanted:
                found[row] = name
        return [found[row] for row in rows]

    def find(self, image: str) -> int | None:
        """Return the row of the image of this path or name; None: there is none."""
        return find(image, (path for path, _ in self.names()))


def find(image: str, paths: Iterable[str]) -> int | None:
    """Return the place of the image of this path or name among paths; None: it is none of them."""
    last, whole = os.path.basename(image), os.path.abspath(image)  # noqa: PTH100, PTH119
    for place, path in enumerate(paths):
        if path == image or (path.endswith(last) and os.path.abspath(path) == whole):  # noqa: PTH100
            return place
    return None


def made_now(source: Source, vectors: PartialVectors, precision: str) -> VectorSet:
    """Return the set of the rows that were made of a source's images."""
    index = np.array(vectors.index)
    return VectorSet(
        source.name,
        vectors.rows,
        lambda: (named(source, int(place)) for place in index),
        lambda row, _path, cap: source.read(int(index[row]), cap),
        precision,
    )


def read_stored(path: Path, checkpoint: str, feature: str, data: DataSettings) -> VectorSet:
    """Map the rows of a file that `embed` wrote, and check that they are still those of this checkpoint and feature.

    Args:
        path: the file, of any of `embed`'s formats.
        checkpoint: sha256 of the checkpoint's file that the rows must be of.
        feature: `h` or `z`, which they must be.
        data: channels and range by which pictures are read.

    Raises:
        DataError: `embed` did not write it, it was changed since, or it is of another checkpoint or feature.
    """
    record = _record(path)
    _require_same(path, record, checkpoint, feature)
    reader = {".csv": _rows_of_csv, ".parquet": _rows_of_parquet}.get(path.suffix.lower(), _rows_at_the_end)
    try:
        rows = reader(path, (record["rows"], record["width"]), np.dtype("<f2" if record["half"] else "<f4"))
    except (ValueError, csv.Error) as error:
        raise _damaged(path) from error
    read = lambda _row, name, cap: of_paths(name, [name], [-1], (), data.channels, data.value_range).read(0, cap)  # noqa: E731
    return VectorSet(shown(str(path)), rows, lambda: _names(path), read, record["precision"])


def _record(path: Path) -> Mapping[str, Any]:
    """Read what is recorded about the file."""
    file = record_file(path)
    hint = "Make it again: sslcli embed RUN DATA -o " + shown(str(path))
    try:
        record = disk.read_json(file)
    except FileNotFoundError as error:
        what = f"Which run made {shown(str(path))} is not known: there is no {shown(file.name)} next to it."
        raise DataError(what, hint) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"Cannot read {shown(str(file))}: {why}.", hint) from error
    kinds = {"checkpoint": str, "feature": str, "half": bool, "precision": str, "rows": int, "width": int}
    if record.get("schema") != SCHEMA or any(type(record.get(key)) is not kind for key, kind in kinds.items()):
        raise DataError(f"{shown(str(file))} is no record of sslcli embed.", hint)
    if min(record["rows"], record["width"]) < 1 or not isinstance(record.get("sha256"), dict):
        raise DataError(f"{shown(str(file))} is no record of sslcli embed.", hint)
    return record


def _require_same(path: Path, record: Mapping[str, Any], checkpoint: str, feature: str) -> None:
    if record["checkpoint"] != checkpoint:
        raise DataError(
            f"{shown(str(path))} is not of this run's newest checkpoint, so its rows cannot be compared with it.",
            "Give the RUN or checkpoint file that made it, or make it again with sslcli embed.",
        )
    if record["feature"] != feature:
        what = f"{shown(str(path))} holds {shown(record['feature'])}, and {feature} was asked for."
        raise DataError(what, f"Pass --feature {shown(record['feature'])}, or make it again with sslcli embed.")
    for key, file in (("table", table_of(path)), ("vectors", path)):
        if file is None:
            continue
        try:
            disk.require_file(file)
            changed = disk.sha256(file) != record["sha256"].get(key)
        except OSError as error:
            why = error.strerror or error
            raise DataError(f"Cannot read {shown(str(file))}: {why}.", "Make it again with sslcli embed.") from error
        if changed:
            raise _damaged(file)


def _damaged(file: Path) -> DataError:
    what = f"{shown(str(file))} is not as sslcli embed wrote it."
    return DataError(what, "It was changed or damaged since; make it again with sslcli embed.")


def _rows_at_the_end(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    """Map the rows of a `.npy` or `.safetensors` file, which are its last bytes."""
    offset = path.stat().st_size - shape[0] * shape[1] * dtype.itemsize
    if offset < 0:
        raise ValueError("it is too short")
    return np.memmap(path, dtype, "r", offset, shape)


def _rows_of_csv(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    lines = iter(_lines(path))
    chunks = iter(lambda: [line[-shape[1] :] for line in islice(lines, CHUNK)], [])
    return _unpacked((np.array(chunk, np.float64) for chunk in chunks), shape, dtype)


def _rows_of_parquet(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    batches = _batches(path, "vector")
    flat = (batch.column(0).flatten().to_numpy(zero_copy_only=False) for batch in batches)
    return _unpacked((numbers.reshape(-1, shape[1]) for numbers in flat), shape, dtype)


def _unpacked(parts: Iterator[np.ndarray], shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    """Write the numbers to a temporary file without a name, and map it.

    Raises:
        ValueError: there are not as many as the shape says.
    """
    with tempfile.TemporaryFile() as file:
        size = sum(file.write(part.astype(dtype).tobytes()) for part in parts)
        file.flush()
        if size != shape[0] * shape[1] * dtype.itemsize:
            raise ValueError("it has other rows than it should")
        return np.memmap(file, dtype, "r", 0, shape)


def _names(path: Path) -> Iterator[Name]:
    if path.suffix.lower() == ".parquet":
        for batch in _batches(path, "path", "label"):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return
    for line in _lines(table_of(path) or path):
        yield line[0], line[1]


def _lines(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a CSV file below its header; a name that is not UTF-8 keeps its bytes."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from islice(csv.reader(file), 1, None)


def _batches(path: Path, *columns: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(CHUNK, columns=list(columns))
