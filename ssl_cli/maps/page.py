"""A map as one HTML file that needs nothing else: points on a canvas, with a thumbnail at the pointer."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from importlib import resources

from PIL import Image
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment import sheet
from ssl_cli.maps.colors import Colors
from ssl_cli.maps.picture import fitted, radius

THUMBNAIL, QUALITY = 64, 80
"""The longer side of a thumbnail in pixels, and its quality as a JPEG."""
MOST, MOST_BYTES = 2_000, 8 << 20
"""Thumbnails in a page, and their bytes together."""
_STREAM = -6


def thumbnail(image: Tensor) -> str:
    """Return a picture `(C,H,W)`, as `sheet.tile` takes it, as a small JPEG in base64."""
    tile = sheet.tile("", image)
    picture = Image.frombytes("RGB", (tile.width, tile.height), tile.rgb)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def page(
    positions: Tensor, colors: Colors, title: Sequence[str], names: Sequence[str], thumbnails: Mapping[int, str],
    seed: int,
) -> bytes:  # fmt: skip
    """Return the page.

    Args:
        positions: of the points `(N,2)`.
        colors: of the points.
        title: lines above them.
        names: of the images, printable.
        thumbnails: by the number of the point, as `thumbnail` makes them.
        seed: of the order in which the points are drawn.
    """
    places = fitted(positions, 1, 0.02)
    data = {
        "title": list(title), "names": list(names), "labels": colors.words, "line": colors.of.tolist(),
        "legend": [astuple(entry) for entry in colors.legend], "radius": radius(len(names)),
        "order": draws.permutation(seed, len(names), _STREAM).tolist(), "thumbnails": thumbnails,
        **{axis: [round(value, 5) for value in column] for axis, column in zip("xy", places.T.tolist(), strict=True)},
    }  # fmt: skip
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script
    template = resources.files("ssl_cli.maps").joinpath("page.html").read_text(encoding="utf-8")
    before, after = template.replace("{{title}}", html.escape(title[0])).split("{{data}}")
    return f"{before}{text}{after}".encode()
