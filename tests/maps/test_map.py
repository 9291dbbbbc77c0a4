"""Maps of a run's images: positions, colours, thumbnails, and files that need nothing else."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.cli import main
from ssl_cli.errors import DataError, UsageError
from ssl_cli.events import Skipped
from ssl_cli.maps import make
from ssl_cli.maps.colors import NONE, OTHERS, PALETTE, colors_of
from ssl_cli.maps.make import make_map
from ssl_cli.maps.picture import SIDE, fitted
from ssl_cli.maps.plane import mapped
from ssl_cli.maps.request import Map
from tests.engine.toy_run import result_of
from tests.vectors.test_embed import expected

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">&amp; ü.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six images of one colour each and some noise, one with a name that HTML would execute."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (folder / label).mkdir()
        for number in range(6):
            noise = draw.integers(-20, 20, (20, 30, 3))
            pixels = np.clip(draw.integers(30, 220, 3) + noise, 0, 255).astype(np.uint8)
            name = HOSTILE.replace("/", "∕") if (label, number) == ("cats", 0) else f"{number}.png"
            Image.fromarray(pixels).save(folder / label / name)
    return folder


def data_of(path: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script id="data"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def test_positions_are_those_of_the_network_s_rows(run: Path, photos: Path, tmp_path: Path) -> None:
    result = result_of(make_map(Map(str(run), tmp_path / "m.html", str(photos)), device="cpu"))
    paths, rows = expected(run, photos)
    plane = mapped(rows, "pca", 0)
    data = data_of(tmp_path / "m.html")
    assert data["names"] == paths
    found = torch.tensor([data["x"], data["y"]]).T
    torch.testing.assert_close(found.double(), fitted(plane.positions, 1, 0.02), atol=2e-4, rtol=0)
    assert result["explained"] == pytest.approx(plane.explained, abs=1e-4)
    assert (result["images"], result["of"], result["color"], result["thumbnails"]) == (12, 12, "label", 12)
    assert data["labels"] == ["cats"] * 6 + ["dogs"] * 6
    assert [entry[0] for entry in data["legend"]] == ["cats", "dogs"]
    assert sorted(data["order"]) == list(range(12))


def test_thumbnails_are_those_of_the_images(run: Path, photos: Path, tmp_path: Path) -> None:
    result_of(make_map(Map(str(run), tmp_path / "m.html", str(photos)), device="cpu"))
    data = data_of(tmp_path / "m.html")
    for number, text in data["thumbnails"].items():
        with Image.open(io.BytesIO(base64.b64decode(text))) as small, Image.open(data["names"][int(number)]) as image:
            assert small.size == image.size == (30, 20)
            apart = np.abs(np.array(small, int).mean((0, 1)) - np.array(image, int).mean((0, 1)))
            assert apart.max() < 4


def test_a_page_has_some_thumbnails_in_number_and_bytes(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Map(str(run), tmp_path / "m.html", str(photos), seed=3)
    monkeypatch.setattr(make, "MOST", 5)
    assert result_of(make_map(asked, device="cpu"))["thumbnails"] == 5
    data = data_of(tmp_path / "m.html")
    assert len(data["thumbnails"]) == 5
    assert data["title"][-1] == "thumbnails of 5 of them, chosen by the seed"
    monkeypatch.setattr(make, "MOST_BYTES", 3000)
    result_of(make_map(asked, device="cpu"))
    found = data_of(tmp_path / "m.html")["thumbnails"].values()
    assert 0 < sum(map(len, found)) <= 3000


def test_of_more_images_some_are_drawn_by_the_seed(run: Path, photos: Path, tmp_path: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        result = result_of(make_map(Map(str(run), tmp_path / "m.html", str(photos), points=6, seed=seed), device="cpu"))
        assert (result["images"], result["of"]) == (6, 12)
        found.append((tmp_path / "m.html").read_bytes())
    assert found[0] == found[1] != found[2]
    assert "6 of 12 images, by seed 1" in data_of(tmp_path / "m.html")["title"][0]


class References(HTMLParser):
    """Collect what a page would load, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self.tags = list[tuple[str, str]](), set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [(name, value or "") for name, value in attrs if name in {"src", "href", "srcset", "action"}]


def test_a_page_refers_to_nothing_outside_and_no_name_is_markup(run: Path, photos: Path, tmp_path: Path) -> None:
    result_of(make_map(Map(str(run), tmp_path / "m.html", str(photos)), device="cpu"))
    text = (tmp_path / "m.html").read_text(encoding="utf-8")
    page = References()
    page.feed(text)
    assert page.found == []
    assert not page.tags & {"link", "iframe", "object", "embed", "base"}
    assert "default-src 'none'" in text
    script = re.sub(r'<script id="data".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(
        r"https?://|//[a-z]+\.|url\(|@import|fetch|XMLHttp|WebSocket|import\(|innerHTML|eval\(", script
    )
    assert "onerror" not in script
    assert any(HOSTILE.replace("/", "∕") in name for name in data_of(tmp_path / "m.html")["names"])
    assert text.count("<img") == 1


def test_a_folder_whose_name_is_markup_is_escaped_in_the_title(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "<b>a&b")
    result_of(make_map(Map(str(run), tmp_path / "m.html", str(tmp_path / "<b>a&b")), device="cpu"))
    text = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "&lt;b&gt;a&amp;b" in text


