"""Lists of images: `.txt` with a path a line, `.csv`, `.tsv`, `.jsonl` or `.parquet` with a column `path`, or stdin."""

import codecs
import csv
import functools
import hashlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

from ssl_cli import disk
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import is_file, is_there, shown

STDIN = "-"
KEPT = f"images-{'[0-9a-f]' * 8}.jsonl"
"""Pattern of the file in a run folder that keeps a list on stdin."""
ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LARGEST = 2 * 2**30
"""Bytes of a list; a million long paths are a tenth of it."""
LONGEST_LINE = 2**16
PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img_path", "image", "img", "name",
)  # fmt: skip
LABELS = ("label", "class", "cls", "class_name", "category", "target")
"""Names of the columns of paths and of labels, in lower case, the one that counts first."""
_COLUMNS = (*PATHS, *LABELS, "group", "split")
_AFTER_CR = re.compile(r"(?<=\r)(?!\n)")
_EMPTY = ("nan", "NaN")
_DELIMITERS = (",", ";", "\t", "|")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
HINT = "Write a path a line, or a .csv with the columns path and, if there are any, label, group, split."


class Row(NamedTuple):
    """A line of a list; None for what it does not state."""

    path: str
    label: str | None = None
    group: str | None = None
    split: str | None = None


def is_list(source: str) -> bool:
    """Whether DATA is a list: `-`, or a file with the ending of one."""
    path = Path(os.path.expanduser(source))  # noqa: PTH111
    return (source == STDIN and not is_there(path)) or (source.lower().endswith(ENDINGS) and is_file(path))


