"""What is found of a set of images, against the files as they were written."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_cli.config.tree import DataSettings
from ssl_cli.data import alike as module
from ssl_cli.data.alike import alike, copies
from ssl_cli.data.facts import Facts
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_own_test, open_pretraining
from ssl_cli.data.survey import BLOCK, Survey, balance, copied, described, grouping, sample_of
from tests.data.files import npy, png, tiff


def photo(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A smooth picture, another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def opened(folder: Path, **data: object) -> Source:
    return open_pretraining(DataSettings.model_validate({"source": str(folder), "size": 32, **data}), 0)


def surveyed(source: Source, most: int = 1000, threads: int = 2) -> Survey:
    survey = Survey(source, sample_of(len(source), most))
    list(survey.look(threads))
    return survey


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_facts_are_those_of_the_files(tmp_path: Path) -> None:
    twelve = np.arange(4096, dtype=np.uint16).reshape(32, 128)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    photo(0, (60, 40)).save(turned, "JPEG", exif=exif)
    signed = np.array([[[-3.5], [7.25]]], np.float32)
    half = np.zeros((10, 20, 3), np.uint8)
    half[:, 10:] = 255
    files = {
        "a.tif": tiff(twelve), "b.png": png(twelve, 0), "c.npy": npy(signed.repeat(3, 2)),
        "d.jpg": turned.getvalue(), "e.png": _plain(half), "f.gif": _plain(half[:, :, 0], "GIF"),
    }  # fmt: skip
    source = opened(write(tmp_path, files))
    found = surveyed(source).facts
    assert [(of.width, of.height) for _, of in sorted(found.items())] == [
        (128, 32), (128, 32), (2, 1), (40, 60), (20, 10), (20, 10),
    ]  # fmt: skip
    assert [of.format for _, of in sorted(found.items())] == ["TIFF", "PNG", "NPY", "JPEG", "PNG", "GIF"]
    assert [of.mode for _, of in sorted(found.items())][:2] == ["1 channel", "1 channel"]
    assert found[0].kind == found[1].kind == "16-bit numbers"
    assert [found[k].span for k in range(4)] == [(0, 4095), (0, 4095), (-3.5, 7.25), None]
    assert (found[3].mode, found[3].kind) == ("RGB", "8-bit numbers")
    assert found[4].mean == pytest.approx(0.5)
    assert found[4].contrast == pytest.approx(0.5)
    assert [of.size for _, of in sorted(found.items())] == [len(data) for data in files.values()]
    words = described([found[k] for k in sorted(found)])
    assert words["numbers"]["16-bit numbers"] == {"images": 2, "low": 0.0, "high": 4095.0}
    assert words["sizes"]["smallest"] == [2, 1]
    assert words["sizes"]["largest"] == [128, 32]
    assert words["bytes"]["total"] == sum(map(len, files.values()))


def test_an_image_of_one_colour_is_counted_whatever_the_colour(tmp_path: Path) -> None:
    red, two = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = two[:10, :, 0] = 255
    found = surveyed(opened(write(tmp_path, {"a.png": _plain(red), "b.png": _plain(two)}))).facts
    assert found[0].contrast == 0
    assert found[1].contrast == pytest.approx(0.5 / 3**0.5)
    assert described([*found.values()])["one_colour"] == 1


def _plain(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def test_copies_are_found_whatever_their_names_and_near_ones_whatever_their_size_and_quality(tmp_path: Path) -> None:
    originals = {f"train/a/{k:02}.jpg": jpeg(photo(k)) for k in range(20)}
    again = {
        "train/b/copy.jpg": originals["train/a/03.jpg"],
        "train/b/worse.jpg": jpeg(photo(4), 40),
        "train/b/smaller.png": _plain(np.array(photo(5).resize((60, 45)))),
        "train/b/brighter.jpg": jpeg(photo(6).point(lambda x: min(255, x + 12))),
        "test/b/again.jpg": jpeg(photo(7), 70),
        "test/b/other.jpg": jpeg(photo(100)),
        "train/b/mirrored.jpg": jpeg(photo(8).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "train/b/stretched.jpg": jpeg(photo(9).resize((120, 45))),
    }
    folder = write(tmp_path, originals | again)
    settings = DataSettings.model_validate({"source": str(folder), "size": 32})
    test = open_own_test(settings, 0)
    assert test is not None
    found = copied([surveyed(opened(folder)), surveyed(test)])
    names = [{Path(path).name for path in group} for group in found["copies"]["examples"]]
    assert names == [{"03.jpg", "copy.jpg"}]
    assert found["copies"]["images"] == found["copies"]["between_classes"] == 1
    assert found["copies"]["between_splits"] == 0
    near = [{Path(path).name for path in group} for group in found["alike"]["examples"]]
    assert sorted(map(sorted, near)) == [
        ["04.jpg", "worse.jpg"], ["05.jpg", "smaller.png"], ["06.jpg", "brighter.jpg"], ["07.jpg", "again.jpg"],
    ]  # fmt: skip
    assert found["alike"]["between_splits"] == 1
    assert found["alike"]["compared"] == 28


def facts(thumb: np.ndarray, name: str, width: int = 10, height: int = 10) -> Facts:
    pixels = thumb.astype(np.uint8).tobytes()
    return Facts(width, height, 1, "JPEG", "RGB", "8-bit numbers", None, 0.5, 0.2, name.encode(), pixels)


def test_alike_is_what_plain_loops_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    generator = np.random.default_rng(0)
    rows = [generator.uniform(0, 255, 432) for _ in range(12)]
    rows += [np.clip(rows[k] + generator.normal(0, scale, 432), 0, 255) for k in (2, 2, 5, 9) for scale in (3, 6, 40)]
    faint = generator.normal(0, 1.5, 432).round()
    rows += [100 + faint, 101 + faint]
    images = [facts(row.round(), str(k)) for k, row in enumerate(rows)]
    leader = list(range(len(rows)))
    for k, row in enumerate(rows):
        for j in range(k):
            a, b = (np.round(x) - np.round(x).mean() for x in (row, rows[j]))
            flat = min(a.std(), b.std()) <= module.FLAT
            if not flat and np.linalg.norm(a - b) <= module.NEAR * max(np.linalg.norm(a), np.linalg.norm(b)):
                leader[k] = leader[j]
                break
    wanted = [[k for k in range(len(rows)) if leader[k] == first] for first in sorted(set(leader))]
    assert sorted(alike(images)) == [group for group in wanted if len(group) > 1]
    assert len(alike(images)) == 3
    assert copies(images) == []
    assert alike([]) == copies([]) == []


def test_a_part_is_blocks_of_neighbours_evenly_spaced() -> None:
    assert sample_of(5, 10).tolist() == [0, 1, 2, 3, 4]
    chosen = sample_of(1003, 100)
    assert len(chosen) == len(set(chosen.tolist())) == 96
    assert (chosen.diff() == 1).sum() == 96 - 96 // BLOCK
    assert chosen.max() < 1003
    assert chosen.max() > 900
    assert sample_of(100, 3).tolist() == [0, 1, 2]


def test_bad_files_are_listed_with_reasons_and_too_many_as_in_training(tmp_path: Path) -> None:
    files = {f"{k:03}.jpg": jpeg(photo(k, (20, 20))) for k in range(30)}
    folder = write(tmp_path, files)
    for k in range(10):
        (folder / f"{k:03}.jpg").write_bytes(files[f"{k:03}.jpg"][:300])
    survey = surveyed(opened(folder))
    assert sorted(survey.bad) == list(range(10))
    assert all(survey.bad.values())
    assert not survey.too_many
    (folder / "010.jpg").write_bytes(b"\xff\xd8\xff no image")
    assert surveyed(opened(folder)).too_many


def test_classes_and_groups_are_counted_over_all_images(tmp_path: Path) -> None:
    folder = write(tmp_path, {f"{k:02}.jpg": b"" for k in range(12)})
    rows = ["path,label,group,split"]
    rows += [f"{k:02}.jpg,{'ab'[k > 6]},{('p', 'q', '')[k % 3]},train" for k in range(9)]
    rows += ["09.jpg,a,p,test", "10.jpg,b,r,test", "11.jpg,a,single,train"]
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    source, settings = opened(folder / "list.csv"), DataSettings(source=str(folder / "list.csv"))
    classes, groups = balance(source), grouping(source, open_own_test(settings, 0))
    assert classes is not None
    assert classes["images"] == {"a": 8, "b": 2}
    assert (classes["least"], classes["most"], classes["smallest"], classes["unlabelled"]) == (2, 8, "b", 0)
    assert groups is not None
    assert (groups["number"], groups["single"], groups["without"], groups["in_both"]) == (3, 1, 3, 1)
    assert grouping(opened(folder), None) is None
    assert balance(opened(folder)) is None


def test_a_source_in_memory_is_looked_at_without_files() -> None:
    survey = surveyed(open_pretraining(DataSettings(images=40, size=16), 0))
    assert len(survey.facts) == 40
    assert described(survey.listed())["formats"] == {"in memory": 40}
    assert {of.width for of in survey.listed()} == {16}
