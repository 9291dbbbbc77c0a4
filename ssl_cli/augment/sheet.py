"""A contact sheet of augmentations: per row an image and its views, with a caption below each."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ssl_cli import lettering
from ssl_cli.events import Pictured, Tile

TILE = 128
MARGIN = 8
LINE = 16
SMALL, LARGE = 12, 14
"""Font sizes: of captions; of titles and names."""
PAPER, INK, FAINT = (255, 255, 255), (0, 0, 0), (110, 110, 110)
MOST_PIXELS = 89_000_000
"""Largest picture that Pillow and other viewers open without a warning."""


def tile_side(size: int) -> int:
    """Return the side of a tile for views of side `size`: a multiple of it, at least 128 pixels."""
    return size * -(-TILE // size)


def tile(title: str, image: Tensor, caption: str = "") -> Tile:
    """Convert a picture `(C,H,W)`, uint8, int16 or float in [0, 1], to a tile of an event."""
    if image.dtype != torch.uint8:
        shades = image if image.is_floating_point() else image / torch.iinfo(image.dtype).max
        image = shades.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    colour = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    pixels = colour.permute(1, 2, 0).contiguous().cpu().numpy().tobytes()
    return Tile(title=title, width=image.shape[2], height=image.shape[1], rgb=pixels, caption=caption)


def contact_sheet(head: str, rows: Sequence[Pictured], side: int) -> Tensor:
    """Draw a uint8 picture `(3,H,W)`: a head line, then each row's name, titles, tiles of side `side`, and captions.

    Tiles are enlarged by a whole factor or shrunk to fit, and centred.
    """
    small, large = lettering.font(SMALL), lettering.font(LARGE)
    width = MARGIN + max(len(row.tiles) for row in rows) * (side + MARGIN)
    header = _wrapped(head, large, width - 2 * MARGIN)
    captions = [[_wrapped(tile.caption, small, side) for tile in row.tiles] for row in rows]
    heights = [3 * MARGIN + 2 * LINE + side + LINE * max(map(len, lines)) for lines in captions]
    sheet = Image.new("RGB", (width, MARGIN + len(header) * LINE + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, MARGIN), header, large, INK)
    y = MARGIN + len(header) * LINE
    for row, lines, height in zip(rows, captions, heights, strict=True):
        _write(pen, (MARGIN, y + MARGIN), [lettering.shortened(row.name, large, width - 2 * MARGIN)], large, INK)
        top = y + MARGIN + LINE
        for k, (tile, words) in enumerate(zip(row.tiles, lines, strict=True)):
            left = MARGIN + k * (side + MARGIN)
            _write(pen, (left, top), [lettering.shortened(tile.title, small, side)], small, FAINT)
            picture = _inside(tile, side)
            sheet.paste(picture, (left + (side - picture.width) // 2, top + LINE + (side - picture.height) // 2))
            _write(pen, (left, top + LINE + side + MARGIN // 2), words, small, INK)
        y += height
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def png(image: Tensor) -> bytes:
    """Encode a uint8 picture `(3,H,W)` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(file, format="PNG")
    return file.getvalue()


def _inside(tile: Tile, side: int) -> Image.Image:
    picture = Image.frombytes("RGB", (tile.width, tile.height), tile.rgb)
    factor = side // max(picture.size)
    if factor >= 1:
        return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / max(picture.size))) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _wrapped(text: str, font: lettering.Font, width: int) -> list[str]:
    """Wrap text to `width` pixels; a number stays on the line of the word before it; too long words are broken."""
    lines: list[str] = []
    for word in re.split(r" (?=[^\W\d])", lettering.drawable(text)) if text else ():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append("")
            for c in word:
                if lines[-1] and font.getlength(lines[-1] + c) > width:
                    lines.append("")
                lines[-1] += c
    return lines


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], font: lettering.Font, ink: object
) -> None:
    for k, line in enumerate(lines):
        pen.text((at[0], at[1] + k * LINE), line, fill=ink, font=font)  # type: ignore[arg-type]
