"""Lists of images: every format states the same, nothing is read without an end, and what is wrong is one sentence."""

import io
import json
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ssl_cli.config import image_list
from ssl_cli.config.image_list import LONGEST_LINE, keep_stdin, read_rows, word_of
from ssl_cli.config.tree import DataSettings
from ssl_cli.data import listed
from ssl_cli.data.places import require_data
from ssl_cli.data.source import Source, groups_of, note_of
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.errors import DataError, UsageError
from tests.data.pictures import folder, save

ROWS = [
    {"path": f"{kind}/{k:03}.png", "label": kind, "group": f"site {k // 2}", "split": "train" if k < 4 else "Test"}
    for kind in ("cat", "dog")
    for k in range(6)
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("photos"), {"cat": 6, "dog": 6})


def table(delimiter: str) -> str:
    return "\n".join([delimiter.join(ROWS[0]), *(delimiter.join(row.values()) for row in ROWS)])


WRITTEN: dict[str, Callable[[], str]] = {
    "csv": lambda: table(","),
    "tsv": lambda: table("\t"),
    "jsonl": lambda: "\n".join(map(json.dumps, ROWS)),
}


def names(source: Source) -> list[str]:
    return ["/".join(Path(source.path(k)).parts[-2:]) for k in range(len(source))]


def write(photos: Path, name: str, text: str) -> DataSettings:
    (photos / name).write_text(text, encoding="utf-8")
    return DataSettings(source=str(photos / name))


@pytest.mark.parametrize("form", WRITTEN)
def test_paths_labels_groups_and_splits(photos: Path, form: str) -> None:
    data = write(photos, f"list.{form}", WRITTEN[form]())
    require_data(data)
    source = open_pretraining(data, 0)
    assert names(source) == [row["path"] for row in ROWS if row["split"] == "train"]
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0] * 4 + [1] * 4
    groups = groups_of(source)
    assert groups is not None
    assert [groups.names[k] for k in groups.of.tolist()] == ["site 0", "site 0", "site 1", "site 1"] * 2
    assert source.read(5)[0, 0, 0] == 7
    evaluation = open_evaluation(data, 0)
    assert names(evaluation.queries) == [row["path"] for row in ROWS if row["split"] == "Test"]
    tested = groups_of(evaluation.queries)
    assert tested is not None
    assert {tested.names[k] for k in tested.of.tolist()} == {"site 2"}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "txt"])
def test_columns_without_a_use_are_named(photos: Path, form: str) -> None:
    rows = [{"Path": row["path"], "subset": row["split"], "patient_id": row["group"]} for row in ROWS]
    blank = {"csv": ",", "tsv": "\t", "txt": ";"}.get(form, "")
    lines = (
        [blank.join(each) for each in (rows[0], *(row.values() for row in rows))] if blank else map(json.dumps, rows)
    )
    found = open_pretraining(write(photos, f"others.{form}", "\n".join(lines)), 0)
    assert len(found) == len(ROWS)
    assert note_of(found) == "columns that are not used: patient_id, subset (path, label, group and split are)"


