"""The sheet: a picture of the views that pretraining's first epoch gets, and what was drawn for them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.augment.sheet import png
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.data.split import spread
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.views import ViewLoader, Views
from ssl_cli.errors import DataError, ResourceError, UsageError
from ssl_cli.events import Evaluated, Event, Pictured, Skipped, Tile, Warned
from ssl_cli.objective import Batch
from ssl_cli.sheet import augmentation_sheet
from ssl_cli.verdict import HARD
from tests.data.pictures import save
from tests.engine.toy_run import toy_settings

HOSTILE = "a\x1b]0;PWN\x07[red].png"


def photos(folder: Path, count: int = 6, bad: tuple[int, ...] = ()) -> Path:
    """A folder of pictures of several shapes, larger than pretraining keeps them, some of them broken."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for k in range(count):
        image = torch.randint(0, 256, (3, 90 + k, 160 - k), dtype=torch.uint8, generator=generator)
        (folder / f"{k:03}.png").write_bytes(png(image))
        if k in bad:
            (folder / f"{k:03}.png").write_bytes(b"no picture")
    return folder


def settings_of(order: tuple[str, ...] = (), **data: Any) -> Settings:
    settings = toy_settings(**data)
    if not order:
        return settings
    return settings.model_copy(update={"augment": settings.augment.model_copy(update={"order": order})})


def pictured(events: list[Event]) -> list[Pictured]:
    return [event for event in events if isinstance(event, Pictured)]


def result(events: list[Event]) -> dict[str, Any]:
    last = events[-1]
    assert isinstance(last, Evaluated)
    assert last.name == "sheet"
    return dict(last.result)


def pixels(tile: Tile) -> Tensor:
    """The tile as int `(3,H,W)`."""
    rgb = torch.frombuffer(bytearray(tile.rgb), dtype=torch.uint8)
    return rgb.view(tile.height, tile.width, 3).permute(2, 0, 1).int()


