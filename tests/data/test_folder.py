"""Finding images: at any depth, each once, in an order that is their names' alone; no trap holds it up."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli import status
from ssl_cli.data import search
from ssl_cli.data.search import find_images
from ssl_cli.errors import DataError
from tests.data.files import open_folder
from tests.data.pictures import folder, save


def names(root: Path) -> list[str]:
    source = open_folder(root)
    return [os.path.relpath(source.path(k), root) for k in range(len(source))]


def test_labels_are_the_first_folders(tmp_path: Path) -> None:
    folder(tmp_path, {"dog": 2, "cat/black": 1, "cat": 1, "cat/white/old": 1})
    save(tmp_path / "stray.png")
    source = open_folder(tmp_path)
    assert source.classes == ("cat", "dog")
    assert names(tmp_path) == sorted(names(tmp_path))
    assert source.labels.tolist() == [0, 0, 0, 1, 1, -1]
    assert source.read(0).shape == (3, 8, 8)


def test_no_labels_without_a_folder_and_one_class_of_one(tmp_path: Path) -> None:
    source = open_folder(folder(tmp_path / "flat", {".": 3}))
    assert (source.classes, set(source.labels.tolist())) == ((), {-1})
    source = open_folder(folder(tmp_path / "one", {"bird": 3}))
    assert (source.classes, set(source.labels.tolist())) == (("bird",), {0})


def test_the_content_of_a_file_without_an_ending_decides(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.JPG", "b.JPEG", "c.tif", "notes.txt", ".hidden.png", "d.png.part", "e", "0123.89abcdef01"):
        save(tmp_path / name)
    (tmp_path / "f").write_text("no image")
    (tmp_path / "Thumbs.db").write_text("of a system")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["0123.89abcdef01", "a.JPG", "a.jpg", "b.JPEG", "c.tif", "e"]
    assert open_folder(tmp_path).notes == ("passed over: 1 .part, 1 .txt, 1 without an ending",)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_every_format_is_known_by_its_first_bytes(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "x", form)
    assert names(tmp_path) == ["x"]


def test_folders_of_a_system_are_passed_over_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 2, "b": 1})
    for name in ("@eaDir/x.png", "a/@eaDir/000.png", "__MACOSX/a", "$RECYCLE.BIN", "b/.thumbnails", "Lost+Found"):
        save(root / name / "thumb.png")
    source = open_folder(root)
    assert (len(source), source.classes) == (3, ("a", "b"))
    assert source.notes == (
        "passed over: system folders (2 @eaDir, 1 $RECYCLE.BIN, 1 .thumbnails, 1 Lost+Found, 1 others)",
    )


def test_pictures_of_runs_and_studies_are_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path, {"cats": 1, "own": 1})
    for name in ("run", "study", "own/deep"):
        save(root / name / "curves.png")
        save(root / name / "wandb" / "media" / "b.png")
    status.write(root / "run", "0", status.FINISHED, 0, "")
    (root / "study" / "study.json").write_text('{"schema": 1, "asked": {}, "arms": []}')
    (root / "own" / "status.json").write_text("{}")  # another program's
    source = open_folder(root)
    assert (len(source), source.classes) == (4, ("cats", "own"))
    assert source.notes == ("passed over: 1 .json and 2 folders of runs or studies",)


def test_names_come_in_the_order_that_earlier_versions_had(tmp_path: Path) -> None:
    for name in (
        "a/x.png",
        "a.png",
        "a-b/x.png",
        "a b.png",
        "ab/x.png",
        "a/x/y.png",
        "a/x-y.png",
        "Z/1.png",
        "é/1.png",
    ):
        save(tmp_path / name)
    assert names(tmp_path) == sorted(names(tmp_path))
    outside = folder(tmp_path.parent / "outside", {".": 2})
    (tmp_path / "a" / "link").symlink_to(outside)
    assert names(tmp_path) == sorted(names(tmp_path))
    assert len(names(tmp_path)) == 11


def test_traps(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", {"x/y": 2, "z": 1})
    (root / "x" / "loop").symlink_to(root)
    (root / "x" / "y" / "up").symlink_to(root / "x")
    (root / "self").symlink_to(root / "self")
    (root / "x" / "again.png").symlink_to(root / "z" / "000.png")
    (root / "gone.png").symlink_to(root / "nothing.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    (root / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.png"))
    outside = save(tmp_path / "outside" / "far.png")
    (root / "a-link").symlink_to(outside.parent)
    (root / "z" / "near.png").symlink_to(outside)
    assert names(root) == ["a-link/far.png", "x/y/000.png", "x/y/001.png", "z/000.png"]


def test_a_folder_of_links(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", {"a": 2, "b": 1})
    links = tmp_path / "links"
    links.mkdir()
    for k, path in enumerate(sorted(root.rglob("*.png"))):
        (links / f"{k}.png").symlink_to(path)
    assert names(links) == ["0.png", "1.png", "2.png"]


def test_odd_names(tmp_path: Path) -> None:
    for name in ("\x1b[31mred.png", "line\nbreak.png", "[red].png", "n" * 251 + ".png", os.fsdecode(b"\xff\xfe.png")):
        save(tmp_path / name)
    source = open_folder(tmp_path)
    assert len(source) == 5
    assert all(source.read(k).shape == (3, 8, 8) for k in range(5))


def test_a_folder_that_cannot_be_opened_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = folder(tmp_path, {"a": 1, "shut": 1}), os.scandir

    def guarded(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)  # chmod does not stop root
    source = open_folder(root)
    assert len(source) == 1
    assert [skip.path for skip in source.skipped] == [str(root / "shut")]


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_folder(tmp_path / "gone")
    with pytest.raises(DataError, match="no image in"):
        open_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no image in"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        open_folder(tmp_path / "notes.txt")
    with pytest.raises(DataError) as caught:
        open_folder(tmp_path / "a\x1b[31m")
    assert caught.value.message.isprintable()


def test_rarer_endings_are_those_of_images(tmp_path: Path) -> None:
    for name in ("a.mpo", "b.APNG", "c.dib", "d.jif", "e.btf"):
        save(tmp_path / name)
    assert names(tmp_path) == ["a.mpo", "b.APNG", "c.dib", "d.jif", "e.btf"]


@pytest.mark.parametrize("there", [True, False])
def test_the_formats_of_extras_are_known_by_their_first_bytes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(search, "is_readable", lambda suffix: there and suffix in (".dcm", ".heic"))
    dicom = bytes(128) + b"DICM"
    for name, data in {
        "IM1": dicom, "1.2.840.17": dicom, "x.17": b"\x89PNG\r\n\x1a\n", "x.dat": dicom,
        "heic": b"\0\0\0\x18ftypheic", "big": b"II+\0", "float": b"PF\n8 8",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    assert list(find_images(tmp_path).names) == (["1.2.840.17", "IM1"] if there else []) + ["big", "float"] + (
        ["heic"] if there else []
    )
