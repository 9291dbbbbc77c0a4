"""A confusion matrix as a picture: rows are classes, columns the answers, as shares of the row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from ssl_cli import lettering
from ssl_cli.augment.sheet import FAINT, INK, MARGIN, PAPER, SMALL, png
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.sheet import write_picture
from ssl_cli.transfer.tally import MOST_CLASSES

SIDE = 960
"""Pixels that the matrix takes, about."""
SMALLEST_CELL, NAMED_CELL, NUMBERED_CELL, LARGEST_CELL = 2, 14, 30, 48
"""Pixels of a cell: at least; from which on classes are named; from which on shares are written; at most."""
LONGEST_NAME = 24
DARK = (8, 48, 107)
"""Colour of a cell that holds its whole row."""
HALF = 0.5


def write_confusion(
    output: Path, confusion: Mapping[str, Any], per_class: Mapping[str, Mapping[str, float]], top1: float
) -> None:
    """Write the matrix of an evaluation's result as a PNG.

    Args:
        output: the file.
        confusion: `classes`, names, and `counts`, rows of numbers.
        per_class: `images` and `top1` of each class that has any, by name.
        top1: of all images.

    Raises:
        UsageError: there are too many classes.
        ResourceError: it cannot be written.
    """
    if not confusion["counts"]:
        what = f"{len(confusion['classes']):,} classes are too many for a picture: up to {MOST_CLASSES:,} are drawn."
        raise UsageError(what, "Leave out --confusion; --json has the accuracy of each class.")
    picture = np.array(draw(confusion, per_class, top1))
    write_picture(output, png(torch.from_numpy(picture).permute(2, 0, 1)))


def draw(
    confusion: Mapping[str, Any], per_class: Mapping[str, Mapping[str, float]], top1: float
) -> Image.Image:  # fmt: skip
    """Draw the matrix; arguments as of `write_confusion`."""
    counts = np.array(confusion["counts"], dtype=float)
    names = [shown(lettering.drawable(name), LONGEST_NAME) for name in confusion["classes"]]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = min(LARGEST_CELL, max(SMALLEST_CELL, SIDE // len(counts)))
    font = lettering.font(SMALL)
    room = 3 * MARGIN + round(max(map(font.getlength, names))) if cell >= NAMED_CELL else 2 * MARGIN
    side, head = cell * len(counts), 3 * MARGIN + 2 * SMALL
    right = round(font.getlength(" 100.0 %")) + MARGIN if cell >= NAMED_CELL else MARGIN
    title = f"top-1 {100 * top1:.1f} % of {counts.sum():,.0f} images. Row: the class; column: the answer."
    width = max(room + side + right, round(font.getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, head + room + side + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=font)
    colours = np.array(PAPER) + shares[..., None] * (np.array(DARK) - np.array(PAPER))
    cells = Image.fromarray(colours.round().astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    left, top = room, head + room
    sheet.paste(cells, (left, top))
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=FAINT)
    if cell >= NAMED_CELL:
        for number, name in enumerate(names):
            middle = number * cell + (cell - SMALL) // 2
            pen.text((left - MARGIN - font.getlength(name), top + middle - 1), name, fill=INK, font=font)
            sheet.paste(_upright(name, font), (left + middle - 1, top - MARGIN - round(font.getlength(name)) - 2))
            found = per_class.get(confusion["classes"][number])
            words = f"{100 * found['top1']:.1f} %" if found else ""
            pen.text((left + side + MARGIN, top + middle - 1), words, fill=FAINT, font=font)
    if cell >= NUMBERED_CELL:
        _number(pen, shares, (left, top), cell, font)
    return sheet


def _upright(name: str, font: lettering.Font) -> Image.Image:
    """Draw a name that is read from the bottom to the top."""
    line = Image.new("RGB", (round(font.getlength(name)) + 2, SMALL + 3), PAPER)
    ImageDraw.Draw(line).text((0, 0), name, fill=INK, font=font)
    return line.transpose(Image.Transpose.ROTATE_90)


def _number(pen: ImageDraw.ImageDraw, shares: np.ndarray, at: tuple[int, int], cell: int, font: lettering.Font) -> None:
    """Write each share of at least half a percent, in percent, into its cell."""
    for (row, column), share in np.ndenumerate(shares):
        words = f"{100 * share:.0f}"
        if words != "0":
            x = at[0] + column * cell + (cell - font.getlength(words)) / 2
            y = at[1] + row * cell + (cell - SMALL) // 2 - 1
            pen.text((x, y), words, fill=PAPER if share > HALF else INK, font=font)
