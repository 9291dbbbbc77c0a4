"""Neighbours and near-duplicates: those of the network's own rows, of images just encoded or of a stored file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.cli import main
from ssl_cli.errors import DataError, DivergedError, UsageError
from ssl_cli.events import Pictured
from ssl_cli.vectors import search
from ssl_cli.vectors.embed import embed
from ssl_cli.vectors.neighbors import duplicates, neighbors
from ssl_cli.vectors.request import Search
from tests.engine.toy_run import result_of, toy_settings, write_run
from tests.vectors.test_embed import expected, table


def nearest_by_loop(run: Path, photos: Path, image: Path, feature: str = "h") -> list[tuple[str, float]]:
    """All other images by similarity in float64, each encoded alone."""
    paths, rows = expected(run, photos, feature)
    unit = torch.nn.functional.normalize(rows.double())
    own = paths.index(str(image))
    found = [(path, float(unit[own] @ row)) for path, row in zip(paths, unit, strict=True) if path != str(image)]
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("feature", ["h", "z"])
def test_the_nearest_are_those_of_the_network(run: Path, photos: Path, tmp_path: Path, feature: str) -> None:
    image, copy = photos / "dogs" / "ü.png", tmp_path / "elsewhere.png"
    shutil.copy(image, copy)
    wanted = nearest_by_loop(run, photos, image, feature)
    asked = Search(str(run), str(photos), feature=feature, device="cpu")
    inside, outside = (result_of(neighbors(asked, str(name), 9)) for name in (image, copy))
    assert (inside["in_set"], outside["in_set"], inside["images"]) == (True, False, 10)
    assert [one["path"] for one in inside["neighbors"]] == [path for path, _ in wanted]
    assert [one["rank"] for one in inside["neighbors"]] == list(range(1, 10))
    similar = [one["similarity"] for one in inside["neighbors"]]
    assert similar == pytest.approx([value for _, value in wanted], abs=1e-5)
    assert [one["label"] for one in inside["neighbors"]] == [Path(path).parent.name for path, _ in wanted]
    assert outside["neighbors"][0]["path"] == str(image)
    assert outside["neighbors"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert [one["path"] for one in outside["neighbors"][1:]] == [path for path, _ in wanted[:8]]


def test_an_image_of_the_set_is_found_by_any_of_its_names(
    run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos / "cats")
    asked = Search(str(run), "..", device="cpu")
    for name in ("c.png", "./c.png", "../cats/c.png", str(photos / "cats" / "c.png")):
        found = result_of(neighbors(asked, name, 10))
        assert found["in_set"]
        assert len(found["neighbors"]) == 9


@pytest.mark.parametrize("damaged", [False, True])
def test_an_image_that_is_not_there_is_refused_before_any_is_encoded(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    image = tmp_path / "one.png"
    if damaged:
        image.write_bytes(b"no image")
    monkeypatch.setattr("ssl_cli.vectors.neighbors.append_rows", lambda *_: pytest.fail("images were encoded"))
    with pytest.raises(DataError, match="cannot be read" if damaged else "no image at"):
        list(neighbors(Search(str(run), str(photos), device="cpu"), str(image), 3))


def test_an_image_without_a_file_is_found_by_its_name(run: Path) -> None:
    found = result_of(neighbors(Search(str(run), device="cpu"), "shapes:train[3]", 5))
    assert found["in_set"]
    assert len(found["neighbors"]) == 5
    assert found["images"] == 64


@pytest.fixture(scope="module")
def stored(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of the photographs in every format whose library is here, as float32 and float16."""
    folder = tmp_path_factory.mktemp("stored")
    endings = ["npy", "csv", "safetensors"]
    try:
        import pyarrow

        endings += ["parquet"] * bool(pyarrow)
    except ImportError:
        pass
    for ending in endings:
        for name, half in (("v", False), ("half", True)):
            result_of(embed(str(run), folder / f"{name}.{ending}", str(photos), half=half, l2=half, device="cpu"))
    return folder