def test_a_table_of_parquet(photos: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist(ROWS), photos / "list.parquet")
    assert list(read_rows(photos / "list.parquet")) == list(read_rows_of(photos, "csv"))
    (photos / "bad.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(photos / "bad.parquet"))


def read_rows_of(photos: Path, form: str) -> list[image_list.Row]:
    (photos / f"rows.{form}").write_text(WRITTEN[form](), encoding="utf-8")
    return list(read_rows(photos / f"rows.{form}"))


def test_every_format_gives_the_same_rows(photos: Path) -> None:
    assert read_rows_of(photos, "csv") == read_rows_of(photos, "tsv") == read_rows_of(photos, "jsonl")


def test_parquet_names_its_extra(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "x.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match="needs pyarrow") as caught:
        require_data(DataSettings(source=str(photos / "x.parquet")))
    assert "sslcli[parquet]" in caught.value.hint


def test_paths_alone_in_any_order_and_absolute(photos: Path, tmp_path: Path) -> None:
    lines = [str(photos / row["path"]) for row in reversed(ROWS)]
    source = open_pretraining(write(tmp_path, "list.txt", "\ufeff" + "\r\n".join(lines)), 0)
    assert names(source) == [row["path"] for row in ROWS]
    assert source.classes == ()
    assert groups_of(source) is None


def test_odd_cells(photos: Path) -> None:
    (photos / "a, b \u00e9\n.png").write_bytes((photos / "cat" / "000.png").read_bytes())
    data = write(photos, "odd.csv", 'Label,PATH,other\n 7 ," a, b \u00e9\n.png",x\n\n,cat/000.png\n1.5,cat/001.png,\n')
    source = open_pretraining(data, 0)
    assert [source.classes[k] if k >= 0 else None for k in source.labels.tolist()] == ["7", None, "1.5"]
    data = write(photos, "odd.jsonl", '{"file_name": "cat/000.png", "label": 3}\n\n{"file_name": "cat/001.png"}')
    assert open_pretraining(data, 0).labels.tolist() == [0, -1]


def test_a_validation_split_is_for_testing_where_there_is_no_other(photos: Path) -> None:
    text = "path,label,split\ncat/000.png,a,train\ndog/000.png,b,training\ncat/001.png,a,val\ndog/001.png,b,valid\n"
    assert len(open_evaluation(write(photos, "val.csv", text), 0).queries) == 2
    assert len(open_evaluation(write(photos, "both.csv", f"{text}dog/002.png,b,test\n"), 0).queries) == 1


def test_missing_files_are_counted(photos: Path) -> None:
    lines = [row["path"] for row in ROWS]
    source = open_pretraining(write(photos, "some.txt", "\n".join([*lines, "gone/1.png", *lines[:2]])), 0)
    assert len(source) == 12
    assert source.notes == ("not there: 1 of the listed files, such as gone/1.png", "listed again: 2")  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"11 of the 23 files .* such as '0\.png'"):
        open_pretraining(write(photos, "many.txt", "\n".join([*lines, *(f"{k}.png" for k in range(11))])), 0)


ENDLESS = "/dev/zero"
WRONG: dict[str, tuple[str, str | bytes, str]] = {
    "nothing": ("x.txt", "\n \n", "names no image"),
    "none is there": ("x.txt", "a.png\nb.png", "is there, such as 'a.png'"),
    "no column of paths": ("x.csv", "image_id,label\n,\n", "is there, such as 'image_id'"),
    "no path": ("x.jsonl", '{"label": 1}', "row without a path"),
    "no object": ("x.jsonl", "[1]", "Line 1 .* no JSON object"),
    "nested deeply": ("x.jsonl", '{"a":' + "[" * 20000 + "]" * 20000 + "}", "no JSON object"),
    "a zero byte": ("x.txt", b"cat/000.png\0\n", "zero byte"),
    "a zero byte in JSON": ("x.jsonl", '{"path": "a\\u0000b"}', "zero byte"),
    "UTF-16 that is cut": ("x.csv", "path,label\ncat/000.png,a".encode("utf-16")[:-1], "cannot be read"),
    "an endless line": ("x.txt", b"x" * (LONGEST_LINE + 2), "line 1 is longer"),
    "another split": ("x.csv", "path,split\ncat/000.png,fold 3\n", "split called 'fold 3'"),
    "no training image": ("x.csv", "path,split\ncat/000.png,test\n", "names no training image"),
    "two labels": ("x.csv", "path,label\ncat/000.png,a\n./cat/000.png,b\n", "two labels"),
    "two groups": ("x.csv", "path,group\ncat/000.png,a\ncat/000.png,b\n", "two groups"),
    "a field without an end": ("x.csv", 'path,label\n"' + "a\n" * 100_000, "cannot be read"),
}


def open_checked(data: DataSettings) -> None:
    require_data(data)
    open_pretraining(data, 0)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(photos: Path, name: str) -> None:
    file, text, message = WRONG[name]
    (photos / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    data = DataSettings(source=str(photos / file))
    with pytest.raises(DataError, match=message) as caught:
        open_checked(data)
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_a_device_called_a_list_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to(ENDLESS)
    with pytest.raises(DataError):
        require_data(DataSettings(source=str(tmp_path / "x.txt")))


def test_a_bad_row_behind_the_first_is_found_when_it_is_opened(photos: Path) -> None:
    text = "path,label\n" + "cat/000.png,a\n" * 2000 + "cat/000.png,b\n"
    with pytest.raises(DataError, match="two labels"):
        open_pretraining(write(photos, "late.csv", text), 0)


class Pipe(io.StringIO):
    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        super().__init__()
        self.buffer, self.terminal = io.BytesIO(data), terminal  # type: ignore[misc]

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("text", ["cat/000.png\ndog/001.png\n", "label,path\na,cat/000.png\nb,dog/001.png",
                                  '{"path": "cat/000.png"}\n{"path": "dog/001.png"}'])  # fmt: skip
def test_a_list_on_stdin_is_kept_with_absolute_paths(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    image_list.stdin.cache_clear()
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "stdin", Pipe(text.encode()))
    require_data(DataSettings(source="-"))
    piped = open_pretraining(DataSettings(source="-"), 0)
    kept = keep_stdin(tmp_path)
    monkeypatch.chdir(tmp_path)
    source = open_pretraining(DataSettings(source=str(kept)), 0)
    assert names(source) == names(piped) == ["cat/000.png", "dog/001.png"]
    assert source.classes == piped.classes
    image_list.stdin.cache_clear()


def test_a_terminal_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    image_list.stdin.cache_clear()
    monkeypatch.setattr(sys, "stdin", Pipe(b"", terminal=True))
    with pytest.raises(UsageError, match="nothing is piped"):
        require_data(DataSettings(source="-"))


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    save(tmp_path / name, 9)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\n")
    source = open_pretraining(DataSettings(source=str(tmp_path / "list.txt")), 0)
    assert source.read(0)[0, 0, 0] == 9


HEADS = [row["path"] + "|" + row["label"] for row in ROWS if row["split"] == "train"]
ODD_TABLES: dict[str, tuple[str, str]] = {
    "semicolons": ("x.csv", "path;label\n" + "\n".join(HEADS).replace("|", ";")),
    "semicolons, BOM, CRLF": ("x.csv", '\ufeff"path";label\r\n' + "\r\n".join(HEADS).replace("|", ";")),
    "tabs in a csv": ("x.csv", "path\tlabel\n" + "\n".join(HEADS).replace("|", "\t")),
    "commas in a tsv": ("x.tsv", "path,label\n" + "\n".join(HEADS).replace("|", ",")),
    "CR alone": ("x.csv", "path,label\r" + "\r".join(HEADS).replace("|", ",")),
    "other words": ("x.csv", "n,Image_Path,Class\n" + "\n".join(f"1,{line}" for line in HEADS).replace("|", ",")),
    "paths of Windows": ("x.csv", "path,label\n" + "\n".join(HEADS).replace("|", ",").replace("/", "\\")),
    "bars": ("x.csv", "path|label\n" + "\n".join(HEADS)),
    "a line for Excel": ("x.csv", "sep=;\npath;label\n" + "\n".join(HEADS).replace("|", ";")),
    "a table called a text": ("x.txt", "path,label\n" + "\n".join(HEADS).replace("|", ",")),
    "JSON called a text": (
        "x.txt", "\n".join(json.dumps(dict(zip(("path", "label"), line.split("|"), strict=True))) for line in HEADS),
    ),
    **{f"a label after a path, by {blank!r}": ("x.txt", "\n".join(HEADS).replace("|", blank))
       for blank in (" ", "  ", "\t", ",", ", ", ";")},
    "capital keys": (
        "x.jsonl",
        "\n".join(json.dumps(dict(zip(("Path", "LABEL"), line.split("|"), strict=True))) for line in HEADS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_TABLES)
def test_tables_as_other_programs_write_them(photos: Path, name: str) -> None:
    source = open_pretraining(write(photos, *ODD_TABLES[name]), 0)
    assert names(source) == [row["path"] for row in ROWS if row["split"] == "train"]
    assert [source.classes[k] for k in source.labels.tolist()] == ["cat"] * 4 + ["dog"] * 4
    unused = "columns that are not used: n (path, label, group and split are)"
    assert note_of(source) == (unused if name == "other words" else "")


@pytest.mark.parametrize("form", ["utf-16", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_in_the_encodings_and_lines_of_other_systems(photos: Path, form: str, end: str) -> None:
    paths = [f'"{ROWS[0]["path"]}"', f"'{ROWS[1]['path']}'", ROWS[2]["path"]]
    text = ("\ufeff" * (form == "utf-16-be") + end.join(paths) + end).encode(form)
    (photos / "x.txt").write_bytes(text)
    assert names(open_pretraining(DataSettings(source=str(photos / "x.txt")), 0)) == [row["path"] for row in ROWS[:3]]


def test_cells_of_text_that_are_numbers_or_empty(photos: Path) -> None:
    cells = ["1", "1.0", "-1.0", "1.5", "v1.0", "nan", "", "01"]
    rows = "\n".join(f"{row['path']},{cell}" for row, cell in zip(ROWS, cells, strict=False))
    source = open_pretraining(write(photos, "x.csv", f"path,label\n{rows}"), 0)
    found = [source.classes[k] if k >= 0 else "" for k in source.labels.tolist()]
    assert found == ["1", "1", "-1", "1.5", "v1.0", "", "", "01"]


def test_images_that_are_for_training_and_for_testing_are_counted(photos: Path) -> None:
    rows = [f"{row['path']},{row['split']}" for row in ROWS] + [f"{ROWS[0]['path']},val", f"{ROWS[1]['path']},test"]
    source = open_pretraining(write(photos, "x.csv", "path,split\n" + "\n".join(rows)), 0)
    assert source.notes == ("listed for training and for testing: 1",)  # type: ignore[attr-defined]


def test_cells_that_are_numbers() -> None:
    given = [1, 1.0, Decimal(1), "1", b"1", 0.5, Decimal("0.5"), float("nan"), Decimal("NaN"), None, "", [], {}, True]
    words = [word_of(cell) for cell in given]
    assert words == ["1"] * 5 + ["0.5"] * 2 + [None] * 6 + ["True"]
    assert word_of(float("inf")) == "inf"


def test_a_folder_of_many_files_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [f"{k:03}.png" for k in range(100)]
    for name in images[:70] + images[71:80] + images[81:90] + images[91:99]:
        (tmp_path / name).touch()
    (tmp_path / "080.png").mkdir()
    (tmp_path / "090.png").symlink_to("nothing")
    (tmp_path / "099.png").symlink_to("001.png")
    (tmp_path / "list.txt").write_text("\n".join(images))
    looked, is_file = list[str](), os.path.isfile

    def isfile(path: str) -> bool:
        looked.append(path)
        return is_file(path)

    monkeypatch.setattr("os.path.isfile", isfile)
    part = listed.parts(tmp_path / "list.txt", "train")[0]
    assert len(part) == 97
    assert part.notes == ("not there: 3 of the listed files, such as 070.png",)
    assert len(looked) == listed.FEW_OF_A_FOLDER - 1 + 3
