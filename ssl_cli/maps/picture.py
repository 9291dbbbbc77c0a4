"""A map as a PNG: points, a title and a legend."""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ssl_cli import draws
from ssl_cli.lettering import font, shortened
from ssl_cli.maps.colors import Colors

SIDE, EDGE, FINE = 900, 20, 3
"""Pixels of the square with the points, of the white around it, and lines a pixel before it is shrunk."""
LINE, SWATCH, LEGEND = 22, 12, 300
LARGE, SMALL = 18, 15
INK, FAINT = "#000000", "#6e6e6e"
_STREAM = -5


def map_png(positions: Tensor, colors: Colors, title: Sequence[str], seed: int) -> bytes:
    """Draw positions `(N,2)` in their colours as a PNG; both axes have one scale.

    The points are drawn in an order by the seed, so that no class hides another because it comes later.

    Args:
        positions: of the points.
        colors: of the points.
        title: lines above them, the first one larger.
        seed: of the order.
    """
    large, small = font(LARGE), font(SMALL)
    top = EDGE + LINE * len(title) + EDGE
    legend = colors.legend if colors.by != "none" else ()
    width = SIDE + 2 * EDGE + (LEGEND if legend else 0)
    height = top + max(SIDE, LINE * (len(legend) + 1)) + EDGE
    picture = Image.new("RGB", (width, height), "white")
    picture.paste(_points(positions, colors, seed), (EDGE, top))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(title):
        of = small if number else large
        words = shortened(line, of, width - 2 * EDGE)
        pen.text((EDGE, EDGE + LINE * number), words, fill=FAINT if number else INK, font=of)
    for number, entry in enumerate(legend):
        left, y = SIDE + 2 * EDGE, top + LINE * number
        pen.rectangle((left, y + 3, left + SWATCH, y + 3 + SWATCH), fill=entry.color)
        words = shortened(f"{entry.name}  {entry.count:,}", small, LEGEND - SWATCH - EDGE)
        pen.text((left + SWATCH + 8, y), words, fill=INK, font=small)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def fitted(positions: Tensor, side: float, edge: float) -> Tensor:
    """Move and scale positions `(N,2)` into a square of this side, without its edge; y points up."""
    low, high = positions.amin(0), positions.amax(0)
    scale = (side - 2 * edge) / max(float((high - low).max()), 1e-12)
    centred = (positions - (low + high) / 2) * scale
    centred[:, 1] *= -1
    return centred + side / 2


def radius(count: int) -> float:
    """Return the radius of a point, in pixels of the picture, by how many there are."""
    return min(max(60 * math.pow(max(count, 1), -0.4), 1.6), 7.0)


def _points(positions: Tensor, colors: Colors, seed: int) -> Image.Image:
    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), "white")
    pen, size = ImageDraw.Draw(picture), radius(len(positions))
    places, lines = (FINE * fitted(positions, SIDE, 2 * size)).tolist(), colors.of.tolist()
    for k in draws.permutation(seed, len(places), _STREAM).tolist():
        x, y = places[k]
        reach = size * FINE
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colors.legend[lines[k]].color)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)
