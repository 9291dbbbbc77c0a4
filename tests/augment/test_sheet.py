"""The contact sheet: where everything lies, what is written on it, and that it is a PNG."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.augment.sheet import LINE, MARGIN, PAPER, contact_sheet, png, tile, tile_side
from ssl_cli.events import Pictured, Tile

from .pictures import pictures


def row(images: list[Tensor], caption: str = "") -> Pictured:
    return Pictured(name="a.jpg", tiles=tuple(tile(f"view {k}", image, caption) for k, image in enumerate(images)))


def ink(sheet: Tensor) -> int:
    """How many pixels are not paper."""
    return int((sheet != torch.tensor(PAPER)[:, None, None]).any(0).sum())


@pytest.mark.parametrize(("size", "side"), [(8, 128), (32, 128), (48, 144), (128, 128), (224, 224)])
def test_views_are_enlarged_by_a_whole_factor(size: int, side: int) -> None:
    assert tile_side(size) == side


def test_rows_columns_and_margins() -> None:
    images = pictures(2, 32, 32)
    rows = [row([image, image / 255, 1 - image / 255]) for image in images]
    sheet = contact_sheet("head", rows, 128)
    pitch, height = 128 + MARGIN, 3 * MARGIN + 2 * LINE + 128
    assert sheet.dtype == torch.uint8
    assert sheet.shape == (3, MARGIN + LINE + 2 * height, 3 * pitch + MARGIN)
    enlarged = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    for i in range(2):
        top = MARGIN + LINE + i * height + MARGIN + 2 * LINE
        for column, expected in enumerate((enlarged[i], enlarged[i], 255 - enlarged[i])):
            left = MARGIN + column * pitch
            assert torch.equal(sheet[:, top : top + 128, left : left + 128], expected)


def test_an_original_of_another_shape_is_shrunk_and_centred() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 300, 100)
    sheet = contact_sheet("", [row([red])], 96)
    place = sheet[:, MARGIN + MARGIN + 2 * LINE :][:, :96, MARGIN : MARGIN + 96]
    is_red = (place == torch.tensor([255, 0, 0])[:, None, None]).all(0)
    assert is_red.any(1).all()
    assert is_red.any(0).nonzero().flatten().tolist() == list(range(32, 64))


@pytest.mark.parametrize("shape", [(1, 40, 80), (3, 1, 900), (3, 900, 1)])
def test_gray_and_narrow_images(shape: tuple[int, int, int]) -> None:
    image = torch.zeros(shape, dtype=torch.uint8)
    assert ink(contact_sheet("", [row([image])], 96)) > 0


def test_titles_names_and_captions_are_drawn() -> None:
    white = torch.full((3, 128, 128), 255, dtype=torch.uint8)
    bare = Pictured(name="", tiles=(tile("", white),))
    assert ink(contact_sheet("", [bare], 128)) == 0
    for head, name, title, caption in (("h", "", "", ""), ("", "n", "", ""), ("", "", "t", ""), ("", "", "", "c")):
        written = Pictured(name=name, tiles=(tile(title, white, caption),))
        assert ink(contact_sheet(head, [written], 128)) > 0


def test_a_caption_takes_the_lines_it_needs_and_stays_below_its_tile() -> None:
    white = torch.full((3, 128, 128), 255, dtype=torch.uint8)
    long = "crop 61 % at 12,4; flip; jitter bri 1.20 con 0.80 sat 1.10 hue +0.04; gray; blur 1.3"
    rows = [Pictured(name="", tiles=(tile("", white, long), tile("", white)))]
    short, sheet = contact_sheet("", [row([white, white])], 128), contact_sheet("", rows, 128)
    assert sheet.shape[1] - short.shape[1] >= 3 * LINE
    assert ink(sheet[:, :, : MARGIN + 128]) > 0
    assert ink(sheet[:, :, MARGIN + 128 :]) == 0
    assert ink(contact_sheet("w" * 1000, rows, 128)[:, :, -MARGIN:]) == 0  # a word too long for a line is cut


def test_a_tile_clamps_and_rounds() -> None:
    assert tile("t", torch.tensor([[[-1.0, 0.5, 2.0]]])) == Tile(
        title="t", width=3, height=1, rgb=bytes([0] * 3 + [128] * 3 + [255] * 3)
    )


def test_png_holds_the_picture(tmp_path: Path) -> None:
    picture = pictures(1, 20, 30)[0]
    (tmp_path / "sheet.png").write_bytes(png(picture))
    assert (tmp_path / "sheet.png").read_bytes() == png(picture)
    with Image.open(io.BytesIO(png(picture))) as file:
        assert torch.equal(torch.from_numpy(np.array(file)).permute(2, 0, 1), picture)
