"""`sslcli data check`: the report, its exit code, and the plan that pretrain would make."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.cli import main
from ssl_cli.data.facts import Facts
from tests.data.pictures import save


def folder_of(root: Path, bad: int = 0) -> Path:
    """Thirty images of two classes, with three copies, one of them in the test images."""
    for k in range(30):
        name = f"train/{'ab'[k > 25]}/{k:02}.png"
        save(root / name, shade=8 * k, size=(10 + k, 20))
    save(root / "train/a/again.png", shade=8, size=(11, 20))
    save(root / "train/b/again.png", shade=16, size=(12, 20))
    save(root / "test/b/seen.png", shade=24, size=(13, 20))
    for k in range(bad):
        (root / f"train/a/bad{k}.jpg").write_bytes(b"no image")
    return root


def checked(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, object]:
    assert main(["data", "check", *words, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["command"]) == (1, "data")
    return dict(found)


def test_a_set_is_reported_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, sheet = folder_of(tmp_path / "photos"), tmp_path / "new" / "odd.png"
    (folder / "train" / "a" / "notes.txt").write_text("x", encoding="utf-8")
    found = checked(capsys, str(folder), "--sheet", str(sheet), "--recipe", "shapes")
    assert (found["images"], found["looked_at"]) == (32, 32)
    assert found["splits"] == ["train", "test"]
    assert found["copies"]["images"] == 3  # type: ignore[index]
    assert (found["copies"]["between_splits"], found["copies"]["between_classes"]) == (1, 2)  # type: ignore[index]
    assert found["classes"]["images"] == {"a": 27, "b": 5}  # type: ignore[index]
    assert found["passed_over"] == ["passed over: 1 .txt"]
    assert found["plan"]["words"].startswith("simclr, recipe shapes: resnet18, width 0.25, views of 32 pixels")  # type: ignore[index]
    assert found["plan"]["warnings"] == ["The batch is larger than the 32 images: pretrain needs --batch 32."]  # type: ignore[index]
    assert len([note for note in found["notes"] if "both among the training and the test images" in note]) == 1  # type: ignore[attr-defined]
    with Image.open(sheet) as picture:
        assert picture.width == 8 + 6 * 136
        assert picture.height > 7 * 150
    assert main(["data", "check", str(folder), "--recipe", "shapes"]) == 0
    text = capsys.readouterr().out
    assert "copies     3 equal to another file, in 3 groups of up to 2; 2 of these in several classes" in text
    assert f"next       sslcli pretrain {folder}" in text


@pytest.mark.parametrize(("bad", "code"), [(10, 0), (11, 3)])
def test_the_exit_code_is_that_of_pretrain(
    bad: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "photos", bad)
    found = checked(capsys, str(folder), "--recipe", "shapes", code=code)
    assert found["bad"]["images"] == bad  # type: ignore[index]
    assert found["bad"]["too_many"] is (code == 3)  # type: ignore[index]
    assert {of["reason"] for of in found["bad"]["files"]} == {  # type: ignore[index]
        "it is not an image that can be read (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF, PPM)"
    }
    assert ("error" in found) is (code == 3)
    if code == 3:
        assert main(["data", "check", str(folder), "--recipe", "shapes"]) == 3
        output = capsys.readouterr()
        assert "error: 11 of 44 images" in output.err
        assert "bad        11 cannot be read; --json lists them" in output.out


def test_archives_lists_and_stdin_are_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(folder.rglob("*.png")))), encoding="utf-8")
    of_folder, of_archive, of_list = (
        checked(capsys, str(place), "--recipe", "shapes")
        for place in (folder, tmp_path / "photos.zip", tmp_path / "list.txt")
    )
    for key in ("images", "splits", "sizes", "formats", "bytes", "classes", "brightness"):
        assert of_archive[key] == of_folder[key], key
    assert (of_list["images"], of_list["test"], of_list["splits"]) == (33, None, [])


def test_wrong_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(tmp_path)]) == 2
    assert f"sslcli data check {tmp_path}" in capsys.readouterr().err
    assert main(["data", "chek"]) == 2
    assert "Did you mean 'check'" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "none")]) == 3
    folder = folder_of(tmp_path / "photos")
    assert main(["data", "check", str(folder), "--sheet", str(tmp_path / "sheet.jpg")]) == 2
    assert main(["data", "check", str(folder), "--sheet", str(folder / "train" / "sheet.png")]) == 2
    assert not list(folder.rglob("sheet.png"))


def test_facts_are_small() -> None:
    assert not hasattr(Facts(1, 1, 1, "", "", "", None, 0, 0, b"", b""), "__dict__")  # there are 100,000 of them
