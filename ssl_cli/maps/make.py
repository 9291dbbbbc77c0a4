"""Draw a map of images by the representation of a run: encode, map to the plane, colour, write."""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.config.images import refuse_among_images, with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import read_all
from ssl_cli.data.source import Source
from ssl_cli.data.split import subset
from ssl_cli.engine.evaluation.features import Trained, open_run
from ssl_cli.errors import DataError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.maps.colors import colors_of
from ssl_cli.maps.page import MOST, MOST_BYTES, THUMBNAIL, page, thumbnail
from ssl_cli.maps.picture import map_png
from ssl_cli.maps.plane import Plane, mapped
from ssl_cli.maps.request import METHODS, Map
from ssl_cli.names import shown
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.registry import Z
from ssl_cli.sheet import write_picture
from ssl_cli.vectors.embed import encode_parts, finished, open_images

FEWEST = 2
_STREAM = -4


@dataclass(frozen=True)
class _Points:
    """The images that were encoded, int64 `(N,)`, and their rows `(N,F)`."""

    index: Tensor
    rows: Tensor


def make_map(
    asked: Map, *, limit: int | None = None, device: str = "auto", method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Draw the map and write it; the last event is `Evaluated` named `map`.

    Args:
        asked: what is drawn.
        limit: use the first so many images of each class.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: as for `knn_eval`.

    Raises:
        SslcliError: no such run or images, too few of them, rows that are not finite, or a disk that is full.
    """
    trained = open_run(asked.run, device, method, projector=asked.feature == Z)
    settings = with_data(trained.settings, asked.data, None, limit, machine)
    source = open_images(settings)
    refuse_among_images(asked.output, *settings.data.folders)
    yield from (Warned(step=trained.step, message=note) for note in trained.notes)
    points = yield from _encoded(asked, trained, settings, source)
    began = time.monotonic()
    colors = colors_of(source, points.index, asked.color)
    plane = mapped(points.rows, asked.method, asked.seed)
    title = _title(asked, trained, source, plane, len(points.index))
    drawn = 0
    if asked.output.suffix.lower() == ".png":
        data = map_png(plane.positions, colors, title, asked.seed)
    else:
        thumbnails = _thumbnails(subset(source, points.index), settings.data.threads, asked.seed)
        drawn = len(thumbnails)
        left = f"thumbnails of {drawn:,} of them, chosen by the seed" if drawn < len(points.index) else ""
        names = [shown(source.path(index)) for index in points.index.tolist()]
        data = page(plane.positions, colors, [*title, *filter(None, [left])], names, thumbnails, asked.seed)
    write_picture(asked.output, data)
    result = {
        "path": str(asked.output), "bytes": len(data), "by": asked.method, "images": len(points.index),
        "of": len(source), "data": source.name, "color": colors.by, "seed": asked.seed, "feature": asked.feature,
        "legend": [{"name": entry.name, "count": entry.count} for entry in colors.legend if colors.by != "none"],
        "thumbnails": drawn, "explained": list(plane.explained), "step": trained.step,
        "seconds": time.monotonic() - began,
    }  # fmt: skip
    yield Evaluated(step=trained.step, name="map", result=result)


def _encoded(asked: Map, trained: Trained, settings: Settings, source: Source) -> Generator[Event, None, _Points]:
    """Encode the images that are drawn, in their order; yield the events of `encode_parts`.

    Raises:
        DataError: fewer than two can be read.
        DivergedError: a row is not finite.
    """
    chosen = draws.permutation(asked.seed, len(source), _STREAM)[: asked.points].sort().values
    index, rows = list[Tensor](), list[Tensor]()

    def keep(images: Tensor, h: Tensor) -> None:
        index.append(images)
        rows.append(h)

    with evaluating(trained.objective):
        yield from encode_parts(keep, trained, settings, source, asked.feature, chosen, finished)
    found = _Points(torch.cat(index), torch.cat(rows))
    if len(found.index) < FEWEST:
        what = f"{shown(source.name)} holds {len(found.index)} image that can be read, and a map takes two at least."
        raise DataError(what, "Give more images.")
    return found


def _title(asked: Map, trained: Trained, source: Source, plane: Plane, count: int) -> list[str]:
    some = f"{count:,} images" if count == len(source) else f"{count:,} of {len(source):,} images, by seed {asked.seed}"
    how = f"{METHODS[asked.method]} of {asked.feature}"
    if plane.explained:
        how = f"PCA of {asked.feature}: the axes explain {' and '.join(f'{100 * s:.0f} %' for s in plane.explained)}"
    where = f"{shown(Path(asked.run).name, 60)}, step {trained.step:,}"
    return [f"{shown(source.name, 80)}: {some}", f"{how}; {where}"]


def _thumbnails(source: Source, threads: int | None, seed: int) -> dict[int, str]:
    """Make small pictures of the images, or of some by the seed: as many as a page may have, in number and bytes."""
    found, size = dict[int, str](), 0
    order = draws.permutation(seed, len(source), _STREAM)[:MOST]
    for images, _, index in read_all(source, order, threads=threads, cap=THUMBNAIL):
        for image, k in zip(images, index.tolist(), strict=True):
            text = thumbnail(image)
            if size + len(text) > MOST_BYTES:
                return found
            found[k], size = text, size + len(text)
    return found
