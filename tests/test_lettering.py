"""The text of pictures: every character has a glyph, and names that differ stay different."""

import pytest
import torch

from ssl_cli import curves, lettering
from ssl_cli.augment import sheet
from ssl_cli.events import Pictured, Tile
from ssl_cli.maps.colors import Colors, Entry
from ssl_cli.maps.picture import map_png
from ssl_cli.protocols.confusion import draw

NAMES = ("café", "cafe", "фото", "写真", "cafe\u0301", "a\nb", "a\u202eb", "ﾃ·«»…")


def test_what_the_font_lacks_is_escaped() -> None:
    plain = "".join(map(chr, range(32, 127))) + "·…’"
    assert lettering.drawable(plain) == plain
    assert [lettering.drawable(name) for name in NAMES] == [
        r"caf\xe9", "cafe", r"\u0444\u043e\u0442\u043e", r"\u5199\u771f", r"cafe\u0301", r"a\nb", r"a\u202eb",
        r"\uff83·«»…",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [5, 40, 100, 1000])
def test_text_is_shortened_in_its_middle(width: int) -> None:
    font, text = lettering.font(12), "holiday in a café by the sea, number 27"
    short = lettering.shortened(text, font, width)
    assert font.getlength(short) <= width
    if width == 100:
        assert short.startswith("holi")
        assert short.endswith("27")
        assert "…" in short
    assert (short == lettering.drawable(text)) == (width == 1000)


def sheets(name: str) -> bytes:
    tile = Tile(title=name, width=1, height=1, rgb=bytes(3), caption=name)
    return sheet.png(sheet.contact_sheet(name, [Pictured(name=name, tiles=(tile,))], 256))


def test_every_picture_draws_names_in_any_alphabet() -> None:
    def drawings(name: str) -> list[bytes]:
        entries = (Entry(name, "#000000", 2),)
        colors = Colors("label", torch.zeros(2, dtype=torch.long), entries, (name, name))
        matrix = {"classes": [name, "b"], "counts": [[1, 0], [0, 1]]}
        return [
            sheets(name), map_png(torch.rand(2, 2).mul(0), colors, [name], 0), curves.draw({name: {}}),
            draw(matrix, {}, 1.0).tobytes(),
        ]  # fmt: skip

    assert drawings("caf\\xe9") == drawings("café")
    different = list(zip(*map(drawings, ("фото", "фата", "写真")), strict=True))
    assert all(len(set(of)) == 3 for of in different)


def test_long_names_on_a_sheet_differ_by_their_ends() -> None:
    assert sheets("фотография моря 1.png") != sheets("фотография моря 2.png")
    assert sheets("x" * 100 + "1") != sheets("x" * 100 + "2")


def test_a_caption_s_long_word_is_broken_and_not_cut() -> None:
    def height(caption: str) -> int:
        tile = Tile(title="", width=1, height=1, rgb=bytes(3), caption=caption)
        return sheet.contact_sheet("", [Pictured(name="", tiles=(tile,))], 128).shape[1]

    assert height("w" * 60) - height("w") >= 4 * sheet.LINE