def read_rows(file: Path | None, what: str = "list", unused: set[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a list, of stdin if it is None; add to `unused` the names of columns that no list uses.

    A `.csv` without a header has the columns path and label. Rows without a path are left out.

    Raises:
        DataError: it cannot be read, or has no column of paths.
    """
    name = f"The {what} {'on stdin' if file is None else shown(str(file))}"
    unused = set() if unused is None else unused
    ending = _ending_of_stdin() if file is None else file.suffix.lower()
    try:
        if file is not None and file.stat().st_size > LARGEST:
            raise DataError(f"{name} is larger than {LARGEST >> 30} GiB.", HINT)
        if file is not None and ending == ".parquet":
            yield from _rows_of_table(_parquet(file, name, unused), name, unused)
            return
        with _open(file) as stream:
            lines = _lines(stream, name)
            match ending:
                case ".csv" | ".tsv":
                    yield from _csv(lines, "\t" if ending == ".tsv" else ",", unused)
                case ".jsonl" | ".ndjson":
                    yield from _rows_of_table(_objects(lines, name), name, unused)
                case _:
                    yield from _text(lines, name, unused)
    except (OSError, ValueError, csv.Error) as error:
        words = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise DataError(f"{name} cannot be read: {shown(words)}.", HINT) from error


def _open(file: Path | None) -> IO[bytes]:
    """Open a list; one in UTF-16, as some programs of Windows write it, is read as a whole."""
    if file is not None:
        disk.require_file(file)
    stream = io.BytesIO(stdin()) if file is None else file.open("rb")
    is_wide = stream.read(2) in _UTF_16
    stream.seek(0)
    if not is_wide:
        return stream
    with stream:
        return io.BytesIO(stream.read().decode("utf-16").encode())


def _lines(stream: IO[bytes], name: str) -> Iterator[str]:
    """Yield lines with their ends; bytes that are not UTF-8 are those of a path."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE or b"\0" in line:
            fault = "holds a zero byte" if b"\0" in line else f"is longer than {LONGEST_LINE >> 10} KiB"
            raise DataError(f"{name} is no list of paths: line {number:,} {fault}.", HINT)
        yield line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode("utf-8", "surrogateescape")


def _parts_by_cr(lines: Iterator[str]) -> Iterator[str]:
    return (part for line in lines for part in (_AFTER_CR.split(line) if "\r" in line[:-2] else [line]))


def _text(lines: Iterator[str], name: str, unused: set[str]) -> Iterator[Row]:
    """Yield the paths, one a line, or what the first line says it is: JSON objects, or a table by its header."""
    lines = _parts_by_cr(lines)
    first = next((line for line in lines if line.strip()), "")
    lines = itertools.chain([first], lines)
    if first.lstrip().startswith("{"):
        yield from _rows_of_table(_objects(lines, name), name, unused)
    elif any(word in first and {*PATHS} & {*_header(first, word)} for word in _DELIMITERS):
        yield from _csv(lines, ",", unused)
    else:
        yield from (Row(_unquoted(path)) for line in lines if (path := line.strip()))


def _unquoted(path: str) -> str:
    return path[1:-1] if path[-1] in "\"'" and path[0] == path[-1] and len(path) > 2 else path


def _csv(lines: Iterator[str], delimiter: str, unused: set[str]) -> Iterator[Row]:
    lines = _parts_by_cr(lines)
    line = next((line for line in lines if line.strip()), "")
    if line.lower().startswith("sep="):  # as Excel reads it
        delimiter, line = line[4:5], next(lines, "")
    known = (other for other in (delimiter, *_DELIMITERS) if {*PATHS} & {*_header(line, other)})
    rows = csv.reader(itertools.chain([line], lines), delimiter=next(known, delimiter))
    first = next((row for row in rows if any(map(str.strip, row))), [])
    header = [cell.strip().lower() for cell in first]
    is_header = any(cell in PATHS for cell in header)
    columns = _columns(header) if is_header else {"path": 0, "label": 1}
    unused.update(_unused(header if is_header else ()))
    places = [columns.get(column, sys.maxsize) for column in Row._fields]
    for row in itertools.chain([] if is_header else [first], rows):
        path, *others = (row[place].strip() if place < len(row) else "" for place in places)
        if path:
            yield Row(path, *map(_cell, others))


def _cell(word: str) -> str | None:
    """Return the text of a cell: 1.0 as 1, as other formats have it; None where it is empty or NaN."""
    if word.endswith(".0") and word[:-2].removeprefix("-").isdecimal():
        return word[:-2]
    return word if word and word not in _EMPTY else None


def _header(line: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _unused(names: Iterable[object]) -> Iterator[str]:
    return (word for name in names if (word := str(name).strip()) and word.lower() not in _COLUMNS)


def _columns(header: Sequence[str]) -> Mapping[str, int]:
    """Return the place of each column that is used, in a header with one of paths."""
    path = next(word for word in PATHS if word in header)
    label = next((word for word in LABELS if word in header), "label")
    others = {"label": label, "group": "group", "split": "split"}
    return {"path": header.index(path), **{of: header.index(word) for of, word in others.items() if word in header}}


def _objects(lines: Iterator[str], name: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DataError(f"Line {number:,} of {name[0].lower()}{name[1:]} is no JSON object.", HINT)
        yield found


def _parquet(file: Path, name: str, unused: set[str]) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        hint = "pip install 'sslcli[parquet]' (pyarrow), or write a .csv."
        raise DataError(f"{name} needs pyarrow to be read.", hint) from None
    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        unused.update(_unused(names))
        for batch in table.iter_batches(4096, columns=[n for n in names if n.strip().lower() in _COLUMNS]):
            yield from batch.to_pylist()
    except Exception as error:  # pyarrow has errors of its own
        raise DataError(f"{name} cannot be read: {shown(str(error)).rstrip('.')}.", HINT) from error


def _rows_of_table(objects: Iterator[Mapping[str, Any]], name: str, unused: set[str]) -> Iterator[Row]:
    column, before, keys = "", None, list[Any]()
    for given in objects:
        if (names := tuple(given)) != before:
            found = {str(key).strip().lower(): key for key in names}
            column = column if column in found else next((word for word in PATHS if word in found), "")
            if not column:
                raise DataError(f"{name} has a row without a path: {shown(str(given), 100)}.", HINT)
            label = next((word for word in LABELS if word in found), "label")
            unused.update(_unused(names))
            before, keys = names, [found.get(word) for word in (column, label, "group", "split")]
        path, *others = (None if key is None else word_of(given[key]) for key in keys)
        if path and "\0" in path:
            raise DataError(f"{name} has a path with a zero byte.", HINT)
        if path:
            yield Row(path, *others)


def word_of(value: Any) -> str | None:
    """Return a cell as text: 1.0 as 1, bytes as a path; None where it is empty, NaN or no text or number."""
    if type(value) is str:  # most of a million
        return value.strip() or None
    if isinstance(value, bytes):
        return os.fsdecode(value) or None
    if isinstance(value, float | Decimal):
        value = None if value != value else int(value) if value % 1 == 0 else value
    return str(value).strip() or None if isinstance(value, str | int | float | Decimal) else None


@functools.cache
def stdin() -> bytes:
    """Read stdin, once.

    Raises:
        UsageError: it is a terminal.
        DataError: it is larger than a list may be.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("DATA is -, and nothing is piped into stdin.", "find photos -name '*.jpg' | sslcli pretrain -")
    data = sys.stdin.buffer.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise DataError(f"The list on stdin is larger than {LARGEST >> 30} GiB.", HINT)
    return data


def _ending_of_stdin() -> str:
    """Return what stdin holds: JSON objects, a table with a header, or paths."""
    first = stdin()[: LONGEST_LINE + 1].removeprefix(codecs.BOM_UTF8).lstrip().split(b"\n", 1)[0].lower()
    if first.startswith(b"{"):
        return ".jsonl"
    for ending, delimiter in ((".csv", b","), (".csv", b";"), (".tsv", b"\t")):
        if any(cell.strip(b'" \r').decode("utf-8", "replace") in PATHS for cell in first.split(delimiter)):
            return ending
    return ".txt"


def keep_stdin(folder: Path) -> Path:
    """Write the list on stdin to a folder, with absolute paths; return the file, which is named by its content."""
    root = Path.cwd()
    lines = [json.dumps({**row._asdict(), "path": str(root / row.path)}) for row in read_rows(None)]
    text = "\n".join([*lines, ""]).encode()
    file = folder / f"images-{hashlib.sha256(text).hexdigest()[:8]}.jsonl"
    disk.write_bytes(file, text)
    return file
