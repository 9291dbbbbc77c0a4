"""Write vectors with paths and labels in the formats that other programs read, a part at a time."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssl_cli import disk
from ssl_cli.formats.safetensors import header
from ssl_cli.vectors.partial import SCHEMA, PartialVectors
from ssl_cli.vectors.request import record_file, table_of

Columns = tuple[str, ...]
"""Names of the columns next to the numbers: path, label, and group where there are groups."""
Named = Callable[[int], tuple[str, ...]]
"""From the index of an image to what is in its columns."""


def write_vectors(
    output: Path, vectors: PartialVectors, columns: Columns, named: Named, identity: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write the rows in the format of the file's ending, atomically; return the files, `output` first.

    `.npy` and `.safetensors` (a tensor `vectors` `(N,F)`) hold numbers alone; the other columns of their rows are in
    the CSV file next to them, which is written first. What determines the rows is written last, to `record_file`, with
    the sha256 of the others: a reader knows by it whose rows they are, and whether they are still those.

    Raises:
        ResourceError: the disk is full, or cannot be written; files that were there are unchanged.
    """
    writer = {".npy": _npy, ".csv": _csv, ".parquet": _parquet, ".safetensors": _safetensors}[output.suffix.lower()]
    table, hashes = table_of(output), dict[str, str]()
    if table is not None:
        hashes["table"] = disk.write_atomic(table, lambda file: _rows(file, columns, _names(vectors, named)))[0]
    hashes["vectors"] = disk.write_atomic(output, lambda file: writer(file, vectors, columns, named))[0]
    count, width = _numbers(vectors)[1]
    disk.write_json(
        record_file(output), {"schema": SCHEMA, **identity, "rows": count, "width": width, "sha256": hashes}
    )
    return tuple(file for file in (output, table, record_file(output)) if file is not None)


def _names(vectors: PartialVectors, named: Named) -> Iterator[tuple[str, ...]]:
    for index, _ in vectors.parts():
        yield from map(named, index.tolist())


def _rows(file: BinaryIO, header: tuple[str, ...], rows: Iterator[Any]) -> None:
    """Write CSV; a name that is not UTF-8 keeps its bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(row)
        if text.tell() > 1 << 20:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _npy(file: BinaryIO, vectors: PartialVectors, _columns: Columns, _named: Named) -> None:
    dtype, shape = _numbers(vectors)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for _index, rows in vectors.parts():
        file.write(rows.tobytes())


def _safetensors(file: BinaryIO, vectors: PartialVectors, _columns: Columns, _named: Named) -> None:
    dtype, shape = _numbers(vectors)
    file.write(header({"vectors": (dtype.name, shape, dtype.itemsize * shape[0] * shape[1])}))
    for _index, rows in vectors.parts():
        file.write(rows.tobytes())


def _csv(file: BinaryIO, vectors: PartialVectors, columns: Columns, named: Named) -> None:
    digits = "%.9g" if vectors.record["row"].base.itemsize == 4 else "%.5g"  # that a reader gets the same number
    width = _numbers(vectors)[1][1]

    def rows() -> Iterator[tuple[str, ...]]:
        for index, part in vectors.parts():
            for place, row in zip(index.tolist(), part.tolist(), strict=True):
                yield (*named(place), *(digits % value for value in row))

    _rows(file, (*columns, *(f"v{k}" for k in range(width))), rows())


class _Stream(io.RawIOBase):
    """Pass what pyarrow writes on to a file that stays open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._size += len(data)
        return self._file.write(data)


def _parquet(file: BinaryIO, vectors: PartialVectors, columns: Columns, named: Named) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dtype, (_count, width) = _numbers(vectors)
    kind = pa.list_(pa.float32() if dtype.itemsize == 4 else pa.float16(), width)
    schema = pa.schema([*((name, pa.string()) for name in columns), ("vector", kind)])
    with _Stream(file) as stream, pq.ParquetWriter(stream, schema) as writer:
        for index, rows in vectors.parts():
            names = [[_utf8(word) for word in named(place)] for place in index.tolist()]
            flat = pa.array(rows.reshape(-1))
            filled = [*map(list, zip(*names, strict=True)), pa.FixedSizeListArray.from_arrays(flat, width)]
            writer.write_table(pa.table(filled, schema=schema))


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _numbers(vectors: PartialVectors) -> tuple[np.dtype[Any], tuple[int, int]]:
    """Return the dtype of the numbers, and the shape `(N,F)` of all."""
    row = vectors.record["row"]
    return row.base, (len(vectors), row.shape[0])