@pytest.mark.parametrize("ending", ["npy", "csv", "safetensors", "parquet"])
def test_stored_rows_give_the_same_neighbours(run: Path, photos: Path, stored: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    image = str(photos / "cats" / "a, b.png")
    wanted = result_of(neighbors(Search(str(run), str(photos), device="cpu"), image))
    found = result_of(neighbors(Search(str(run), vectors=stored / f"v.{ending}", device="cpu"), image))
    assert found["neighbors"] == wanted["neighbors"]
    assert found["vectors"] == str(stored / f"v.{ending}")
    half = result_of(neighbors(Search(str(run), vectors=stored / f"half.{ending}", device="cpu"), image))
    values = [[one["similarity"] for one in result["neighbors"]] for result in (half, wanted)]
    assert values[0] == pytest.approx(values[1], abs=2e-3)


@pytest.mark.parametrize("change", ["row", "table", "record", "no record", "no table", "short", "feature", "run"])
def test_rows_of_another_run_or_no_longer_as_written_are_refused(
    run: Path, photos: Path, stored: Path, tmp_path: Path, change: str
) -> None:
    for file in stored.glob("v.*"):
        shutil.copy(file, tmp_path)
    vectors, table, record = (tmp_path / name for name in ("v.npy", "v.paths.csv", "v.npy.json"))
    asked = Search(str(run), vectors=vectors, device="cpu", feature="z" if change == "feature" else "h")
    match change:
        case "row":
            data = bytearray(vectors.read_bytes())
            data[-1] ^= 1
            vectors.write_bytes(data)
        case "short":
            vectors.write_bytes(vectors.read_bytes()[:-40])
        case "table":
            table.write_text(table.read_text(encoding="utf-8").replace("cats", "rats"), encoding="utf-8")
        case "record":
            record.write_text('{"schema": "sslcli vectors 1", "rows": 1e400}', encoding="utf-8")
        case "no record":
            record.unlink()
        case "no table":
            table.unlink()
        case "run":
            write_run(tmp_path / "other", toy_settings(images=32))
            asked = Search(str(tmp_path / "other"), vectors=vectors, device="cpu")
    with pytest.raises(DataError) as caught:
        list(neighbors(asked, str(photos / "cats" / "c.png")))
    assert caught.value.hint
    assert caught.value.code == 3


def test_a_record_that_claims_more_rows_than_there_are_is_refused(
    run: Path, photos: Path, stored: Path, tmp_path: Path
) -> None:
    for file in stored.glob("v.*"):
        shutil.copy(file, tmp_path)
    for ending in ("npy", "csv"):
        record = tmp_path / f"v.{ending}.json"
        record.write_text(record.read_text(encoding="utf-8").replace('"rows": 10', '"rows": 1000'), encoding="utf-8")
        with pytest.raises(DataError, match="is not as sslcli embed wrote it"):
            list(
                neighbors(Search(str(run), vectors=tmp_path / f"v.{ending}", device="cpu"), str(photos / "cats/c.png"))
            )


def test_an_image_that_cannot_be_read_is_said(run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    asked = Search(str(run), str(photos), device="cpu")
    with pytest.raises(DataError, match="cannot be read: it is not an image"):
        list(neighbors(asked, str(tmp_path / "bad.png")))
    with pytest.raises(DataError, match="no image at") as caught:
        list(neighbors(asked, str(photos / "cats" / "cc.png")))
    assert "c.png" in caught.value.hint


def test_rows_that_are_not_finite_are_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    state = torch.load(next((run / "checkpoints").glob("*.pt")), weights_only=True)
    state["objective"]["backbone.conv1.weight"].mul_(1e38)
    torch.save(state, tmp_path / "alone.pt")
    with pytest.raises(DivergedError, match="not finite"):
        list(neighbors(Search(str(tmp_path / "alone.pt"), str(photos), device="cpu"), str(photos / "cats" / "c.png")))


@pytest.fixture
def copies(photos: Path, tmp_path: Path) -> Path:
    """The photographs and copies of two of them, one of another class, one unreadable file."""
    folder = tmp_path / "set"
    shutil.copytree(photos, folder)
    shutil.copy(folder / "cats" / "c.png", folder / "dogs" / "copy.png")
    shutil.copy(folder / "dogs" / "e.png", folder / "dogs" / "f.png")
    (folder / "dogs" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("block", [4, 1024])
def test_duplicates_are_found_in_a_set_and_in_its_stored_rows(
    run: Path, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(search, "BLOCK", block)
    result_of(embed(str(run), tmp_path / "v.csv", str(copies), device="cpu"))
    for asked in (
        Search(str(run), str(copies), device="cpu"),
        Search(str(run), vectors=tmp_path / "v.csv", device="cpu"),
    ):
        found = result_of(duplicates(asked, 1.0))
        pairs = {(pair["first"], pair["second"], *pair["labels"]) for pair in found["pairs"]}
        assert pairs == {
            (str(copies / "cats" / "c.png"), str(copies / "dogs" / "copy.png"), "cats", "dogs"),
            (str(copies / "dogs" / "e.png"), str(copies / "dogs" / "f.png"), "dogs", "dogs"),
        }
        assert (found["count"], found["paired"], found["images"]) == (2, 4, 12)
    assert result_of(duplicates(asked, -1.0))["count"] == 12 * 11 // 2


def test_the_sheet_shows_the_image_and_its_neighbours(run: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "made" / "sheet.png"
    asked = Search(str(run), str(photos), device="cpu", sheet=output)
    image = photos / "cats" / "c.png"
    events = list(neighbors(asked, str(image), 7))
    (row,) = [event for event in events if isinstance(event, Pictured)]
    first = result_of(iter(events))["neighbors"][0]
    assert [tile.title for tile in row.tiles][:2] == ["query", f"1   {first['similarity']:.3f}"]
    assert row.tiles[1].caption == f"{first['label']}: {Path(first['path']).name}"
    for tile, path in zip(row.tiles, [image, first["path"]], strict=False):
        with Image.open(path) as picture:
            assert tile.rgb == picture.tobytes()
    with Image.open(output) as picture:
        assert picture.width == 8 + 6 * (128 + 8)
        assert picture.height > 2 * 128


def test_a_picture_that_cannot_be_read_is_empty_on_the_sheet(
    run: Path, photos: Path, stored: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.png"
    shutil.copy(photos / "cats" / "c.png", moved)
    gone = tmp_path / "photos"
    shutil.copytree(photos, gone)
    result_of(embed(str(run), tmp_path / "v.npy", str(gone), device="cpu"))
    shutil.rmtree(gone)
    asked = Search(str(run), vectors=tmp_path / "v.npy", device="cpu", sheet=tmp_path / "s.png")
    (row,) = [event for event in neighbors(asked, str(moved), 3) if isinstance(event, Pictured)]
    assert [tile.width for tile in row.tiles] == [16, 1, 1, 1]
    assert "No such file" in row.tiles[1].caption
    assert (tmp_path / "s.png").is_file()


def test_the_sheet_is_not_written_among_the_images(run: Path, copies: Path) -> None:
    asked = Search(str(run), str(copies), device="cpu", sheet=copies / "cats" / "sheet.png")
    with pytest.raises(UsageError, match="among the images"):
        list(duplicates(asked))
    assert not (copies / "cats" / "sheet.png").exists()


def test_what_is_there_and_no_file_is_called_so(run: Path, photos: Path) -> None:
    for image, kind in ((str(photos / "cats"), "a folder"), ("/dev/null", "a pipe or device")):
        with pytest.raises(DataError, match=f"{image} is {kind}, not an image") as caught:
            list(neighbors(Search(str(run), str(photos), device="cpu"), image, 3))
        assert "Did you mean" not in caught.value.hint


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Give an IMAGE"),
        (["a.png", "--duplicates"], 2, "Give an IMAGE"),
        (["a.png", "--above", "0.9"], 2, "--above is for --duplicates"),
        (["--duplicates", "--above", "nan"], 2, "less than or equal to 1"),
        (["--duplicates", "--above", "2"], 2, "less than or equal to 1"),
        (["a.png", "--vectors", "v.npy", "--data", "."], 2, "neither --data nor --limit"),
        (["a.png", "--vectors", "v.npy"], 3, "There is no file v.npy"),
        (["a.png", "--vectors", "v.txt"], 2, "ends in none of"),
        (["a.png", "--sheet", "s.jpg"], 2, "would not be a PNG"),
        (["a.png", "--feature", "y"], 2, "no feature"),
        (["a.png", "--data", "missing"], 3, "no folder and no data set"),
        (["a.png", "--device", "cpu"], 3, "no image at a.png"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Path, words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["neighbors", str(run), *words]) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table_and_json(run: Path, copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["neighbors", str(run), "--data", str(copies), "--device", "cpu"]
    assert main([*words, str(copies / "cats" / "c.png"), "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("itself in the set and not listed")
    assert lines[1].split() == ["neighbors", "rank", "similarity", "label", "path"]
    assert lines[2].split() == ["1", "1.0000", "dogs", str(copies / "dogs" / "copy.png")]
    assert main([*words, str(copies / "cats" / "c.png"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], len(document["neighbors"])) == ("neighbors", 10)
    assert main([*words, "--duplicates", "--above", "1"]) == 0
    assert "2 pairs with a similarity of at least 1 (--above)" in capsys.readouterr().out
    assert main([*words, "--duplicates", "--above", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 2


def test_the_record_says_what_made_the_rows(run: Path, photos: Path, stored: Path) -> None:
    record = json.loads((stored / "half.npy.json").read_text(encoding="utf-8"))
    assert (record["rows"], record["width"], record["half"], record["l2"]) == (10, 32, True, True)
    assert len(table(stored / "half.paths.csv")) == 11
    assert np.load(stored / "half.npy").dtype == np.float16