def test_a_picture_shows_each_class_in_its_colour(run: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "made" / "m.png"
    result_of(make_map(Map(str(run), output, str(photos)), device="cpu"))
    first = output.read_bytes()
    with Image.open(output) as picture:
        pixels = np.array(picture.convert("RGB")).reshape(-1, 3)
        assert picture.width > SIDE
    for color in PALETTE[:2]:
        rgb = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
        assert int((pixels == rgb).all(1).sum()) > 6 * 50
    result_of(make_map(Map(str(run), output, str(photos)), device="cpu"))
    assert output.read_bytes() == first


class Toy:
    """Labels and groups of a set, with nothing to read."""

    name = "toy"

    def __init__(self, labels: list[int], classes: tuple[str, ...]) -> None:
        self.labels, self.classes = torch.tensor(labels), classes


def test_the_largest_classes_have_colours_and_the_others_one() -> None:
    labels = [k for k in range(25) for _ in range(k + 1)] + [-1, -1]
    source: Any = Toy(labels, tuple(f"c{k}" for k in range(25)))
    colors = colors_of(source, torch.arange(len(labels)), None)
    assert colors.by == "label"
    assert [entry.name for entry in colors.legend[:2]] == ["c24", "c23"]
    assert [entry.color for entry in colors.legend] == [*PALETTE, OTHERS, NONE]
    assert [entry.name for entry in colors.legend[-2:]] == ["5 other labels", "no label"]
    assert [entry.count for entry in colors.legend[-2:]] == [1 + 2 + 3 + 4 + 5, 2]
    counted = torch.bincount(colors.of, minlength=len(colors.legend)).tolist()
    assert counted == [entry.count for entry in colors.legend]
    for k, line in zip(labels, colors.of.tolist(), strict=True):
        wanted = "no label" if k < 0 else f"c{k}" if k >= 5 else "5 other labels"
        assert colors.legend[line].name == wanted
    assert colors.words[-3:] == ("c24", "no label", "no label")


def test_groups_of_a_list_colour_the_points(run: Path, photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    rows = [f'"{str(file).replace(chr(34), chr(34) * 2)}",plate {k % 3}' for k, file in enumerate(files)]
    (tmp_path / "list.csv").write_text("\n".join(["path,group", *rows]), encoding="utf-8")
    asked = Map(str(run), tmp_path / "m.html", str(tmp_path / "list.csv"))
    assert result_of(make_map(asked, device="cpu"))["color"] == "group"
    data = data_of(tmp_path / "m.html")
    assert [entry[0] for entry in data["legend"]] == ["plate 0", "plate 1", "plate 2"]
    with pytest.raises(DataError, match="no labels to colour by"):
        list(make_map(Map(str(run), tmp_path / "m.html", str(tmp_path / "list.csv"), color="label"), device="cpu"))
    asked = Map(str(run), tmp_path / "m.html", str(tmp_path / "list.csv"), color="none")
    assert result_of(make_map(asked, device="cpu"))["legend"] == []


def test_images_that_cannot_be_read_are_left_out(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "set")
    (tmp_path / "set" / "dogs" / "2.png").write_bytes(b"no image")
    events = list(make_map(Map(str(run), tmp_path / "m.html", str(tmp_path / "set")), device="cpu"))
    assert [Path(event.path).name for event in events if isinstance(event, Skipped)] == ["2.png"]
    assert result_of(iter(events))["images"] == 11
    names = data_of(tmp_path / "m.html")["names"]
    assert len(names) == 11
    assert not any(name.endswith("dogs/2.png") for name in names)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "m.jpg"], 2, "neither PNG nor HTML"),
        (["-o", "."], 2, "is a folder"),
        (["-o", "m.png", "--by", "pcaa"], 2, "Did you mean"),
        (["-o", "m.png", "--color", "x"], 2, "cannot be coloured"),
        (["-o", "m.png", "--points", "1"], 2, "greater than or equal to 2"),
        (["-o", "m.png", "missing"], 3, "no folder and no data set"),
        (["-o", "m.png", "--limit", "1", "one"], 3, "two at least"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Path, photos: Path, words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    shutil.copy(photos / "dogs" / "1.png", tmp_path / "one")
    assert main(["map", str(run), *words, "--device", "cpu"]) == code
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_library_that_is_missing_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("ssl_cli.packages.is_installed", lambda module: module != "umap")
    assert main(["map", str(run), "--by", "umap", "-o", str(tmp_path / "m.png")]) == 2
    assert "pip install 'sslcli[map]'" in capsys.readouterr().err


def test_a_picture_is_not_written_among_the_images(run: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="among the images"):
        list(make_map(Map(str(run), photos / "cats" / "m.png", str(photos)), device="cpu"))


def test_a_picture_is_not_written_among_test_images(run: Path, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split in ("train", "test"):
        shutil.copytree(photos, data / split)
    with pytest.raises(UsageError, match="among the images"):
        list(make_map(Map(str(run), data / "test" / "cats" / "m.png", str(data)), device="cpu"))


def test_the_command_says_what_it_drew(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["map", str(run), str(photos), "-o", str(tmp_path / "m.html"), "--device", "cpu"]
    assert main([*words, "--points", "8"]) == 0
    out = capsys.readouterr().out
    assert "8 of 12 images" in out
    assert "by label: " in out
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["images"], document["by"]) == ("map", 12, "pca")