def test_rows_then_the_result(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.png"
    events = list(augmentation_sheet(toy_settings(), out, images=3, views=4))
    found = result(events)
    assert [type(event) for event in events] == [Pictured, Pictured, Pictured, Evaluated]
    assert (found["path"], found["images"], found["views"], found["order"][0]) == (str(out), 3, 4, "crop")
    first = spread(open_pretraining(toy_settings().data, 0), 3)[:3].tolist()
    assert [row["image"] for row in found["rows"]] == [f"shapes:train[{k}]" for k in first]
    for event, row in zip(pictured(events), found["rows"], strict=True):
        assert [tile.title for tile in event.tiles] == ["original", "view 1", "view 2", "view 3", "view 4"]
        assert row["size"] == [event.tiles[0].height, event.tiles[0].width]
        for tile, drawn in zip(event.tiles[1:], row["views"], strict=True):
            assert [words.split()[0] for words in tile.caption.split("; ")] == list(drawn)
            assert {"top", "left", "height", "width"} == drawn["crop"].keys()
    assert json.loads(json.dumps(found)) == found
    with Image.open(out) as picture:
        assert (picture.format, picture.width) == ("PNG", 8 + 5 * (128 + 8))


@pytest.mark.parametrize("order", [(), pytest.param(("crop", "jitter", "normalize"), marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["shapes", "photos"])
def test_the_views_are_those_that_pretraining_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, order: tuple[str, ...]
) -> None:
    data = {} if kind == "shapes" else {"source": str(photos(tmp_path / "photos", 8))}
    settings = settings_of(order, **data)
    run = settings.run.model_copy(update={"batch": 4, "out": str(tmp_path / "run"), "evaluate": False, "seed": 5})
    schedule = settings.schedule.model_copy(update={"epochs": 1})
    hardware = settings.hardware.model_copy(update={"device": "cpu", "precision": "fp32", "micro_batch": 8})
    settings = settings.model_copy(update={"run": run, "schedule": schedule, "hardware": hardware})
    trained: dict[tuple[int, int], Tensor] = {}
    take = ViewLoader.take

    def recorded(loader: ViewLoader, step: int) -> tuple[Views, Batch]:
        views, batch = take(loader, step)
        for view, rows in enumerate(views.x.chunk(2)):
            trained.update({(index, view): row.clone() for index, row in zip(batch.index.tolist(), rows, strict=True)})
        return views, batch

    monkeypatch.setattr(ViewLoader, "take", recorded)
    list(pretrain(settings, origins={}, resume=False, overwrite=False))
    events = list(augmentation_sheet(settings, tmp_path / "a.png", images=8, views=3))
    rows, source = pictured(events), open_pretraining(settings.data, 5)
    places = {source.path(index): index for index in range(len(source))}
    indices = [places[row["image"]] for row in result(events)["rows"]]
    assert len(set(indices)) == len(rows) == 8
    trained_all = {index for index, _ in trained}
    assert {*indices} <= trained_all
    for index, row in zip(indices, rows, strict=True):
        for view in range(2):
            x = trained[index, view]
            if "normalize" in order:
                normalize = settings.augment.normalize
                mean, std = (torch.tensor(values)[:, None, None] for values in (normalize.mean, normalize.std))
                x = x * std + mean
            shown = pixels(row.tiles[1 + view])
            assert (shown - x.clamp(0, 1).mul(255).round().int()).abs().max() <= 1
            assert (shown - pixels(row.tiles[3])).abs().max() > 20  # another view is another picture


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    sheets = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    folder = photos(tmp_path / "photos")
    for path, seed in zip(sheets, (0, 0, 1), strict=True):
        settings = toy_settings(source=str(folder))
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
        list(augmentation_sheet(settings, path, images=3, views=2))
    first, second, other = (path.read_bytes() for path in sheets)
    assert first == second
    assert first != other


@pytest.mark.slow
def test_same_bytes_from_another_process(tmp_path: Path) -> None:
    sheets = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, hash_seed in zip(sheets, ("1", "2"), strict=True):
        words = ["inspect-augs", "-o", str(path), "--images", "2", "--views", "3", "--set", "data.images=8"]
        done = subprocess.run(
            [sys.executable, "-m", "ssl_cli", *words],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert "▀" not in done.stdout + done.stderr
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def test_bad_images_are_told_and_the_next_ones_take_their_place(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", 14, bad=(0, 3, 9))
    events = list(augmentation_sheet(toy_settings(source=str(source)), tmp_path / "a.png", images=9))
    assert [Path(event.path).name for event in events if isinstance(event, Skipped)] == [
        "000.png",
        "003.png",
        "009.png",
    ]
    assert [event.name for event in pictured(events)] == [
        "001.png", "004.png", "006.png", "007.png", "010.png", "012.png", "002.png", "005.png", "008.png",
    ]  # fmt: skip
    found = result(events)
    assert found["images"] == 9
    assert [Path(bad["path"]).name for bad in found["skipped"]] == ["000.png", "003.png", "009.png"]
    assert [event.message for event in events if isinstance(event, Warned)] == [
        "Files that could not be read are left out: 000.png, 003.png, 009.png."
    ]


def test_images_of_all_classes_are_shown(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cow"):
        photos(tmp_path / "photos" / name, 5)
    events = list(augmentation_sheet(toy_settings(source=str(tmp_path / "photos")), tmp_path / "a.png", images=4))
    assert [event.name for event in pictured(events)] == ["ant/000.png", "bee/000.png", "cow/000.png", "ant/002.png"]


@pytest.fixture
def difficulty(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the sheet says of images and a crop."""

    def measure(images: Tensor, low: float, high: float, *order: str) -> dict[str, Any]:
        (tmp_path / "photos").mkdir()
        for k, image in enumerate(images):
            (tmp_path / "photos" / f"{k:03}.png").write_bytes(png(image))
        settings = settings_of(("crop", *order), source=str(tmp_path / "photos"), size=32)
        crop = settings.augment.crop.model_copy(update={"scale": (low, high)})
        settings = settings.model_copy(update={"augment": settings.augment.model_copy(update={"crop": crop})})
        return result(list(augmentation_sheet(settings, tmp_path / "a.png", images=2, views=2)))

    return measure


def test_images_known_by_their_colour_are_too_easy(difficulty: Callable[..., dict[str, Any]]) -> None:
    values = torch.tensor([20, 95, 170, 240])
    colours = torch.cartesian_prod(values, values, values)  # 64, in bins of their own
    images = colours[:, :, None, None].expand(-1, -1, 40, 40).to(torch.uint8)
    found = difficulty(images, 0.1, 1.0)
    assert found["matched"]["colour"] == 1.0
    assert "too easy: where colours match" in found["note"]


def test_views_that_are_nearly_the_image_are_too_easy(difficulty: Callable[..., dict[str, Any]]) -> None:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (64, 1, 5, 5), generator=draw).repeat_interleave(10, 2).repeat_interleave(10, 3)
    same_colours = torch.stack([image.flatten()[:2500].view(1, 50, 50) for image in coarse]).expand(-1, 3, -1, -1)
    found = difficulty(same_colours.to(torch.uint8), 0.95, 1.0)
    assert found["matched"]["pixels"] >= 0.9
    assert "too easy" in found["note"]


def test_small_pieces_of_noise_are_hard(difficulty: Callable[..., dict[str, Any]]) -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8, generator=draw)
    found = difficulty(images, 0.003, 0.005, "flip", "jitter", "gray")
    assert max(found["matched"]["colour"], found["matched"]["pixels"]) <= HARD
    assert "Looks hard" in found["note"]
    assert "--gentle" in found["note"]


def test_the_embedded_set_is_neither(tmp_path: Path) -> None:
    found = result(list(augmentation_sheet(toy_settings(), tmp_path / "a.png", images=2)))
    assert found["note"].startswith("Neither too easy")
    assert found["matched"]["images"] == 64
    assert "matched" not in result(list(augmentation_sheet(settings_of(), tmp_path / "a.png", images=2, op="crop")))


def test_where_too_much_is_bad(tmp_path: Path) -> None:
    every = photos(tmp_path / "every", 3, bad=(0, 1, 2))
    with pytest.raises(DataError, match="cannot be read"):
        list(augmentation_sheet(toy_settings(source=str(every)), tmp_path / "a.png"))
    most = photos(tmp_path / "most", 40, bad=tuple(range(39)))
    with pytest.raises(DataError, match="can be read"):
        list(augmentation_sheet(toy_settings(source=str(most)), tmp_path / "a.png"))
    assert not (tmp_path / "a.png").exists()


def test_fewer_images_than_asked(tmp_path: Path) -> None:
    events = list(augmentation_sheet(toy_settings(images=2), tmp_path / "a.png", images=8))
    assert (result(events)["images"], len(pictured(events))) == (2, 2)


def test_a_name_is_shown_harmless_and_told_as_it_is(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 1)
    (folder / "000.png").rename(folder / HOSTILE)
    events = list(augmentation_sheet(toy_settings(source=str(folder)), tmp_path / "a.png"))
    assert pictured(events)[0].name == "a\\x1b]0;PWN\\x07[red].png"
    assert result(events)["rows"][0]["image"] == str(folder / HOSTILE)


SWEPT = {
    "crop": (1, "crop 100 % at 0,0", "crop 47 % at 2,2"),  # 11 of 16 pixels: half the area, rounded
    "flip": (1, "off", "flip"),
    "gray": (1, "off", "gray"),
    "blur": (1, "blur 0.1", "blur 2.0"),
    "jitter": (4, "jitter bri 0.60", "jitter bri 1.40"),
}


@pytest.mark.parametrize("op", SWEPT)
def test_a_sweep_goes_from_weak_to_strong(tmp_path: Path, op: str) -> None:
    events = list(augmentation_sheet(settings_of(), tmp_path / "a.png", images=2, views=5, op=op))
    lines, weak, strong = SWEPT[op]
    rows, found = pictured(events), result(events)
    assert len(rows) == 2 * lines
    assert (found["op"], found["images"]) == (op, 2)
    tiles = rows[0].tiles
    assert found["views"] == len(tiles) - 1 == (2 if op in {"flip", "gray"} else 5)
    assert [tile.title for tile in tiles[:2]] == ["original", "step 1"]
    assert (tiles[1].caption, tiles[-1].caption) == (weak, strong)
    assert [list(view) for view in found["rows"][0]["views"]][-1] == [op]
    if op == "jitter":
        assert [row["varied"] for row in found["rows"][:4]] == ["brightness", "contrast", "saturation", "hue"]
        assert rows[1].name == "shapes:train[0]: contrast"
    original = pixels(tiles[0])
    apart = [float((pixels(tile) - original).abs().float().mean()) for tile in tiles[1:]]
    if op != "jitter":  # whose middle is the weakest
        assert apart[0] < 1
        assert apart == sorted(apart)
    if op == "flip":
        assert torch.equal(pixels(tiles[-1]), original.flip(2))


@pytest.mark.parametrize(("op", "warned"), [("blur", True), ("jitter", False)])
def test_an_operation_that_the_recipe_leaves_out_is_shown_and_called_so(tmp_path: Path, op: str, warned: bool) -> None:
    events = list(augmentation_sheet(settings_of(("crop", "jitter")), tmp_path / "a.png", images=1, op=op))
    warnings = [event for event in events if isinstance(event, Warned)]
    assert bool(warnings) is warned
    assert all(f"does not use '{op}'" in warning.message for warning in warnings)
    assert (tmp_path / "a.png").is_file()


def refused(kind: type[Exception], match: str, **given: Any) -> None:
    def events() -> Iterator[Event]:
        yield from augmentation_sheet(**{"settings": toy_settings(), **given})

    with pytest.raises(kind, match=match):
        list(events())


def test_what_is_refused(tmp_path: Path) -> None:
    refused(UsageError, "megapixels", output=tmp_path / "a.png", images=256, views=64)
    folder = photos(tmp_path / "photos")
    refused(UsageError, "among the images", settings=toy_settings(source=str(folder)), output=folder / "x" / "a.png")
    (tmp_path / "file").touch()
    refused(ResourceError, "Cannot write", output=tmp_path / "file" / "a.png")
    (tmp_path / "taken.png").mkdir()
    refused(ResourceError, "Cannot write", output=tmp_path / "taken.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photos", "taken.png"]


def test_second_views_are_of_the_partner_where_positives_are_by_group(tmp_path: Path) -> None:
    """Flat images, so that a view has the shade of what it is made of; a partner that is bad is the image itself."""
    for k in range(4):
        for shot in range(2):
            save(tmp_path / "set" / f"v{k}" / f"{shot}.png", 60 * k + 20 * shot, (16, 16))
    (tmp_path / "set" / "v3" / "1.png").write_bytes(b"no picture")
    chosen = settings_of(("crop",), source=str(tmp_path / "set"), group_by="{parent}", positives="group")
    rows = pictured(list(augmentation_sheet(chosen, tmp_path / "sheet.png", 7, 3)))
    shades = {row.name: [int(pixels(tile).float().mean().round()) for tile in row.tiles] for row in rows}
    assert len(shades) == 7
    for name, found in shades.items():
        k, shot = int(name[1]), int(name[3])
        own, other = 60 * k + 20 * shot, 60 * k + 20 * (1 - shot)
        other = own if k == 3 else other
        assert found == [own, own, other, other], name
